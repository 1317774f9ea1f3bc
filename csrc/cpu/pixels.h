#pragma once

// Reading the pixels under the taps of a tile, lanes over samples (one channel plane) or lanes over
// channels (channels innermost in memory).

#include "gather_avx512.h"
#include "tap_tile.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// The pixels of one channel plane under one tap of each sample; 0 where the tap is outside.
template <bool kInside, typename storage_t, typename Tile>
void fetch_pixels(const storage_t* plane, const Tile& tile, int kz, int ky, int kx,
                  storage_t (&pixels)[kTileSize]) {
#if defined(GRIDSAMPLE_HAS_AVX512)
  if constexpr (std::is_same_v<storage_t, float> && sizeof(typename Tile::offset_t) == 4) {
    for (int i = 0; i < kTileSize; i += 16) {
      gather_pixels<kInside>(plane, tile, kz, ky, kx, i, pixels + i);
    }
    return;
  }
#endif
  for (int i = 0; i < kTileSize; ++i) {
    const auto where = plane_offset(tile, kz, ky, kx, i);
    if constexpr (kInside) {
      pixels[i] = plane[where.offset];
    } else {
      // Erased after the load, bit by bit: weighting by 0 would let an infinity through.
      using bits_t = UnsignedOf<sizeof(storage_t)>;
      const auto pixel = bit_cast<bits_t>(plane[where.safe()]);
      pixels[i] =
          bit_cast<storage_t>(static_cast<bits_t>(pixel & static_cast<bits_t>(~where.outside)));
    }
  }
}

/// The pixels of one channel plane under all taps of a tile, fetched at once and then converted as
/// vectors when read. kInside: no tap of the tile is outside.
template <typename scalar, typename Tile, bool kInside>
class PlanePixels {
 public:
  using storage_t = typename scalar::storage_t;
  using compute_t = typename Tile::compute_t;
  static constexpr int kTaps = Tile::kTaps;

  PlanePixels(const storage_t* plane, const Tile& tile) {
    for (int kz = 0; kz < Tile::kTapsZ; ++kz) {
      for (int ky = 0; ky < kTaps; ++ky) {
        for (int kx = 0; kx < kTaps; ++kx) {
          fetch_pixels<kInside>(plane, tile, kz, ky, kx, pixels_[(kz * kTaps + ky) * kTaps + kx]);
        }
      }
    }
  }

  GRIDSAMPLE_INLINE compute_t operator()(int kz, int ky, int kx, int i) const {
    return scalar::template load<compute_t>(pixels_[(kz * kTaps + ky) * kTaps + kx][i]);
  }

 private:
  alignas(64) storage_t pixels_[Tile::kTapsZ * kTaps * kTaps][kTileSize];
};

/// The taps of one sample that are inside the image, in the order z, y, x.
template <typename Tile>
struct SampleTaps {
  static constexpr int kTaps = Tile::kTaps;
  static constexpr int kTapsZ = Tile::kTapsZ;

  int count = 0;
  typename Tile::offset_t offset[kTapsZ * kTaps * kTaps];
  typename Tile::compute_t weight[kTapsZ * kTaps * kTaps];
  int8_t k[kTapsZ * kTaps * kTaps][kMaxDims];  // which tap of each axis

  SampleTaps(const Tile& tile, int i) {
    for (int kz = 0; kz < Tile::kTapsZ; ++kz) {
      for (int ky = 0; ky < kTaps; ++ky) {
        for (int kx = 0; kx < kTaps; ++kx) {
          const auto where = plane_offset(tile, kz, ky, kx, i);
          if (where.outside) continue;
          auto product = tile.axis[1].weight[ky][i] * tile.axis[0].weight[kx][i];
          if constexpr (Tile::kDims == 3) product = tile.axis[2].weight[kz][i] * product;
          offset[count] = where.offset;
          weight[count] = product;
          k[count][0] = static_cast<int8_t>(kx);
          k[count][1] = static_cast<int8_t>(ky);
          k[count][2] = static_cast<int8_t>(kz);
          ++count;
        }
      }
    }
  }
};

/// Runs function.template operator()<kLanes>(c) over [begin, end) in pieces of 64, 16 and 1
/// channels.
template <typename F>
GRIDSAMPLE_INLINE void for_channel_lanes(int64_t begin, int64_t end, const F& function) {
  int64_t c = begin;
  for (; c + 64 <= end; c += 64) function.template operator()<64>(c);
  for (; c + 16 <= end; c += 16) function.template operator()<16>(c);
  for (; c < end; ++c) function.template operator()<1>(c);
}

GRIDSAMPLE_NAMESPACE_END
