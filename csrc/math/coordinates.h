#pragma once

// From a grid value to a pixel coordinate, with its slope d(coordinate)/d(grid value).
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

/// One spatial axis of the image. With S pixels,
///
///                    grid -1 .. 1 spans       extent   shift   folds about
///   align_corners    centres 0 .. S-1         S-1      0       0    and S-1
///   otherwise        edges -0.5 .. S-0.5      S        1       -0.5 and S-0.5
///
/// so that in both cases coordinate = ((x + 1) * extent - shift) / 2, the lower fold is -shift / 2
/// and the distance between the folds is extent.
template <typename T>
struct Axis {
  T extent;
  T shift;
  T last;  // S - 1, or the largest T below it
  T end;   // S, or the least T above it
};

// Variables, because nvcc calls no function of numeric_limits in device code.
template <typename T>
constexpr T kLargest = std::numeric_limits<T>::max();

template <typename T>
GRIDSAMPLE_INLINE Axis<T> make_axis(int64_t size, bool align_corners) {
  T last = static_cast<T>(size - 1);
  if (static_cast<int64_t>(last) > size - 1) last = std::nextafter(last, T(0));
  T end = static_cast<T>(size);
  if (static_cast<int64_t>(end) < size) end = std::nextafter(end, kLargest<T>);
  return {static_cast<T>(align_corners ? size - 1 : size), align_corners ? T(0) : T(1), last, end};
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

/// The nearest whole number, halfway to the even one.
template <typename T>
GRIDSAMPLE_INLINE T round_half_even(T x) {
#if defined(GRIDSAMPLE_ROUNDS_BY_ADDING)
  // No instruction for it, and a call of the C library would keep loops from being vectorised.
  // From kWhole on there are only whole numbers; adding it rounds the rest away.
  constexpr T kWhole = T(int64_t(1) << (std::numeric_limits<T>::digits - 1));
  const T magnitude = std::fabs(x);
  return select(magnitude < kWhole, std::copysign((magnitude + kWhole) - kWhole, x), x);
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

/// NaN is read as -1, with slope 0; infinity has slope 0 as well. The result may be infinite, also
/// because (x + 1) * extent may overflow, but not NaN: infinity * 0, where there is one pixel,
/// gives that pixel, like -1.
template <typename T>
GRIDSAMPLE_INLINE Coordinate<T> unnormalize(T x, const Axis<T>& axis) {
  const bool finite = x - x == T(0);
  const T value = ((x + T(1)) * axis.extent - axis.shift) * T(0.5);
  return {select(value == value, value, axis.shift * T(-0.5)),
          select(finite, axis.extent * T(0.5), T(0))};
}

/// Infinity as the largest finite value.
template <typename T>
GRIDSAMPLE_INLINE T finite(T value) {
  return clamp(value, -kLargest<T>, kLargest<T>);
}

/// Below this distance from the fold the quick reflection is exact: see reflect.
template <typename T>
constexpr T kNearLimit = T(int64_t(1) << (std::numeric_limits<T>::digits - 2));

/// How far a coordinate that is reflected may be from the fold at `low`: kOnce: less than twice the
/// extent, so that it is folded once at most; kNear: kNearLimit and a few pixels; kFar: any
/// distance.
enum class Reach { kOnce, kNear, kFar };

template <typename T>
GRIDSAMPLE_INLINE T fold(const Axis<T>& axis) {
  return axis.shift * T(-0.5);
}

/// Triangle wave between the two folds, on an exactly rounded distance d = |x - low|.
///
/// kNear: folds * extent is an integer below 2^(digits-1), hence exact, and
/// so is d - folds * extent, a multiple of d's ulp no larger than extent. d / extent can round up
/// to the next integer, never down past one, so the remainder may come out as a tiny negative
/// number with one fold too many. Undoing that fold is exact, too: the sum is a multiple of the
/// same ulp below extent. So it gives the same bits as kFar: fmod, which is exact but not
/// vectorised; and as kOnce, whose one subtraction is exact.
template <Reach kReach, typename T>
GRIDSAMPLE_INLINE Coordinate<T> reflect(T x, const Axis<T>& axis) {
  const T low = fold(axis);
  const T below = x - low;
  const T distance = std::fabs(below);
  T remainder;
  bool odd;
  if constexpr (kReach == Reach::kOnce) {
    odd = distance >= axis.extent;
    remainder = select(odd, distance - axis.extent, distance);
  } else if constexpr (kReach == Reach::kFar) {
    remainder = std::fmod(distance, axis.extent * T(2));
    odd = remainder >= axis.extent;
    remainder = odd ? remainder - axis.extent : remainder;
  } else {
    T folds = round_down(distance / axis.extent);
    remainder = distance - folds * axis.extent;
    const bool too_many = remainder < T(0);
    folds = select(too_many, folds - T(1), folds);
    remainder = select(too_many, remainder + axis.extent, remainder);
    odd = folds - round_down(folds * T(0.5)) * T(2) != T(0);
  }
  const T folded = low + select(odd, axis.extent - remainder, remainder);
  const T slope = select((below < T(0)) != odd, T(-1), T(1));
  // One pixel and align_corners: both folds are 0, and so is every coordinate.
  const bool has_extent = axis.extent > T(0);
  return {select(has_extent, folded, T(0)), select(has_extent, slope, T(0))};
}

/// Clamp to the image; the slope ends where the clamp takes hold, borders included.
template <typename T>
GRIDSAMPLE_INLINE Coordinate<T> clamp_to_image(Coordinate<T> x, const Axis<T>& axis) {
  const bool inside = x.value > T(0) && x.value < axis.last;
  return {clamp(x.value, T(0), axis.last), select(inside, x.slope, T(0))};
}

/// The padding rule applied to a coordinate. The result is in [-2, axis.end], so that it can be
/// turned into an integer, and where it was clamped, it and the next pixel are outside. kReach is
/// for reflection alone: see reflect.
template <Padding kPadding, Reach kReach, typename T>
GRIDSAMPLE_INLINE Coordinate<T> pad(Coordinate<T> x, const Axis<T>& axis) {
  if constexpr (kPadding == Padding::kBorder) return clamp_to_image(x, axis);
  if constexpr (kPadding == Padding::kReflection) {
    const Coordinate<T> folded = reflect<kReach>(finite(x.value), axis);
    return clamp_to_image(Coordinate<T>{folded.value, folded.slope * x.slope}, axis);
  }
  return {clamp(x.value, T(-2), axis.end), x.slope};
}

GRIDSAMPLE_NAMESPACE_END
