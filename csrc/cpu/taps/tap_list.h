#pragma once

// The taps of a sample one by one: where each is in its plane, and its weight.

#include "cpu/taps/tap_tile.h"
#include "cpu/simd/lanes.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Number of a tap among those of its sample.
template <typename Tile>
constexpr int tap_number(int kz, int ky, int kx) {
  return (kz * Tile::kTaps + ky) * Tile::kTaps + kx;
}

/// values[tap][i] = value(kz, ky, kx, i) for all samples of a tile.
template <typename Tile, typename T, typename F>
GRIDSAMPLE_INLINE void fill_per_tap(const Tile& tile, T (&values)[Tile::kMostTaps][Tile::kSize],
                                    const F& value) {
  for (int kz = 0; kz < tile.slices; ++kz) {
    for (int ky = 0; ky < Tile::kTaps; ++ky) {
      for (int kx = 0; kx < Tile::kTaps; ++kx) {
        T* to = values[tap_number<Tile>(kz, ky, kx)];
#pragma omp simd
        for (int i = 0; i < Tile::kSize; ++i) to[i] = value(kz, ky, kx, i);
      }
    }
  }
}

/// Few enough taps that all of a tile fit the first-level cache.
template <typename Tile>
constexpr bool kFewTaps = Tile::kMostTaps <= 8;

/// Offsets of taps, negative outside. Those of few taps (kStored) are put together for the whole
/// tile, lanes over samples, those of many when they are asked for.
template <typename Tile, bool kStored = kFewTaps<Tile>>
class TapOffsets : public Tile::Dims {
 public:
  explicit TapOffsets(const Tile& tile) : Tile::Dims(tile), tile_(tile) {}
  GRIDSAMPLE_INLINE offset_t offset(int kz, int ky, int kx, int i) const {
    const auto where = plane_offset(tile_, kz, ky, kx, i);
    return where.offset | where.outside;
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

template <typename Tile>
class TapOffsets<Tile, true> : public Tile::Dims {
 public:
  explicit TapOffsets(const Tile& tile) : Tile::Dims(tile) {
    const TapOffsets<Tile, false> taps(tile);
    fill_per_tap(tile, offset_,
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
  alignas(64) offset_t offset_[Tile::kMostTaps][Tile::kSize];
};

/// Weights of taps, stored or not alike, those of a row of taps side by side.
template <typename Tile, bool kStored = kFewTaps<Tile>>
class TapWeights {
 public:
  explicit TapWeights(const Tile& tile) : tile_(tile) {}
  GRIDSAMPLE_INLINE compute_t weight(int kz, int ky, int kx, int i) const {
    return row_weight(tile_, kz, ky, i) * tile_.axis[0].weight[kx][i];
  }
  /// Those of kLanes samples.
  template <int kLanes>
  GRIDSAMPLE_INLINE Vector<compute_t, kLanes> weights(int kz, int ky, int kx, int i) const {
    const auto at = [](const compute_t* from) { return load_vector<compute_t, kLanes>(from); };
    auto row = at(&tile_.axis[1].weight[ky][i]);
    if (tile_.is_volume()) row = at(&tile_.axis[2].weight[kz][i]) * row;
    return row * at(&tile_.axis[0].weight[kx][i]);
  }

 private:
  const Tile& tile_;
};

template <typename Tile>
class TapWeights<Tile, true> {
 public:
  static constexpr int kTaps = Tile::kTaps;

  explicit TapWeights(const Tile& tile) {
    constexpr int kLanes = kFullLanes<compute_t>;
    const TapWeights<Tile, false> taps(tile);
    for (int kz = 0; kz < tile.slices; ++kz) {
      for (int ky = 0; ky < kTaps; ++ky) {
        compute_t* to = weight_[kz * kTaps + ky][0];
        for (int i = 0; i < Tile::kSize; i += kLanes) {
          Vector<compute_t, kLanes> weight[kTaps];
          GRIDSAMPLE_UNROLL
          for (int kx = 0; kx < kTaps; ++kx) {
            weight[kx] = taps.template weights<kLanes>(kz, ky, kx, i);
          }
          if constexpr (kTaps > 1) put_together<compute_t, kLanes>(weight);
          GRIDSAMPLE_UNROLL
          for (int k = 0; k < kTaps; ++k) {
            store_vector<compute_t, kLanes>(to + i * kTaps + k * kLanes, weight[k]);
          }
        }
      }
    }
  }
  GRIDSAMPLE_INLINE compute_t weight(int kz, int ky, int kx, int i) const {
    return row(kz, ky, i)[kx];
  }
  /// Those of a row of taps of one sample, side by side.
  GRIDSAMPLE_INLINE const compute_t* row(int kz, int ky, int i) const {
    return weight_[kz * kTaps + ky][i];
  }

 private:
  alignas(64) compute_t weight_[Tile::kMostRows][Tile::kSize][kTaps];
};

/// A row of two or four taps of one plane in a vector; of two, the rest of it is not used.
template <typename Tile>
constexpr int kRowLanes = Tile::kTaps == 4 ? 4 : kPairLanes<compute_t>;
template <typename Tile, typename compute_t>
GRIDSAMPLE_INLINE Vector<compute_t, kRowLanes<Tile>> load_tap_row(const compute_t* from) {
  if constexpr (Tile::kTaps == 4) {
    return load_vector<compute_t, 4>(from);
  } else {
    return load_pair(from);
  }
}
template <typename Tile, typename compute_t>
GRIDSAMPLE_INLINE void store_tap_row(compute_t* to, const Vector<compute_t, kRowLanes<Tile>>& row) {
  if constexpr (Tile::kTaps == 4) {
    store_vector<compute_t, 4>(to, row);
  } else {
    store_pair(to, row);
  }
}

/// Weights of taps, and of whole rows of them.
template <typename Tile>
class RowWeights : public TapWeights<Tile> {
 public:
  static constexpr int kTaps = Tile::kTaps;

  explicit RowWeights(const Tile& tile) : TapWeights<Tile>(tile), tile_(tile) {
    if constexpr (!kFewTaps<Tile>) fill();
  }
  GRIDSAMPLE_INLINE Vector<compute_t, kRowLanes<Tile>> row_of(int kz, int ky, int i) const {
    if constexpr (kFewTaps<Tile>) {
      return load_tap_row<Tile>(this->row(kz, ky, i));
    } else {
      return load_tap_row<Tile>(along_x_[i]) *
             broadcast<compute_t, kTaps>(row_weight(tile_, kz, ky, i));
    }
  }

 private:
  void fill() {
    constexpr int kLanes = kFullLanes<compute_t>;
    const auto& weight = tile_.axis[0].weight;
    if constexpr (kLanes >= kTaps) {
      for (int i = 0; i < Tile::kSize; i += kLanes) {
        Vector<compute_t, kLanes> v[kTaps];
        GRIDSAMPLE_UNROLL
        for (int k = 0; k < kTaps; ++k) v[k] = load_vector<compute_t, kLanes>(&weight[k][i]);
        interleave<compute_t, kLanes>(v);
        GRIDSAMPLE_UNROLL
        for (int k = 0; k < kTaps; ++k) {
          store_vector<compute_t, kLanes>(along_x_[i] + k * kLanes, v[k]);
        }
      }
    } else {
      for (int i = 0; i < Tile::kSize; ++i) {
        for (int k = 0; k < kTaps; ++k) along_x_[i][k] = weight[k][i];
      }
    }
  }

  const Tile& tile_;
  // Of the many taps, whose weights are not stored.
  alignas(64) compute_t along_x_[kFewTaps<Tile> ? 1 : Tile::kSize][kTaps];
};

template <typename Tile>
class TapList : public TapOffsets<Tile>, public TapWeights<Tile> {
 public:
  explicit TapList(const Tile& tile) : TapOffsets<Tile>(tile), TapWeights<Tile>(tile) {}
};

GRIDSAMPLE_NAMESPACE_END
