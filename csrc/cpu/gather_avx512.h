#pragma once

// AVX-512's gather of 4-byte pixels. Others are fetched one by one, and so are all on the other
// levels: compilers make no better of it, and neither did the gather of 8-byte pixels.

#include "tap_tile.h"

#if defined(GRIDSAMPLE_HAS_AVX512)

GRIDSAMPLE_NAMESPACE_BEGIN

/// fetch_pixels for samples [i, i + 16). Lanes outside become 0, and their memory is not touched.
template <bool kInside, typename Tile>
GRIDSAMPLE_INLINE void gather_pixels(const float* plane, const Tile& tile, int kz, int ky, int kx,
                                     int i, float* pixels) {
  const __m512i x = _mm512_load_si512(tile.axis[0].offset[kx] + i);
  const __m512i y = _mm512_load_si512(tile.axis[1].offset[ky] + i);
  __m512i offset = _mm512_add_epi32(x, y);
  __m512i signs = _mm512_or_si512(x, y);
  if constexpr (Tile::kDims == 3) {
    const __m512i z = _mm512_load_si512(tile.axis[2].offset[kz] + i);
    offset = _mm512_add_epi32(offset, z);
    signs = _mm512_or_si512(signs, z);
  }
  const auto inside = static_cast<__mmask16>(kInside ? 0xffff : ~_mm512_movepi32_mask(signs));
  _mm512_store_ps(pixels, _mm512_mask_i32gather_ps(_mm512_setzero_ps(), inside, offset, plane, 4));
}

GRIDSAMPLE_NAMESPACE_END

#endif  // GRIDSAMPLE_HAS_AVX512
