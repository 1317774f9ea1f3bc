#pragma once

// From the number of a sample to its taps.

#include "cuda/device/config.cuh"
#include "cuda/device/coordinates.cuh"
#include "cuda/device/params.cuh"

namespace gridsample_ext::cuda {

using portable::axis_taps;
using portable::AxisTaps;
using portable::Coordinate;
using portable::dispatch_padding;
using portable::Distance;
using portable::padded_coordinate;
using portable::padded_tap;

template <typename T>
GRIDSAMPLE_DEVICE void rotate(T (&values)[4]) {
  const T first = values[0];
  GRIDSAMPLE_UNROLL_ALL
  for (int k = 0; k < 3; ++k) values[k] = values[k + 1];
  values[3] = first;
}

/// The taps of a sample along each axis, with offsets in elements; kOutside: see math/taps.h.
template <typename Config>
struct Taps {
  using config = Config;
  using compute_t = typename Config::compute_t;
  using weight_t = compute_t;
  typename Config::index_t offset[Config::kDims][Config::kTaps];
  compute_t weight[Config::kDims][Config::kTaps];
  compute_t derivative[Config::kDims][Config::kTaps];
  compute_t slope[Config::kDims];
  compute_t fraction[Config::kDims];

  GRIDSAMPLE_DEVICE compute_t weight_at(int a, int k) const { return weight[a][k]; }
  GRIDSAMPLE_DEVICE compute_t derivative_at(int a, int k) const { return derivative[a][k]; }

  /// Moves the taps along z up by one.
  GRIDSAMPLE_DEVICE void rotate_planes() {
    rotate(offset[2]);
    rotate(weight[2]);
    rotate(derivative[2]);
  }
};

/// The taps of an axis, under the padding that the configuration or, at run time, the call names.
template <typename Config, typename compute_t>
GRIDSAMPLE_DEVICE AxisTaps<compute_t, Config::kTaps> padded_taps(compute_t value,
                                                                 const Axis<compute_t>& axis,
                                                                 Padding padding) {
  const auto with_padding = [&](const auto& pad) {
    if constexpr (Config::kPadsWithZeros) return pad.template operator()<Padding::kZeros>();
    return dispatch_padding(padding, pad);
  };
  return axis_taps<Config::kMode>(
      value, axis,
      [&](const Coordinate<compute_t>& raw) {
        return with_padding([&]<Padding kPadding>() {
          return padded_coordinate<Config::kMode, kPadding, Distance::kFar>(raw, axis);
        });
      },
      [&](compute_t position) {
        return with_padding([&]<Padding kPadding>() {
          return padded_tap<Config::kMode, kPadding, Distance::kFar>(position, axis);
        });
      });
}

/// Whether a sample lies on a pixel.
template <typename compute_t, int kDims>
GRIDSAMPLE_DEVICE bool is_on_image(const compute_t (&values)[kDims],
                                   const Sampling<compute_t>& sampling) {
  bool is_on = true;
  GRIDSAMPLE_UNROLL_ALL
  for (int a = 0; a < kDims; ++a) {
    const Axis<compute_t>& axis = sampling.axis[a];
    is_on = is_on && portable::is_on_image(portable::unnormalize(values[a], axis).value, axis);
  }
  return is_on;
}

/// Of grid values; view: strides of the image the offsets are for.
template <typename Config, typename compute_t>
GRIDSAMPLE_DEVICE void compute_taps(Taps<Config>& taps, const compute_t (&values)[Config::kDims],
                                    const Sampling<compute_t>& sampling, const View& view) {
  using index_t = typename Config::index_t;
  // First, so that the values need not be kept.
  const bool excluded =
      !Config::kPadsWithZeros && sampling.excludes_off_image && !is_on_image(values, sampling);
  GRIDSAMPLE_UNROLL_ALL
  for (int a = 0; a < Config::kDims; ++a) {
    const Axis<compute_t>& axis = sampling.axis[a];
    const Padding padding = sampling.padding[a];
    const auto along = padded_taps<Config>(values[a], axis, padding);
    portable::tap_offsets<Config::kMode>(
        along, static_cast<index_t>(sampling.input_size[a]), static_cast<index_t>(view.stride[a]),
        !Config::kPadsWithZeros && portable::wraps(padding), taps.offset[a]);
    GRIDSAMPLE_UNROLL_ALL
    for (int k = 0; k < Config::kTaps; ++k) {
      taps.weight[a][k] = along.weight[k];
      taps.derivative[a][k] = along.derivative[k];
    }
    taps.slope[a] = along.slope;
    taps.fraction[a] = along.fraction;
  }
  if constexpr (!Config::kPadsWithZeros) {
    GRIDSAMPLE_UNROLL_ALL
    for (int k = 0; k < Config::kTaps; ++k) {
      if (excluded) taps.offset[0][k] = portable::kOutside;
    }
  }
}

/// Of a sample.
template <typename Config>
GRIDSAMPLE_DEVICE void compute_taps(Taps<Config>& taps, const Sample& sample,
                                    const Sampling<typename Config::compute_t>& sampling,
                                    const View& view) {
  typename Config::compute_t values[Config::kDims];
  load_point<Config>(values, sample, sampling);
  compute_taps(taps, values, sampling, view);
}

/// A row of outer axes and a tap of an inner one: outside if either is.
template <typename index_t>
GRIDSAMPLE_DEVICE index_t join(index_t outer, index_t inner) {
  return (outer | inner) < 0 ? index_t(portable::kOutside) : index_t(outer + inner);
}

/// Negative for a tap outside the image.
template <typename Config>
GRIDSAMPLE_DEVICE typename Config::index_t offset_of_tap(const Taps<Config>& taps, int z, int y,
                                                         int x) {
  using index_t = typename Config::index_t;
  const index_t row = Config::kDims == 3
                          ? join(taps.offset[Config::kDims - 1][z], taps.offset[1][y])
                          : taps.offset[1][y];
  return join(row, taps.offset[0][x]);
}

}  // namespace gridsample_ext::cuda
