#pragma once

// From a grid value to a pixel coordinate, with its slope d(coordinate)/d(grid value).
//
// T is a number, or a class of several that is used like one (cpu/registers/numbers.h); comparisons
// of its objects give what its select takes.
//
// All of it is rounded operation by operation: the build passes -ffp-contract=off (nvcc:
// -fmad=false) so that every instruction set and device computes the same coordinate. A one-ulp
// difference would be harmless inside the image but moves a far-out reflected sample by whole
// pixels.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "params.h"
#include "math/macros.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// What the polynomials of a cubic kernel k are made of (modes.h): rounded once, and on the GPU
/// operands as they are, which take no registers. Beside them: those of the cubic convolution
/// kernel, and those of the B-spline.
template <typename T>
struct CubicKernel {
  T a;                // A         -1/6
  T at_one;           // k(1): -0   1/6
  T far_inner;        // 1            3
  T far_outer;        // 2            0
  T far_second;       // 4            6
  T at_zero;          // k(0): 1    2/3
  T near_cubic;       // A + 2      1/2
  T near_square;      // A + 3        1
  T near_derivative;  // 3 near_cubic
  T near_linear;      // 2 near_square
};

/// The B-spline, or the cubic convolution kernel with a coefficient. Adding the latter's k(1), -0,
/// changes no number, not even -0.
template <typename T>
GRIDSAMPLE_INLINE CubicKernel<T> make_cubic_kernel(double coefficient, bool bspline) {
  if (bspline) {
    return {T(-1.0 / 6), T(1.0 / 6), T(3), T(0), T(6), T(2.0 / 3), T(0.5), T(1), T(1.5), T(2)};
  }
  const auto a = static_cast<T>(coefficient);
  return {
      a, T(-0.0), T(1), T(2), T(4), T(1), a + T(2), a + T(3), T(3) * (a + T(2)), T(2) * (a + T(3))};
}

/// One spatial axis of the image. With S pixels,
///
///                    grid -1 .. 1 spans       low    extent   folds about
///   align_corners    centres 0 .. S-1         0      S-1      0    and S-1
///   otherwise        edges -0.5 .. S-0.5      -0.5   S        -0.5 and S-0.5
///
/// so that in both cases coordinate = (x + 1) * extent / 2 + low, the lower fold is low and the
/// distance between the folds is extent. Halving is exact, so the bits are those of PyTorch, which
/// halves the sum, as long as the sum does not overflow. Where the grid holds pixel coordinates,
/// coordinate = x, of the same formula: (x + 0) * 1 + 0.
template <typename T>
struct Axis {
  T extent;
  T low;
  T last;  // S - 1, or the largest T below it
  T end;   // S, or the least T above it
  // coordinate = (x + unit) * scale + origin
  T unit;
  T scale;  // in pixels by grid value
  T origin;
  CubicKernel<T> cubic;
};

// Variables, because nvcc calls no function of numeric_limits in device code.
template <typename T>
constexpr T kLargest = std::numeric_limits<T>::max();

/// Axis a of the image of a call.
template <typename T>
GRIDSAMPLE_INLINE Axis<T> make_axis(const Geometry& geometry, int a) {
  const int64_t size = geometry.input_size[a];
  T last = static_cast<T>(size - 1);
  if (static_cast<int64_t>(last) > size - 1) last = std::nextafter(last, T(0));
  T end = static_cast<T>(size);
  if (static_cast<int64_t>(end) < size) end = std::nextafter(end, kLargest<T>);
  const T extent = static_cast<T>(geometry.align_corners ? size - 1 : size);
  const T low = geometry.align_corners ? T(0) : T(-0.5);
  const auto cubic = make_cubic_kernel<T>(geometry.cubic_coefficient, geometry.bspline);
  if (geometry.pixel_coordinates) return {extent, low, last, end, T(0), T(1), T(0), cubic};
  return {extent, low, last, end, T(1), extent * T(0.5), low, cubic};
}

template <typename T>
struct Coordinate {
  T value;
  T slope;
};

/// condition ? yes : no, on the CPU by bits: from ternaries on values that decide later comparisons
/// GCC makes a web of branches, and from it slow vector code.
template <typename T>
GRIDSAMPLE_INLINE T select(bool condition, T yes, T no) {
#if defined(__CUDACC__)
  return condition ? yes : no;
#else
  using bits_t = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  const bits_t mask = bits_t(0) - static_cast<bits_t>(condition);
  bits_t yes_bits, no_bits;
  std::memcpy(&yes_bits, &yes, sizeof(T));
  std::memcpy(&no_bits, &no, sizeof(T));
  const bits_t bits = (yes_bits & mask) | (no_bits & ~mask);
  T chosen;
  std::memcpy(&chosen, &bits, sizeof(T));
  return chosen;
#endif
}

/// Without its sign.
template <typename T>
GRIDSAMPLE_INLINE T magnitude(T x) {
  return std::fabs(x);
}

/// The nearest whole number, halfway to the even one.
template <typename T>
GRIDSAMPLE_INLINE T round_half_even(T x) {
#if defined(GRIDSAMPLE_ROUNDS_BY_ADDING)
  // No instruction for it, and a call of the C library would keep loops from being vectorised.
  // From kWhole on there are only whole numbers; adding it rounds the rest away.
  constexpr T kWhole = T(int64_t(1) << (std::numeric_limits<T>::digits - 1));
  const T distance = magnitude(x);
  return select(distance < kWhole, std::copysign((distance + kWhole) - kWhole, x), x);
#else
  return std::rint(x);
#endif
}

/// The largest whole number not above x.
template <typename T>
GRIDSAMPLE_INLINE T round_down(T x) {
#if defined(GRIDSAMPLE_ROUNDS_BY_ADDING)
  const T nearest = round_half_even(x);
  return select(nearest > x, nearest - T(1), nearest);
#else
  return std::floor(x);
#endif
}

/// low for NaN.
template <typename T>
GRIDSAMPLE_INLINE T clamp(T value, T low, T high) {
  value = select(value > low, value, low);
  return select(value < high, value, high);
}

/// NaN is read as what gives `low`, with slope 0; infinity has slope 0 as well. The result may be
/// infinite, also because (x + 1) * scale may overflow, but not NaN: infinity * 0, where there is
/// one pixel, gives that pixel, like -1.
template <typename T>
GRIDSAMPLE_INLINE Coordinate<T> unnormalize(T x, const Axis<T>& axis) {
  const auto finite = x - x == T(0);
  const T value = (x + axis.unit) * axis.scale + axis.origin;
  return {select(value == value, value, axis.low), select(finite, axis.scale, T(0))};
}

/// Infinity as the largest finite value.
template <typename T>
GRIDSAMPLE_INLINE T finite(T value) {
  return clamp(value, -kLargest<T>, kLargest<T>);
}

/// The grid value that NaN is read as.
template <typename T>
GRIDSAMPLE_INLINE T value_of_nan(const Axis<T>& axis) {
  return axis.unit == T(0) ? axis.low : T(-1);
}

/// Whether a coordinate lies on a pixel: within half a pixel of some pixel's centre.
template <typename T>
GRIDSAMPLE_INLINE bool is_on_image(T coordinate, const Axis<T>& axis) {
  // Exact near the last pixel, where the sum of it and a half may not be.
  return (coordinate >= T(-0.5)) & (coordinate - axis.last <= T(0.5));
}

GRIDSAMPLE_NAMESPACE_END
