#pragma once

#include "cpu/registers/numbers.h"
#include "cpu/taps/tap_tile.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// The grid of a few vectors of samples.
class GridLanes {
 public:
  /// Coordinates of a warp, computed ahead: samples [begin, end) of an image of the batch.
  template <int kSize>
  struct Ahead {
    int64_t batch = -1;
    int64_t begin = 0;
    int64_t end = 0;
    alignas(64) PerAxis<kSize> values;
  };

  GridLanes(const Geometry& geometry, const GridView& grid) : geometry_(geometry), grid_(grid) {
    TileOffsets located;
    locate_samples(geometry, grid, 0, 1, located);
    in_place_ =
        !grid.is_warp && grid.dtype == kDTypeOf<compute_t> && is_interleaved(grid, located, 2);
  }

  /// x and y of samples [first, first + count). The lanes beyond repeat the last one. `ahead` keeps
  /// a warp's coordinates from one call of a thread to the next. Whole vectors are read from it:
  /// those that are not whole begin where it does.
  template <int kSize>
  GRIDSAMPLE_INLINE void load(int64_t batch, int64_t first, int count, Numbers (&axis)[2],
                              Ahead<kSize>& ahead) const {
    if (in_place_ && count == kNumbers) [[likely]] {
      const auto* from =
          static_cast<const compute_t*>(grid_.data) + batch * grid_.batch_stride + 2 * first;
      prefetch_next_tile(from, kNumbers, 2);
      take(from, axis);
    } else if (grid_.is_warp) {
      if (batch != ahead.batch || first < ahead.begin || first + count > ahead.end) {
        load_ahead(batch, first, ahead);
      }
      GRIDSAMPLE_UNROLL
      for (int a = 0; a < 2; ++a) {
        const compute_t* from = ahead.values[a] + (first - ahead.begin);
        GRIDSAMPLE_UNROLL
        for (int v = 0; v < kNumbersVectors; ++v) {
          axis[a].vector[v] = load_vector<compute_t, kSampleLanes>(from + v * kSampleLanes);
        }
      }
    } else {
      Numbers rest[2];  // which has an address, as registers have not
      load_rest(batch, first, count, rest);
      for (int a = 0; a < 2; ++a) axis[a] = rest[a];
    }
  }

 private:
  static GRIDSAMPLE_INLINE void take(const compute_t* from, Numbers (&axis)[2]) {
    GRIDSAMPLE_UNROLL
    for (int v = 0; v < kNumbersVectors; ++v, from += 2 * kSampleLanes) {
      SampleLanes both[2] = {load_vector<compute_t, kSampleLanes>(from),
                             load_vector<compute_t, kSampleLanes>(from + kSampleLanes)};
      take_apart<compute_t, kSampleLanes>(both);
      axis[0].vector[v] = both[0];
      axis[1].vector[v] = both[1];
    }
  }
  template <int kSize>
  GRIDSAMPLE_NOINLINE void load_ahead(int64_t batch, int64_t first, Ahead<kSize>& ahead) const {
    const auto count =
        static_cast<int>(std::min<int64_t>(samples_of(geometry_, batch) - first, kSize));
    load_grid(geometry_, grid_, batch, first, count, ahead.values);
    ahead.batch = batch;
    ahead.begin = first;
    ahead.end = first + count;
  }
  GRIDSAMPLE_NOINLINE void load_rest(int64_t batch, int64_t first, int count,
                                     Numbers (&axis)[2]) const {
    if (in_place_) {
      alignas(64) compute_t values[2 * kNumbers];
      const auto* from =
          static_cast<const compute_t*>(grid_.data) + batch * grid_.batch_stride + 2 * first;
      std::memcpy(values, from, 2 * count * sizeof(compute_t));
      for (int i = 2 * count; i < 2 * kNumbers; ++i) values[i] = values[i - 2];
      take(values, axis);
    } else {
      alignas(64) PerAxis<kNumbers> values;
      load_grid(geometry_, grid_, batch, first, count, values);
      for (int a = 0; a < 2; ++a) std::memcpy(&axis[a], values[a], sizeof(axis[a]));
    }
  }

  const Geometry& geometry_;
  const GridView& grid_;
  bool in_place_;
};

GRIDSAMPLE_NAMESPACE_END
