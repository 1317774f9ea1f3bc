#pragma once

#include "cpu/pixels/backward_rows.h"
#include "cpu/kernels/dispatch.h"
#include "cpu/pixels/nearest_rows.h"
#include "cpu/pixels/pack.h"
#include "cpu/pixels/planes.h"
#include "cpu/kernels/slabs.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// pixels += grad_output * weight at all taps of sample i, for kGroup channels at once. kRegular:
/// as TapRows says of it.
template <int kGroup, bool kRegular, typename Tile>
GRIDSAMPLE_INLINE void add_to_planes(compute_t* planes, int64_t plane_stride, const Tile& tile,
                                     const TapRows<Tile>& rows, const RowWeights<Tile>& weights,
                                     int i, const compute_t (&grad_output)[kGroup]) {
  for_slices<Tile::kTaps>(tile.slices, [&](int kz) GRIDSAMPLE_INLINE_LAMBDA {
    GRIDSAMPLE_UNROLL
    for (int ky = 0; ky < Tile::kTaps; ++ky) {
      [[maybe_unused]] const auto row = rows.row(kz, ky)[i];
      GRIDSAMPLE_UNROLL
      for (int kx = 0; kx < Tile::kTaps; ++kx) {
        auto offset = row + kx;
        if constexpr (!kRegular) {
          offset = TapOffsets<Tile, false>(tile).offset(kz, ky, kx, i);
          if (offset < 0) continue;
        }
        const compute_t weight = weights.weight(kz, ky, kx, i);
        GRIDSAMPLE_UNROLL
        for (int c = 0; c < kGroup; ++c) {
          compute_t& pixel = planes[c * plane_stride + offset];
          pixel = multiply_add(grad_output[c], weight, pixel);
        }
      }
    }
  });
}

/// pixels += grad_output * weight at the rows of taps of sample i, each read and written as one.
template <int kGroup, typename Tile>
GRIDSAMPLE_INLINE void add_rows_to_planes(compute_t* planes, int64_t plane_stride,
                                          const TapRows<Tile>& rows,
                                          const RowWeights<Tile>& weights, int i,
                                          const compute_t (&grad_output)[kGroup]) {
  constexpr int kLanes = kRowLanes<Tile>;
  for_slices<Tile::kTaps>(rows.slices, [&](int kz) GRIDSAMPLE_INLINE_LAMBDA {
    GRIDSAMPLE_UNROLL
    for (int ky = 0; ky < Tile::kTaps; ++ky) {
      compute_t* row = planes + rows.row(kz, ky)[i];
      const auto weight = weights.row_of(kz, ky, i);
      GRIDSAMPLE_UNROLL
      for (int c = 0; c < kGroup; ++c) {
        compute_t* pixels = row + c * plane_stride;
        store_tap_row<Tile>(pixels, multiply_add_vector<compute_t, kLanes>(
                                        broadcast<compute_t, kLanes>(grad_output[c]), weight,
                                        load_tap_row<Tile>(pixels)));
      }
    }
  });
}

/// planes[c][tap] += grad_output[c] * weight for the samples of a strip, from kStrands places of it
/// in turn: neighbours hit the same pixels, and an addition to a pixel waits for the one before.
template <int kStrands, int kGroup, typename Tile>
void scatter_planes(compute_t* planes, int64_t plane_stride, const Tile& tile,
                    const TapRows<Tile>& rows, const RowWeights<Tile>& weights,
                    const ActiveSamples& active,
                    const compute_t (&grad_output)[kGroup][Tile::kSize]) {
  constexpr int kLength = Tile::kSize / kStrands;
  // A row that shares pixels with one just written would wait for it to reach the cache.
  const bool by_rows = Tile::kTaps > 1 && !rows.often_overlap(kStrands == 1 ? 1 : kLength);
  const auto add = [&]<bool kRegular, bool kRows>(int i) GRIDSAMPLE_INLINE_LAMBDA {
    compute_t grad[kGroup];
    GRIDSAMPLE_UNROLL
    for (int c = 0; c < kGroup; ++c) grad[c] = grad_output[c][i];
    if constexpr (kRows) {
      add_rows_to_planes<kGroup>(planes, plane_stride, rows, weights, i, grad);
    } else {
      add_to_planes<kGroup, kRegular>(planes, plane_stride, tile, rows, weights, i, grad);
    }
  };
  const auto add_all = [&]<bool kRows>() GRIDSAMPLE_INLINE_LAMBDA {
    if (rows.all_regular() && tile.count == Tile::kSize) {
      for (int j = 0; j < kLength; ++j) {
        for (int i = j; i < Tile::kSize; i += kLength) add.template operator()<true, kRows>(i);
      }
      return;
    }
    for (int s = 0; s < active.count; ++s) {
      const int i = active.index[s];
      if (rows.is_regular(i)) {
        add.template operator()<true, kRows>(i);
      } else {
        add.template operator()<false, false>(i);
      }
    }
  };
  if constexpr (Tile::kTaps > 1) {
    if (by_rows) return add_all.template operator()<true>();
  }
  add_all.template operator()<false>();
}

/// Channels of a strip into planes.
template <typename Tile>
void grad_input_planes(const GradInputParams& params, const Tile& tile, const TapRows<Tile>& rows,
                       const TileOffsets& located, int64_t batch, int64_t input_batch,
                       Range channels) {
  constexpr int kStrands = 8;
  const View& source = params.grad_output;
  const View& target = params.grad_input;
  const RowWeights<Tile> weights(tile);
  ActiveSamples active;
  // Four channels at once are strands enough, and have the order of packed rows; scattered samples
  // seldom hit the same pixels, and come in other strips where they are picked.
  const bool in_order = params.scattered || params.geometry.channels >= 4;
  in_order ? list_active<1>(tile, active) : list_active<kStrands>(tile, active);
  const auto scatter = [&]<int kGroup>(int64_t c) {
    auto* planes = static_cast<compute_t*>(target.data) + input_batch * target.batch_stride +
                   c * target.channel_stride;
    for (int g = 0; g < kGroup; ++g) prefetch_plane(planes + g * target.channel_stride, rows);
    alignas(64) compute_t grad_output[kGroup][Tile::kSize];
    for (int g = 0; g < kGroup; ++g) {
      load_samples(source, batch * source.batch_stride + (c + g) * source.channel_stride, located,
                   grad_output[g]);
    }
    const auto scatter_from = [&]<int kPlaces>() {
      scatter_planes<kPlaces, kGroup>(planes, target.channel_stride, tile, rows, weights, active,
                                      grad_output);
    };
    if constexpr (kGroup < 4) {
      if (!in_order) return scatter_from.template operator()<kStrands>();
    }
    scatter_from.template operator()<1>();
  };
  int64_t c = channels.begin;
  for (; c + 4 <= channels.end; c += 4) scatter.template operator()<4>(c);
  if constexpr (kIsFloat) {
    if (channels.end - c == 3) return scatter.template operator()<3>(c);
    if (channels.end - c == 2) return scatter.template operator()<2>(c);
  }
  for (; c < channels.end; ++c) scatter.template operator()<1>(c);
}

/// Channels [begin, end) of a tile into rows: channels are innermost in grad_input.
template <typename Tile>
void grad_input_rows(const GradInputParams& params, const Tile& tile, const TileOffsets& located,
                     int64_t batch, int64_t input_batch, Range channels) {
  const View& target = params.grad_input;
  auto* image = static_cast<compute_t*>(target.data) + input_batch * target.batch_stride;
  alignas(64) compute_t grad_output[kTileSize * kMostPieceChannels];
  const RowPrefetch prefetch(params.geometry,
                             std::min(kMostPieceChannels, channels.end - channels.begin),
                             sizeof(compute_t), Pass::kBackward);
  const TapList<Tile> taps(tile);
  ActiveSamples active;
  list_active<1>(tile, active);
  for (int64_t c = channels.begin; c < channels.end; c += kMostPieceChannels) {
    const int count = static_cast<int>(std::min(kMostPieceChannels, channels.end - c));
    load_rows(params.grad_output, batch, c, count, located, grad_output, count);
    scatter_rows({nullptr, image + c, grad_output, count, count, params.geometry.input_size[0],
                  target.stride[0]},
                 tile, taps, active, prefetch);
  }
}

/// planes[c][pixel] += grad_output[c], for kGroup channels at once.
template <int kGroup, bool kListed, bool kPrefetch, typename Run>
void add_to_pixels(compute_t* planes, int64_t plane_stride, const Run& run,
                   const compute_t* const (&grad_output)[kGroup]) {
  for (int s = 0; s < run.count(); ++s) {
    const auto offset = run.offset(s);
    const auto i = kListed ? run.sample(s) : s;
    GRIDSAMPLE_UNROLL
    for (int c = 0; c < kGroup; ++c) {
      if constexpr (kPrefetch)
        GRIDSAMPLE_PREFETCH(planes + c * plane_stride + run.offset(s + Run::kAhead));
      planes[c * plane_stride + offset] += grad_output[c][i];
    }
  }
}

/// Nearest, into planes: of many channels a run of tiles at a time, to stay in one plane for
/// longer.
inline void grad_input_nearest_planes(const GradInputParams& params, Range slab, int64_t batch,
                                      int64_t input_batch, Range channels) {
  const Geometry& geometry = params.geometry;
  const View& source = params.grad_output;
  const View& target = params.grad_input;
  const int64_t tiles = tile_count(geometry);
  const int64_t run_tiles = nearest_run(geometry);
  const PixelFinder finder(geometry, target, params.slab_axis, slab);
  TileOffsets located;
  NearestPixels run;
  alignas(64) compute_t staged[4][kNearestRun][kTileSize];
  for (int64_t t = 0; t < tiles; t += run_tiles) {
    const int64_t t_end = std::min(t + run_tiles, tiles);
    run.clear();
    for (int64_t next = t; next < t_end; ++next) {
      const int count = tile_samples(geometry, batch, next * kTileSize);
      if (overlap_with(params, slab, batch, next).any) {
        run.append(finder, params.grid, batch, next, count);
      } else {
        run.skip(count);
      }
    }
    run.finish();
    if (run.count() == 0) continue;
    const auto locate = [&](int64_t next) {
      const int64_t first = next * kTileSize;
      locate_samples(geometry, source, first, tile_samples(geometry, batch, first), located);
    };
    const bool one_tile = t + 1 == t_end;
    if (one_tile) locate(t);
    const auto load_channel = [&](int64_t c,
                                  compute_t(&buffer)[kNearestRun][kTileSize]) -> const compute_t* {
      const int64_t base = batch * source.batch_stride + c * source.channel_stride;
      for (int64_t next = t; next < t_end; ++next) {
        if (!one_tile) locate(next);
        if (source.dtype == kDTypeOf<compute_t> && located.even && located.step == 1) {
          return static_cast<const compute_t*>(source.data) + base + located.first;
        }
        load_samples(source, base, located, buffer[next - t]);
      }
      return buffer[0];
    };
    const auto add = [&]<int kGroup>(int64_t c) {
      const compute_t* grad_output[kGroup];
      for (int g = 0; g < kGroup; ++g) grad_output[g] = load_channel(c + g, staged[g]);
      auto* planes = static_cast<compute_t*>(target.data) + input_batch * target.batch_stride +
                     c * target.channel_stride;
      const auto add_all = [&]<bool kListed, bool kPrefetch>() {
        add_to_pixels<kGroup, kListed, kPrefetch>(planes, target.channel_stride, run, grad_output);
      };
      const bool far = packed_elements(geometry, kGroup) * int64_t(sizeof(compute_t)) > kNearBytes;
      if (run.is_listed()) {
        far ? add_all.template operator()<true, true>()
            : add_all.template operator()<true, false>();
      } else {
        far ? add_all.template operator()<false, true>()
            : add_all.template operator()<false, false>();
      }
    };
    int64_t c = channels.begin;
    for (; c + 4 <= channels.end; c += 4) add.template operator()<4>(c);
    for (; c < channels.end; ++c) add.template operator()<1>(c);
  }
}

template <bool kRows>
void grad_input_nearest_items(const GradInputParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.geometry;
  const View& target = params.grad_input;
  for (int64_t item = begin; item < end; ++item) {
    const GradInputItem owned = grad_input_item(params, item);
    const Range batches = batches_of(geometry, params.input_batch, owned.input_batch);
    Zeros zeros(target, geometry, owned.input_batch, owned.channels, params.slab_axis, owned.slab);
    if constexpr (!kRows) zeros.finish();  // too little is done for a sample to look ahead
    auto* image = static_cast<compute_t*>(target.data) + owned.input_batch * target.batch_stride +
                  owned.channels.begin;
    for (int64_t batch = batches.begin; batch < batches.end; ++batch) {
      if constexpr (kRows) {
        add_nearest_rows(geometry, params.grid, params.grad_output, batch, owned.channels, target,
                         params.slab_axis, owned.slab, image, zeros,
                         [&](int64_t t) { return overlap_with(params, owned.slab, batch, t).any; });
      } else {
        grad_input_nearest_planes(params, owned.slab, batch, owned.input_batch, owned.channels);
      }
    }
    zeros.finish();
  }
}

/// `Tile` is a whole tile where lanes go over channels (kRows), or a strip of one.
template <bool kRows, typename Tile>
void grad_input_items(const GradInputParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.geometry;
  Tile tile(geometry.dims);
  TileOffsets located;
  for (int64_t item = begin; item < end; ++item) {
    const GradInputItem owned = grad_input_item(params, item);
    const Range batches = batches_of(geometry, params.input_batch, owned.input_batch);
    Zeros zeros(params.grad_input, geometry, owned.input_batch, owned.channels, params.slab_axis,
                owned.slab);
    SlabSamples<Tile> picked(params, owned.slab);
    const bool picks = picks_samples(params);
    if (picks) zeros.finish();  // scattered samples go everywhere at once
    for (int64_t batch = batches.begin; batch < batches.end; ++batch) {
      const auto add = [&] {
        if constexpr (kRows) {
          grad_input_rows(params, tile, located, batch, owned.input_batch, owned.channels);
        } else {
          const TapRows<Tile> rows(tile, geometry, params.grad_input);
          grad_input_planes(params, tile, rows, located, batch, owned.input_batch, owned.channels);
        }
      };
      const auto add_picked = [&] {
        picked.take(tile, located);
        add();
      };
      for (int64_t t = 0; t < tile_count(geometry); ++t) {
        const SlabOverlap overlap = overlap_with(params, owned.slab, batch, t);
        if (!overlap.any) continue;
        const int64_t tile_end = t * kTileSize + tile_samples(geometry, batch, t * kTileSize);
        for (int64_t first = t * kTileSize; first < tile_end; first += Tile::kSize) {
          const auto count = static_cast<int>(std::min<int64_t>(Tile::kSize, tile_end - first));
          if (picks) {
            picked.append(batch, first, count, add_picked);
            continue;
          }
          fill_taps(tile, kNone, geometry, params.grid, batch, first, count, params.grad_input);
          if (overlap.crosses) restrict_to_slab(params, owned.slab, tile);
          zero_ahead(params, batch, t, tile, zeros);
          locate_samples(geometry, params.grad_output, first, count, located);
          add();
        }
      }
      if (!picked.empty()) add_picked();
    }
    zeros.finish();
  }
}

/// Item = (batch, tile).
template <typename Tile>
void slab_ranges_items(const GradInputParams& params, int64_t begin, int64_t end,
                       TapRange* ranges) {
  const Geometry& geometry = params.geometry;
  const int64_t tiles = tile_count(geometry);
  Tile tile(geometry.dims);
  alignas(64) PerAxis<kTileSize> values;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t first = item % tiles * kTileSize;
    const int64_t batch = item / tiles;
    load_grid(geometry, params.grid, batch, first, tile_samples(geometry, batch, first), values);
    ranges[item - begin] = range_of_values(tile, geometry, params.slab_axis,
                                           values[params.slab_axis], params.grad_input);
  }
}

void slab_ranges(const GradInputParams& params, int64_t begin, int64_t end, TapRange* ranges) {
  dispatch_tile(params.geometry,
                [&]<typename Tile>() { slab_ranges_items<Tile>(params, begin, end, ranges); });
}

void grad_input(const GradInputParams& params, int64_t begin, int64_t end) {
  const bool rows = has_rows(params.geometry, params.grad_input);
  dispatch_tile(params.geometry, [&]<typename Tile>() {
    if constexpr (ModeTraits<Tile::kMode>::kCopies) {
      rows ? grad_input_nearest_items<true>(params, begin, end)
           : grad_input_nearest_items<false>(params, begin, end);
    } else if (rows) {
      grad_input_items<true, Tile>(params, begin, end);
    } else {
      grad_input_items<false, typename Tile::Strip>(params, begin, end);
    }
  });
}

GRIDSAMPLE_NAMESPACE_END
