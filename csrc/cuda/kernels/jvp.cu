// The derivative of the output along a direction for the grid and, if that is given, one for the
// input. A thread has some of the channels of a sample.

#include "cuda/device/channel_lanes.cuh"
#include "cuda/device/dispatch.cuh"
#include "cuda/kernels/kernels.cuh"
#include "cuda/device/moving_taps.cuh"

namespace gridsample_ext::cuda {
namespace {

/// What one sample adds up for one channel: load_input(offset) and load_tangent(offset) read it.
template <typename Config>
class MovingSum {
 public:
  using compute_t = typename Config::compute_t;
  static constexpr bool kFlat = kAllTaps<Config> <= 8;

  GRIDSAMPLE_DEVICE explicit MovingSum(MovingTaps<Config>& taps) : taps_(taps) {
    if constexpr (kFlat) {
      for_each_tap<Config>([&](int z, int y, int x) {
        const int tap = number_of_tap<Config>(z, y, x);
        offset_[tap] = offset_of_tap(taps, z, y, x);
        weight_[tap] = weight_of_tap(taps, z, y, x);
        weight_dot_[tap] = weight_dot_of_tap(taps, z, y, x);
      });
    }
  }

  template <typename LoadInput, typename LoadTangent>
  GRIDSAMPLE_DEVICE compute_t operator()(const LoadInput& load_input,
                                         const LoadTangent& load_tangent) const {
    if constexpr (kFlat) {
      compute_t sum = 0;
      GRIDSAMPLE_UNROLL_ALL
      for (int tap = 0; tap < kAllTaps<Config>; ++tap) {
        const auto offset = offset_[tap];
        if (offset < 0) continue;
        sum = multiply_add(weight_[tap], load_tangent(offset), sum);
        if (taps_.moves) sum = multiply_add(weight_dot_[tap], load_input(offset), sum);
      }
      return sum;
    } else {
      return moving_sum(taps_, [&](int z, int y, int x) {
        Moving<compute_t> pixel = {};
        const auto offset = offset_of_tap(taps_, z, y, x);
        if (offset >= 0) {
          pixel.dot = load_tangent(offset);
          if (taps_.moves) pixel.value = load_input(offset);
        }
        return pixel;
      });
    }
  }

 private:
  static constexpr int kFlatTaps = kFlat ? kAllTaps<Config> : 1;
  MovingTaps<Config>& taps_;
  typename Config::index_t offset_[kFlatTaps];
  compute_t weight_[kFlatTaps];
  compute_t weight_dot_[kFlatTaps];
};

template <typename Config>
__global__ void __launch_bounds__(kThreads, 1)
    jvp_kernel(const JvpParams<typename Config::compute_t> params) {
  using pixel_t = typename Config::pixel_t;
  using compute_t = typename Config::compute_t;
  using index_t = typename Config::index_t;
  const Walk& walk = params.sampling.walk;
  const ChannelLanes lanes(params.lanes);
  const bool has_tangent = params.tangent_input.data != nullptr;
  for (int64_t number = lanes.first_sample(); number < walk.total; number += lanes.sample_step()) {
    const Sample sample = locate<Config>(number, walk);
    MovingTaps<Config> taps;
    compute_moving_taps(taps, sample, params.sampling, params.input, params.tangent_grid);
    const MovingSum<Config> sum(taps);
    const auto* input =
        static_cast<const pixel_t*>(params.input.data) + sample.batch * params.input.batch_stride;
    const auto* tangent = static_cast<const pixel_t*>(params.tangent_input.data) +
                          sample.batch * params.tangent_input.batch_stride;
    auto* output = static_cast<pixel_t*>(params.output.data) +
                   sample.batch * params.output.batch_stride +
                   offset_of<Config>(sample, params.output, walk);
    for (int64_t c = lanes.first_channel(); c < params.channels; c += lanes.channel_step()) {
      const pixel_t* plane = input + c * params.input.channel_stride;
      const pixel_t* tangent_plane = tangent + c * params.tangent_input.channel_stride;
      const compute_t value =
          sum([&](index_t offset) { return load_pixel(plane + offset); },
              [&](index_t offset) {
                return has_tangent ? load_pixel(tangent_plane + offset) : compute_t(0);
              });
      output[c * params.output.channel_stride] = Narrow<pixel_t>::from(value);
    }
  }
}

}  // namespace

template <typename compute_t>
void jvp(JvpParams<compute_t> params, const Geometry& geometry, bool narrow, const Queue& queue) {
  params.lanes = lanes_of_channels(params.sampling.walk.total, params.channels,
                                   params.input.channel_stride == 1, queue);
  const Spread spread =
      spread_over_lanes(params.sampling.walk.total, params.channels, params.lanes, queue);
  dispatch_pixels_of<compute_t>(params.input.dtype, [&]<typename pixel_t>() {
    dispatch_moving_geometry<pixel_t>(geometry, narrow, [&]<typename Config>() {
      launch(jvp_kernel<Config>, spread, params, queue);
    });
  });
}

template void jvp(JvpParams<float>, const Geometry&, bool, const Queue&);
template void jvp(JvpParams<double>, const Geometry&, bool, const Queue&);

}  // namespace gridsample_ext::cuda
