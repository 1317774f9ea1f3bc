#pragma once

#include "backward_rows.h"
#include "dispatch.h"
#include "pack.h"
#include "zeros.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// planes[c][tap] += grad_output[c] * weight, for kGroup channels at once: their read-modify-writes
/// are independent of each other, while those of one channel wait for the same pixels.
template <int kGroup, bool kInside, typename Tile>
void scatter_planes(typename Tile::compute_t* planes, int64_t plane_stride,
                    const TapList<Tile>& taps, const ActiveSamples& active, bool prefetch,
                    const typename Tile::compute_t (*grad_output)[kTileSize]) {
  using compute_t = typename Tile::compute_t;
  constexpr int kAhead = 48;
  const auto ask = [&](int i) {
    GRIDSAMPLE_UNROLL
    for (int kz = 0; kz < Tile::kTapsZ; ++kz) {
      GRIDSAMPLE_UNROLL
      for (int ky = 0; ky < Tile::kTaps; ++ky) {
        const compute_t* row = planes + taps.offset(kz, ky, 0, i);
        GRIDSAMPLE_UNROLL
        for (int c = 0; c < kGroup; ++c) GRIDSAMPLE_PREFETCH(row + c * plane_stride);
      }
    }
  };
  if (prefetch) {
    for (int s = 0; s < std::min(kAhead, active.count); ++s) ask(active.index[s]);
  }
  const int last_ahead = prefetch ? active.count - kAhead : 0;
  for (int s = 0; s < active.count; ++s) {
    const int i = active.index[s];
    if (s < last_ahead) ask(active.index[s + kAhead]);
    GRIDSAMPLE_UNROLL
    for (int kz = 0; kz < Tile::kTapsZ; ++kz) {
      GRIDSAMPLE_UNROLL
      for (int ky = 0; ky < Tile::kTaps; ++ky) {
        GRIDSAMPLE_UNROLL
        for (int kx = 0; kx < Tile::kTaps; ++kx) {
          const auto offset = taps.offset(kz, ky, kx, i);
          if (!kInside && offset < 0) continue;
          const compute_t weight = taps.weight(kz, ky, kx, i);
          GRIDSAMPLE_UNROLL
          for (int c = 0; c < kGroup; ++c) {
            compute_t& pixel = planes[c * plane_stride + offset];
            pixel = multiply_add(grad_output[c][i], weight, pixel);
          }
        }
      }
    }
  }
}

/// Channels [begin, end) of a tile into planes.
template <typename Tile>
void grad_input_planes(const GradInputParams& params, const Tile& tile, const ActiveSamples& active,
                       const TileOffsets& located, int64_t batch, int64_t input_batch,
                       int64_t begin, int64_t end) {
  using compute_t = typename Tile::compute_t;
  const View& source = params.grad_output;
  const View& target = params.grad_input;
  const TapList<Tile> taps(tile);
  const bool prefetch =
      packed_elements(params.geometry, end - begin) * int64_t(sizeof(compute_t)) > kNearBytes;
  const auto scatter = [&]<int kGroup>(int64_t c) {
    alignas(64) compute_t grad_output[kGroup][kTileSize];
    for (int g = 0; g < kGroup; ++g) {
      load_samples(source, batch * source.batch_stride + (c + g) * source.channel_stride, located,
                   grad_output[g]);
    }
    auto* planes = static_cast<compute_t*>(target.data) + input_batch * target.batch_stride +
                   c * target.channel_stride;
    if (tile.inside) {
      scatter_planes<kGroup, true>(planes, target.channel_stride, taps, active, prefetch,
                                   grad_output);
    } else {
      scatter_planes<kGroup, false>(planes, target.channel_stride, taps, active, prefetch,
                                    grad_output);
    }
  };
  int64_t c = begin;
  for (; c + 4 <= end; c += 4) scatter.template operator()<4>(c);
  switch (end - c) {
    case 3:
      return scatter.template operator()<3>(c);
    case 2:
      return scatter.template operator()<2>(c);
    case 1:
      return scatter.template operator()<1>(c);
  }
}

/// Channels [begin, end) of a tile into rows: channels are innermost in grad_input.
template <typename Tile>
void grad_input_rows(const GradInputParams& params, const Tile& tile, const ActiveSamples& active,
                     const TileOffsets& located, int64_t batch, int64_t input_batch, int64_t begin,
                     int64_t end) {
  using compute_t = typename Tile::compute_t;
  const View& target = params.grad_input;
  auto* image = static_cast<compute_t*>(target.data) + input_batch * target.batch_stride;
  alignas(64) compute_t grad_output[kTileSize * kMostPieceChannels];
  const RowPrefetch prefetch(params.geometry, std::min(kMostPieceChannels, end - begin),
                             sizeof(compute_t), Pass::kBackward);
  const TapList<Tile> taps(tile);
  for (int64_t c = begin; c < end; c += kMostPieceChannels) {
    const int count = static_cast<int>(std::min(kMostPieceChannels, end - c));
    load_rows(params.grad_output, batch, c, count, located, grad_output, count);
    scatter_rows({nullptr, image + c, grad_output, count, count}, tile, taps, active, prefetch);
  }
}

/// How the taps of a tile lie to a slab.
struct SlabReach {
  bool any;      // some may lie inside
  bool crosses;  // some may lie in other slabs
};

inline SlabReach reach_into(const GradInputParams& params, Range slab, int64_t batch, int64_t t) {
  if (params.slabs == 1) return {true, false};
  const TapRange& range = params.ranges[batch * tile_count(params.geometry) + t];
  return {range.first < slab.end && range.last >= slab.begin,
          range.first < slab.begin || range.last >= slab.end};
}

template <typename Tile>
void restrict_to_slab(const GradInputParams& params, Range slab, Tile& tile) {
  restrict_taps(tile, params.slab_axis, slab.begin, slab.end,
                params.grad_input.stride[params.slab_axis]);
}

/// The taps of a tile inside a slab. False if there are none for sure.
template <Mode kMode, typename Tile>
bool plan_in_slab(const GradInputParams& params, Range slab, int64_t batch, int64_t t, Tile& tile) {
  const Geometry& geometry = params.geometry;
  const SlabReach reach = reach_into(params, slab, batch, t);
  if (!reach.any) return false;
  const int64_t first = t * kTileSize;
  fill_taps<kMode>(tile, geometry, params.grid, batch, first, tile_samples(geometry, first),
                   params.grad_input);
  if (reach.crosses) restrict_to_slab(params, slab, tile);
  return true;
}

/// Nearest: the samples of a run of tiles that have a pixel, and where it is.
template <typename Tile>
struct PixelList {
  int count = 0;
  typename Tile::offset_t offset[kNearestRun * kTileSize];
  int32_t sample[kNearestRun * kTileSize];  // counted from the run's first

  void append(const Tile& tile, int first) {
    if (tile.inside) {
#pragma omp simd
      for (int i = 0; i < tile.count; ++i) {
        offset[count + i] = plane_offset(tile, 0, 0, 0, i).offset;
        sample[count + i] = first + i;
      }
      count += tile.count;
      return;
    }
    for (int i = 0; i < tile.count; ++i) {
      const auto where = plane_offset(tile, 0, 0, 0, i);
      offset[count] = where.offset;
      sample[count] = first + i;
      count += where.outside == 0;
    }
  }
};

/// planes[c][pixel] += grad_output[c], for kGroup channels at once.
template <int kGroup, bool kPrefetch, typename Tile>
void add_to_pixels(typename Tile::compute_t* planes, int64_t plane_stride,
                   const PixelList<Tile>& list,
                   const typename Tile::compute_t* const (&grad_output)[kGroup]) {
  constexpr int kAhead = 32;
  for (int s = 0; s < list.count; ++s) {
    const auto offset = list.offset[s];
    const auto i = list.sample[s];
    [[maybe_unused]] const auto ahead = list.offset[std::min(s + kAhead, list.count - 1)];
    GRIDSAMPLE_UNROLL
    for (int c = 0; c < kGroup; ++c) {
      if constexpr (kPrefetch) GRIDSAMPLE_PREFETCH(planes + c * plane_stride + ahead);
      planes[c * plane_stride + offset] += grad_output[c][i];
    }
  }
}

/// Nearest, into planes: a run of tiles at a time, to stay in one plane for longer.
template <Mode kMode, typename Tile>
void grad_input_nearest(const GradInputParams& params, Range slab, int64_t batch,
                        int64_t input_batch, Range channels) {
  using compute_t = typename Tile::compute_t;
  const Geometry& geometry = params.geometry;
  const View& source = params.grad_output;
  const View& target = params.grad_input;
  const int64_t tiles = tile_count(geometry);
  Tile tile;
  TileOffsets located;
  PixelList<Tile> list;
  alignas(64) compute_t staged[4][kNearestRun * kTileSize];
  for (int64_t t = 0; t < tiles; t += kNearestRun) {
    const int64_t t_end = std::min(t + kNearestRun, tiles);
    list.count = 0;
    for (int64_t next = t; next < t_end; ++next) {
      if (plan_in_slab<kMode>(params, slab, batch, next, tile)) {
        list.append(tile, static_cast<int>(next - t) * kTileSize);
      }
    }
    if (list.count == 0) continue;
    const auto load_channel = [&](int64_t c, compute_t* buffer) -> const compute_t* {
      const int64_t base = batch * source.batch_stride + c * source.channel_stride;
      for (int64_t next = t; next < t_end; ++next) {
        const int64_t first = next * kTileSize;
        locate_samples(geometry, source, first, tile_samples(geometry, first), located);
        if (source.dtype == kDTypeOf<compute_t> && located.even && located.step == 1) {
          return static_cast<const compute_t*>(source.data) + base + located.first;
        }
        load_samples(source, base, located, buffer + (next - t) * kTileSize);
      }
      return buffer;
    };
    const auto add = [&]<int kGroup>(int64_t c) {
      const compute_t* grad_output[kGroup];
      for (int g = 0; g < kGroup; ++g) grad_output[g] = load_channel(c + g, staged[g]);
      auto* planes = static_cast<compute_t*>(target.data) + input_batch * target.batch_stride +
                     c * target.channel_stride;
      if (packed_elements(geometry, kGroup) * int64_t(sizeof(compute_t)) > kNearBytes) {
        add_to_pixels<kGroup, true>(planes, target.channel_stride, list, grad_output);
      } else {
        add_to_pixels<kGroup, false>(planes, target.channel_stride, list, grad_output);
      }
    };
    int64_t c = channels.begin;
    for (; c + 4 <= channels.end; c += 4) add.template operator()<4>(c);
    for (; c < channels.end; ++c) add.template operator()<1>(c);
  }
}

/// Channels of a tile into grad_input.
template <typename Tile>
void grad_input_tile(const GradInputParams& params, const Tile& tile, int64_t batch,
                     int64_t input_batch, int64_t t, Range channels) {
  TileOffsets located;
  ActiveSamples active;
  locate_samples(params.geometry, params.grad_output, t * kTileSize, tile.count, located);
  const bool rows = has_rows(params.geometry, params.grad_input);
  // Four channels at once are strands enough, and rows take the samples in order.
  if (params.geometry.channels < 4 && !rows) {
    list_active<8>(tile, active);
  } else {
    list_active<1>(tile, active);
  }
  if (rows) {
    grad_input_rows(params, tile, active, located, batch, input_batch, channels.begin,
                    channels.end);
  } else {
    grad_input_planes(params, tile, active, located, batch, input_batch, channels.begin,
                      channels.end);
  }
}

template <Mode kMode, typename Tile>
void grad_input_items(const GradInputParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.geometry;
  const bool rows = has_rows(geometry, params.grad_input);
  Tile tile;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t input_batch = item / params.slabs / params.channel_blocks;
    const Range channels = block_range(geometry.channels, params.channel_blocks,
                                       item / params.slabs % params.channel_blocks);
    const Range slab =
        block_range(geometry.input_size[params.slab_axis], params.slabs, item % params.slabs);
    const Range batches = batches_of(geometry, params.input_batch, input_batch);
    Zeros<typename Tile::compute_t> zeros(params.grad_input, geometry, input_batch, channels,
                                          params.slab_axis, slab);
    for (int64_t batch = batches.begin; batch < batches.end; ++batch) {
      if constexpr (kMode == Mode::kNearest) {
        if (!rows) {
          zeros.finish();  // too little is done for a sample to zero by the tile
          grad_input_nearest<kMode, Tile>(params, slab, batch, input_batch, channels);
          continue;
        }
      }
      for (int64_t t = 0; t < tile_count(geometry); ++t) {
        if (!plan_in_slab<kMode>(params, slab, batch, t, tile)) continue;
        zeros.reach(tile, params.grad_input);
        grad_input_tile(params, tile, batch, input_batch, t, channels);
      }
    }
    zeros.finish();
  }
}

/// Item = (batch, tile).
template <Mode kMode, typename Tile>
void slab_ranges_items(const GradInputParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.geometry;
  const int64_t tiles = tile_count(geometry);
  const int64_t stride = std::max<int64_t>(params.grad_input.stride[params.slab_axis], 1);
  Tile tile;
  alignas(64) typename Tile::compute_t values[Tile::kDims][kTileSize];
  for (int64_t item = begin; item < end; ++item) {
    const int64_t first = item % tiles * kTileSize;
    const int count = tile_samples(geometry, first);
    load_grid<Tile>(geometry, params.grid, item / tiles, first, count, values);
    fill_axis_taps<kMode>(tile, geometry, params.slab_axis, values[params.slab_axis],
                          params.grad_input);
    const TapRange range = tap_range(tile.axis[params.slab_axis]);
    params.ranges[item] = {range.first / stride, range.last < 0 ? -1 : range.last / stride};
  }
}

void slab_ranges(const GradInputParams& params, int64_t begin, int64_t end) {
  dispatch_compute_tile<false>(
      params.geometry, params.grad_input,
      [&]<Mode kMode, typename Tile>() { slab_ranges_items<kMode, Tile>(params, begin, end); });
}

void grad_input(const GradInputParams& params, int64_t begin, int64_t end) {
  dispatch_compute_tile<false>(
      params.geometry, params.grad_input,
      [&]<Mode kMode, typename Tile>() { grad_input_items<kMode, Tile>(params, begin, end); });
}

GRIDSAMPLE_NAMESPACE_END
