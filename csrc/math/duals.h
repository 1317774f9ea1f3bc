#pragma once

// Numbers that carry their derivative along a direction, and the product rule for them: sums and
// products of duals are first derivatives where those of numbers are values. T may be a vector of
// one register, with a number per sample.

#include <cmath>

#include "math/macros.h"

GRIDSAMPLE_NAMESPACE_BEGIN

#if !defined(GRIDSAMPLE_ISA)  // else the instruction set's header, included before, has its own
/// a * b + c in one rounding. The builds forbid compilers to contract on their own, for the sake of
/// the coordinates (math/coordinates.h); sums of products ask for it here.
template <typename T>
GRIDSAMPLE_INLINE T multiply_add(T a, T b, T c) {
  return std::fma(a, b, c);
}
#endif

template <typename T>
struct Dual {
  T value;
  T dot;  // the derivative
};

template <typename T>
GRIDSAMPLE_INLINE T product(T a, T b) {
  return a * b;
}
template <typename T>
GRIDSAMPLE_INLINE Dual<T> product(const Dual<T>& a, const Dual<T>& b) {
  return {a.value * b.value, multiply_add(a.value, b.dot, a.dot * b.value)};
}
/// Of a factor that stands still.
template <typename T>
GRIDSAMPLE_INLINE Dual<T> product(T a, const Dual<T>& b) {
  return {a * b.value, a * b.dot};
}

template <typename T>
GRIDSAMPLE_INLINE void add(T& sum, T term) {
  sum += term;
}
template <typename T>
GRIDSAMPLE_INLINE void add(Dual<T>& sum, const Dual<T>& term) {
  sum.value += term.value;
  sum.dot += term.dot;
}

/// Adds factor * term to the sum.
template <typename T>
GRIDSAMPLE_INLINE void add_product(T& sum, T factor, T term) {
  sum = multiply_add(factor, term, sum);
}
/// A factor that stands still.
template <typename T>
GRIDSAMPLE_INLINE void add_product(Dual<T>& sum, T factor, const Dual<T>& term) {
  sum.value = multiply_add(factor, term.value, sum.value);
  sum.dot = multiply_add(factor, term.dot, sum.dot);
}
template <typename T>
GRIDSAMPLE_INLINE void add_product(Dual<T>& sum, const Dual<T>& factor, const Dual<T>& term) {
  add_product(sum, factor.value, term);
  sum.dot = multiply_add(factor.dot, term.value, sum.dot);
}
/// Of several channels.
template <typename T, int kCount>
GRIDSAMPLE_INLINE void add_product(T (&sum)[kCount], T factor, const T (&term)[kCount]) {
  GRIDSAMPLE_UNROLL
  for (int i = 0; i < kCount; ++i) add_product(sum[i], factor, term[i]);
}

GRIDSAMPLE_NAMESPACE_END
