#pragma once

#include "cpu/kernels/backward_walk.h"
#include "cpu/kernels/grad_input.h"
#include "cpu/registers/backward.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Whether slab number `index` is the one that computes a tile's grad_grid: the one in which its
/// taps begin, unless they are spread over more than a slab, or there are none.
inline bool owns_tile(const GradInputParams& params, Range slab, int64_t index, int64_t batch,
                      int64_t t) {
  if (params.slabs == 1) return true;
  const TapRange& range = range_of_tile(params, batch, t);
  const int64_t length = params.geometry.input_size[params.slab_axis];
  const bool spread =
      range.first > range.last || (range.last - range.first) * params.slabs > length;
  if (spread) return t % params.slabs == index;
  return range.first >= slab.begin && range.first < slab.end;
}

/// `Tile` is a whole tile where lanes go over channels (kRows), or a strip of one.
template <bool kRows, typename Tile>
void backward_slab_items(const BackwardSlabParams& params, int64_t begin, int64_t end) {
  const GradInputParams& to_input = params.grad_input;
  const GradGridParams& to_grid = params.grad_grid;
  const Geometry& geometry = to_input.geometry;
  const Range channels{0, geometry.channels};
  Tile tile(geometry.dims);
  TapDerivatives<Tile> derivatives;
  TileOffsets located;
  alignas(64) AxisSums<Tile> sums;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t input_batch = item / to_input.slabs;
    const int64_t s = item % to_input.slabs;
    const Range slab = block_range(geometry.input_size[to_input.slab_axis], to_input.slabs, s);
    const Range batches = batches_of(geometry, to_input.input_batch, input_batch);
    Zeros zeros(to_input.grad_input, geometry, input_batch, channels, to_input.slab_axis, slab);
    for (int64_t batch = batches.begin; batch < batches.end; ++batch) {
      for (int64_t t = 0; t < tile_count(geometry); ++t) {
        const SlabOverlap overlap = overlap_with(to_input, slab, batch, t);
        const bool owned = owns_tile(to_input, slab, s, batch, t);
        if (!overlap.any && !owned) continue;
        const int64_t tile_end = t * kTileSize + tile_samples(geometry, t * kTileSize);
        for (int64_t first = t * kTileSize; first < tile_end; first += Tile::kSize) {
          const auto count = static_cast<int>(std::min<int64_t>(Tile::kSize, tile_end - first));
          fill_taps(tile, derivatives, geometry, to_input.grid, batch, first, count,
                    to_input.grad_input);
          if (overlap.any) zero_ahead(to_input, batch, t, tile, zeros);
          if constexpr (kRows) {
            const BackwardParams& rows = params.rows;
            const auto* image = static_cast<const compute_t*>(rows.input.data) +
                                input_batch * rows.input.batch_stride;
            auto* grad_image = static_cast<compute_t*>(rows.grad_input.data) +
                               input_batch * rows.grad_input.batch_stride;
            if (owned && !overlap.crosses) {
              backward_tile<true, true>(rows, rows.input, tile, derivatives, image, grad_image, 0,
                                        geometry.channels, batch, t);
              continue;
            }
            if (owned) {
              backward_tile<false, true>(rows, rows.input, tile, derivatives, image, nullptr, 0,
                                         geometry.channels, batch, t);
            }
            if (!overlap.any) continue;
            restrict_to_slab(to_input, slab, tile);
            locate_samples(geometry, to_input.grad_output, first, count, located);
            grad_input_rows(to_input, tile, located, batch, input_batch, channels);
          } else {
            TapRows<Tile> rows(tile, geometry, to_input.grad_input);
            if (owned) {
              sum_chunks(to_grid, tile, derivatives, rows, batch, first, sums);
              store_grad_grid(geometry, to_grid.grad_grid, batch, first, count, sums);
            }
            if (!overlap.any) continue;
            if (overlap.crosses) {
              restrict_to_slab(to_input, slab, tile);
              rows = TapRows<Tile>(tile, geometry, to_input.grad_input);
            }
            locate_samples(geometry, to_input.grad_output, first, count, located);
            grad_input_planes(to_input, tile, rows, located, batch, input_batch, channels);
          }
        }
      }
    }
    zeros.finish();
  }
}

/// Items of images of few channels in planes, bilinear: the taps of a strip stay in registers.
template <Padding kPadding>
void backward_strips(const BackwardSlabParams& params, int64_t begin, int64_t end) {
  const GradInputParams& to_input = params.grad_input;
  const Geometry& geometry = to_input.geometry;
  const StripGradients gradients(to_input, params.grad_grid);
  // The taps of the next strip are computed first, as sample_run does.
  Strip strips[2];
  for (int64_t item = begin; item < end; ++item) {
    const int64_t input_batch = item / to_input.slabs;
    const int64_t s = item % to_input.slabs;
    const Range slab = block_range(geometry.input_size[to_input.slab_axis], to_input.slabs, s);
    const Range batches = batches_of(geometry, to_input.input_batch, input_batch);
    Zeros zeros(to_input.grad_input, geometry, input_batch, {0, geometry.channels},
                to_input.slab_axis, slab);
    for (int64_t batch = batches.begin; batch < batches.end; ++batch) {
      for (int64_t t = 0; t < tile_count(geometry); ++t) {
        const SlabOverlap overlap = overlap_with(to_input, slab, batch, t);
        const bool owned = owns_tile(to_input, slab, s, batch, t);
        if (!overlap.any && !owned) continue;
        if (overlap.any && to_input.slabs > 1)
          zeros.zero_to(range_of_tile(to_input, batch, t).last);
        const int64_t tile_end = t * kTileSize + tile_samples(geometry, t * kTileSize);
        for (int64_t next = t * kTileSize; next < tile_end + kStripSize; next += kStripSize) {
          if (next < tile_end) {
            const int64_t count = std::min<int64_t>(kStripSize, tile_end - next);
            gradients.plan<kPadding>(batch, next, static_cast<int>(count),
                                     strips[next / kStripSize % 2]);
          }
          if (next == t * kTileSize) continue;
          Strip& strip = strips[(next / kStripSize - 1) % 2];
          if (owned) gradients.differentiate(strip);
          if (!overlap.any) continue;
          if (to_input.slabs == 1) zeros.zero_to(strip.last_row());
          gradients.scatter(strip, input_batch, slab, overlap.crosses);
        }
      }
    }
    zeros.finish();
  }
}

void backward_slabs_in_registers(const BackwardSlabParams& params, int64_t begin, int64_t end) {
  dispatch_padding(params.grad_input.geometry.padding, [&]<Padding kPadding>() {
    if constexpr (kIsFloat) backward_strips<kPadding>(params, begin, end);
  });
}

void backward_slabs(const BackwardSlabParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.grad_input.geometry;
  const View& input = params.rows.input;
  dispatch_smooth_tile(geometry, [&]<typename Tile>() {
    if (has_rows(geometry, input)) {
      backward_slab_items<true, Tile>(params, begin, end);
    } else {
      backward_slab_items<false, typename Tile::Strip>(params, begin, end);
    }
  });
}

GRIDSAMPLE_NAMESPACE_END
