#pragma once

// Reading the pixels under the taps of a tile, lanes over samples (one channel plane) or lanes over
// channels (channels innermost in memory).

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
  static constexpr int kTapsZ = Tile::kDims == 3 ? kTaps : 1;
  // 16-bit elements have no vector gather: they are fetched one by one, then converted as vectors.
  static constexpr bool kFetched = sizeof(storage_t) == 2;

  PlanePixels(const storage_t* plane, const Tile& tile) : plane_(plane), tile_(tile) {
    if constexpr (kFetched) {
      for (int kz = 0; kz < kTapsZ; ++kz) {
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
    const auto offset = combined_offset(tile_, kz, ky, kx, i);
    if constexpr (kInside) {
      return plane_[offset];
    } else {
      // Selected after the load, from an address that is always good: any plane has a pixel 0.
      const storage_t value = plane_[offset < 0 ? 0 : offset];
      return offset < 0 ? storage_t(0) : value;
    }
  }

  const storage_t* plane_;
  const Tile& tile_;
  storage_t fetched_[kFetched ? kTapsZ * kTaps * kTaps : 1][kFetched ? kTileSize : 1];
};

/// The taps of one sample that are inside the image, in the order z, y, x.
template <typename Tile>
struct SampleTaps {
  static constexpr int kTaps = Tile::kTaps;
  static constexpr int kTapsZ = Tile::kDims == 3 ? kTaps : 1;

  int count = 0;
  typename Tile::offset_t offset[kTapsZ * kTaps * kTaps];
  typename Tile::compute_t weight[kTapsZ * kTaps * kTaps];
  int8_t k[kTapsZ * kTaps * kTaps][kMaxDims];  // which tap of each axis

  SampleTaps(const Tile& tile, int i) {
    for (int kz = 0; kz < kTapsZ; ++kz) {
      for (int ky = 0; ky < kTaps; ++ky) {
        for (int kx = 0; kx < kTaps; ++kx) {
          const auto where = combined_offset(tile, kz, ky, kx, i);
          if (where < 0) continue;
          auto product = tile.weight[1][ky][i] * tile.weight[0][kx][i];
          if constexpr (Tile::kDims == 3) product = tile.weight[2][kz][i] * product;
          offset[count] = where;
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

/// Runs function.template operator()<kLanes>(c) over [begin, end) in pieces of 64, 16 and 1 channels.
template <typename F>
GRIDSAMPLE_INLINE void for_channel_lanes(int64_t begin, int64_t end, const F& function) {
  int64_t c = begin;
  for (; c + 64 <= end; c += 64) function.template operator()<64>(c);
  for (; c + 16 <= end; c += 16) function.template operator()<16>(c);
  for (; c < end; ++c) function.template operator()<1>(c);
}

GRIDSAMPLE_NAMESPACE_END
