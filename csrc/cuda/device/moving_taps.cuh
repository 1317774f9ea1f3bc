#pragma once

// The taps of a sample whose coordinates move along V, a direction for the grid.
//
// Each coordinate moves by c_a = slope_a V_a and carries weights and derivatives along: dw_a is
// c_a w'_a, and dw'_a is c_a w''_a, 0 where weights are linear. Sums over the taps then are duals.

#include "cuda/device/sums.cuh"

namespace gridsample_ext::cuda {

template <typename Config>
struct MovingTaps : Taps<Config> {
  using compute_t = typename Config::compute_t;
  using weight_t = Dual<compute_t>;
  compute_t weight_dot[Config::kDims][Config::kTaps];
  compute_t derivative_dot[Config::kDims][Config::kTaps];
  /// Whether some slope is not 0 and some tap inside the image. Where not, all that depends on the
  /// motion is exactly 0, whatever pixels and directions are.
  bool moves;

  GRIDSAMPLE_DEVICE weight_t weight_at(int a, int k) const {
    return {this->weight[a][k], weight_dot[a][k]};
  }
  GRIDSAMPLE_DEVICE auto derivative_at(int a, int k) const {
    if constexpr (Config::kCurved) {
      return weight_t{this->derivative[a][k], derivative_dot[a][k]};
    } else {
      return this->derivative[a][k];
    }
  }

  GRIDSAMPLE_DEVICE void rotate_planes() {
    Taps<Config>::rotate_planes();
    rotate(weight_dot[2]);
    rotate(derivative_dot[2]);
  }
};

/// direction: V, as the grid is laid out. The rest as in compute_taps.
template <typename Config>
GRIDSAMPLE_DEVICE void compute_moving_taps(MovingTaps<Config>& taps, const Sample& sample,
                                           const Sampling<typename Config::compute_t>& sampling,
                                           const View& view, const View& direction) {
  using compute_t = typename Config::compute_t;
  compute_taps(taps, sample, sampling, view);
  const int64_t first =
      sample.batch * direction.batch_stride + offset_of<Config>(sample, direction, sampling.walk);
  bool inside = true;
  bool slopes = false;
  GRIDSAMPLE_UNROLL_ALL
  for (int a = 0; a < Config::kDims; ++a) {
    bool inside_axis = false;
    GRIDSAMPLE_UNROLL_ALL
    for (int k = 0; k < Config::kTaps; ++k) inside_axis = inside_axis || taps.offset[a][k] >= 0;
    inside = inside && inside_axis;
    slopes = slopes || taps.slope[a] != compute_t(0);
  }
  taps.moves = inside && slopes;
  GRIDSAMPLE_UNROLL_ALL
  for (int a = 0; a < Config::kDims; ++a) {
    const compute_t step = times_slope(
        load_as<compute_t>(direction.data, direction.dtype, first + a * direction.channel_stride),
        taps.moves ? taps.slope[a] : compute_t(0));
    compute_t second[Config::kTaps];
    portable::ModeTraits<Config::kMode>::second(taps.fraction[a], sampling.axis[a].cubic, second);
    GRIDSAMPLE_UNROLL_ALL
    for (int k = 0; k < Config::kTaps; ++k) {
      taps.weight_dot[a][k] = step * taps.derivative[a][k];
      taps.derivative_dot[a][k] = step * second[k];
    }
  }
}

}  // namespace gridsample_ext::cuda
