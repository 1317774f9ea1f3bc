#pragma once

// How grad_input is divided among threads: see GradInputParams.

#include "zeros.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// What a work item owns.
struct GradInputItem {
  int64_t input_batch;
  Range channels;
  Range slab;
};

inline GradInputItem grad_input_item(const GradInputParams& params, int64_t item) {
  const Geometry& geometry = params.geometry;
  const int64_t block = item / params.slabs;
  return {block / params.channel_blocks,
          block_range(geometry.channels, params.channel_blocks, block % params.channel_blocks),
          block_range(geometry.input_size[params.slab_axis], params.slabs, item % params.slabs)};
}

inline const TapRange& range_of_tile(const GradInputParams& params, int64_t batch, int64_t t) {
  return params.ranges[batch * tile_count(params.geometry) + t];
}

/// How the taps of a tile lie to a slab.
struct SlabReach {
  bool any;      // some may lie inside
  bool crosses;  // some may lie in other slabs
};

inline SlabReach reach_into(const GradInputParams& params, Range slab, int64_t batch, int64_t t) {
  if (params.slabs == 1) return {true, false};
  const TapRange& range = range_of_tile(params, batch, t);
  return {range.first < slab.end && range.last >= slab.begin,
          range.first < slab.begin || range.last >= slab.end};
}

template <typename Tile>
void restrict_to_slab(const GradInputParams& params, Range slab, Tile& tile) {
  restrict_taps(tile, params.slab_axis, slab.begin, slab.end,
                params.grad_input.stride[params.slab_axis]);
}

/// Zeros what the taps of tile number t, or of a part of it, may reach.
template <typename Tile>
void zero_ahead(const GradInputParams& params, int64_t batch, int64_t t, const Tile& tile,
                Zeros<typename Tile::compute_t>& zeros) {
  if (params.slabs == 1) {
    zeros.reach(tile, params.grad_input);
  } else {
    zeros.reach(range_of_tile(params, batch, t).last);
  }
}

GRIDSAMPLE_NAMESPACE_END
