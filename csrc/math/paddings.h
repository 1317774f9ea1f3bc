#pragma once

// What each padding does to a coordinate, or, where a mode pads its taps, to a tap's position.
//
//   kMonotone  leaves coordinates in their order; else it folds them, and how far away they may be
//              decides how that is computed (Distance)
//   kWraps     a tap beyond one end of the image is at the other end
//   pad        the coordinate that is sampled instead, and its slope. It is in [-2, axis.end], so
//              that it can be turned into an integer, and where it was clamped, it and the next
//              pixel are outside.
//
// Of those that are not monotone,
//
//   center     coordinates are folded once at most within
//   reach      this distance from there

#include "math/coordinates.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Below this distance from the fold the quick reflection is exact: see reflect.
template <typename T>
constexpr T kNearLimit = T(int64_t(1) << (std::numeric_limits<T>::digits - 2));

/// How far a coordinate that is folded may be from the padding's center: kOnce: less than its
/// reach, so that it is folded once at most; kNear: kNearLimit and a few pixels; kFar: any
/// distance.
enum class Distance { kOnce, kNear, kFar };

/// fmod; on the GPU apart, since it is long and seldom wanted.
template <typename T>
GRIDSAMPLE_SELDOM T far_remainder(T distance, T period) {
  return std::fmod(distance, period);
}

/// Triangle wave between the two folds, on an exactly rounded distance d = |x - low|.
///
/// kNear: folds * extent is an integer below 2^(digits-1), hence exact, and
/// so is d - folds * extent, a multiple of d's ulp no larger than extent. d / extent can round up
/// to the next integer, never down past one, so the remainder may come out as a tiny negative
/// number with one fold too many. Undoing that fold is exact, too: the sum is a multiple of the
/// same ulp below extent. kFar takes whole periods off first where the distance is too large for
/// that: by fmod, which is exact but not vectorised. The one subtraction of kOnce is exact.
template <Distance kDistance, typename T>
GRIDSAMPLE_INLINE Coordinate<T> reflect(T x, const Axis<T>& axis) {
  const T below = x - axis.low;
  T distance = magnitude(below);
  T remainder;
  decltype(below < T(0)) odd;
  if constexpr (kDistance == Distance::kOnce) {
    odd = distance >= axis.extent;
    remainder = select(odd, distance - axis.extent, distance);
  } else {
    if constexpr (kDistance == Distance::kFar) {
      if (distance >= kNearLimit<T>) distance = far_remainder(distance, axis.extent * T(2));
    }
    T folds = round_down(distance / axis.extent);
    remainder = distance - folds * axis.extent;
    const auto too_many = remainder < T(0);
    folds = select(too_many, folds - T(1), folds);
    remainder = select(too_many, remainder + axis.extent, remainder);
    odd = folds - round_down(folds * T(0.5)) * T(2) != T(0);
  }
  const T folded = axis.low + select(odd, axis.extent - remainder, remainder);
  const T slope = select((below < T(0)) != odd, T(-1), T(1));
  // One pixel and align_corners: both folds are 0, and so is every coordinate.
  const auto has_extent = axis.extent > T(0);
  return {select(has_extent, folded, T(0)), select(has_extent, slope, T(0))};
}

/// The remainder of x by the period, in [0, period): the exact one, rounded once. (A little below 0
/// it may be rounded to the period, which stands for 0.) As in reflect, products of whole numbers
/// are exact, a quotient may be rounded to the next whole number, and undoing that is exact. kOnce:
/// x is in [-period, 2 * period].
template <Distance kDistance, typename T>
GRIDSAMPLE_INLINE T wrap(T x, T period) {
  T remainder;
  if constexpr (kDistance == Distance::kOnce) {
    remainder = select(x >= period, x - period, x);
  } else {
    if constexpr (kDistance == Distance::kFar) {
      if (magnitude(x) >= kNearLimit<T>) x = far_remainder(x, period);
    }
    remainder = x - round_down(x / period) * period;
  }
  remainder = select(remainder < T(0), remainder + period, remainder);
  return select(remainder == period, T(0), remainder);
}

/// wrap of a whole number: nothing is rounded.
template <Distance kDistance, typename T>
GRIDSAMPLE_INLINE T wrap_whole(T x, T period) {
  if constexpr (kDistance != Distance::kOnce) return wrap<kDistance>(x, period);
  x = select(x >= period, x - period, x);
  return select(x < T(0), x + period, x);
}

/// Coordinates that are folded once at most are finite.
template <Distance kDistance, typename T>
GRIDSAMPLE_INLINE T finite_unless_once(T x) {
  return kDistance == Distance::kOnce ? x : finite(x);
}

/// Clamp to the image; the slope ends where the clamp takes hold, borders included.
template <typename T>
GRIDSAMPLE_INLINE Coordinate<T> clamp_to_image(Coordinate<T> x, const Axis<T>& axis) {
  const auto inside = (x.value > T(0)) & (x.value < axis.last);
  return {clamp(x.value, T(0), axis.last), select(inside, x.slope, T(0))};
}

template <Padding kPadding>
struct PaddingTraits;

template <>
struct PaddingTraits<Padding::kZeros> {
  static constexpr bool kMonotone = true;
  static constexpr bool kWraps = false;
  template <Distance, typename T>
  static GRIDSAMPLE_INLINE Coordinate<T> pad(Coordinate<T> x, const Axis<T>& axis) {
    return {clamp(x.value, T(-2), axis.end), x.slope};
  }
};

template <>
struct PaddingTraits<Padding::kBorder> {
  static constexpr bool kMonotone = true;
  static constexpr bool kWraps = false;
  template <Distance, typename T>
  static GRIDSAMPLE_INLINE Coordinate<T> pad(Coordinate<T> x, const Axis<T>& axis) {
    return clamp_to_image(x, axis);
  }
};

template <>
struct PaddingTraits<Padding::kReflection> {
  static constexpr bool kMonotone = false;
  static constexpr bool kWraps = false;
  template <typename T>
  static GRIDSAMPLE_INLINE T center(const Axis<T>& axis) {
    return axis.low;
  }
  template <typename T>
  static GRIDSAMPLE_INLINE T reach(const Axis<T>& axis) {
    return axis.extent * T(2);
  }
  template <Distance kDistance, typename T>
  static GRIDSAMPLE_INLINE Coordinate<T> pad(Coordinate<T> x, const Axis<T>& axis) {
    const Coordinate<T> folded = reflect<kDistance>(finite_unless_once<kDistance>(x.value), axis);
    return clamp_to_image(Coordinate<T>{folded.value, folded.slope * x.slope}, axis);
  }
};

/// One pixel: every coordinate is 0.
template <>
struct PaddingTraits<Padding::kCircular> {
  static constexpr bool kMonotone = false;
  static constexpr bool kWraps = true;
  template <typename T>
  static GRIDSAMPLE_INLINE T center(const Axis<T>& axis) {
    return axis.end * T(0.5);
  }
  template <typename T>
  static GRIDSAMPLE_INLINE T reach(const Axis<T>& axis) {
    return axis.end * T(1.5);
  }
  template <Distance kDistance, typename T>
  static GRIDSAMPLE_INLINE Coordinate<T> pad(Coordinate<T> x, const Axis<T>& axis) {
    const auto has_several = axis.last > T(0);
    T value = wrap<kDistance>(finite_unless_once<kDistance>(x.value), axis.end);
    if constexpr (kDistance == Distance::kOnce) value = clamp(value, T(-2), axis.end);
    return {select(has_several, value, T(0)), select(has_several, x.slope, T(0))};
  }
};

/// Calls function.template operator()<kPadding>() for the padding named at run time.
template <typename F>
GRIDSAMPLE_INLINE constexpr auto dispatch_padding(Padding padding, const F& function) {
  switch (padding) {
#define GRIDSAMPLE_CASE(enumerator, name) \
  case Padding::enumerator:               \
    return function.template operator()<Padding::enumerator>();
    GRIDSAMPLE_PADDINGS(GRIDSAMPLE_CASE)
#undef GRIDSAMPLE_CASE
  }
  __builtin_unreachable();  // checked with the arguments
}

GRIDSAMPLE_NAMESPACE_END
