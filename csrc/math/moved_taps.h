#pragma once

// The weight of a tap, W = prod_a w_a, and its derivatives D_a W by the coordinates, when the grid
// moves along a direction: duals, which say how they change. c_a is slope_a times the direction.

#include <type_traits>

#include "math/duals.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// A tap on one axis: w and w'. Where a mode is not curved, w' does not change.
template <bool kCurved, typename V>
struct AxisTap {
  Dual<V> weight;
  std::conditional_t<kCurved, Dual<V>, V> derivative;
};

/// c: slope times direction; first, second: w', w''. kCurved: whether w'' is not 0 everywhere.
template <bool kCurved, typename V>
GRIDSAMPLE_INLINE AxisTap<kCurved, V> axis_tap(V c, V weight, V first, V second) {
  if constexpr (kCurved) {
    return {{weight, c * first}, {first, c * second}};
  } else {
    return {{weight, c * first}, first};
  }
}

/// What the taps of a row along x have in common: w_y w_z, w'_y w_z, w_y w'_z. Of an image w_z
/// is 1.
template <typename V>
struct TapRow {
  Dual<V> weight, d_y, d_z;
};

template <bool kCurved, typename V>
GRIDSAMPLE_INLINE TapRow<V> tap_row(const AxisTap<kCurved, V>& y, const AxisTap<kCurved, V>& z) {
  return {product(y.weight, z.weight), product(y.derivative, z.weight),
          product(z.derivative, y.weight)};
}

/// What second-order kernels weight a tap with.
template <typename V>
struct MovedTap {
  Dual<V> weight;         // W
  Dual<V> derivative[3];  // D_a W
};

template <bool kCurved, typename V>
GRIDSAMPLE_INLINE MovedTap<V> moved_tap(const AxisTap<kCurved, V>& x, const TapRow<V>& row) {
  return {
      product(x.weight, row.weight),
      {product(x.derivative, row.weight), product(x.weight, row.d_y), product(x.weight, row.d_z)}};
}

GRIDSAMPLE_NAMESPACE_END
