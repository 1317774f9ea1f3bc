#pragma once

// The coordinates of samples, of a grid or of a warp, and where their gradients go. What calls this
// does not know which.

#include "cpu/taps/samples.h"
#include "math/warps.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Samples that follow each other in one row of the output.
struct RowPiece {
  int begin;  // among the samples asked for
  int length;
  int64_t at[kMaxDims];  // of the first; the other axes' are those of the row
  int64_t image;         // of a group of images
};

/// Calls visit(piece) for the pieces of rows that samples [first, first + count) are made of.
template <typename F>
GRIDSAMPLE_INLINE void for_row_pieces(const Geometry& geometry, int64_t first, int count,
                                      const F& visit) {
  const int64_t* size = geometry.output_size;
  RowPiece piece{};
  int64_t rest = first;
  for (int a = 0; a < kMaxDims; ++a) {
    const int64_t whole = rest / size[a];
    piece.at[a] = rest - whole * size[a];
    rest = whole;
  }
  piece.image = rest;
  while (piece.begin < count) {
    piece.length = static_cast<int>(std::min<int64_t>(count - piece.begin, size[0] - piece.at[0]));
    visit(piece);
    piece.begin += piece.length;
    piece.at[0] = 0;
    if (++piece.at[1] < size[1]) continue;
    piece.at[1] = 0;
    if (++piece.at[2] < size[2]) continue;
    piece.at[2] = 0;
    ++piece.image;
  }
}

/// Calls place_at(i), vectorised, for the pixels of a piece, along x.
template <typename F>
GRIDSAMPLE_INLINE void for_places(const Places<compute_t>& places, const RowPiece& piece,
                                  const F& visit) {
  const auto walk = [&](auto begin, const auto& place_of) GRIDSAMPLE_INLINE_LAMBDA {
    const int length = piece.length;
#pragma omp simd
    for (int i = 0; i < length; ++i) {
      visit(i, place_of(static_cast<compute_t>(begin + static_cast<decltype(begin)>(i))));
    }
  };
  const auto itself = [](compute_t i) { return i; };
  const Places<compute_t> along = places;
  const auto place_of = [=](compute_t i) { return along.at(i); };
  if (piece.at[0] + piece.length > std::numeric_limits<int32_t>::max()) {
    walk(piece.at[0], place_of);
  } else if (places.are_numbers) {
    walk(static_cast<int32_t>(piece.at[0]), itself);
  } else {
    walk(static_cast<int32_t>(piece.at[0]), place_of);
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

/// A piece of the coordinates on one axis: of places along x by a row of an affine map, in the
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
  for_row_pieces(geometry, first, count, [&](const RowPiece& piece) {
    const int begin = piece.begin;
    const int length = piece.length;
    const compute_t y = places[1].at(static_cast<compute_t>(piece.at[1]));
    const compute_t z =
        kDims == 3 ? places[kDims - 1].at(static_cast<compute_t>(piece.at[2])) : compute_t(0);
    if (warp.affine != nullptr) {
      const auto* rows =
          static_cast<const compute_t*>(warp.affine) +
          (batch * geometry.images_per_group + piece.image) * warp.affine_batch_stride;
      compute_t* to = x;
      for_places(places[0], piece,
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
        for_places(places[0], piece, [=](int i, compute_t at) GRIDSAMPLE_INLINE_LAMBDA {
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

/// Reads the coordinates of samples [first, first + count), as a grid has them. The lanes beyond
/// repeat the last one.
template <int kSize>
void load_grid(const Geometry& geometry, const View& grid, int64_t batch, int64_t first, int count,
               PerAxis<kSize>& values) {
  TileOffsets located;
  locate_samples(geometry, grid, first, count, located);
  load_coordinates(grid, batch * grid.batch_stride, located, geometry.dims, values);
}

/// The same, of a warp as well.
template <int kSize>
void load_grid(const Geometry& geometry, const GridView& grid, int64_t batch, int64_t first,
               int count, PerAxis<kSize>& values) {
  if (grid.is_warp) return load_warp(geometry, grid, batch, first, count, values);
  load_grid(geometry, static_cast<const View&>(grid), batch, first, count, values);
}

/// What the gradients of samples, by coordinates, add to the gradient of the affine map that they
/// lie at: sums of a few samples in the compute type, and of these in float64, for each tile.
template <int kSize>
GRIDSAMPLE_NOINLINE void add_affine_sums(const Geometry& geometry, const GradGridView& grad_grid,
                                         int64_t grid_batch, int64_t first, int count,
                                         const compute_t (*grads)[kSize]) {
  const int dims = geometry.dims;
  double* sums = grad_grid.affine_sums + grid_batch * grad_grid.affine_batch_stride +
                 first / kTileSize * (dims * (dims + 1));
  Places<compute_t> places[kMaxDims];
  for (int a = 0; a < dims; ++a) places[a] = make_places<compute_t>(geometry, a);
  alignas(64) compute_t x[kSize];
  for_row_pieces(geometry, first, count, [&](const RowPiece& piece) {
    compute_t* to = x;
    for_places(places[0], piece, [=](int i, compute_t at) GRIDSAMPLE_INLINE_LAMBDA { to[i] = at; });
    for (int a = 0; a < dims; ++a) {
      const compute_t* grad = grads[a] + piece.begin;
      compute_t sum = 0;
      compute_t sum_x = 0;
#pragma omp simd reduction(+ : sum, sum_x)
      for (int i = 0; i < piece.length; ++i) {
        sum += grad[i];
        sum_x += grad[i] * x[i];
      }
      double* row = sums + a * (dims + 1);
      row[0] += static_cast<double>(sum_x);
      for (int b = 1; b < dims; ++b) {
        const compute_t place = places[b].at(static_cast<compute_t>(piece.at[b]));
        row[b] += static_cast<double>(sum) * static_cast<double>(place);
      }
      row[dims] += static_cast<double>(sum);
    }
  });
}

/// Writes the gradients of samples [first, first + count), in grad_grid's own type.
template <int kSize>
void store_grad_grid(const Geometry& geometry, const View& grad_grid, int64_t grid_batch,
                     int64_t first, int count, const PerAxis<kSize>& grads) {
  TileOffsets located;
  locate_samples(geometry, grad_grid, first, count, located);
  store_coordinates(grad_grid, grid_batch * grad_grid.batch_stride, located, geometry.dims, grads);
}

/// The same, of a warp as well.
template <int kSize>
void store_grad_grid(const Geometry& geometry, const GradGridView& grad_grid, int64_t grid_batch,
                     int64_t first, int count, const PerAxis<kSize>& grads) {
  if (grad_grid.affine_sums != nullptr) {
    add_affine_sums(geometry, grad_grid, grid_batch, first, count, grads);
  }
  if (grad_grid.data == nullptr) return;
  store_grad_grid(geometry, static_cast<const View&>(grad_grid), grid_batch, first, count, grads);
}

/// Adds the sums of one piece to those of the pieces before it, which stand in grad_grid itself, of
/// the compute type.
template <int kSize>
void add_to_grad_grid(const Geometry& geometry, const GradGridView& grad_grid, int64_t grid_batch,
                      int64_t first, int count, bool is_first_piece, const PerAxis<kSize>& sums) {
  const View& view = grad_grid;
  if (is_first_piece || view.data == nullptr) {
    return store_grad_grid(geometry, grad_grid, grid_batch, first, count, sums);
  }
  if (grad_grid.affine_sums != nullptr) {
    add_affine_sums(geometry, grad_grid, grid_batch, first, count, sums);
  }
  alignas(64) PerAxis<kSize> total;
  load_grid(geometry, view, grid_batch, first, count, total);
  for (int a = 0; a < geometry.dims; ++a) {
#pragma omp simd
    for (int i = 0; i < kSize; ++i) total[a][i] += sums[a][i];
  }
  store_grad_grid(geometry, view, grid_batch, first, count, total);
}

GRIDSAMPLE_NAMESPACE_END
