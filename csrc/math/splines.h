#pragma once

// From the pixels f of a line to the coefficients c of cubic B-splines that interpolate them (Unser
// 1999, "Splines: A Perfect Fit for Signal and Image Processing"). At pixel k it is to be
//
//   (c[k-1] + 4 c[k] + c[k+1]) / 6 = f[k]
//
// where beyond the ends c is what the padding says: 0 (zeros), the last one (border, and reflection
// without align_corners), the last but one (reflection with it), or at the other end (circular).
// But for circular padding that is a symmetric system of three diagonals, whose factors give two
// recursions:
//
//   y[k] = 6 f[k] - q[k-1] y[k-1]        k = 0 .. n-1
//   c[k] = q[k] (y[k] - c[k+1])          k = n-1 .. 0
//   q[k] = 1 / (d[k] - q[k-1])
//
// The diagonal d is 4; at both ends it is 5 where c is the last one, and 2 where it is the last but
// one: there the equations are halved to be symmetric, so that f is halved at the ends or, in the
// transposed filter, the result. After a few pixels q is 2 - sqrt(3), and the recursions are
// Unser's. Circular padding has them so from the beginning. What they begin with goes round: it is
// the geometric series of a line that is repeated, of which a few pixels are enough.

#include <algorithm>
#include <cmath>

#include "params.h"
#include "math/macros.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Whether coefficients are other than pixels.
inline bool changes_line(int64_t size, Padding padding) {
  return size > 1 || padding == Padding::kZeros;
}

inline SplineAxis make_spline_axis(int64_t size, Padding padding, bool align_corners,
                                   bool transposed) {
  const double pole = 2 - std::sqrt(3.0);
  const bool halves = padding == Padding::kReflection && align_corners;
  SplineAxis axis = {};
  axis.size = size;
  axis.wraps = padding == Padding::kCircular;
  axis.wrap_gain = 1 / (1 - std::pow(-pole, static_cast<double>(size)));
  axis.end_gain = halves && !transposed ? 3 : 6;
  axis.end_scale = halves && transposed ? 0.5 : 1;
  const double end = halves ? 2 : padding == Padding::kZeros ? 4 : 5;
  double previous = axis.wraps ? pole : 0;
  for (int64_t k = 0; k < std::min<int64_t>(size, kSplineFactors); ++k) {
    const bool is_last = k == size - 1;
    // Of a line of one pixel both ends are the same; only padding with zeros is filtered.
    const double factor = axis.wraps ? pole : 1 / ((k == 0 || is_last ? end : 4) - previous);
    axis.factor[k] = axis.last_factor = previous = factor;
  }
  if (size > kSplineFactors && !axis.wraps) axis.last_factor = 1 / (end - previous);
  return axis;
}

/// q of pixel k, which is in the line.
template <typename T>
GRIDSAMPLE_INLINE T spline_factor(const SplineAxis& axis, int64_t k) {
  return static_cast<T>(k == axis.size - 1   ? axis.last_factor
                        : k < kSplineFactors ? axis.factor[k]
                                             : axis.factor[kSplineFactors - 1]);
}

/// How much of its ends a line that goes round is begun with.
GRIDSAMPLE_INLINE int64_t wrapped_pixels(const SplineAxis& axis) {
  return !axis.wraps ? 0 : axis.size < kWrappedPixels ? axis.size : kWrappedPixels;
}

/// Filters `kLanes` lines at once. load(k, f): pixels k; put(k, y), get(k, y): what is kept of them
/// between the two recursions; store(k, c): coefficients k.
template <typename T, int kLanes, typename Load, typename Put, typename Get, typename Store>
GRIDSAMPLE_INLINE void filter_lines(const SplineAxis& axis, const Load& load, const Put& put,
                                    const Get& get, const Store& store) {
  const int64_t wrapped = wrapped_pixels(axis);
  const T wrap_gain = static_cast<T>(axis.wrap_gain);
  alignas(64) T value[kLanes];
  alignas(64) T carried[kLanes] = {};
  const auto forward = [&](T gain, T factor) GRIDSAMPLE_INLINE_LAMBDA {
    GRIDSAMPLE_SIMD
    for (int i = 0; i < kLanes; ++i) carried[i] = gain * value[i] - factor * carried[i];
  };
  const auto backward = [&](T factor) GRIDSAMPLE_INLINE_LAMBDA {
    GRIDSAMPLE_SIMD
    for (int i = 0; i < kLanes; ++i) carried[i] = factor * (value[i] - carried[i]);
  };
  const auto scale = [&](T factor) GRIDSAMPLE_INLINE_LAMBDA {
    GRIDSAMPLE_SIMD
    for (int i = 0; i < kLanes; ++i) carried[i] *= factor;
  };

  T factor = static_cast<T>(axis.factor[0]);
  for (int64_t k = axis.size - wrapped; k < axis.size; ++k) {
    load(k, value);
    forward(T(6), factor);
  }
  if (axis.wraps) scale(wrap_gain);
  for (int64_t k = 0; k < axis.size; ++k) {
    const bool at_end = k == 0 || k == axis.size - 1;
    load(k, value);
    forward(at_end ? static_cast<T>(axis.end_gain) : T(6), factor);
    put(k, carried);
    factor = spline_factor<T>(axis, k);
  }

  GRIDSAMPLE_SIMD
  for (int i = 0; i < kLanes; ++i) carried[i] = T(0);
  for (int64_t k = wrapped - 1; k >= 0; --k) {
    get(k, value);
    backward(factor);
  }
  if (axis.wraps) scale(wrap_gain);
  for (int64_t k = axis.size - 1; k >= 0; --k) {
    get(k, value);
    backward(spline_factor<T>(axis, k));
    const bool at_end = k == 0 || k == axis.size - 1;
    if (at_end && axis.end_scale != 1) {
      GRIDSAMPLE_SIMD
      for (int i = 0; i < kLanes; ++i) value[i] = carried[i] * static_cast<T>(axis.end_scale);
      store(k, value);
    } else {
      store(k, carried);
    }
  }
}

GRIDSAMPLE_NAMESPACE_END
