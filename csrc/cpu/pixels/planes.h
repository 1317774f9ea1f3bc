#pragma once

// Reading the pixels under the taps of a tile, lanes over samples: one channel plane.

#include "cpu/simd/lanes.h"
#include "cpu/taps/tap_rows.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// kCount tuples of kTuple elements, base[offset[i]] and the next, side by side in one vector. They
/// are fetched by plain loads of whole tuples, on most CPUs faster than vector gathers.
template <typename storage_t, int kTuple, int kCount>
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

/// kBlocks blocks of kCount tuples, side by side in one vector; a block of offsets is kBlock long.
template <typename storage_t, int kTuple, int kCount, int kBlocks, int kBlock>
GRIDSAMPLE_INLINE auto load_blocks(const storage_t* base, const offset_t* offset) {
  if constexpr (kBlocks == 1) {
    return load_tuples<storage_t, kTuple, kCount>(base, offset);
  } else {
    const auto low = load_blocks<storage_t, kTuple, kCount, kBlocks / 2, kBlock>(base, offset);
    const auto high = load_blocks<storage_t, kTuple, kCount, kBlocks / 2, kBlock>(
        base, offset + kBlocks / 2 * kBlock);
    return join(low, high);
  }
}

/// kLanes tuples: v[k] gets element k of each. Tuples of neighbours are loaded to the same block of
/// all vectors, one of 16 bytes if a tuple fits: within it shuffles are cheap.
template <typename storage_t, int kTuple, int kLanes>
GRIDSAMPLE_INLINE void load_apart(const storage_t* base, const offset_t* offset,
                                  Vector<storage_t, kLanes> (&v)[kTuple]) {
  constexpr int kBlock =
      std::max(kTuple, std::min(kLanes, 16 / static_cast<int>(sizeof(storage_t))));
  constexpr int kCount = kBlock / kTuple;
  GRIDSAMPLE_UNROLL
  for (int r = 0; r < kTuple; ++r) {
    v[r] =
        load_blocks<storage_t, kTuple, kCount, kLanes / kBlock, kBlock>(base, offset + r * kCount);
  }
  deinterleave<storage_t, kLanes, kBlock>(v);
}

/// Asks for some of the pixels of a tile, which stand for their neighbours. Where samples are
/// scattered they have none, and loads that do not depend on each other wait together anyway.
template <typename storage_t, typename Tile>
GRIDSAMPLE_INLINE void prefetch_plane(const storage_t* plane, const TapRows<Tile>& rows) {
  constexpr int kStep = 4;
  for (int kz = 0; kz < rows.slices; ++kz) {
    const auto* row = rows.row(kz, Tile::kTaps - 1);
    for (int i = 0; i < Tile::kSize; i += kStep) GRIDSAMPLE_PREFETCH(plane + row[i]);
  }
}

/// The pixels of one channel plane under a tile's taps, a vector of samples at a time.
///
/// Where the taps of a row lie side by side, a sample's row is one load, and if all samples of the
/// vector are regular, that is all; else (at the image's edge) each tap takes its pixel from the
/// places of its row, or 0 outside. Where they do not (TapRows::kApart), or a row of taps is longer
/// than a vector, they are read one by one.
template <typename scalar, typename Tile>
class PlanePixels {
 public:
  using storage_t = typename scalar::storage_t;
  static constexpr int kTaps = Tile::kTaps;
  static constexpr int kLanes = kFullLanes<compute_t>;
  using Lanes = Vector<compute_t, kLanes>;
  // A row of taps may be longer than a vector of the baseline, which is then read tap by tap.
  static constexpr bool kTuples = kTaps <= kLanes;

  /// The pixels for samples [i, i + kLanes).
  PlanePixels(const storage_t* plane, const Tile& tile, const TapRows<Tile>& rows, int i)
      : plane_(plane), rows_(rows), i_(i) {
    const offset_t irregularities = rows.template irregularities<kLanes>(i);
    regular_ = kTuples && irregularities == 0;
    if (regular_) return;
    if constexpr (kTuples) {
      if ((irregularities & TapRows<Tile>::kApart) == 0) {
        choose<false>(plane, tile, rows, i, fetched_);
        return;
      }
      // Two rows of long ones are quicker than their taps one by one.
      if (kTaps > 2 && (irregularities & TapRows<Tile>::kScattered) == 0) {
        choose<(kTaps > 2)>(plane, tile, rows, i, fetched_);
        return;
      }
    }
    fetch(plane, tile, i, fetched_);
  }

  /// Those of the row of taps at kz, ky.
  GRIDSAMPLE_INLINE void operator()(int kz, int ky, Lanes (&pixel)[kTaps]) const {
    if constexpr (kTuples) {
      if (regular_) return load_row(plane_, rows_.row(kz, ky) + i_, pixel);
    }
    GRIDSAMPLE_UNROLL
    for (int kx = 0; kx < kTaps; ++kx) {
      pixel[kx] = load_vector<compute_t, kLanes>(fetched_[(kz * kTaps + ky) * kTaps + kx]);
    }
  }

 private:
  using Fetched = compute_t[Tile::kMostTaps][kLanes];
  using Mask = Vector<std::conditional_t<sizeof(compute_t) == 4, int32_t, int64_t>, kLanes>;

  static GRIDSAMPLE_INLINE void load_row(const storage_t* plane, const offset_t* offset,
                                         Lanes (&pixel)[kTaps]) {
    if constexpr (kTaps == 2 && kGathersPairs<storage_t>) {
      if (fast_gathers) return gather_pairs(plane, offset, pixel);
    }
    Vector<storage_t, kLanes> rows[kTaps];
    load_apart<storage_t, kTaps, kLanes>(plane, offset, rows);
    GRIDSAMPLE_UNROLL
    for (int k = 0; k < kTaps; ++k) {
      pixel[k] = convert_lanes<scalar, compute_t, kLanes>(rows[k]);
    }
  }

  /// The places of every row are loaded, and each tap's pixel is chosen from them. kAtEnd: or from
  /// the last places of the image's row.
  template <bool kAtEnd>
  GRIDSAMPLE_NOINLINE static void choose(const storage_t* plane, const Tile& tile,
                                         const TapRows<Tile>& rows, int i, Fetched& fetched) {
    using Offsets = Vector<offset_t, kLanes>;
    const auto at = [&](const offset_t* from) { return load_vector<offset_t, kLanes>(from + i); };
    const auto mask = [](const auto& condition) {
      return __builtin_convertvector(condition, Mask);
    };
    const Offsets start = at(rows.start());
    Mask is_at[kTaps][kTaps];
    [[maybe_unused]] Mask is_at_end[kTaps][kTaps];
    for (int kx = 0; kx < kTaps; ++kx) {
      for (int place = 0; place < kTaps; ++place) {
        const Offsets offset = at(tile.axis[0].offset[kx]);
        is_at[kx][place] = mask(offset == start + place);
        if constexpr (kAtEnd) is_at_end[kx][place] = mask(offset == rows.last_place() + place);
      }
    }
    for (int kz = 0; kz < tile.slices; ++kz) {
      for (int ky = 0; ky < kTaps; ++ky) {
        Offsets signs = at(tile.axis[1].offset[ky]);
        if (tile.is_volume()) signs |= at(tile.axis[2].offset[kz]);
        const Mask row_is_inside = mask(signs >= 0);
        Lanes pixel[kTaps];
        load_row(plane, rows.row(kz, ky) + i, pixel);
        [[maybe_unused]] Lanes pixel_at_end[kTaps];
        if constexpr (kAtEnd) {
          alignas(64) offset_t end[kLanes];
          store_vector<offset_t, kLanes>(end, at(rows.row(kz, ky)) - start + rows.last_place());
          load_row(plane, end, pixel_at_end);
        }
        for (int kx = 0; kx < kTaps; ++kx) {
          Mask chosen{};
          for (int place = 0; place < kTaps; ++place) {
            chosen |= (Mask)pixel[place] & is_at[kx][place];
            if constexpr (kAtEnd) chosen |= (Mask)pixel_at_end[place] & is_at_end[kx][place];
          }
          store_vector<compute_t, kLanes>(fetched[(kz * kTaps + ky) * kTaps + kx],
                                          chosen & row_is_inside);
        }
      }
    }
  }

  /// The pixel of each tap is loaded by itself.
  GRIDSAMPLE_NOINLINE static void fetch(const storage_t* plane, const Tile& tile, int i,
                                        Fetched& fetched) {
    using Offsets = Vector<offset_t, kLanes>;
    const auto at = [i](const offset_t* from) { return load_vector<offset_t, kLanes>(from + i); };
    for (int kz = 0; kz < tile.slices; ++kz) {
      Offsets z{};
      if (tile.is_volume()) z = at(tile.axis[2].offset[kz]);
      for (int ky = 0; ky < kTaps; ++ky) {
        const Offsets y = at(tile.axis[1].offset[ky]);
        for (int kx = 0; kx < kTaps; ++kx) {
          const Offsets x = at(tile.axis[0].offset[kx]);
          const auto inside = (Offsets)((x | y | z) >= 0);
          alignas(64) offset_t offset[kLanes];
          store_vector<offset_t, kLanes>(offset, (x + y + z) & inside);
          Vector<storage_t, kLanes> pixel[1];
          load_apart<storage_t, 1, kLanes>(plane, offset, pixel);
          const auto value = (Mask)convert_lanes<scalar, compute_t, kLanes>(pixel[0]);
          store_vector<compute_t, kLanes>(fetched[(kz * kTaps + ky) * kTaps + kx],
                                          (Lanes)(value & __builtin_convertvector(inside, Mask)));
        }
      }
    }
  }

  const storage_t* plane_;
  const TapRows<Tile>& rows_;
  int i_;
  bool regular_;
  alignas(64) Fetched fetched_;
};

GRIDSAMPLE_NAMESPACE_END
