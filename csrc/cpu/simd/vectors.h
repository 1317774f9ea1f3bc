#pragma once

// Short vectors: the compiler's own vector types (GCC and Clang), as wide as the instruction set.

#include "cpu/simd/foreign.h"
#include "math/macros.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Bytes of the widest vector.
constexpr int kVectorBytes = GRIDSAMPLE_VECTOR_BYTES;

template <typename T, int kLanes>
struct VectorType {
  typedef T type __attribute__((vector_size(kLanes * sizeof(T))));
};
template <typename T, int kLanes>
using Vector = typename VectorType<T, kLanes>::type;

/// Lanes of the widest vector.
template <typename T>
constexpr int kFullLanes = kVectorBytes / static_cast<int>(sizeof(T));

/// Lanes of any type, from and to memory of any alignment.
template <typename T, int kLanes>
GRIDSAMPLE_INLINE Vector<T, kLanes> load_vector(const T* from) {
  Vector<T, kLanes> vector;
  std::memcpy(&vector, from, sizeof(vector));
  return vector;
}
template <typename T, int kLanes, typename V>
GRIDSAMPLE_INLINE void store_vector(T* to, const V& vector) {
  static_assert(sizeof(V) == kLanes * sizeof(T));
  std::memcpy(to, &vector, sizeof(vector));
}

/// The same value in every lane.
template <typename T, int kLanes>
GRIDSAMPLE_INLINE Vector<T, kLanes> broadcast(T value) {
  return value - Vector<T, kLanes>{};  // x - 0 is x, so nothing is computed; -0 + 0 is not -0
}

/// Calls function(half of the lanes) for both halves of a vector, and joins the results.
template <typename Result, int kLanes, typename V, typename F>
GRIDSAMPLE_INLINE Result by_halves(const V& vector, const F& function) {
  using Part = Vector<std::remove_cvref_t<decltype(vector[0])>, kLanes / 2>;
  Part parts[2];
  std::memcpy(parts, &vector, sizeof(vector));
  const auto low = function(parts[0]);
  const auto high = function(parts[1]);
  Result result;
  static_assert(sizeof(result) == 2 * sizeof(low));
  std::memcpy(&result, &low, sizeof(low));
  std::memcpy(reinterpret_cast<char*>(&result) + sizeof(low), &high, sizeof(high));
  return result;
}

/// Of a NaN the sign alone is kept, as Scalar<DType::kHalf>::store does.
template <typename Floats>
GRIDSAMPLE_INLINE Floats without_payload(const Floats& values) {
  using Bits = Vector<uint32_t, sizeof(Floats) / sizeof(float)>;
  const Bits is_nan = (Bits)(values != values);
  const Bits nan = ((Bits)values & 0x80000000u) | 0x7fc00000u;
  return (Floats)((is_nan & nan) | (~is_nan & (Bits)values));
}

GRIDSAMPLE_NAMESPACE_END
