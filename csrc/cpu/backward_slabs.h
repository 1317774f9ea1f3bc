#pragma once

#include "backward.h"
#include "grad_input.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Whether a slab is the one that computes a tile's grad_grid.
inline bool owns_tile(const GradInputParams& params, int64_t slab, int64_t batch, int64_t t) {
  if (params.slabs == 1) return true;
  const int64_t size = params.geometry.input_size[params.slab_axis];
  const TapRange& range = params.ranges[batch * tile_count(params.geometry) + t];
  int64_t owner = t % params.slabs;
  if (range.first <= range.last) {
    const int64_t first = block_of(size, params.slabs, range.first);
    if (first == block_of(size, params.slabs, range.last)) owner = first;
  }
  return owner == slab;
}

template <typename scalar, Mode kMode, typename Tile>
void backward_slab_items(const BackwardSlabParams& params, int64_t begin, int64_t end) {
  using compute_t = typename Tile::compute_t;
  const GradInputParams& to_input = params.grad_input;
  const BackwardParams& by_rows = params.rows;
  const Geometry& geometry = to_input.geometry;
  const int64_t channels = geometry.channels;
  const bool rows = has_rows(geometry, by_rows.input);
  Tile tile;
  alignas(64) AxisSums<Tile> sums;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t input_batch = item / to_input.slabs;
    const int64_t s = item % to_input.slabs;
    const Range slab = block_range(geometry.input_size[to_input.slab_axis], to_input.slabs, s);
    const Range batches = batches_of(geometry, to_input.input_batch, input_batch);
    const auto* image = static_cast<const typename scalar::storage_t*>(by_rows.input.data) +
                        input_batch * by_rows.input.batch_stride;
    auto* grad_image = static_cast<compute_t*>(by_rows.grad_input.data) +
                       input_batch * by_rows.grad_input.batch_stride;
    Zeros<compute_t> zeros(to_input.grad_input, geometry, input_batch, {0, channels},
                           to_input.slab_axis, slab);
    for (int64_t batch = batches.begin; batch < batches.end; ++batch) {
      for (int64_t t = 0; t < tile_count(geometry); ++t) {
        const SlabReach reach = reach_into(to_input, slab, batch, t);
        const bool owned = owns_tile(to_input, s, batch, t);
        if (!reach.any && !owned) continue;
        const int64_t first = t * kTileSize;
        fill_taps<kMode>(tile, geometry, to_input.grid, batch, first, tile_samples(geometry, first),
                         to_input.grad_input);
        if (reach.any) zeros.reach(tile, to_input.grad_input);
        if (rows && owned && !reach.crosses) {
          backward_tile<scalar, true, true>(by_rows, tile, image, grad_image, 0, channels, batch,
                                            t);
          continue;
        }
        if (owned && rows) {
          backward_tile<scalar, false, true>(by_rows, tile, image, nullptr, 0, channels, batch, t);
        } else if (owned) {
          sum_chunks<scalar>(params.grad_grid, tile, batch, first, sums);
          store_grad_grid(geometry, params.grad_grid.grad_grid, batch, first, tile.count, sums);
        }
        if (reach.any) {
          if (reach.crosses) restrict_to_slab(to_input, slab, tile);
          grad_input_tile(to_input, tile, batch, input_batch, t, {0, channels});
        }
      }
    }
    zeros.finish();
  }
}

void backward_slabs(const BackwardSlabParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.grad_input.geometry;
  const View& input = params.rows.input;
  dispatch_types(geometry, input.dtype, [&]<typename scalar, typename compute_t>() {
    dispatch_narrow_tile<true, compute_t>(geometry, [&]<Mode kMode, typename Tile>() {
      if constexpr (kMode != Mode::kNearest) {
        backward_slab_items<scalar, kMode, Tile>(params, begin, end);
      }
    });
  });
}

GRIDSAMPLE_NAMESPACE_END
