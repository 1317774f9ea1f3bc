#pragma once

#include "cpu/kernels/dispatch.h"
#include "cpu/simd/lanes.h"
#include "cpu/pixels/nearest_rows.h"
#include "cpu/pixels/pack.h"
#include "cpu/pixels/rows.h"
#include "cpu/pixels/planes.h"
#include "cpu/pixels/tap_sums.h"
#include "cpu/registers/forward.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// out[i] = sum over taps of weight * pixel, for every lane of the strip.
template <typename scalar, typename Tile>
void sample_plane(const typename scalar::storage_t* plane, const Tile& tile,
                  const TapRows<Tile>& rows, typename scalar::storage_t* out) {
  using Pixels = PlanePixels<scalar, Tile>;
  constexpr int kLanes = Pixels::kLanes;
  for (int i = 0; i < tile.count; i += kLanes) {
    const Pixels pixels(plane, tile, rows, i);
    store_lanes<scalar, compute_t, kLanes>(out + i, interpolate<kLanes>(tile, i, pixels));
  }
}

/// Channels of a strip, lanes over samples.
template <typename scalar, typename Tile>
void forward_planes(const ForwardParams& params, const Tile& tile, const TileOffsets& located,
                    int64_t batch, Range channels) {
  using storage_t = typename scalar::storage_t;
  const View& input = params.input;
  const View& output = params.output;
  const auto* image = static_cast<const storage_t*>(input.data) + batch * input.batch_stride;
  auto* output_image = static_cast<storage_t*>(output.data) + batch * output.batch_stride;
  const TapRows<Tile> rows(tile, params.geometry, input);
  const bool in_place = located.even && located.step == 1 && located.count == Tile::kSize;
  alignas(64) storage_t staged[Tile::kSize];
  for (int64_t c = channels.begin; c < channels.end; ++c) {
    const auto* plane = image + c * input.channel_stride;
    auto* out = output_image + c * output.channel_stride;
    prefetch_plane(plane, rows);
    if (in_place) {
      prefetch_next_result(out + located.first, Tile::kSize, 1);
      sample_plane<scalar>(plane, tile, rows, out + located.first);
    } else {
      sample_plane<scalar>(plane, tile, rows, staged);
      for (int i = 0; i < located.count; ++i) out[located.at(i)] = staged[i];
    }
  }
}

/// Channels [begin, end) of a tile, lanes over channels, which are innermost in input and output.
template <typename scalar, typename Tile>
void forward_rows(const ForwardParams& params, const Tile& tile, const TileOffsets& located,
                  int64_t batch, int64_t begin, int64_t end) {
  using storage_t = typename scalar::storage_t;
  const auto* image =
      static_cast<const storage_t*>(params.input.data) + batch * params.input.batch_stride;
  auto* output = static_cast<storage_t*>(params.output.data) + batch * params.output.batch_stride;
  const RowPrefetch prefetch(params.geometry, end - begin, sizeof(storage_t), Pass::kForward);
  const bool read_on =
      (end - begin) % 4 == 3 && can_read_on(tile, params.geometry, params.input, batch);
  with_taps_for(tile, end - begin, [&](const auto& taps) {
    sample_rows<scalar, scalar>(image, tile, taps, 0, tile.count, begin, end, read_on, prefetch,
                                [&](int i) { return output + located.at(i); });
  });
}

/// Nearest, from rows.
template <typename storage_t>
void forward_nearest_rows(const ForwardParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.geometry;
  const View& input = params.input;
  const View& output = params.output;
  const int64_t tiles = tile_count(geometry);
  const int64_t block = ceil_div(geometry.channels, params.channel_blocks);
  RowFinder pixels(geometry, input, 0, {0, geometry.input_size[0]}, block, sizeof(storage_t),
                   Pass::kForward);
  // Too little is done for a sample to ask for what the hardware asks for as well.
  const ImagePrefetch prefetch(geometry, input, sizeof(storage_t), true, Pass::kForward,
                               Along::kTiltedRows);
  TileOffsets located;
  int64_t planned = -1;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t which = item / params.channel_blocks;
    const int64_t batch = which / tiles;
    const int64_t t = which % tiles;
    if (which != planned) {
      pixels.find(params.grid, batch, t);
      prefetch(batch, t * kTileSize, pixels.count(), {0, geometry.channels}, pixels.offsets(),
               pixels.count());
      locate_samples(geometry, output, t * kTileSize, pixels.count(), located);
      planned = which;
    }
    const Range channels =
        block_range(geometry.channels, params.channel_blocks, item % params.channel_blocks);
    const auto* image = static_cast<const storage_t*>(input.data) + batch * input.batch_stride;
    auto* out = static_cast<storage_t*>(output.data) + batch * output.batch_stride;
    copy_rows(pixels, image + channels.begin, channels.end - channels.begin,
              [&](int i) { return out + located.at(i) + channels.begin; });
  }
}

/// to[i] = plane[offset[i]], or 0 where the offset is negative; `inside`: none is.
template <typename storage_t>
void copy_pixels(const storage_t* plane, const offset_t* offset, int count, bool inside,
                 storage_t* to) {
  int i = 0;
  if constexpr (kGathers<storage_t>) {
    constexpr int kLanes = kFullLanes<float>;
    if (fast_gathers) {
      for (; i + kLanes <= count; i += kLanes) {
        store_vector<float, kLanes>(to + i, gather_lanes(plane, offset + i));
      }
    }
  }
  // Four at a time: the speed of so short a loop would depend on where in memory its code lies.
  if (inside) {
    GRIDSAMPLE_UNROLL
    for (; i < count; ++i) to[i] = plane[offset[i]];
  } else {
    GRIDSAMPLE_UNROLL
    for (; i < count; ++i) to[i] = offset[i] < 0 ? storage_t(0) : plane[offset[i]];
  }
}

/// Nearest, from planes: each pixel is copied as it is.
template <typename storage_t>
void forward_nearest_planes(const ForwardParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.geometry;
  const View& input = params.input;
  const View& output = params.output;
  const int64_t tiles = tile_count(geometry);
  const int64_t runs = ceil_div(tiles, params.run_tiles);
  const PixelFinder finder(geometry, input, 0, {0, geometry.input_size[0]});
  const ImagePrefetch prefetch(geometry, input, sizeof(storage_t), false, Pass::kForward);
  TileOffsets located;
  alignas(64) offset_t offset[kNearestRun * kTileSize];
  int64_t planned = -1;
  bool inside = true;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t run = item / params.channel_blocks;
    const int64_t batch = run / runs;
    const int64_t first_tile = run % runs * params.run_tiles;
    const int64_t last_tile = std::min(first_tile + params.run_tiles, tiles);
    const int64_t first = first_tile * kTileSize;
    const auto count =
        static_cast<int>(std::min(last_tile * kTileSize, samples_of(geometry, batch)) - first);
    if (run != planned) {
      inside = true;
      for (int64_t t = first_tile; t < last_tile; ++t) {
        inside = finder.find(params.grid, batch, t, offset + (t * kTileSize - first)) && inside;
      }
      planned = run;
    }
    const auto* image = static_cast<const storage_t*>(input.data) + batch * input.batch_stride;
    auto* out = static_cast<storage_t*>(output.data) + batch * output.batch_stride;
    const Range channels =
        block_range(geometry.channels, params.channel_blocks, item % params.channel_blocks);
    prefetch(batch, first, count, channels, offset, count);
    locate_samples(geometry, output, first, std::min(count, kTileSize), located);
    if (located.even && located.step == 1) {
      for (int64_t c = channels.begin; c < channels.end; ++c) {
        const auto* plane = image + c * input.channel_stride;
        copy_pixels(plane, offset, count, inside, out + c * output.channel_stride + located.first);
      }
      continue;
    }
    alignas(64) storage_t staged[kTileSize];
    for (int begun = 0; begun < count; begun += kTileSize) {
      locate_samples(geometry, output, first + begun, std::min(count - begun, kTileSize), located);
      for (int64_t c = channels.begin; c < channels.end; ++c) {
        copy_pixels(image + c * input.channel_stride, offset + begun, located.count, inside,
                    staged);
        auto* to = out + c * output.channel_stride;
        for (int i = 0; i < located.count; ++i) to[located.at(i)] = staged[i];
      }
    }
  }
}

/// `Tile` is a whole tile where lanes go over channels (kRows), or a strip of one.
template <typename scalar, bool kRows, typename Tile>
void forward_items(const ForwardParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.geometry;
  const int64_t tiles = tile_count(geometry);
  const ImagePrefetch prefetch(geometry, params.input, sizeof(typename scalar::storage_t), kRows,
                               Pass::kForward);
  Tile tile(geometry.dims);
  TileOffsets located;
  int64_t planned = -1;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t which = item / params.channel_blocks;
    const int64_t batch = which / tiles;
    const int64_t tile_first = which % tiles * kTileSize;
    const int64_t tile_end = tile_first + tile_samples(geometry, batch, tile_first);
    const Range channels =
        block_range(geometry.channels, params.channel_blocks, item % params.channel_blocks);
    for (int64_t first = tile_first; first < tile_end; first += Tile::kSize) {
      if (!kRows || which != planned) {
        const auto count = static_cast<int>(std::min<int64_t>(Tile::kSize, tile_end - first));
        fill_taps(tile, kNone, geometry, params.grid, batch, first, count, params.input);
        locate_samples(geometry, params.output, first, count, located);
        planned = which;
      }
      prefetch(batch, first, tile.count, channels, tile.axis[1].offset[0], tile.count);
      if constexpr (kRows) {
        forward_rows<scalar>(params, tile, located, batch, channels.begin, channels.end);
      } else {
        forward_planes<scalar>(params, tile, located, batch, channels);
      }
    }
  }
}

/// Item = (batch, block of params.packed_channels channels): the block is packed into the worker's
/// scratch, sampled there as rows, and its results turned back into planes.
template <typename Tile>
void forward_packed_items(const ForwardParams& params, int64_t worker, int64_t begin, int64_t end) {
  using scalar = ScalarOf<compute_t>;
  constexpr int kGroup = 64;           // samples whose results are turned back at once
  constexpr int64_t kMostStaged = 64;  // channels
  const Geometry& geometry = params.geometry;
  const int64_t width = params.packed_channels;
  const int64_t blocks = ceil_div(geometry.channels, width);
  auto* packed =
      static_cast<compute_t*>(params.scratch) + worker * packed_elements(geometry, width);
  alignas(64) compute_t staged[kGroup * kMostStaged];
  Tile tile(geometry.dims);
  TileOffsets located;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t batch = item / blocks;
    const int64_t channel = item % blocks * width;
    const int64_t count = std::min(width, geometry.channels - channel);
    const View view = packed_view(packed, geometry, count);
    const RowPrefetch prefetch(geometry, count, sizeof(compute_t), Pass::kForward);
    pack_image(params.input, geometry, batch, channel, static_cast<int>(count), packed);
    for (int64_t first = 0; first < geometry.samples; first += kTileSize) {
      fill_taps(tile, kNone, geometry, params.grid, batch, first,
                tile_samples(geometry, batch, first), view);
      locate_samples(geometry, params.output, first, tile.count, located);
      with_taps_for(tile, count, [&](const auto& taps) {
        for (int group = 0; group < tile.count; group += kGroup) {
          const int last = std::min(group + kGroup, tile.count);
          for (int64_t c = 0; c < count; c += kMostStaged) {
            const int64_t staged_channels = std::min(kMostStaged, count - c);
            sample_rows<scalar, scalar>(
                packed + c, tile, taps, group, last, 0, staged_channels, false, prefetch,
                [&](int i) { return staged + (i - group) * staged_channels; });
            store_rows(params.output, batch, channel + c, static_cast<int>(staged_channels),
                       located, group, last, staged, staged_channels);
          }
        }
      });
    }
  }
}

void forward_packed(const ForwardParams& params, int64_t worker, int64_t begin, int64_t end) {
  dispatch_tile(params.geometry, [&]<typename Tile>() {
    if constexpr (!ModeTraits<Tile::kMode>::kCopies) {  // which packing does not help
      forward_packed_items<Tile>(params, worker, begin, end);
    }
  });
}

void forward(const ForwardParams& params, int64_t begin, int64_t end) {
  if (copies_pixels(params.geometry.mode)) {
    return dispatch_size(params.input.dtype, [&]<typename storage_t>() {
      reads_rows(params) ? forward_nearest_rows<storage_t>(params, begin, end)
                         : forward_nearest_planes<storage_t>(params, begin, end);
    });
  }
  dispatch_image_dtype(params.input.dtype, [&]<typename scalar>() {
    dispatch_tile(params.geometry, [&]<typename Tile>() {
      if constexpr (ModeTraits<Tile::kMode>::kCopies) {
        return;
      } else if (reads_rows(params)) {
        forward_items<scalar, true, Tile>(params, begin, end);
      } else {
        forward_items<scalar, false, typename Tile::Strip>(params, begin, end);
      }
    });
  });
}

extern const ForwardKernels forward_kernels;
const ForwardKernels forward_kernels{forward, forward_packed, forward_in_registers};

GRIDSAMPLE_NAMESPACE_END
