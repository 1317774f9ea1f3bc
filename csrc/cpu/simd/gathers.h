#pragma once

// Vector gathers of numbers of four bytes, for the CPUs that have fast ones (fast_gathers in
// isa.h).

#include "cpu/simd/shuffles.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Whether this instruction set gathers pixels of a type.
template <typename storage_t>
constexpr bool kGathers =
#if defined(GRIDSAMPLE_HAS_FMA)
    std::is_same_v<storage_t, float>;
#else
    false;
#endif

/// Whether it gathers pairs of neighbours. AVX2's gathers of four pairs are no better than loads.
template <typename storage_t>
constexpr bool kGathersPairs =
#if defined(GRIDSAMPLE_HAS_AVX512)
    kGathers<storage_t>;
#else
    false;
#endif

#if defined(GRIDSAMPLE_HAS_FMA)
/// base[offset[l]], or 0 where the offset is negative.
template <int kLanes = kFullLanes<float>>
GRIDSAMPLE_INLINE Vector<float, kLanes> gather(const float* base, const int32_t* offset) {
  const auto at = load_vector<int32_t, kLanes>(offset);
  const auto inside = at >= 0;
#if defined(GRIDSAMPLE_HAS_AVX512)
  static_assert(kLanes == 16);
  return (Vector<float, kLanes>)_mm512_mask_i32gather_ps(
      _mm512_setzero_ps(), _mm512_movepi32_mask((__m512i)inside), (__m512i)at, base, 4);
#else
  if constexpr (kLanes == 8) {
    return (Vector<float, kLanes>)_mm256_mask_i32gather_ps(_mm256_setzero_ps(), base, (__m256i)at,
                                                           (__m256)inside, 4);
  } else {
    return join(gather<kLanes / 2>(base, offset), gather<kLanes / 2>(base, offset + kLanes / 2));
  }
#endif
}
#endif

#if defined(GRIDSAMPLE_HAS_AVX512)
/// v[k] gets base[offset[l] + k].
GRIDSAMPLE_INLINE void gather_pairs(const float* base, const int32_t* offset,
                                    Vector<float, 16> (&v)[2]) {
  GRIDSAMPLE_UNROLL
  for (int half = 0; half < 2; ++half) {
    const auto at = load_vector<int32_t, 8>(offset + half * 8);
    v[half] = (Vector<float, 16>)_mm512_mask_i32gather_pd(_mm512_setzero_pd(), 0xff, (__m256i)at,
                                                          base, 4);
  }
  take_apart<float, 16>(v);
}
#endif

GRIDSAMPLE_NAMESPACE_END
