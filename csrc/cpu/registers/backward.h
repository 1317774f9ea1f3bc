#pragma once

// Both gradients of images of few channels in planes, bilinear: as forward.h, by strips. Operations
// have the order of those on tiles (kernels/grad_input.h, kernels/grad_grid.h), so that it does not
// matter to a result which of them computes it.

#include "cpu/registers/grid.h"
#include "cpu/registers/pixels.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// A strip of samples: its taps, and their gradients.
struct Strip {
  static constexpr Mode kMode = Mode::kBilinear;
  static constexpr int kBlocks = kStripSize / kNumbers;

  int64_t batch;
  int64_t first;
  int count;
  bool all_inside;  // and a whole strip
  LaneTaps<kMode> taps[kBlocks];
  SampleLanes slope[kBlocks][2][kNumbersVectors];
  const compute_t* grad;  // [channel][sample]
  int64_t grad_stride;
  alignas(64) compute_t staged[kMostRegisterChannels][kStripSize];

  GRIDSAMPLE_INLINE int blocks() const {
    return std::min(static_cast<int>(ceil_div(count, kNumbers)), kBlocks);
  }

  /// The last row of pixels that a tap may be in.
  GRIDSAMPLE_INLINE int64_t last_row() const {
    OffsetLanes most = taps[0].axis[1].first[0];
    for (int b = 0; b < blocks(); ++b) {
      GRIDSAMPLE_UNROLL
      for (int v = 0; v < kNumbersVectors; ++v) {
        const OffsetLanes& y = taps[b].axis[1].first[v];
        most = y > most ? y : most;
      }
    }
    offset_t last = most[0];
    for (int l = 1; l < kSampleLanes; ++l) last = std::max(last, most[l]);
    return last + 1;
  }
};

/// Both gradients of strips, for a padding of both axes, or kByAxis. Its functions read what they
/// need into locals first: what they store might change it, as far as the compiler knows.
template <Padding kPadding>
class StripGradients {
 public:
  static constexpr Mode kMode = Strip::kMode;

  StripGradients(const GradInputParams& to_input, const GradGridParams& to_grid)
      : to_input_(to_input),
        to_grid_(to_grid),
        places_(to_input.geometry, to_input.grad_input, 2, false),
        grid_(to_input.geometry, to_input.grid) {
    TileOffsets located;
    locate_samples(to_input.geometry, to_input.grad_output, 0, 1, located);
    reads_in_place_ =
        to_input.grad_output.dtype == kDTypeOf<compute_t> && located.even && located.step == 1;
    locate_samples(to_input.geometry, to_grid.grad_grid, 0, 1, located);
    const GradGridView& target = to_grid.grad_grid;
    const bool stores_alone = target.affine_sums == nullptr && target.dtype == kDTypeOf<compute_t>;
    writes_in_place_ = stores_alone && is_interleaved(target, located, 2);
    writes_planes_ = stores_alone && located.even && located.step == 1;
  }

  /// Samples [first, first + count) of one image of the batch, or of a group of images.
  void plan(int64_t batch, int64_t first, int count, Strip& strip) const {
    const LaneImage places = places_;
    const GridLanes grid = grid_;
    strip.batch = batch;
    strip.first = first;
    strip.count = count;
    bool all_inside = count == kStripSize;
    for (int b = 0; b * kNumbers < count; ++b) {
      Numbers coordinates[2];
      grid.load(batch, first + b * kNumbers, std::min(count - b * kNumbers, kNumbers), coordinates,
                ahead_);
      strip.taps[b].template fill<kPadding>(coordinates, places, strip.slope[b]);
      if (to_input_.geometry.images_per_group > 1) [[unlikely]] {
        strip.taps[b].find_images(to_input_.geometry, to_input_.grad_input, batch,
                                  first + b * kNumbers);
      }
      GRIDSAMPLE_UNROLL
      for (int v = 0; v < kNumbersVectors; ++v) all_inside = all_inside && strip.taps[b].inside[v];
    }
    strip.all_inside = all_inside;
    if (!reads_in_place_ || count < kStripSize) [[unlikely]] {
      return load_grad_output(strip);
    }
    const View& source = to_input_.grad_output;
    strip.grad = static_cast<const compute_t*>(source.data) + batch * source.batch_stride + first;
    strip.grad_stride = source.channel_stride;
    for (int64_t c = 0; c < to_input_.geometry.channels; ++c) {
      prefetch_next_tile(strip.grad + c * strip.grad_stride, kStripSize, 1);
    }
  }

  /// grad_grid of a strip.
  void differentiate(Strip& strip) const {
    const View& input = to_grid_.input;
    const GradGridView& target = to_grid_.grad_grid;
    const Image image{static_cast<const compute_t*>(input.data) + strip.batch * input.batch_stride,
                      input.channel_stride, places_.stride[1],
                      static_cast<int>(to_input_.geometry.channels)};
    const bool in_place = writes_in_place_ && strip.count == kStripSize;
    auto* to =
        static_cast<compute_t*>(target.data) + strip.batch * target.batch_stride + 2 * strip.first;
    const int count = strip.count;
    if (in_place) prefetch_next_result(to, kStripSize, 2);
    alignas(64) PerAxis<kStripSize> sums;
    const bool in_planes = writes_planes_ && strip.count == kStripSize;
    compute_t* planes[2] = {sums[0], sums[1]};
    if (in_planes) {
      for (int a = 0; a < 2; ++a) {
        planes[a] = static_cast<compute_t*>(target.data) + strip.batch * target.batch_stride +
                    a * target.channel_stride + strip.first;
        prefetch_next_result(planes[a], kStripSize, 1);
      }
    }
    for (int i = 0; i < count; i += kSampleLanes) {
      const int b = i / kNumbers;
      const int v = i % kNumbers / kSampleLanes;
      SampleLanes d[2];
      if (strip.taps[b].inside[v]) [[likely]] {
        differentiate_vector(strip, b, v, image, d);
      } else {
        differentiate_at_edges(strip, b, v, image, d);
      }
      if (in_place) {
        put_together<compute_t, kSampleLanes>(d);
        store_vector<compute_t, kSampleLanes>(to + 2 * i, d[0]);
        store_vector<compute_t, kSampleLanes>(to + 2 * i + kSampleLanes, d[1]);
      } else {
        for (int a = 0; a < 2; ++a) store_vector<compute_t, kSampleLanes>(planes[a] + i, d[a]);
      }
    }
    if (!in_place && !in_planes) {
      const Geometry& geometry = to_input_.geometry;
      add_affine_sums(geometry, target, strip.batch, strip.first, count, sums);
      store(geometry, target, strip.batch, strip.first, count, sums);
    }
  }

  /// Adds to grad_input at the taps in some rows of pixels; crosses: there may be taps in others.
  void scatter(const Strip& strip, int64_t input_batch, Range rows, bool crosses) const {
    const View& target = to_input_.grad_input;
    auto* image = static_cast<compute_t*>(target.data) + input_batch * target.batch_stride;
    const int64_t channels = to_input_.geometry.channels;
    const int64_t channel_stride = target.channel_stride;
    // A row's weights side by side.
    alignas(64) compute_t weight[2][kStripSize][2];
    alignas(64) offset_t first[kStripSize];
    for (int b = 0; b < strip.blocks(); ++b) {
      const LaneTaps<kMode>& taps = strip.taps[b];
      GRIDSAMPLE_UNROLL
      for (int v = 0; v < kNumbersVectors; ++v) {
        const int i = b * kNumbers + v * kSampleLanes;
        std::memcpy(first + i, taps.offset[v], sizeof(taps.offset[v]));
        GRIDSAMPLE_UNROLL
        for (int ky = 0; ky < 2; ++ky) {
          SampleLanes w[2] = {taps.axis[1].weight[ky][v] * taps.axis[0].weight[0][v],
                              taps.axis[1].weight[ky][v] * taps.axis[0].weight[1][v]};
          put_together<compute_t, kSampleLanes>(w);
          store_vector<compute_t, kSampleLanes>(weight[ky][i], w[0]);
          store_vector<compute_t, kSampleLanes>(weight[ky][i] + kSampleLanes, w[1]);
        }
      }
    }
    if (strip.all_inside && !crosses) [[likely]] {
      for (int64_t c = 0; c < channels; ++c) {
        add_rows(image + c * channel_stride, places_.stride[1], strip.grad + c * strip.grad_stride,
                 first, weight);
      }
      return;
    }
    alignas(64) offset_t offset[2][2][kStripSize];
    find_offsets(strip, static_cast<offset_t>(rows.begin), static_cast<offset_t>(rows.end), offset);
    for (int64_t c = 0; c < channels; ++c) {
      add_taps(image + c * channel_stride, strip.count, strip.grad + c * strip.grad_stride, offset,
               weight);
    }
  }

 private:
  // Samples so far from each other are added one after the other: neighbours hit the same pixels,
  // and an addition to a pixel waits for the one before.
  static constexpr int kStrands = 8;
  static constexpr int kLength = kStripSize / kStrands;

  /// Planes of channels.
  struct Image {
    const compute_t* data;
    int64_t channel_stride;
    int64_t row_stride;
    int channels;
  };

  GRIDSAMPLE_NOINLINE void load_grad_output(Strip& strip) const {
    const View& source = to_input_.grad_output;
    TileOffsets located;
    locate_samples(to_input_.geometry, source, strip.first, strip.count, located);
    for (int64_t c = 0; c < to_input_.geometry.channels; ++c) {
      load_samples(source, strip.batch * source.batch_stride + c * source.channel_stride, located,
                   strip.staged[c]);
    }
    strip.grad = strip.staged[0];
    strip.grad_stride = kStripSize;
  }

  /// d[a] = the derivative along axis a of vector v of block b; row(c, ky, pixel) gives a row of
  /// pixels of channel c.
  template <typename Row>
  static GRIDSAMPLE_INLINE void sum_derivatives(const Strip& strip, int b, int v, int channels,
                                                const Row& row, const SampleLanes (&slope)[2],
                                                SampleLanes (&d)[2]) {
    const LaneTaps<kMode>& taps = strip.taps[b];
    const compute_t* grads = strip.grad + b * kNumbers + v * kSampleLanes;
    const int64_t grad_stride = strip.grad_stride;
    SampleLanes sums[2]{};
    for (int c = 0; c < channels; ++c) {
      SampleLanes along[2]{};
      GRIDSAMPLE_UNROLL
      for (int ky = 0; ky < 2; ++ky) {
        SampleLanes pixel[1][2];
        row(c, ky, pixel);
        SampleLanes sum_x{};
        GRIDSAMPLE_UNROLL
        for (int kx = 0; kx < 2; ++kx) {
          sum_x = multiply_add_vector<compute_t, kSampleLanes>(taps.axis[0].weight[kx][v],
                                                               pixel[0][kx], sum_x);
        }
        along[0] = multiply_add_vector<compute_t, kSampleLanes>(
            taps.axis[1].weight[ky][v], pixel[0][1] - pixel[0][0], along[0]);
        along[1] = ky == 0 ? -sum_x : along[1] + sum_x;
      }
      const auto grad = load_vector<compute_t, kSampleLanes>(grads + c * grad_stride);
      GRIDSAMPLE_UNROLL
      for (int a = 0; a < 2; ++a) {
        sums[a] = multiply_add_vector<compute_t, kSampleLanes>(grad, along[a], sums[a]);
      }
    }
    GRIDSAMPLE_UNROLL
    for (int a = 0; a < 2; ++a) {
      // As apply_slopes.
      d[a] = (slope[a] == 0 ? slope[a] : slope[a] * sums[a]) + compute_t(0);
    }
  }

  static GRIDSAMPLE_INLINE void differentiate_vector(Strip& strip, int b, int v, const Image& image,
                                                     SampleLanes (&d)[2]) {
    auto& offset = strip.taps[b].offset[v];
    const SampleLanes slope[2] = {strip.slope[b][0][v], strip.slope[b][1][v]};
    sum_derivatives(
        strip, b, v, image.channels,
        [&](int c, int ky, SampleLanes(&pixel)[1][2]) GRIDSAMPLE_INLINE_LAMBDA {
          GRIDSAMPLE_TO_MEMORY(offset);
          load_lane_row<2, 1>(image.data + c * image.channel_stride + ky * image.row_stride, offset,
                              pixel);
        },
        slope, d);
  }

  GRIDSAMPLE_NOINLINE void differentiate_at_edges(const Strip& strip, int b, int v,
                                                  const Image& image, SampleLanes (&d)[2]) const {
    const EdgePlaces<kMode, kPadding> edge(strip.taps[b], v, places_);
    // A sample without a pixel has a gradient of exactly 0.
    const MaskLanes any = edge.valid[0][0] | edge.valid[0][1] | edge.valid[1][0] | edge.valid[1][1];
    const SampleLanes slope[2] = {(SampleLanes)((MaskLanes)strip.slope[b][0][v] & any),
                                  (SampleLanes)((MaskLanes)strip.slope[b][1][v] & any)};
    sum_derivatives(
        strip, b, v, image.channels,
        [&](int c, int ky, SampleLanes(&pixel)[1][2]) GRIDSAMPLE_INLINE_LAMBDA {
          load_edge_row<1>(edge, image.data + c * image.channel_stride, ky, pixel);
        },
        slope, d);
  }

  /// All taps of all samples are inside.
  static GRIDSAMPLE_NOINLINE void add_rows(compute_t* plane, int64_t row_stride,
                                           const compute_t* grad,
                                           const offset_t (&first)[kStripSize],
                                           const compute_t (&weight)[2][kStripSize][2]) {
    for (int j = 0; j < kLength; ++j) {
      GRIDSAMPLE_UNROLL_16
      for (int i = j; i < kStripSize; i += kLength) {
        compute_t* row = plane + first[i];
        const auto factor = broadcast<compute_t, kPairLanes<compute_t>>(grad[i]);
        GRIDSAMPLE_UNROLL
        for (int ky = 0; ky < 2; ++ky) {
          compute_t* pair = row + ky * row_stride;
          store_pair(pair, multiply_add_vector<compute_t, kPairLanes<compute_t>>(
                               factor, load_pair(weight[ky][i]), load_pair(pair)));
        }
      }
    }
  }

  /// offset[ky][kx] of the taps inside the image and rows [begin, end) of it, kOutside of others.
  GRIDSAMPLE_NOINLINE void find_offsets(const Strip& strip, offset_t begin, offset_t end,
                                        offset_t (&offset)[2][2][kStripSize]) const {
    const LaneImage places = places_;
    for (int b = 0; b < strip.blocks(); ++b) {
      for (int v = 0; v < kNumbersVectors; ++v) {
        const int i = b * kNumbers + v * kSampleLanes;
        const auto image = load_vector<offset_t, kSampleLanes>(strip.taps[b].image[v]);
        for (int ky = 0; ky < 2; ++ky) {
          OffsetLanes y = strip.taps[b].axis[1].first[v] + ky;
          if constexpr (kPadding == kByAxis) y = places.wrapped(1, y);
          for (int kx = 0; kx < 2; ++kx) {
            OffsetLanes x = strip.taps[b].axis[0].first[v] + kx;
            if constexpr (kPadding == kByAxis) x = places.wrapped(0, x);
            const OffsetLanes outside = (x < 0) | (x >= places.size[0]) | (y < begin) | (y >= end);
            store_vector<offset_t, kSampleLanes>(
                offset[ky][kx] + i,
                (x * places.stride[0] + y * places.stride[1] + image) | outside);
          }
        }
      }
    }
  }

  static GRIDSAMPLE_NOINLINE void add_taps(compute_t* plane, int count, const compute_t* grad,
                                           const offset_t (&offset)[2][2][kStripSize],
                                           const compute_t (&weight)[2][kStripSize][2]) {
    for (int j = 0; j < kLength; ++j) {
      for (int i = j; i < count; i += kLength) {
        GRIDSAMPLE_UNROLL
        for (int ky = 0; ky < 2; ++ky) {
          GRIDSAMPLE_UNROLL
          for (int kx = 0; kx < 2; ++kx) {
            if (offset[ky][kx][i] < 0) continue;
            compute_t& pixel = plane[offset[ky][kx][i]];
            pixel = multiply_add(grad[i], weight[ky][i][kx], pixel);
          }
        }
      }
    }
  }

  const GradInputParams& to_input_;
  const GradGridParams& to_grid_;
  const LaneImage places_;
  const GridLanes grid_;
  mutable GridLanes::Ahead<kTileSize> ahead_;
  bool reads_in_place_;
  bool writes_in_place_;  // coordinates side by side
  bool writes_planes_;    // one plane for each coordinate
};

GRIDSAMPLE_NAMESPACE_END
