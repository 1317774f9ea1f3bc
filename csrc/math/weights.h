#pragma once

// Interpolation weights of the taps at floor(x), with t = x - floor(x) in [0, 1).

#include "math/macros.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Taps 0, 1.
template <typename T>
GRIDSAMPLE_INLINE void linear_weights(T t, T (&weight)[2], T (&derivative)[2]) {
  weight[0] = T(1) - t;
  weight[1] = t;
  derivative[0] = T(-1);
  derivative[1] = T(1);
}

/// Taps -1, 0, 1, 2 of the cubic convolution kernel with A = -0.75 (Keys 1981, "Cubic Convolution
/// Interpolation for Digital Image Processing"; PyTorch's A). With d the distance to the tap,
///
///   d <= 1      (A + 2) d^3 - (A + 3) d^2 + 1
///   1 < d < 2   A (d^3 - 5 d^2 + 8 d - 4) = A (d - 1) (d - 2)^2
///
/// and d = t + 1, t, u, u + 1 for the four taps, u = 1 - t.
template <typename T>
GRIDSAMPLE_INLINE void cubic_weights(T t, T (&weight)[4], T (&derivative)[4]) {
  constexpr T A = T(-0.75);
  const T u = T(1) - t;
  weight[0] = A * t * u * u;
  weight[1] = ((A + T(2)) * t - (A + T(3))) * t * t + T(1);
  weight[2] = ((A + T(2)) * u - (A + T(3))) * u * u + T(1);
  weight[3] = A * u * t * t;
  derivative[0] = A * u * (T(1) - T(3) * t);
  derivative[1] = (T(3) * (A + T(2)) * t - T(2) * (A + T(3))) * t;
  derivative[2] = -(T(3) * (A + T(2)) * u - T(2) * (A + T(3))) * u;
  derivative[3] = A * t * (T(2) - T(3) * t);
}

/// The second derivatives of these by t.
template <typename T>
GRIDSAMPLE_INLINE void cubic_second_derivatives(T t, T (&second)[4]) {
  constexpr T A = T(-0.75);
  const T u = T(1) - t;
  second[0] = A * (T(6) * t - T(4));
  second[1] = T(6) * (A + T(2)) * t - T(2) * (A + T(3));
  second[2] = T(6) * (A + T(2)) * u - T(2) * (A + T(3));
  second[3] = A * (T(2) - T(6) * t);
}

GRIDSAMPLE_NAMESPACE_END
