#pragma once

// Where the rows of taps along x begin, and whether each can be read and written as one.

#include "cpu/taps/tap_tile.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Rows of taps along x: where each begins in a plane, for the samples of a tile. Common to all
/// channels.
///
/// Where neighbours along x are `step` apart and the image at least as wide as a row of taps, the
/// pixels of a row are among those of kTaps places side by side, all in the image, unless a padding
/// has moved taps of a row apart. A regular sample has one tap at each, in order; of an irregular
/// one some taps are outside, or at the same place, or in another order.
template <typename Tile>
class TapRows : public Tile::Dims {
 public:
  static constexpr int kTaps = Tile::kTaps;

  /// For planes, where neighbours have to be side by side.
  TapRows(const Tile& tile, const Geometry& geometry, const View& image)
      : TapRows(tile, geometry.input_size[0], 1, image.stride[0] == 1) {}

  /// For `size` pixels along x. neighbours: they are `step` apart.
  GRIDSAMPLE_NOINLINE TapRows(const Tile& tile, int64_t size, int step, bool neighbours)
      : Tile::Dims(tile),
        side_by_side_(neighbours && size >= kTaps),
        last_place_(static_cast<offset_t>(size - kTaps) * step) {
    constexpr int kLanes = kFullLanes<offset_t>;
    using Lanes = Vector<offset_t, kLanes>;
    using Unsigned = Vector<std::make_unsigned_t<offset_t>, kLanes>;
    const auto at = [](const offset_t* from) { return load_vector<offset_t, kLanes>(from); };
    const auto inside = [](const Lanes& offset) { return offset & ~(offset < 0); };
    const Lanes always = broadcast<offset_t, kLanes>(side_by_side_ ? 0 : kOutside);
    const auto last = (Unsigned)broadcast<offset_t, kLanes>(last_place_);
    Lanes any{};
    GRIDSAMPLE_KEEP_LOOP
    for (int i = 0; i < Tile::kSize; i += kLanes) {
      Lanes x = at(&tile.axis[0].offset[0][i]);
      Lanes irregular = always | (at(&tile.outside[i]) < 0);
      auto least = (Unsigned)x;  // kOutside is the greatest
      GRIDSAMPLE_UNROLL
      for (int k = 1; k < kTaps; ++k) {
        const Lanes other = at(&tile.axis[0].offset[k][i]);
        irregular |= (other - x) ^ (k * step);
        least = (Unsigned)other < least ? (Unsigned)other : least;
      }
      x = side_by_side_ ? (Lanes)(least < last ? least : last) : inside(x);
      // Far out whole numbers are not neighbours in the compute type, and folded apart; and behind
      // the last pixel of a circular axis comes the first.
      Lanes apart = always & (kApart | kScattered);
      if constexpr (kTaps > 1) {
        GRIDSAMPLE_UNROLL
        for (int k = 0; k < kTaps; ++k) {
          const Lanes other = at(&tile.axis[0].offset[k][i]);
          const auto is_apart = (Lanes)(other > x + (kTaps - 1) * step);
          apart |= is_apart & kApart;
          // A pixel at neither end belongs to no row that goes on at its beginning.
          apart |= is_apart & (Lanes)((Unsigned)other < last) & kScattered;
          apart |= is_apart & (Lanes)(x > 0) & kScattered;
        }
      }
      irregular = ((Lanes)(irregular != 0) & kIrregular) | apart;
      store_vector<offset_t, kLanes>(irregular_ + i, irregular);
      any |= irregular;
      const auto store_rows = [&](int kz, const Lanes& slice) GRIDSAMPLE_INLINE_LAMBDA {
        GRIDSAMPLE_UNROLL
        for (int ky = 0; ky < kTaps; ++ky) {
          store_vector<offset_t, kLanes>(offset_[kz * kTaps + ky] + i,
                                         slice + inside(at(&tile.axis[1].offset[ky][i])));
        }
      };
      if (tile.is_volume()) {
        GRIDSAMPLE_UNROLL
        for (int kz = 0; kz < tile.slices; ++kz) {
          store_rows(kz, x + inside(at(&tile.axis[2].offset[kz][i])));
        }
      } else {
        store_rows(0, x);
      }
      if (side_by_side_) store_vector<offset_t, kLanes>(start_ + i, x);
    }
    const auto is_zero = [](const Lanes& v) {
      alignas(64) offset_t lanes[kLanes];
      store_vector<offset_t, kLanes>(lanes, v);
      offset_t all = 0;
      for (int l = 0; l < kLanes; ++l) all |= lanes[l];
      return all == 0;
    };
    all_regular_ = is_zero(any);
  }

  /// Whether all taps of sample i are inside, and one at each of the places, in order.
  GRIDSAMPLE_INLINE bool is_regular(int i) const { return irregular_[i] == 0; }
  /// Whether all samples are regular.
  GRIDSAMPLE_INLINE bool all_regular() const { return all_regular_; }
  /// What samples [i, i + kLanes) are: 0 if all are regular; with kApart if the pixels of some row
  /// are not among those of kTaps places side by side; with kScattered as well if they are not
  /// among the first and the last kTaps places either.
  template <int kLanes>
  GRIDSAMPLE_INLINE offset_t irregularities(int i) const {
    if (all_regular_) return 0;
    offset_t any = 0;
    for (int l = 0; l < kLanes; ++l) any |= irregular_[i + l];
    return any;
  }
  static constexpr offset_t kApart = 2;
  static constexpr offset_t kScattered = 4;
  /// The last of the places from which kTaps lie side by side along x.
  offset_t last_place() const { return last_place_; }
  /// For planes: whether rows of samples `step` apart often begin less than a row apart, so that
  /// one has some of the other's pixels. Every second vector of samples is looked at.
  bool often_overlap(int step) const {
    constexpr int kLanes = kFullLanes<offset_t>;
    using Lanes = Vector<offset_t, kLanes>;
    const auto at = [&](int row, int i) { return load_vector<offset_t, kLanes>(offset_[row] + i); };
    Lanes count{};
    int looked_at = 0;
    for (int i = 0; i + kLanes + step <= Tile::kSize; i += 2 * kLanes, looked_at += kLanes) {
      Lanes overlaps{};
      const auto compare = [&](const Lanes& apart) {
        overlaps |= (Lanes)((apart != 0) & (apart < kTaps) & (apart > -kTaps));
      };
      GRIDSAMPLE_UNROLL
      for (int ky = 0; ky < kTaps; ++ky) {
        compare(at(ky, i + step) - at(0, i));
        if (ky > 0) compare(at(0, i + step) - at(ky, i));
      }
      count -= overlaps;
    }
    alignas(64) offset_t lanes[kLanes];
    store_vector<offset_t, kLanes>(lanes, count);
    offset_t sum = 0;
    for (int l = 0; l < kLanes; ++l) sum += lanes[l];
    return sum > looked_at / 8;
  }
  /// Where the rows at kz, ky begin, one for each sample; somewhere in the plane if the row is
  /// outside.
  GRIDSAMPLE_INLINE const offset_t* row(int kz, int ky) const { return offset_[kz * kTaps + ky]; }
  /// Where they begin along x alone, where taps are not apart.
  GRIDSAMPLE_INLINE const offset_t* start() const { return start_; }

 private:
  static constexpr offset_t kIrregular = 1;

  bool side_by_side_;
  offset_t last_place_;
  alignas(64) offset_t offset_[Tile::kMostRows][Tile::kSize];
  alignas(64) offset_t start_[Tile::kSize];
  alignas(64) offset_t irregular_[Tile::kSize];
  bool all_regular_;
};

GRIDSAMPLE_NAMESPACE_END
