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

/// place[i] of the pixels of a piece, along x.
inline void fill_places(const Places<compute_t>& places, const RowPiece& piece, compute_t* place) {
  const auto fill = [&](auto begin) {
    using number_t = decltype(begin);
    if (places.are_numbers) {
#pragma omp simd
      for (int i = 0; i < piece.length; ++i) {
        place[i] = static_cast<compute_t>(begin + static_cast<number_t>(i));
      }
    } else {
#pragma omp simd
      for (int i = 0; i < piece.length; ++i) {
        place[i] = places.at(static_cast<compute_t>(begin + static_cast<number_t>(i)));
      }
    }
  };
  if (piece.at[0] + piece.length <= std::numeric_limits<int32_t>::max()) {
    fill(static_cast<int32_t>(piece.at[0]));
  } else {
    fill(piece.at[0]);
  }
}

/// Whether all values of a view are one, of each coordinate of each image.
inline bool repeats_one_value(const View& view, int dims) {
  return view.channel_stride == 0 &&
         std::all_of(view.stride, view.stride + dims, [](int64_t stride) { return stride == 0; });
}

/// values += those of a displacement.
template <int kSize>
void add_displacement(const Geometry& geometry, const View& displacement, int64_t batch,
                      int64_t first, int count, PerAxis<kSize>& values) {
  const int64_t base = batch * displacement.batch_stride;
  TileOffsets located;
  alignas(64) PerAxis<kSize> added;
  if (repeats_one_value(displacement, geometry.dims) && geometry.images_per_group == 1) {
    located.count = 1;
    compute_t value{};
    load_run(displacement, base, 1, &value);
    if (value == 0) return;
    for (int a = 0; a < geometry.dims; ++a) fill_rest(added[a], 0, value);
  } else {
    locate_samples(geometry, displacement, first, count, located);
    load_coordinates(displacement, base, located, geometry.dims, added);
  }
  for (int a = 0; a < geometry.dims; ++a) {
#pragma omp simd
    for (int i = 0; i < kSize; ++i) values[a][i] += added[a][i];
  }
}

template <int kSize>
GRIDSAMPLE_NOINLINE void load_warp(const Geometry& geometry, const GridView& warp, int64_t batch,
                                   int64_t first, int count, PerAxis<kSize>& values) {
  const int dims = geometry.dims;
  Places<compute_t> places[kMaxDims];
  for (int a = 0; a < dims; ++a) places[a] = make_places<compute_t>(geometry, a);
  for_row_pieces(geometry, first, count, [&](const RowPiece& piece) {
    compute_t place[kMaxDims] = {};
    for (int a = 1; a < dims; ++a) place[a] = places[a].at(static_cast<compute_t>(piece.at[a]));
    compute_t* x = values[0] + piece.begin;
    fill_places(places[0], piece, x);
    if (warp.affine == nullptr) {
      for (int a = 1; a < dims; ++a) std::fill_n(values[a] + piece.begin, piece.length, place[a]);
      return;
    }
    const auto* rows = static_cast<const compute_t*>(warp.affine) +
                       (batch * geometry.images_per_group + piece.image) * warp.affine_batch_stride;
    for (int a = dims - 1; a >= 0; --a) {  // x last: the others are made of its places
      compute_t* to = values[a] + piece.begin;
      const compute_t y = place[1];
      const compute_t z = place[2];
#pragma omp simd
      for (int i = 0; i < piece.length; ++i) {
        const compute_t at[] = {x[i], y, z};
        to[i] = dims == 2 ? mapped(rows, 2, a, at) : mapped(rows, 3, a, at);
      }
    }
  });
  for (int a = 0; a < dims; ++a) fill_rest(values[a], count, values[a][count - 1]);
  add_displacement(geometry, warp, batch, first, count, values);
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
/// lie at: sums in float64, those of a tile by themselves.
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
    fill_places(places[0], piece, x);
    for (int a = 0; a < dims; ++a) {
      const compute_t* grad = grads[a] + piece.begin;
      double sum = 0;
      double sum_x = 0;
#pragma omp simd reduction(+ : sum, sum_x)
      for (int i = 0; i < piece.length; ++i) {
        sum += static_cast<double>(grad[i]);
        sum_x += static_cast<double>(grad[i]) * static_cast<double>(x[i]);
      }
      double* row = sums + a * (dims + 1);
      row[0] += sum_x;
      for (int b = 1; b < dims; ++b) {
        row[b] += sum * static_cast<double>(places[b].at(static_cast<compute_t>(piece.at[b])));
      }
      row[dims] += sum;
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
