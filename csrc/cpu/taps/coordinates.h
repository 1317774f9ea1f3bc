#pragma once

// The coordinates of samples, of a grid or of a warp, and where their gradients go. What calls this
// does not know which.

#include "cpu/taps/samples.h"
#include "math/warps.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Samples that follow each other in one row of the output.
struct RowSegment {
  int begin;  // among the samples asked for
  int length;
  int64_t at[kMaxDims];  // of the first; the other axes' are those of the row
  int64_t image;         // of a group of images
};

/// Calls visit(segment) for the rows, or parts of rows, that samples [first, first + count) are
/// made of. kMost: samples that a segment has at most, which ends where a multiple of them begins.
template <int kMost, typename F>
GRIDSAMPLE_INLINE void for_row_segments(const Geometry& geometry, int64_t first, int count,
                                        const F& visit) {
  const int64_t* size = geometry.output_size;
  RowSegment segment{};
  int64_t rest = first;
  for (int a = 0; a < kMaxDims; ++a) {
    const int64_t whole = rest / size[a];
    segment.at[a] = rest - whole * size[a];
    rest = whole;
  }
  segment.image = rest;
  while (segment.begin < count) {
    const int64_t of_row = size[0] - segment.at[0];
    const int most = std::min(count - segment.begin, kMost - segment.begin % kMost);
    segment.length = static_cast<int>(std::min<int64_t>(most, of_row));
    visit(segment);
    segment.begin += segment.length;
    segment.at[0] += segment.length;
    if (segment.length < of_row) continue;
    segment.at[0] = 0;
    if (++segment.at[1] < size[1]) continue;
    segment.at[1] = 0;
    if (++segment.at[2] < size[2]) continue;
    segment.at[2] = 0;
    ++segment.image;
  }
}

/// Calls visit(i, place), vectorised, for the pixels of a segment, along x.
template <typename F>
GRIDSAMPLE_INLINE void for_places(const Places<compute_t>& places, const RowSegment& segment,
                                  const F& visit) {
  const auto walk = [&](auto begin, const auto& place_of) GRIDSAMPLE_INLINE_LAMBDA {
    const int length = segment.length;
#pragma omp simd
    for (int i = 0; i < length; ++i) {
      visit(i, place_of(static_cast<compute_t>(begin + static_cast<decltype(begin)>(i))));
    }
  };
  const auto itself = [](compute_t i) { return i; };
  const Places<compute_t> along = places;
  const auto place_of = [=](compute_t i) { return along.at(i); };
  if (segment.at[0] + segment.length > std::numeric_limits<int32_t>::max()) {
    walk(segment.at[0], place_of);
  } else if (places.is_identity) {
    walk(static_cast<int32_t>(segment.at[0]), itself);
  } else {
    walk(static_cast<int32_t>(segment.at[0]), place_of);
  }
}

/// Whether all values of a view are one, of each coordinate of each image.
inline bool repeats_one_value(const View& view, int dims) {
  return view.channel_stride == 0 &&
         std::all_of(view.stride, view.stride + dims, [](int64_t stride) { return stride == 0; });
}

/// The values of a displacement for a tile or strip, of each coordinate.
template <int kSize>
class Displacements {
 public:
  Displacements(const Geometry& geometry, const View& view, int64_t batch, int64_t first,
                int count) {
    const int64_t base = batch * view.batch_stride;
    if (geometry.images_per_group == 1 && repeats_one_value(view, geometry.dims)) {
      compute_t value{};
      load_run(view, base, 1, &value);
      is_zero_ = value == 0;
      if (is_zero_) return;
      for (int a = 0; a < geometry.dims; ++a) fill_rest(copied_[a], 0, value);
    } else {
      TileOffsets located;
      locate_samples(geometry, view, first, count, located);
      if (view.dtype == kDTypeOf<compute_t> && located.even && located.step == 1) {
        for (int a = 0; a < geometry.dims; ++a) {
          of_axis_[a] = static_cast<const compute_t*>(view.data) + base + a * view.channel_stride +
                        located.first;
          prefetch_next_tile(of_axis_[a], kSize, 1);
        }
        return;
      }
      load_coordinates(view, base, located, geometry.dims, copied_);
    }
    for (int a = 0; a < geometry.dims; ++a) of_axis_[a] = copied_[a];
  }

  bool are_zero() const { return is_zero_; }
  /// Null where they are zero.
  const compute_t* of_axis(int a, int begin) const {
    return is_zero_ ? nullptr : of_axis_[a] + begin;
  }

 private:
  bool is_zero_ = false;
  const compute_t* of_axis_[kMaxDims];
  alignas(64) PerAxis<kSize> copied_;
};

/// A segment of the coordinates on one axis: of places along x by a row of an affine map, in the
/// order in which `mapped` adds; plus a displacement, unless kStill.
template <int kDims, bool kStill>
GRIDSAMPLE_INLINE void map_places(const compute_t* row, const compute_t* __restrict x, compute_t y,
                                  compute_t z, int length, const compute_t* __restrict moved,
                                  compute_t* __restrict to) {
  const compute_t factor = row[0];
  const compute_t of_y = row[1] * y;
  const compute_t of_z = kDims == 3 ? row[2] * z : compute_t(0);
  const compute_t origin = row[kDims];
#pragma omp simd
  for (int i = 0; i < length; ++i) {
    compute_t sum = factor * x[i] + of_y;
    if constexpr (kDims == 3) sum = sum + of_z;
    sum = sum + origin;
    to[i] = kStill ? sum : sum + moved[i];
  }
}

template <int kDims, bool kStill, int kSize>
void fill_warp(const Geometry& geometry, const GridView& warp, int64_t batch, int64_t first,
               int count, const Displacements<kSize>& displacements, PerAxis<kSize>& values) {
  Places<compute_t> places[kDims];
  for (int a = 0; a < kDims; ++a) places[a] = make_places<compute_t>(geometry, a);
  alignas(64) compute_t x[kSize];
  for_row_segments<kSize>(geometry, first, count, [&](const RowSegment& segment) {
    const int begin = segment.begin;
    const int length = segment.length;
    const compute_t y = places[1].at(static_cast<compute_t>(segment.at[1]));
    const compute_t z =
        kDims == 3 ? places[kDims - 1].at(static_cast<compute_t>(segment.at[2])) : compute_t(0);
    if (warp.affine != nullptr) {
      const auto* rows =
          static_cast<const compute_t*>(warp.affine) +
          (batch * geometry.images_per_group + segment.image) * warp.affine_batch_stride;
      compute_t* to = x;
      for_places(places[0], segment,
                 [=](int i, compute_t at) GRIDSAMPLE_INLINE_LAMBDA { to[i] = at; });
      for (int a = 0; a < kDims; ++a) {
        map_places<kDims, kStill>(rows + a * (kDims + 1), x, y, z, length,
                                  displacements.of_axis(a, begin), values[a] + begin);
      }
      return;
    }
    for (int a = 0; a < kDims; ++a) {
      compute_t* __restrict to = values[a] + begin;
      const compute_t* __restrict moved = displacements.of_axis(a, begin);
      if (a == 0) {
        for_places(places[0], segment, [=](int i, compute_t at) GRIDSAMPLE_INLINE_LAMBDA {
          to[i] = kStill ? at : at + moved[i];
        });
      } else {
        const compute_t at = a == 1 ? y : z;
#pragma omp simd
        for (int i = 0; i < length; ++i) to[i] = kStill ? at : at + moved[i];
      }
    }
  });
}

template <int kSize>
GRIDSAMPLE_NOINLINE void load_warp(const Geometry& geometry, const GridView& warp, int64_t batch,
                                   int64_t first, int count, PerAxis<kSize>& values) {
  const Displacements<kSize> displacements(geometry, warp, batch, first, count);
  with_dims(geometry.dims, [&]<int kDims>() {
    if (displacements.are_zero()) {
      fill_warp<kDims, true>(geometry, warp, batch, first, count, displacements, values);
    } else {
      fill_warp<kDims, false>(geometry, warp, batch, first, count, displacements, values);
    }
    for (int a = 0; a < kDims; ++a) fill_rest(values[a], count, values[a][count - 1]);
  });
}

/// Reads samples [first, first + count) of a tensor of a grid's sizes. The lanes beyond repeat the
/// last one.
template <int kSize>
void load_stored(const Geometry& geometry, const View& stored, int64_t batch, int64_t first,
                 int count, PerAxis<kSize>& values) {
  TileOffsets located;
  locate_samples(geometry, stored, first, count, located);
  load_coordinates(stored, batch * stored.batch_stride, located, geometry.dims, values);
}

/// Reads, or computes, the coordinates of samples [first, first + count), in the units of a grid.
/// The lanes beyond repeat the last one.
template <int kSize>
void load_grid(const Geometry& geometry, const GridView& grid, int64_t batch, int64_t first,
               int count, PerAxis<kSize>& values) {
  if (grid.is_warp) return load_warp(geometry, grid, batch, first, count, values);
  load_stored(geometry, grid, batch, first, count, values);
}

/// Adds what the gradients of samples, by coordinates, add to the gradient of an affine map, if
/// that is wanted: sums of a strip's row in the compute type, and of these in float64, for each
/// tile. Called for each chunk of the channels by itself, so that sums do not depend on who adds
/// chunks.
template <int kSize>
GRIDSAMPLE_NOINLINE void add_affine_sums(const Geometry& geometry, const GradGridView& grad_grid,
                                         int64_t grid_batch, int64_t first, int count,
                                         const compute_t (*grads)[kSize]) {
  if (grad_grid.affine_sums == nullptr) return;
  const int dims = geometry.dims;
  double* sums = grad_grid.affine_sums + grid_batch * grad_grid.affine_batch_stride +
                 first / kTileSize * (dims * (dims + 1));
  Places<compute_t> places[kMaxDims];
  for (int a = 0; a < dims; ++a) places[a] = make_places<compute_t>(geometry, a);
  alignas(64) compute_t x[kSize];
  for_row_segments<kStripSize>(geometry, first, count, [&](const RowSegment& segment) {
    compute_t* to = x;
    for_places(places[0], segment,
               [=](int i, compute_t at) GRIDSAMPLE_INLINE_LAMBDA { to[i] = at; });
    for (int a = 0; a < dims; ++a) {
      const compute_t* grad = grads[a] + segment.begin;
      compute_t sum = 0;
      compute_t sum_x = 0;
#pragma omp simd reduction(+ : sum, sum_x)
      for (int i = 0; i < segment.length; ++i) {
        sum += grad[i];
        sum_x += grad[i] * x[i];
      }
      double* row = sums + a * (dims + 1);
      row[0] += static_cast<double>(sum_x);
      for (int b = 1; b < dims; ++b) {
        const compute_t place = places[b].at(static_cast<compute_t>(segment.at[b]));
        row[b] += static_cast<double>(sum) * static_cast<double>(place);
      }
      row[dims] += static_cast<double>(sum);
    }
  });
}

/// Writes samples [first, first + count) of a tensor of a grid's sizes, if it has data.
template <int kSize>
void store(const Geometry& geometry, const View& stored, int64_t batch, int64_t first, int count,
           const PerAxis<kSize>& values) {
  if (stored.data == nullptr) return;
  TileOffsets located;
  locate_samples(geometry, stored, first, count, located);
  store_coordinates(stored, batch * stored.batch_stride, located, geometry.dims, values);
}

/// Adds the sums of one piece to those of the pieces before it, which stand in grad_grid itself, of
/// the compute type.
template <int kSize>
void add_to_grad_grid(const Geometry& geometry, const GradGridView& grad_grid, int64_t grid_batch,
                      int64_t first, int count, bool is_first_piece, const PerAxis<kSize>& sums) {
  add_affine_sums(geometry, grad_grid, grid_batch, first, count, sums);
  if (is_first_piece) return store(geometry, grad_grid, grid_batch, first, count, sums);
  if (grad_grid.data == nullptr) return;
  alignas(64) PerAxis<kSize> total;
  load_stored(geometry, grad_grid, grid_batch, first, count, total);
  for (int a = 0; a < geometry.dims; ++a) {
#pragma omp simd
    for (int i = 0; i < kSize; ++i) total[a][i] += sums[a][i];
  }
  store(geometry, grad_grid, grid_batch, first, count, total);
}

GRIDSAMPLE_NAMESPACE_END
