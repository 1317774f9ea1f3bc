#pragma once

// What each mode of interpolation is: its taps along one axis, and their weights.
//
//   kTaps         taps on an axis
//   kFirst        the first tap's position, from that of base(x)
//   kCopies       the output is a pixel as it is, of weight 1
//   kPadsTaps     padding moves each tap; else it moves the coordinate, and the taps follow it
//   kSmooth       has derivatives by the coordinate; else they are 0
//   kCurved       has second derivatives other than 0
//   kMargin       how far from the coordinate, in pixels, a tap may be, when the coordinate and the
//                 tap's position are rounded
//   base(x)       the whole pixel that taps are counted from
//   weights       of the taps, with their derivatives by t = x - base(x)
//   second        derivatives of the weights by t
//
// The second argument of weights and second is for the cubic kernel.

#include "math/coordinates.h"

GRIDSAMPLE_NAMESPACE_BEGIN

template <Mode kMode>
struct ModeTraits;

/// The nearest pixel, halfway the even one.
template <>
struct ModeTraits<Mode::kNearest> {
  static constexpr int kTaps = 1;
  static constexpr bool kCopies = true;
  static constexpr int kFirst = 0;
  static constexpr bool kPadsTaps = false;
  static constexpr bool kSmooth = false;
  static constexpr bool kCurved = false;
  static constexpr int kMargin = 0;
  template <typename T>
  static GRIDSAMPLE_INLINE T base(T x) {
    return round_half_even(x);
  }
  template <typename T>
  static GRIDSAMPLE_INLINE void weights(T, const CubicKernel<T>&, T (&weight)[1],
                                        T (&derivative)[1]) {
    weight[0] = T(1);
    derivative[0] = T(0);
  }
  template <typename T>
  static GRIDSAMPLE_INLINE void second(T, const CubicKernel<T>&, T (&second)[1]) {
    second[0] = T(0);
  }
};

/// Two neighbours. Their derivatives are -1 and 1 everywhere, and need not be stored.
template <>
struct ModeTraits<Mode::kBilinear> {
  static constexpr int kTaps = 2;
  static constexpr bool kCopies = false;
  static constexpr int kFirst = 0;
  static constexpr bool kPadsTaps = false;
  static constexpr bool kSmooth = true;
  static constexpr bool kCurved = false;
  static constexpr int kMargin = 0;
  template <typename T>
  static GRIDSAMPLE_INLINE T base(T x) {
    return round_down(x);
  }
  template <typename T>
  static GRIDSAMPLE_INLINE void weights(T t, const CubicKernel<T>&, T (&weight)[2],
                                        T (&derivative)[2]) {
    weight[0] = T(1) - t;
    weight[1] = t;
    derivative[0] = T(-1);
    derivative[1] = T(1);
  }
  template <typename T>
  static GRIDSAMPLE_INLINE void second(T, const CubicKernel<T>&, T (&second)[2]) {
    second[0] = second[1] = T(0);
  }
};

/// A kernel k of four taps: the cubic convolution kernel with the coefficient A (Keys 1981, "Cubic
/// Convolution Interpolation for Digital Image Processing"; PyTorch's A is -0.75), or the B-spline
/// of order 3, where A stands for -1/6. With d the distance to the tap,
///
///               cubic convolution             B-spline
///   d <= 1      (A + 2) d^3 - (A + 3) d^2 + 1   (1/2) d^3 - d^2 + 2/3
///   1 < d < 2   A (d - 1) (d - 2)^2             (A (d - 1) + 1/6) (d - 2)^2 = (2 - d)^3 / 6
///
/// and d = t + 1, t, u, u + 1 for the four taps, u = 1 - t.
template <>
struct ModeTraits<Mode::kBicubic> {
  static constexpr int kTaps = 4;
  static constexpr bool kCopies = false;
  static constexpr int kFirst = -1;
  static constexpr bool kPadsTaps = true;
  static constexpr bool kSmooth = true;
  static constexpr bool kCurved = true;
  static constexpr int kMargin = 3;
  template <typename T>
  static GRIDSAMPLE_INLINE T base(T x) {
    return round_down(x);
  }
  template <typename T>
  static GRIDSAMPLE_INLINE void weights(T t, const CubicKernel<T>& kernel, T (&weight)[4],
                                        T (&derivative)[4]) {
    const T A = kernel.a;
    const T u = T(1) - t;
    weight[0] = (A * t + kernel.at_one) * u * u;
    weight[1] = (kernel.near_cubic * t - kernel.near_square) * t * t + kernel.at_zero;
    weight[2] = (kernel.near_cubic * u - kernel.near_square) * u * u + kernel.at_zero;
    weight[3] = (A * u + kernel.at_one) * t * t;
    derivative[0] = A * u * (kernel.far_inner - T(3) * t);
    derivative[1] = (kernel.near_derivative * t - kernel.near_linear) * t;
    derivative[2] = -(kernel.near_derivative * u - kernel.near_linear) * u;
    derivative[3] = A * t * (kernel.far_outer - T(3) * t);
  }
  template <typename T>
  static GRIDSAMPLE_INLINE void second(T t, const CubicKernel<T>& kernel, T (&second)[4]) {
    const T A = kernel.a;
    const T u = T(1) - t;
    second[0] = A * (T(6) * t - kernel.far_second);
    second[1] = T(6) * kernel.near_cubic * t - kernel.near_linear;
    second[2] = T(6) * kernel.near_cubic * u - kernel.near_linear;
    second[3] = A * (kernel.far_outer - T(6) * t);
  }
};

/// Calls function.template operator()<kMode>() for the mode named at run time.
template <typename F>
constexpr auto dispatch_mode(Mode mode, const F& function) {
  switch (mode) {
#define GRIDSAMPLE_CASE(enumerator, name) \
  case Mode::enumerator:                  \
    return function.template operator()<Mode::enumerator>();
    GRIDSAMPLE_MODES(GRIDSAMPLE_CASE)
#undef GRIDSAMPLE_CASE
  }
  __builtin_unreachable();  // checked with the arguments
}

// With [&]: without a capture lambdas are pointers to functions, too, which nvcc warns of.

/// Taps on an axis.
constexpr int taps_per_axis(Mode mode) {
  return dispatch_mode(mode, [&]<Mode kMode>() { return ModeTraits<kMode>::kTaps; });
}

/// Whether the output is a pixel as it is.
constexpr bool copies_pixels(Mode mode) {
  return dispatch_mode(mode, [&]<Mode kMode>() { return ModeTraits<kMode>::kCopies; });
}

/// Whether the output has derivatives by the grid other than 0.
constexpr bool is_smooth(Mode mode) {
  return dispatch_mode(mode, [&]<Mode kMode>() { return ModeTraits<kMode>::kSmooth; });
}

GRIDSAMPLE_NAMESPACE_END
