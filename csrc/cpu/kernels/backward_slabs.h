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

/// A tile whose samples an item looks at: samples [first, end) of image `batch` of the batch.
struct SlabTile {
  int64_t input_batch;
  int64_t batch;
  int64_t t;
  int64_t first;
  int64_t end;
  Range slab;
  SlabOverlap overlap;
  bool owned;  // the item computes its grad_grid
};

/// Calls function(tile, zeros) for the tiles that items [begin, end) look at, with the zeros of
/// what the item owns.
template <typename F>
GRIDSAMPLE_INLINE void for_slab_tiles(const GradInputParams& params, int64_t begin, int64_t end,
                                      const F& function) {
  const Geometry& geometry = params.geometry;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t input_batch = item / params.slabs;
    const int64_t s = item % params.slabs;
    const Range slab = block_range(geometry.input_size[params.slab_axis], params.slabs, s);
    const Range batches = batches_of(geometry, params.input_batch, input_batch);
    Zeros zeros(params.grad_input, geometry, input_batch, {0, geometry.channels}, params.slab_axis,
                slab);
    for (int64_t batch = batches.begin; batch < batches.end; ++batch) {
      for (int64_t t = 0; t < tile_count(geometry); ++t) {
        const SlabOverlap overlap = overlap_with(params, slab, batch, t);
        const bool owned = owns_tile(params, slab, s, batch, t);
        if (!overlap.any && !owned) continue;
        const int64_t first = t * kTileSize;
        function(SlabTile{input_batch, batch, t, first,
                          first + tile_samples(geometry, batch, first), slab, overlap, owned},
                 zeros);
      }
    }
    zeros.finish();
  }
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
  const ImagePrefetch prefetch(geometry, to_grid.input, sizeof(compute_t), kRows, Pass::kBackward);
  for_slab_tiles(to_input, begin, end, [&](const SlabTile& of, Zeros& zeros) {
    for (int64_t first = of.first; first < of.end; first += Tile::kSize) {
      const auto count = static_cast<int>(std::min<int64_t>(Tile::kSize, of.end - first));
      fill_taps(tile, derivatives, geometry, to_input.grid, of.batch, first, count,
                to_input.grad_input);
      if (of.owned) prefetch(of.batch, first, count, channels, tile.axis[1].offset[0], count);
      if (of.overlap.any) zero_ahead(to_input, of.batch, of.t, tile, zeros);
      if constexpr (kRows) {
        const BackwardParams& rows = params.rows;
        const auto* image = static_cast<const compute_t*>(rows.input.data) +
                            of.input_batch * rows.input.batch_stride;
        auto* grad_image = static_cast<compute_t*>(rows.grad_input.data) +
                           of.input_batch * rows.grad_input.batch_stride;
        if (of.owned && !of.overlap.crosses) {
          backward_tile<true, true>(rows, rows.input, tile, derivatives, image, grad_image, 0,
                                    geometry.channels, of.batch, of.t);
          continue;
        }
        if (of.owned) {
          backward_tile<false, true>(rows, rows.input, tile, derivatives, image, nullptr, 0,
                                     geometry.channels, of.batch, of.t);
        }
        if (!of.overlap.any) continue;
        restrict_to_slab(to_input, of.slab, tile);
        locate_samples(geometry, to_input.grad_output, first, count, located);
        grad_input_rows(to_input, tile, located, of.batch, of.input_batch, channels);
      } else {
        TapRows<Tile> rows(tile, geometry, to_input.grad_input);
        if (of.owned) {
          sum_chunks(to_grid, tile, derivatives, rows, of.batch, first, sums);
          store(geometry, to_grid.grad_grid, of.batch, first, count, sums);
        }
        if (!of.overlap.any) continue;
        if (of.overlap.crosses) {
          restrict_to_slab(to_input, of.slab, tile);
          rows = TapRows<Tile>(tile, geometry, to_input.grad_input);
        }
        locate_samples(geometry, to_input.grad_output, first, count, located);
        grad_input_planes(to_input, tile, rows, located, of.batch, of.input_batch, channels);
      }
    }
  });
}

/// Items of images of few channels in planes, bilinear: the taps of a strip stay in registers.
template <Padding kPadding>
void backward_strips(const BackwardSlabParams& params, int64_t begin, int64_t end) {
  const GradInputParams& to_input = params.grad_input;
  const StripGradients<kPadding> gradients(to_input, params.grad_grid);
  const Geometry& geometry = to_input.geometry;
  const ImagePrefetch prefetch(geometry, params.grad_grid.input, sizeof(compute_t), false,
                               Pass::kBackward);
  // The taps of the next strip are computed first, as sample_run does.
  Strip strips[2];
  for_slab_tiles(to_input, begin, end, [&](const SlabTile& of, Zeros& zeros) {
    if (of.overlap.any && to_input.slabs > 1) {
      zeros.zero_to(range_of_tile(to_input, of.batch, of.t).last);
    }
    for (int64_t next = of.first; next < of.end + kStripSize; next += kStripSize) {
      if (next < of.end) {
        const int64_t count = std::min<int64_t>(kStripSize, of.end - next);
        Strip& strip = strips[next / kStripSize % 2];
        gradients.plan(of.batch, next, static_cast<int>(count), strip);
        if (of.owned) {
          prefetch(of.batch, next, strip.count, {0, geometry.channels}, strip.taps[0].offset[0],
                   std::min(strip.count, kNumbers));
        }
      }
      if (next == of.first) continue;
      Strip& strip = strips[(next / kStripSize - 1) % 2];
      if (of.owned) gradients.differentiate(strip);
      if (!of.overlap.any) continue;
      if (to_input.slabs == 1) zeros.zero_to(strip.last_row());
      gradients.scatter(strip, of.input_batch, of.slab, of.overlap.crosses);
    }
  });
}

void backward_slabs_in_registers(const BackwardSlabParams& params, int64_t begin, int64_t end) {
  dispatch_lane_padding(params.grad_input.geometry, [&]<Padding kPadding>() {
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
