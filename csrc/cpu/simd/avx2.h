#pragma once

// AVX2 with FMA and F16C. baseline.h says what such a header gives.

#define GRIDSAMPLE_ISA avx2
#define GRIDSAMPLE_VECTOR_BYTES 32
#if defined(__clang__)
#define GRIDSAMPLE_TARGET_PUSHED
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif

#include "cpu/simd/avx2_registers.h"

GRIDSAMPLE_NAMESPACE_BEGIN

constexpr size_t kRegisterBytes = 32;

/// For each set of eight lanes, the numbers of those that are in it, a byte each.
struct LanesOfSet {
  uint64_t lanes[256] = {};
  constexpr LanesOfSet() {
    for (int set = 0; set < 256; ++set) {
      int count = 0;
      for (int l = 0; l < 8; ++l) {
        if (set >> l & 1) lanes[set] |= uint64_t(l) << (8 * count++);
      }
    }
  }
};

template <typename T, int kLanes>
constexpr bool kRounds = sizeof(T) == 4 && kLanes == 8;
GRIDSAMPLE_INLINE Vector<float, 8> round_half_even(const Vector<float, 8>& v) {
  return (Vector<float, 8>)_mm256_round_ps((__m256)v, kToNearest);
}
GRIDSAMPLE_INLINE Vector<float, 8> round_down(const Vector<float, 8>& v) {
  return (Vector<float, 8>)_mm256_floor_ps((__m256)v);
}

template <typename T, int kLanes>
constexpr bool kTests = sizeof(T) == 4 && kLanes == 8;
GRIDSAMPLE_INLINE bool any(const Vector<int32_t, 8>& condition) {
  return _mm256_movemask_ps((__m256)condition) != 0;
}

template <typename T, int kLanes>
constexpr bool kCompresses = kLanes == 8 && sizeof(T) == 4;

template <int kLanes, typename T, int kVectors>
GRIDSAMPLE_INLINE int compress(const std::type_identity_t<Vector<T, kLanes>>& keep,
                               const std::type_identity_t<Vector<T, kLanes>> (&v)[kVectors],
                               T* const (&to)[kVectors]) {
  static constexpr LanesOfSet kLanesOf;
  const int set = _mm256_movemask_ps((__m256)keep);
  const __m256i lanes = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)&kLanesOf.lanes[set]));
  GRIDSAMPLE_UNROLL
  for (int n = 0; n < kVectors; ++n) {
    store_vector<T, kLanes>(to[n], _mm256_permutevar8x32_epi32((__m256i)v[n], lanes));
  }
  return __builtin_popcount(static_cast<unsigned>(set));
}

/// AVX2's gathers of four pairs are no better than loads.
template <typename T>
constexpr bool kGathersPairs = false;

GRIDSAMPLE_NAMESPACE_END
