#pragma once

// The weight of a tap, W = prod_a w_a, along a direction of the grid: the product rule. In numbers,
// or in vectors of a number per sample.
//
// c_a is slope_a times the direction, D_a the derivative by the coordinate of axis a. The weight of
// a row of taps along x, w_y w_z, is differentiated once for its taps. Of an image w_z is 1.

#include "math/macros.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// A tap on one axis: w, w', w''.
template <typename V>
struct AxisTap {
  V weight, first, second;
};

/// w_y w_z and its derivatives. `along` stands for sum_b c_b D_b, b other than x.
template <typename V>
struct TapRow {
  V weight, d_y, d_z;
  V along, along_d_y, along_d_z;
};

/// kCurved: whether w'' is not 0 everywhere.
template <bool kCurved, typename V>
GRIDSAMPLE_INLINE TapRow<V> tap_row(const V (&c)[3], const AxisTap<V>& y, const AxisTap<V>& z) {
  TapRow<V> row;
  row.weight = y.weight * z.weight;
  row.d_y = y.first * z.weight;
  row.d_z = y.weight * z.first;
  row.along = c[1] * row.d_y + c[2] * row.d_z;
  const V d_yz = y.first * z.first;
  row.along_d_y = c[2] * d_yz;
  row.along_d_z = c[1] * d_yz;
  if constexpr (kCurved) {
    row.along_d_y += c[1] * (y.second * z.weight);
    row.along_d_z += c[2] * (y.weight * z.second);
  }
  return row;
}

/// What second-order kernels weight a tap with.
template <typename V>
struct MovedTap {
  V weight;         // W
  V along;          // sum_b c_b D_b W
  V derivative[3];  // D_a W
  V curvature[3];   // D_a sum_b c_b D_b W
};

template <bool kCurved, typename V>
GRIDSAMPLE_INLINE MovedTap<V> moved_tap(const V (&c)[3], const AxisTap<V>& x,
                                        const TapRow<V>& row) {
  const V along_x = c[0] * x.first;
  MovedTap<V> tap;
  tap.weight = x.weight * row.weight;
  tap.along = along_x * row.weight + x.weight * row.along;
  tap.derivative[0] = x.first * row.weight;
  tap.derivative[1] = x.weight * row.d_y;
  tap.derivative[2] = x.weight * row.d_z;
  tap.curvature[0] = x.first * row.along;
  if constexpr (kCurved) tap.curvature[0] += c[0] * (x.second * row.weight);
  tap.curvature[1] = along_x * row.d_y + x.weight * row.along_d_y;
  tap.curvature[2] = along_x * row.d_z + x.weight * row.along_d_z;
  return tap;
}

GRIDSAMPLE_NAMESPACE_END
