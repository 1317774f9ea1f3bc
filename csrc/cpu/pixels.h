#pragma once

// Reading the pixels under the taps of a tile, lanes over samples: one channel plane.

#include "tap_tile.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// The pixels of one channel plane under a tile's taps; a tap outside reads as 0 and touches no
/// memory of its own. kInside: no tap of the tile is outside.
template <typename scalar, typename Tile, bool kInside>
class PlanePixels {
 public:
  using storage_t = typename scalar::storage_t;
  using compute_t = typename Tile::compute_t;
  static constexpr int kTaps = Tile::kTaps;
  static constexpr int kTapsZ = Tile::kTapsZ;
  // 16-bit elements have no vector gather: they are fetched one by one, then converted as vectors.
  static constexpr bool kFetched = sizeof(storage_t) == 2;

  PlanePixels(const storage_t* plane, const Tile& tile) : plane_(plane), tile_(tile) {
    if constexpr (kFetched) {
      for (int kz = 0; kz < Tile::kTapsZ; ++kz) {
        for (int ky = 0; ky < kTaps; ++ky) {
          for (int kx = 0; kx < kTaps; ++kx) {
            storage_t* row = fetched_[(kz * kTaps + ky) * kTaps + kx];
            for (int i = 0; i < kTileSize; ++i) row[i] = read(kz, ky, kx, i);
          }
        }
      }
    }
  }

  GRIDSAMPLE_INLINE compute_t operator()(int kz, int ky, int kx, int i) const {
    if constexpr (kFetched) {
      return scalar::template load<compute_t>(fetched_[(kz * kTaps + ky) * kTaps + kx][i]);
    } else {
      return scalar::template load<compute_t>(read(kz, ky, kx, i));
    }
  }

 private:
  GRIDSAMPLE_INLINE storage_t read(int kz, int ky, int kx, int i) const {
    const auto where = plane_offset(tile_, kz, ky, kx, i);
    if constexpr (kInside) return plane_[where.offset];
    // Erased after the load, bit by bit: weighting by 0 would let an infinity through.
    using bits_t = UnsignedOf<sizeof(storage_t)>;
    const auto inside = static_cast<bits_t>(~where.outside);
    return bit_cast<storage_t>(
        static_cast<bits_t>(bit_cast<bits_t>(plane_[where.safe()]) & inside));
  }

  const storage_t* plane_;
  const Tile& tile_;
  storage_t fetched_[kFetched ? kTapsZ * kTaps * kTaps : 1][kFetched ? kTileSize : 1];
};

GRIDSAMPLE_NAMESPACE_END
