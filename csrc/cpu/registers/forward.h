#pragma once

// The forward pass of images of few channels: coordinates, taps and pixels of a vector of samples
// in one go, in registers. A tile's taps in memory cost more than so few channels can share.

#include "cpu/pixels/prefetch.h"
#include "cpu/registers/grid.h"
#include "cpu/registers/pixels.h"
#include "cpu/registers/short_rows.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Calls function(batch, first, count) for runs of samples of one image or group of images each,
/// which make up items [begin, end).
template <typename F>
GRIDSAMPLE_INLINE void for_runs(const ForwardParams& params, int64_t begin, int64_t end,
                                const F& function) {
  const Geometry& geometry = params.geometry;
  const int64_t samples = geometry.samples;
  const int64_t run = params.run_tiles * kTileSize;
  const int64_t last = std::min(end * run, geometry.batch * samples - geometry.missing_samples);
  for (int64_t next = begin * run; next < last;) {
    const int64_t batch = next / samples;
    const int64_t first = next - batch * samples;
    const int64_t count = std::min(samples - first, last - next);
    function(batch, first, count);
    next += count;
  }
}

/// out[c * out_stride + l] of the channels of a vector of samples, kWidth of them side by side.
template <Mode kMode, int kWidth, typename Row>
GRIDSAMPLE_INLINE void sample_channels(const LaneTaps<kMode>& taps, int v, int64_t channels,
                                       const Row& row, compute_t* out, int64_t out_stride) {
  for (int64_t c = 0; c < channels; c += kWidth) {
    SampleLanes sum[kWidth];
    interpolate_lanes<kMode, kWidth>(
        taps, v, [&](int ky, auto& pixel) GRIDSAMPLE_INLINE_LAMBDA { row(c, ky, pixel); }, sum);
    if constexpr (kWidth == 2) put_together<compute_t, kSampleLanes>(sum);
    GRIDSAMPLE_UNROLL
    for (int n = 0; n < kWidth; ++n) {
      store_vector<compute_t, kSampleLanes>(out + c * out_stride + n * kSampleLanes, sum[n]);
    }
  }
}

/// Samples [first, first + count) of the output, from staged[c * kSampleLanes + l], or from kWidth
/// channels side by side.
template <int kWidth>
GRIDSAMPLE_NOINLINE void store_staged(const ForwardParams& params, int64_t batch, int64_t first,
                                      int count, const compute_t* staged) {
  const View& output = params.output;
  TileOffsets located;
  locate_samples(params.geometry, output, first, count, located);
  for (int64_t c = 0; c < params.geometry.channels; ++c) {
    auto* to = static_cast<compute_t*>(output.data) + batch * output.batch_stride +
               c * output.channel_stride;
    for (int l = 0; l < count; ++l) {
      to[located.at(l)] = staged[kWidth == 1 ? c * kSampleLanes + l : l * kWidth + c];
    }
  }
}

/// Some taps are outside.
template <Padding kPadding, int kWidth, Mode kMode>
GRIDSAMPLE_NOINLINE void sample_at_edges(const LaneTaps<kMode>& taps, int v,
                                         const LaneImage& places, const compute_t* image,
                                         int64_t channel_stride, int64_t channels, compute_t* out,
                                         int64_t out_stride) {
  constexpr int kTaps = kTapsPerAxis<kMode>;
  const EdgePlaces<kMode, kPadding> edge(taps, v, places);
  sample_channels<kMode, kWidth>(
      taps, v, channels,
      [&](int64_t c, int ky, SampleLanes(&pixel)[kWidth][kTaps]) GRIDSAMPLE_INLINE_LAMBDA {
        load_edge_row<kWidth>(edge, image + c * channel_stride, ky, pixel);
      },
      out, out_stride);
}

/// Samples [first, first + run) of one image of the batch, or of a group of images. Which samples
/// are beside each other depends on the number of threads; the bits of a sample do not depend on
/// those beside it.
template <Mode kMode, Padding kPadding, int kWidth>
GRIDSAMPLE_NOINLINE void sample_run(const ForwardParams& params, const LaneImage& places,
                                    const GridLanes& grid, const ImagePrefetch& prefetch,
                                    bool side_by_side, int64_t batch, int64_t first, int64_t run) {
  constexpr int kTaps = kTapsPerAxis<kMode>;
  const View& input = params.input;
  const View& output = params.output;
  const int64_t channels = params.geometry.channels;
  const int64_t channel_stride = input.channel_stride;
  const auto* image = static_cast<const compute_t*>(input.data) + batch * input.batch_stride;
  auto* output_image = static_cast<compute_t*>(output.data) + batch * output.batch_stride;
  alignas(64) compute_t staged[kMostRegisterChannels * kSampleLanes];

  const auto sample_vector = [&](LaneTaps<kMode>& taps, int v, compute_t* out,
                                 int64_t out_stride) GRIDSAMPLE_INLINE_LAMBDA {
    if constexpr (kWidth > 2) {
      return taps.inside[v]
                 ? sample_short_rows<kWidth>(taps, v, places, image, out)
                 : sample_short_rows_at_edges<kPadding, kWidth>(taps, v, places, image, out);
    } else if (kTaps > 1 && !taps.inside[v]) [[unlikely]] {
      return sample_at_edges<kPadding, kWidth>(taps, v, places, image, channel_stride, channels,
                                               out, out_stride);
    } else
      sample_channels<kMode, kWidth>(
          taps, v, channels,
          [&](int64_t c, int ky, SampleLanes(&pixel)[kWidth][kTaps]) GRIDSAMPLE_INLINE_LAMBDA {
            GRIDSAMPLE_TO_MEMORY(taps.offset[v]);
            load_lane_row<kTaps, kWidth>(image + c * channel_stride + ky * places.stride[1],
                                         taps.offset[v], pixel);
            if constexpr (kTaps == 1) {
              for (auto& lanes : pixel) lanes[0] = taps.or_zero(v, lanes[0]);
            }
          },
          out, out_stride);
  };

  // The taps of the next numbers are computed before the pixels of these are read: reads whose
  // addresses are known for long hold up nothing.
  LaneTaps<kMode> both[2];
  GridLanes::Ahead<kTileSize> ahead;
  // The last numbers may overlap those before: to sample them again is quicker than to sample few.
  const auto start_of = [&](int64_t next) GRIDSAMPLE_INLINE_LAMBDA {
    return std::max<int64_t>(std::min(next, run - kNumbers), 0);
  };
  for (int64_t next = 0; next < run + kNumbers; next += kNumbers) {
    if (next < run) {
      Numbers coordinates[2];
      SampleLanes slope[2][kNumbersVectors];
      const int64_t count = std::min<int64_t>(run, kNumbers);
      LaneTaps<kMode>& taps = both[next / kNumbers % 2];
      grid.load(batch, first + start_of(next), static_cast<int>(count), coordinates, ahead);
      taps.template fill<kPadding>(coordinates, places, slope);
      if (params.geometry.images_per_group > 1) [[unlikely]] {
        taps.find_images(params.geometry, input, batch, first + start_of(next));
      }
      prefetch(batch, first + next, static_cast<int>(count), {0, channels}, taps.offset[0],
               static_cast<int>(count));
    }
    const int64_t now = next - kNumbers;
    if (now < 0) continue;
    for (auto v = static_cast<int>((now - start_of(now)) / kSampleLanes); v < kNumbersVectors;
         ++v) {
      const int64_t done = start_of(now) + v * kSampleLanes;
      const auto count = static_cast<int>(std::min<int64_t>(run - done, kSampleLanes));
      if (count <= 0) break;
      LaneTaps<kMode>& taps = both[now / kNumbers % 2];
      const bool in_place = side_by_side && count == kSampleLanes;
      compute_t* to = output_image + (first + done) * kWidth;  // if they are side by side
      sample_vector(taps, v, in_place ? to : staged,
                    in_place ? output.channel_stride : kSampleLanes);
      if (in_place) [[likely]]
        continue;
      if (!side_by_side) {
        store_staged<kWidth>(params, batch, first + done, count, staged);
        continue;
      }
      for (int64_t c = 0; c < channels; c += kWidth) {
        std::memcpy(to + c * output.channel_stride, staged + c * kSampleLanes,
                    sizeof(compute_t) * static_cast<size_t>(count * kWidth));
      }
    }
  }
}

template <Mode kMode, Padding kPadding, int kWidth>
void sample_in_registers(const ForwardParams& params, int64_t begin, int64_t end) {
  const LaneImage places(params.geometry, params.input, kTapsPerAxis<kMode>, kWidth == 3);
  const GridLanes grid(params.geometry, params.grid);
  const ImagePrefetch prefetch(params.geometry, params.input, sizeof(compute_t), kWidth > 1,
                               Pass::kForward);
  TileOffsets located;
  locate_samples(params.geometry, params.output, 0, 1, located);
  const bool side_by_side = located.even && located.step == kWidth;
  for_runs(params, begin, end, [&](int64_t batch, int64_t first, int64_t run) {
    sample_run<kMode, kPadding, kWidth>(params, places, grid, prefetch, side_by_side, batch, first,
                                        run);
  });
}

/// For the modes and types that plan_forward says.
inline void forward_in_registers(const ForwardParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.geometry;
  dispatch_mode(geometry.mode, [&]<Mode kMode>() {
    if constexpr (kIsFloat && kTapsPerAxis<kMode> <= kMostRegisterTaps) {
      dispatch_lane_padding(geometry, [&]<Padding kPadding>() {
        switch (reads_rows(params) ? geometry.channels : 1) {
          case 1:
            return sample_in_registers<kMode, kPadding, 1>(params, begin, end);
          case 2:
            return sample_in_registers<kMode, kPadding, 2>(params, begin, end);
        }
        if constexpr (kTapsPerAxis<kMode> > 1) {
          geometry.channels == 3 ? sample_in_registers<kMode, kPadding, 3>(params, begin, end)
                                 : sample_in_registers<kMode, kPadding, 4>(params, begin, end);
        }
      });
    }
  });
}

GRIDSAMPLE_NAMESPACE_END
