#pragma once

// From a grid value to the taps of one axis: position, weight, derivative, slope.
//
// Sampling is separable. With w_a and w'_a the weight and derivative of a tap on axis a,
//
//   out                = sum over taps of  prod_a w_a               * pixel
//   d out / d grid_a   = slope_a * sum of  w'_a prod_(b != a) w_b   * pixel
//
// and again, slopes being constant between the folds of the padding,
//
//   d^2 out / d grid_a d grid_b = slope_a slope_b * sum of w'_a w'_b prod_(c != a, b) w_c * pixel
//   d^2 out / d grid_a^2        = slope_a^2 * sum of       w''_a prod_(c != a) w_c        * pixel
//
// The slope (un-normalising scale times that of the padding) is kept apart from the derivative
// because it is common to the taps, and because a slope of 0 must give exactly 0 whatever the
// pixels are; 0 * infinity would not.

#include "math/modes.h"
#include "math/paddings.h"

GRIDSAMPLE_NAMESPACE_BEGIN

template <Mode kMode>
constexpr int kTapsPerAxis = ModeTraits<kMode>::kTaps;

template <typename T, int kTaps>
struct AxisTaps {
  T position[kTaps];  // whole pixels in [-2, S + 1], outside the image too when padding with zeros
  T weight[kTaps];
  T derivative[kTaps];
  T slope;
  T fraction;  // the coordinate's distance from the whole pixel that taps are counted from
};

/// Whether a padding leaves the coordinate as it is and moves each tap: as the mode says, but a
/// padding that wraps moves the coordinate, of nearest after it has been rounded.
template <Mode kMode, Padding kPadding>
constexpr bool kMovesTaps =
    PaddingTraits<kPadding>::kWraps ? ModeTraits<kMode>::kCopies : ModeTraits<kMode>::kPadsTaps;

/// The coordinate that a mode's taps are taken from. Where each tap is moved, its slope is the
/// scale alone.
template <Mode kMode, Padding kPadding, Distance kDistance, typename T>
GRIDSAMPLE_INLINE Coordinate<T> padded_coordinate(Coordinate<T> raw, const Axis<T>& axis) {
  if constexpr (kMovesTaps<kMode, kPadding>) {
    return {finite(raw.value), raw.slope};
  } else {
    return PaddingTraits<kPadding>::template pad<kDistance>(raw, axis);
  }
}

/// Where a tap goes. Those of modes that do not pad taps follow the first of them: tap_offsets.
template <Mode kMode, Padding kPadding, Distance kDistance, typename T>
GRIDSAMPLE_INLINE T padded_tap(T position, const Axis<T>& axis) {
  if constexpr (PaddingTraits<kPadding>::kWraps) {
    if constexpr (ModeTraits<kMode>::kCopies) {
      const T wrapped = wrap_whole<kDistance>(position, axis.end);
      return kDistance == Distance::kOnce ? clamp(wrapped, T(-2), axis.end) : wrapped;
    }
    if constexpr (!ModeTraits<kMode>::kPadsTaps) return position;
    // At most two steps beyond the image, which one pixel would be folded over twice.
    return select(axis.last > T(0), wrap_whole<Distance::kOnce>(position, axis.end), T(0));
  } else if constexpr (ModeTraits<kMode>::kPadsTaps) {
    return PaddingTraits<kPadding>::template pad<kDistance>(Coordinate<T>{position, T(0)}, axis)
        .value;
  } else {
    return position;
  }
}

/// pad_coordinate and pad_tap are the two above, for some padding.
template <Mode kMode, typename T, typename PadCoordinate, typename PadTap>
GRIDSAMPLE_INLINE AxisTaps<T, kTapsPerAxis<kMode>> axis_taps(T grid_value, const Axis<T>& axis,
                                                             const PadCoordinate& pad_coordinate,
                                                             const PadTap& pad_tap) {
  using Interpolation = ModeTraits<kMode>;
  AxisTaps<T, Interpolation::kTaps> taps;
  const Coordinate<T> x = pad_coordinate(unnormalize(grid_value, axis));
  const T base = Interpolation::base(x.value);
  taps.fraction = x.value - base;
  Interpolation::weights(taps.fraction, axis.cubic, taps.weight, taps.derivative);
  if constexpr (Interpolation::kFirst == 0) {
    taps.position[0] = pad_tap(base);
  } else {
    taps.position[0] = pad_tap(base + T(Interpolation::kFirst));
  }
  GRIDSAMPLE_UNROLL
  for (int k = 1; k < Interpolation::kTaps; ++k) {
    taps.position[k] = pad_tap(base + T(Interpolation::kFirst + k));
  }
  taps.slope = Interpolation::kSmooth ? x.slope : T(0);
  return taps;
}

template <Mode kMode, Padding kPadding, Distance kDistance, typename T>
GRIDSAMPLE_INLINE AxisTaps<T, kTapsPerAxis<kMode>> axis_taps(T grid_value, const Axis<T>& axis) {
  return axis_taps<kMode>(
      grid_value, axis,
      [&](const Coordinate<T>& raw) GRIDSAMPLE_INLINE_LAMBDA {
        return padded_coordinate<kMode, kPadding, kDistance>(raw, axis);
      },
      [&](const T& position) GRIDSAMPLE_INLINE_LAMBDA {
        return padded_tap<kMode, kPadding, kDistance>(position, axis);
      });
}

/// w'' of the taps of axis_taps; wraps: of the padding.
template <Mode kMode, typename T>
GRIDSAMPLE_INLINE void second_derivatives(T grid_value, const Axis<T>& axis, bool wraps,
                                          T (&second)[kTapsPerAxis<kMode>]) {
  T t = T(0);
  if constexpr (ModeTraits<kMode>::kCurved) {
    T value = finite(unnormalize(grid_value, axis).value);
    if (wraps) value = wrap<Distance::kFar>(value, axis.end);
    t = value - ModeTraits<kMode>::base(value);
  }
  ModeTraits<kMode>::second(t, axis.cubic, second);
}

/// slope * value, and exactly 0 where the slope is 0.
template <typename T>
GRIDSAMPLE_INLINE T move_along(T slope, T value) {
  return select(slope == T(0), T(0), slope * value);
}

/// Marks a tap outside the image in place of an offset. Offsets of taps inside are never negative,
/// so the sign of the bitwise OR of the offsets along all axes tells whether any is outside.
constexpr int kOutside = -1;

/// The offset, or kOutside if the index is. By bits, like select: all ones is kOutside.
template <typename offset_t>
GRIDSAMPLE_INLINE offset_t offset_inside(offset_t offset, offset_t index, offset_t size) {
  using unsigned_t = std::make_unsigned_t<offset_t>;
  const bool outside = static_cast<unsigned_t>(index) >= static_cast<unsigned_t>(size);
  return offset | (offset_t(0) - static_cast<offset_t>(outside));
}

/// Whether a padding, named at run time, wraps.
GRIDSAMPLE_INLINE constexpr bool wraps(Padding padding) {
  return dispatch_padding(padding,
                          [&]<Padding kPadding>() { return PaddingTraits<kPadding>::kWraps; });
}

/// The offsets of an axis' taps; size + 1 must fit offset_t. wraps: of the padding.
template <Mode kMode, typename offset_t, typename T, int kTaps>
GRIDSAMPLE_INLINE void tap_offsets(const AxisTaps<T, kTaps>& taps, offset_t size, offset_t stride,
                                   bool wraps, offset_t (&offset)[kTaps]) {
  if constexpr (ModeTraits<kMode>::kPadsTaps) {
    GRIDSAMPLE_UNROLL
    for (int k = 0; k < kTaps; ++k) {
      const auto index = static_cast<offset_t>(taps.position[k]);
      offset[k] = offset_inside(offset_t(index * stride), index, size);
    }
  } else {
    // Taps follow each other. Past the integers of T, the positions of all but the first are
    // rounded.
    const auto index = static_cast<offset_t>(taps.position[0]);
    const offset_t first = index * stride;
    GRIDSAMPLE_UNROLL
    for (int k = 0; k < kTaps; ++k) {
      offset[k] = offset_inside(offset_t(first + k * stride), offset_t(index + k), size);
      static_assert(kTaps <= 2);
      // The pixel behind the last is the first, whose offset is 0. By bits, like offset_inside.
      if (wraps && k > 0) offset[k] &= ~(offset[k] >> (8 * sizeof(offset_t) - 1));
    }
  }
}

GRIDSAMPLE_NAMESPACE_END
