#pragma once

// The taps of a sample one by one: where each is in its plane, and its weight.

#include "tap_tile.h"
#include "vectors.h"

GRIDSAMPLE_NAMESPACE_BEGIN

template <typename Tile>
constexpr int kTapsPerSample = Tile::kTapsZ * Tile::kTaps * Tile::kTaps;

/// Number of a tap among those of its sample.
template <typename Tile>
constexpr int tap_number(int kz, int ky, int kx) {
  return (kz * Tile::kTaps + ky) * Tile::kTaps + kx;
}

/// values[tap][i] = value(kz, ky, kx, i) for all samples of a tile.
template <typename Tile, typename T, typename F>
GRIDSAMPLE_INLINE void fill_per_tap(T (&values)[kTapsPerSample<Tile>][kTileSize], const F& value) {
  for (int kz = 0; kz < Tile::kTapsZ; ++kz) {
    for (int ky = 0; ky < Tile::kTaps; ++ky) {
      for (int kx = 0; kx < Tile::kTaps; ++kx) {
        T* to = values[tap_number<Tile>(kz, ky, kx)];
#pragma omp simd
        for (int i = 0; i < kTileSize; ++i) to[i] = value(kz, ky, kx, i);
      }
    }
  }
}

/// Few taps (a cache's worth) are put together for the whole tile, lanes over samples, many when
/// they are asked for. Offsets are negative outside.
template <typename Tile, bool kFew = kTapsPerSample<Tile> <= 8>
class TapList {
 public:
  using compute_t = typename Tile::compute_t;
  using offset_t = typename Tile::offset_t;

  explicit TapList(const Tile& tile) : tile_(tile) {}
  GRIDSAMPLE_INLINE offset_t offset(int kz, int ky, int kx, int i) const {
    const auto where = plane_offset(tile_, kz, ky, kx, i);
    return where.offset | where.outside;
  }
  GRIDSAMPLE_INLINE compute_t weight(int kz, int ky, int kx, int i) const {
    return row_weight(tile_, kz, ky, i) * tile_.axis[0].weight[kx][i];
  }
  /// Those of kLanes samples.
  template <int kLanes>
  GRIDSAMPLE_INLINE Vector<offset_t, kLanes> offsets(int kz, int ky, int kx, int i) const {
    alignas(64) offset_t offset_of[kLanes];
    for (int l = 0; l < kLanes; ++l) offset_of[l] = offset(kz, ky, kx, i + l);
    return load_vector<offset_t, kLanes>(offset_of);
  }

 private:
  const Tile& tile_;
};

/// Offsets alone of few taps.
template <typename Tile>
class TapOffsets {
 public:
  using offset_t = typename Tile::offset_t;

  explicit TapOffsets(const Tile& tile) {
    const TapList<Tile, false> taps(tile);
    fill_per_tap<Tile>(offset_,
                       [&](int kz, int ky, int kx, int i) { return taps.offset(kz, ky, kx, i); });
  }
  GRIDSAMPLE_INLINE offset_t offset(int kz, int ky, int kx, int i) const {
    return offset_[tap_number<Tile>(kz, ky, kx)][i];
  }
  template <int kLanes>
  GRIDSAMPLE_INLINE Vector<offset_t, kLanes> offsets(int kz, int ky, int kx, int i) const {
    return load_vector<offset_t, kLanes>(&offset_[tap_number<Tile>(kz, ky, kx)][i]);
  }

 private:
  alignas(64) offset_t offset_[kTapsPerSample<Tile>][kTileSize];
};

template <typename Tile>
class TapList<Tile, true> : public TapOffsets<Tile> {
 public:
  using compute_t = typename Tile::compute_t;

  explicit TapList(const Tile& tile) : TapOffsets<Tile>(tile) {
    const TapList<Tile, false> taps(tile);
    fill_per_tap<Tile>(weight_,
                       [&](int kz, int ky, int kx, int i) { return taps.weight(kz, ky, kx, i); });
  }
  GRIDSAMPLE_INLINE compute_t weight(int kz, int ky, int kx, int i) const {
    return weight_[tap_number<Tile>(kz, ky, kx)][i];
  }

 private:
  alignas(64) compute_t weight_[kTapsPerSample<Tile>][kTileSize];
};

GRIDSAMPLE_NAMESPACE_END
