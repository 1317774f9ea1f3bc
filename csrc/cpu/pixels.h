#pragma once

// Reading the pixels under the taps of a tile, lanes over samples: one channel plane.

#include "tap_tile.h"
#include "vectors.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// kCount tuples of kTuple elements, base[offset[i]] and the next, side by side in one vector. They
/// are fetched by plain loads of whole tuples: faster than the vector gathers of AVX2 and AVX-512.
template <typename storage_t, int kTuple, int kCount, typename offset_t>
GRIDSAMPLE_INLINE Vector<storage_t, kTuple * kCount> load_tuples(const storage_t* base,
                                                                 const offset_t* offset) {
  using Result = Vector<storage_t, kTuple * kCount>;
  constexpr int kTupleBytes = kTuple * static_cast<int>(sizeof(storage_t));
  if constexpr (kCount == 1) {
    return load_vector<storage_t, kTuple>(base + offset[0]);
  } else if constexpr (kTupleBytes * kCount > 16) {
    const auto low = load_tuples<storage_t, kTuple, kCount / 2>(base, offset);
    const auto high = load_tuples<storage_t, kTuple, kCount / 2>(base, offset + kCount / 2);
    return join(low, high);
  } else {
    // A tuple as one number, so that two or four loads make a vector of 16 bytes or less.
    using element_t = std::conditional_t<kTupleBytes == 8, double,
                                         std::conditional_t<kTupleBytes == 4, float, uint16_t>>;
    static_assert(sizeof(element_t) == kTupleBytes);
    const auto load = [&](int i) {
      element_t tuple;
      std::memcpy(&tuple, base + offset[i], sizeof(tuple));
      return tuple;
    };
    if constexpr (kCount == 2) {
      return (Result)Vector<element_t, 2>{load(0), load(1)};
    } else if constexpr (kCount == 4) {
      return (Result)Vector<element_t, 4>{load(0), load(1), load(2), load(3)};
    } else {
      static_assert(kCount == 8);
      return (Result)Vector<element_t, 8>{load(0), load(1), load(2), load(3),
                                          load(4), load(5), load(6), load(7)};
    }
  }
}

/// The pixels of one channel plane under a tile's taps, a vector of samples at a time.
///
/// Where the taps of all of them lie side by side along x, a sample's row of taps is one load. Else
/// (at the image's edge, or x not innermost in memory) its taps are read one by one; a tap outside
/// reads as 0 and touches no memory of its own.
template <typename scalar, typename Tile>
class PlanePixels {
 public:
  using storage_t = typename scalar::storage_t;
  using compute_t = typename Tile::compute_t;
  using offset_t = typename Tile::offset_t;
  static constexpr int kTaps = Tile::kTaps;
  static constexpr int kTapsZ = Tile::kTapsZ;
  static constexpr int kLanes = kFullLanes<compute_t>;
  using Lanes = Vector<compute_t, kLanes>;
  // A row of taps may be longer than a vector of the baseline, which is then read tap by tap.
  static constexpr bool kTuples = kTaps <= kLanes;

  /// What is common to all channels.
  class Layout {
   public:
    explicit Layout(const Tile& tile, int64_t x_stride) {
      if (kTaps <= 2 && tile.inside && (x_stride == 1 || kTaps == 1)) {
        std::fill(std::begin(regular_), std::end(regular_), true);
        return;
      }
      for (int group = 0; group < kTileSize / kLanes; ++group) {
        offset_t irregular = kTuples && (x_stride == 1 || kTaps == 1) ? 0 : -1;
        for (int l = 0; l < kLanes; ++l) {
          const int i = group * kLanes + l;
          irregular |= tile.outside[i] < 0;
          GRIDSAMPLE_UNROLL
          for (int k = 1; k < kTaps; ++k) {
            irregular |= (tile.axis[0].offset[k][i] - tile.axis[0].offset[0][i]) ^ k;
          }
        }
        regular_[group] = irregular == 0;
      }
    }
    bool is_regular(int i) const { return regular_[i / kLanes]; }

   private:
    bool regular_[kTileSize / kLanes];
  };

  /// The pixels for samples [i, i + kLanes).
  PlanePixels(const storage_t* plane, const Tile& tile, const Layout& layout, int i)
      : plane_(plane), tile_(tile), i_(i), regular_(layout.is_regular(i)) {
    if (!regular_) fetch(plane, tile, i, fetched_);
  }

  /// Asks for pixels that the samples from i on will need, as far as one stands for its neighbours.
  static GRIDSAMPLE_INLINE void prefetch(const storage_t* plane, const Tile& tile, int i) {
    if (i >= kTileSize) return;
    for (int kz = 0; kz < kTapsZ; ++kz) {
      GRIDSAMPLE_UNROLL
      for (int ky = 0; ky < kTaps; ++ky) {
        GRIDSAMPLE_PREFETCH(plane + plane_offset(tile, kz, ky, kTaps - 1, i).offset);
      }
    }
  }

  /// Those of the row of taps at kz, ky.
  GRIDSAMPLE_INLINE void operator()(int kz, int ky, Lanes (&pixel)[kTaps]) const {
    if constexpr (kTuples) {
      if (regular_) return load_row(kz, ky, pixel);
    }
    for (int kx = 0; kx < kTaps; ++kx) {
      pixel[kx] = load_vector<compute_t, kLanes>(fetched_[(kz * kTaps + ky) * kTaps + kx]);
    }
  }

 private:
  using Fetched = compute_t[kTapsZ * kTaps * kTaps][kLanes];

  GRIDSAMPLE_INLINE void load_row(int kz, int ky, Lanes (&pixel)[kTaps]) const {
    using Offsets = Vector<offset_t, kLanes>;
    Offsets sum = load_vector<offset_t, kLanes>(&tile_.axis[0].offset[0][i_]) +
                  load_vector<offset_t, kLanes>(&tile_.axis[1].offset[ky][i_]);
    if constexpr (Tile::kDims == 3) {
      sum += load_vector<offset_t, kLanes>(&tile_.axis[2].offset[kz][i_]);
    }
    alignas(64) offset_t offset[kLanes];
    store_vector<offset_t, kLanes>(offset, sum);
    Vector<storage_t, kLanes> rows[kTaps];
    GRIDSAMPLE_UNROLL
    for (int r = 0; r < kTaps; ++r) {
      rows[r] =
          load_tuples<storage_t, kTaps, kLanes / kTaps>(plane_, offset + r * (kLanes / kTaps));
    }
    deinterleave<storage_t, kLanes>(rows);
    GRIDSAMPLE_UNROLL
    for (int k = 0; k < kTaps; ++k) {
      pixel[k] = convert_lanes<scalar, compute_t, kLanes>(rows[k]);
    }
  }

  __attribute__((noinline)) static void fetch(const storage_t* plane, const Tile& tile, int first,
                                              Fetched& fetched) {
    for (int l = 0; l < kLanes; ++l) {
      const int i = first + l;
      const bool inside = tile.outside[i] >= 0;
      for (int kz = 0; kz < kTapsZ; ++kz) {
        for (int ky = 0; ky < kTaps; ++ky) {
          for (int kx = 0; kx < kTaps; ++kx) {
            const auto where = plane_offset(tile, kz, ky, kx, i);
            fetched[(kz * kTaps + ky) * kTaps + kx][l] =
                inside || !where.outside ? scalar::template load<compute_t>(plane[where.offset])
                                         : compute_t(0);
          }
        }
      }
    }
  }

  const storage_t* plane_;
  const Tile& tile_;
  int i_;
  bool regular_;
  alignas(64) Fetched fetched_;
};

GRIDSAMPLE_NAMESPACE_END
