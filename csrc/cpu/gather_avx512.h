#pragma once

// AVX-512's gathers. The other levels fetch pixels one by one: compilers make no better of it, and
// AVX2's gathers gain nothing over that on many CPUs.

#include "tap_tile.h"

#if defined(GRIDSAMPLE_HAS_AVX512)

GRIDSAMPLE_NAMESPACE_BEGIN

/// plane_offset of kLanes (16 or 8) samples; the lanes of `inside` have their tap in the image.
template <int kLanes>
struct PlaneOffsets;

template <>
struct PlaneOffsets<16> {
  __m512i offset;
  __mmask16 inside;
};

template <>
struct PlaneOffsets<8> {
  __m256i offset;
  __mmask8 inside;
};

template <int kLanes, typename Tile>
GRIDSAMPLE_INLINE PlaneOffsets<kLanes> plane_offsets(const Tile& tile, int kz, int ky, int kx,
                                                     int i) {
  if constexpr (kLanes == 16) {
    const __m512i x = _mm512_load_si512(tile.axis[0].offset[kx] + i);
    const __m512i y = _mm512_load_si512(tile.axis[1].offset[ky] + i);
    __m512i sum = _mm512_add_epi32(x, y);
    __m512i signs = _mm512_or_si512(x, y);
    if constexpr (Tile::kDims == 3) {
      const __m512i z = _mm512_load_si512(tile.axis[2].offset[kz] + i);
      sum = _mm512_add_epi32(sum, z);
      signs = _mm512_or_si512(signs, z);
    }
    return {sum, static_cast<__mmask16>(~_mm512_movepi32_mask(signs))};
  } else {
    const auto load = [&](int a, int k) {
      return _mm256_load_si256(reinterpret_cast<const __m256i*>(tile.axis[a].offset[k] + i));
    };
    const __m256i x = load(0, kx);
    const __m256i y = load(1, ky);
    __m256i sum = _mm256_add_epi32(x, y);
    __m256i signs = _mm256_or_si256(x, y);
    if constexpr (Tile::kDims == 3) {
      const __m256i z = load(2, kz);
      sum = _mm256_add_epi32(sum, z);
      signs = _mm256_or_si256(signs, z);
    }
    return {sum, static_cast<__mmask8>(~_mm256_movepi32_mask(signs))};
  }
}

/// Lanes outside are 0, and their memory is not touched.
template <bool kInside>
GRIDSAMPLE_INLINE void gather(const float* plane, PlaneOffsets<16> where, float* pixels) {
  const __mmask16 lanes = kInside ? __mmask16(0xffff) : where.inside;
  _mm512_store_ps(pixels,
                  _mm512_mask_i32gather_ps(_mm512_setzero_ps(), lanes, where.offset, plane, 4));
}

template <bool kInside>
GRIDSAMPLE_INLINE void gather(const double* plane, PlaneOffsets<8> where, double* pixels) {
  const __mmask8 lanes = kInside ? __mmask8(0xff) : where.inside;
  _mm512_store_pd(pixels,
                  _mm512_mask_i32gather_pd(_mm512_setzero_pd(), lanes, where.offset, plane, 8));
}

GRIDSAMPLE_NAMESPACE_END

#endif  // GRIDSAMPLE_HAS_AVX512
