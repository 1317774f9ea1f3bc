#pragma once

// The gradient of one sample's coordinates, from the products of its taps.

#include "cuda/device/taps.cuh"

namespace gridsample_ext::cuda {

/// Adds  sum over taps of  w'_a prod_(b != a) w_b  * product(z, y, x)  to gradient[a], where the
/// products are grad_output times pixel, summed over channels. The slope is left to the end.
template <typename Config, typename Product>
GRIDSAMPLE_DEVICE void contract(const Taps<Config>& taps, const Product& product,
                                typename Config::compute_t (&gradient)[Config::kDims]) {
  using compute_t = typename Config::compute_t;
  GRIDSAMPLE_UNROLL_ALL
  for (int z = 0; z < Config::kTapsZ; ++z) {
    compute_t plane = 0;
    compute_t along_x = 0;
    compute_t along_y = 0;
    GRIDSAMPLE_UNROLL_ALL
    for (int y = 0; y < Config::kTaps; ++y) {
      compute_t row = 0;
      compute_t row_along_x = 0;
      GRIDSAMPLE_UNROLL_ALL
      for (int x = 0; x < Config::kTaps; ++x) {
        const compute_t value = product(z, y, x);
        row = multiply_add(taps.weight[0][x], value, row);
        row_along_x = multiply_add(taps.derivative[0][x], value, row_along_x);
      }
      along_x = multiply_add(taps.weight[1][y], row_along_x, along_x);
      along_y = multiply_add(taps.derivative[1][y], row, along_y);
      plane = multiply_add(taps.weight[1][y], row, plane);
    }
    if constexpr (Config::kDims == 3) {
      gradient[0] = multiply_add(taps.weight[2][z], along_x, gradient[0]);
      gradient[1] = multiply_add(taps.weight[2][z], along_y, gradient[1]);
      gradient[2] = multiply_add(taps.derivative[2][z], plane, gradient[2]);
    } else {
      gradient[0] += along_x;
      gradient[1] += along_y;
    }
  }
}

/// A slope of 0 gives exactly 0, whatever the pixels are.
template <typename compute_t>
GRIDSAMPLE_DEVICE compute_t times_slope(compute_t gradient, compute_t slope) {
  return slope == compute_t(0) ? compute_t(0) : gradient * slope;
}

}  // namespace gridsample_ext::cuda
