#pragma once

#include "cpu/pixels/backward_rows.h"
#include "cpu/kernels/dispatch.h"
#include "cpu/pixels/pack.h"
#include "cpu/pixels/planes.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// sums[a] += grad_output * (sum over taps of w'_a prod_(b != a) w_b * pixel), lanes over samples.
template <typename Tile>
void differentiate_plane(const compute_t* plane, const Tile& tile,
                         const TapDerivatives<Tile>& derivatives, const TapRows<Tile>& rows,
                         const compute_t* grad_output, AxisSums<Tile>& sums) {
  using Pixels = PlanePixels<ScalarOf<compute_t>, Tile>;
  using Lanes = typename Pixels::Lanes;
  constexpr int kLanes = Pixels::kLanes;
  for (int i = 0; i < tile.count; i += kLanes) {
    const Pixels pixels(plane, tile, rows, i);
    Lanes d[kMaxDims];
    differentiate<kLanes>(tile, derivatives, i, pixels, d);
    const Lanes grad = load_vector<compute_t, kLanes>(grad_output + i);
    GRIDSAMPLE_UNROLL
    for (int a = 0; a < kMaxDims; ++a) {
      if (a >= tile.dims) continue;
      store_vector<compute_t, kLanes>(&sums[a][i],
                                      multiply_add_vector<compute_t, kLanes>(
                                          grad, d[a], load_vector<compute_t, kLanes>(&sums[a][i])));
    }
  }
}

template <typename Tile>
void differentiate_planes(const GradGridParams& params, const Tile& tile,
                          const TapDerivatives<Tile>& derivatives, const TapRows<Tile>& rows,
                          const TileOffsets& located, int64_t batch, Range channels,
                          AxisSums<Tile>& sums) {
  const View& source = params.grad_output;
  const auto* image =
      static_cast<const compute_t*>(params.input.data) + batch * params.input.batch_stride;
  alignas(64) compute_t grad_output[Tile::kSize];
  for (int64_t c = channels.begin; c < channels.end; ++c) {
    const auto* plane = image + c * params.input.channel_stride;
    prefetch_plane(plane, rows);
    load_samples(source, batch * source.batch_stride + c * source.channel_stride, located,
                 grad_output);
    differentiate_plane(plane, tile, derivatives, rows, grad_output, sums);
  }
}

/// sums = the same, lanes over channels, which are innermost in the input.
template <typename Tile>
void differentiate_rows(const GradGridParams& params, const Tile& tile,
                        const TapDerivatives<Tile>& derivatives, const TileOffsets& located,
                        int64_t batch, Range channels, AxisSums<Tile>& sums) {
  const int count = static_cast<int>(channels.end - channels.begin);
  alignas(64) compute_t grad_output[kTileSize * kMostPieceChannels];
  load_rows(params.grad_output, batch, channels.begin, count, located, grad_output, count);
  const auto* image = static_cast<const compute_t*>(params.input.data) +
                      batch * params.input.batch_stride + channels.begin;
  // Of many taps several are in a line, and one sample has loads enough to wait for together.
  const bool scattered = params.scattered && Tile::kTaps == 2;
  const RowPrefetch prefetch(params.geometry, count, sizeof(*image), Pass::kBackward, scattered);
  const bool read_on = count == 3 && can_read_on(tile, params.geometry, params.input, batch);
  backward_rows<false>({image, nullptr, grad_output, count, count, params.geometry.input_size[0],
                        params.input.stride[0]},
                       tile, derivatives, TapList<Tile>(tile), read_on, prefetch, sums);
}

/// sums *= slope, and exactly 0 where the slope is 0: from derivatives by coordinates to those by
/// grid values. Done before sums are added to those of other channels, so adding needs no taps.
/// Never -0, which 0 + -0 is not either: it does not matter where sums begin from 0.
template <typename Tile>
void apply_slopes(const Tile& tile, const TapDerivatives<Tile>& derivatives, AxisSums<Tile>& sums) {
  for (int a = 0; a < tile.dims; ++a) {
#pragma omp simd
    for (int i = 0; i < Tile::kSize; ++i) {
      const auto slope = derivatives.axis[a].slope[i];
      sums[a][i] = (slope == 0 ? slope : slope * sums[a][i]) + 0;
    }
  }
}

template <int kSize>
void add_sums(int dims, const compute_t (*sums)[kSize], PerAxis<kSize>& total) {
  for (int a = 0; a < dims; ++a) {
#pragma omp simd
    for (int i = 0; i < kSize; ++i) total[a][i] += sums[a][i];
  }
}

/// The gradient of one tile or strip, summed over one chunk. Without tap_rows lanes go over
/// channels.
template <typename Tile, typename TapRowsOrNone>
void sum_chunk(const GradGridParams& params, const Tile& tile,
               const TapDerivatives<Tile>& derivatives, const TapRowsOrNone& tap_rows,
               const TileOffsets& located, int64_t grid_batch, int64_t chunk,
               AxisSums<Tile>& sums) {
  for (int a = 0; a < tile.dims; ++a) fill_rest(sums[a], 0, compute_t(0));
  const Range pieces = block_range(grad_grid_pieces(params), grad_grid_chunks(params), chunk);
  for (int64_t piece = pieces.begin; piece < pieces.end; ++piece) {
    const int64_t batch = params.grid_batch == 1 ? piece / pieces_per_image(params) : grid_batch;
    const Range channels = channels_of_piece(params, piece);
    if constexpr (std::is_same_v<TapRowsOrNone, std::nullptr_t>) {
      alignas(64) AxisSums<Tile> of_piece;
      differentiate_rows(params, tile, derivatives, located, batch, channels, of_piece);
      add_sums(tile.dims, of_piece, sums);
    } else {
      differentiate_planes(params, tile, derivatives, tap_rows, located, batch, channels, sums);
    }
  }
  apply_slopes(tile, derivatives, sums);
}

/// The gradient of one tile or strip, summed over all chunks. Adds what it adds to the gradient of
/// an affine map.
template <typename Tile, typename TapRowsOrNone>
void sum_chunks(const GradGridParams& params, const Tile& tile,
                const TapDerivatives<Tile>& derivatives, const TapRowsOrNone& tap_rows,
                int64_t grid_batch, int64_t first, AxisSums<Tile>& total) {
  TileOffsets located;
  locate_samples(params.geometry, params.grad_output, first, tile.count, located);
  alignas(64) AxisSums<Tile> sums;
  const auto add_affine = [&](const AxisSums<Tile>& of_chunk) {
    add_affine_sums(params.geometry, params.grad_grid, grid_batch, first, tile.count, of_chunk);
  };
  sum_chunk(params, tile, derivatives, tap_rows, located, grid_batch, 0, total);
  add_affine(total);
  for (int64_t chunk = 1; chunk < grad_grid_chunks(params); ++chunk) {
    sum_chunk(params, tile, derivatives, tap_rows, located, grid_batch, chunk, sums);
    add_affine(sums);
    add_sums(tile.dims, sums, total);
  }
}

/// What sum_chunk takes: nothing where lanes go over channels (kRows).
template <bool kRows, typename Tile>
GRIDSAMPLE_INLINE auto tap_rows_unless(const Tile& tile, const Geometry& geometry,
                                       const View& image) {
  if constexpr (kRows) {
    return nullptr;
  } else {
    return TapRows<Tile>(tile, geometry, image);
  }
}

/// `Tile` is a whole tile, or a strip, of which an item's tile has several.
template <bool kRows, typename Tile>
void grad_grid_items(const GradGridParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.geometry;
  const int64_t tiles = tile_count(geometry);
  Tile tile(geometry.dims);
  TapDerivatives<Tile> derivatives;
  TileOffsets located;
  alignas(64) AxisSums<Tile> sums;
  const ImagePrefetch prefetch(geometry, params.input, sizeof(compute_t), kRows, Pass::kBackward);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t which = item / params.chunk_groups;
    const int64_t chunk = item % params.chunk_groups;
    const int64_t grid_batch = which / tiles;
    const int64_t tile_first = which % tiles * kTileSize;
    const int64_t tile_end = tile_first + tile_samples(geometry, grid_batch, tile_first);
    for (int64_t first = tile_first; first < tile_end; first += Tile::kSize) {
      const auto count = static_cast<int>(std::min<int64_t>(Tile::kSize, tile_end - first));
      fill_taps(tile, derivatives, geometry, params.grid, grid_batch, first, count, params.input);
      prefetch(grid_batch, first, count, {0, geometry.channels}, tile.axis[1].offset[0], count);
      const auto rows = tap_rows_unless<kRows>(tile, geometry, params.input);
      if (params.chunk_groups == 1) {
        sum_chunks(params, tile, derivatives, rows, grid_batch, first, sums);
        store(geometry, params.grad_grid, grid_batch, first, count, sums);
        continue;
      }
      locate_samples(geometry, params.grad_output, first, count, located);
      sum_chunk(params, tile, derivatives, rows, located, grid_batch, chunk, sums);
      auto* partial = static_cast<compute_t*>(params.partial) +
                      (chunk * params.grid_batch * tiles + which) * geometry.dims * kTileSize +
                      (first - tile_first);
      for (int a = 0; a < geometry.dims; ++a) {
        std::memcpy(partial + a * kTileSize, sums[a], sizeof(sums[a]));
      }
    }
  }
}

void finish_grad_grid(const GradGridParams& params, int64_t begin, int64_t end) {
  using AxisSum = compute_t[kTileSize];
  const Geometry& geometry = params.geometry;
  const int64_t tiles = tile_count(geometry);
  const auto* partial = static_cast<const AxisSum*>(params.partial);
  for (int64_t which = begin; which < end; ++which) {
    const int64_t first = which % tiles * kTileSize;
    const int count = tile_samples(geometry, which / tiles, first);
    alignas(64) PerAxis<kTileSize> total = {};
    const GradGridView& grad_grid = params.grad_grid;
    if (params.has_first_sums && grad_grid.data != nullptr) {
      load_stored(geometry, grad_grid, which / tiles, first, count, total);
    }
    for (int64_t chunk = 0; chunk < params.partial_sums; ++chunk) {
      const AxisSum* sums = partial + (chunk * params.grid_batch * tiles + which) * geometry.dims;
      add_affine_sums(geometry, grad_grid, which / tiles, first, count, sums);
      add_sums(geometry.dims, sums, total);
    }
    store(geometry, grad_grid, which / tiles, first, count, total);
  }
}

/// Of a warp whose gradients by coordinates have been stored: the sums for its affine map.
void affine_sums(const GradGridParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.geometry;
  const int64_t tiles = tile_count(geometry);
  alignas(64) PerAxis<kTileSize> grads;
  for (int64_t which = begin; which < end; ++which) {
    const int64_t first = which % tiles * kTileSize;
    const int count = tile_samples(geometry, which / tiles, first);
    load_stored(geometry, params.grad_grid, which / tiles, first, count, grads);
    add_affine_sums(geometry, params.grad_grid, which / tiles, first, count, grads);
  }
}

/// Channels of one packed block, in pieces.
template <typename Tile>
void grad_grid_packed_items(const PackedBlockParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.geometry;
  const View view = packed_view(params.packed, geometry, params.channels);
  const RowPrefetch prefetch(geometry, std::min(params.channels, params.piece_channels),
                             sizeof(compute_t), Pass::kBackward);
  Tile tile(geometry.dims);
  TapDerivatives<Tile> derivatives;
  TileOffsets located;
  alignas(64) AxisSums<Tile> sums;
  alignas(64) compute_t grad_output[kTileSize * kMostPieceChannels];
  for (int64_t item = begin; item < end; ++item) {
    const int64_t first = item * kTileSize;
    fill_taps(tile, derivatives, geometry, params.grid, params.batch, first,
              tile_samples(geometry, params.batch, first), view);
    locate_samples(geometry, params.grad_output, first, tile.count, located);
    const TapList<Tile> taps(tile);
    for (int64_t c = 0; c < params.channels; c += params.piece_channels) {
      const int count = static_cast<int>(std::min(params.piece_channels, params.channels - c));
      load_rows(params.grad_output, params.batch, params.channel + c, count, located, grad_output,
                count);
      backward_rows<false>({static_cast<const compute_t*>(params.packed) + c, nullptr, grad_output,
                            count, count, geometry.input_size[0], view.stride[0]},
                           tile, derivatives, taps, false, prefetch, sums);
      apply_slopes(tile, derivatives, sums);
      add_to_grad_grid(geometry, params.grad_grid, params.batch, first, tile.count,
                       params.first && c == 0, sums);
    }
  }
}

void pack(const PackedBlockParams& params, int64_t begin, int64_t end) {
  for (int64_t part = begin; part < end; ++part) {
    pack_image(params.input, params.geometry, params.batch, params.channel,
               static_cast<int>(params.channels), static_cast<compute_t*>(params.packed), part,
               params.parts);
  }
}

void grad_grid_packed(const PackedBlockParams& params, int64_t begin, int64_t end) {
  dispatch_smooth_tile(params.geometry,
                       [&]<typename Tile>() { grad_grid_packed_items<Tile>(params, begin, end); });
}

void grad_grid(const GradGridParams& params, int64_t begin, int64_t end) {
  dispatch_smooth_tile(params.geometry, [&]<typename Tile>() {
    if (has_rows(params.geometry, params.input)) {
      grad_grid_items<true, Tile>(params, begin, end);
    } else {
      grad_grid_items<false, typename Tile::Strip>(params, begin, end);
    }
  });
}

GRIDSAMPLE_NAMESPACE_END
