#pragma once

// Plain loops over images of any type, strides and size: one sample after the other, the pixels
// under its taps converted as they are read. For calls of few samples on a large image that the
// other kernels could not read as it is, since this work does not grow with the image, and for
// images whose planes are too large for the other kernels' offsets. And for samples that read
// values of their own outside the image. Modes are template parameters for their numbers of taps.
// An image is a volume of one plane, whose tap has the weight 1 and no derivative. And
// spline_filter, which has vectors of its own (cpu/pixels/lines.h).

#include "cpu/kernels/dispatch.h"
#include "cpu/kernels/table.h"
#include "cpu/pixels/lines.h"
#include "cpu/taps/plain_taps.h"
#include "cpu/taps/tap_tile.h"
#include "math/labels.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Calls visit(batch, sample) for those of items [begin, end); where the kernel finishes what
/// others have begun, for those with a tap outside the image, or excluded from it.
template <Mode kMode, typename F>
void for_samples(const PlainParams& params, int64_t begin, int64_t end, const F& visit) {
  const Geometry& geometry = params.geometry;
  if (!params.finishes) {
    for (int64_t item = begin; item < end; ++item) {
      visit(item / geometry.samples, item % geometry.samples);
    }
    return;
  }
  using Tile = TapTile<kMode, kAnyDims>;
  Tile tile(geometry.dims);
  const int64_t tiles = tile_count(geometry);
  View positions;
  std::fill_n(positions.stride, kMaxDims, int64_t(1));
  for (int64_t item = begin; item < end; ++item) {
    const int64_t batch = item / tiles;
    const int64_t first = item % tiles * kTileSize;
    fill_taps(tile, kNone, geometry, params.grid, batch, first,
              tile_samples(geometry, batch, first), positions);
    for (int i = 0; i < tile.count; ++i) {
      if (tile.outside[i] < 0) visit(batch, first + i);
    }
  }
}

/// An element of a view as it is.
inline void* element_at(const View& view, int64_t offset) {
  return static_cast<char*>(view.data) + offset * size_of(view.dtype);
}

/// Nearest copies elements of any type.
inline void plain_nearest_items(const PlainParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.geometry;
  const View& input = params.input;
  const View& output = params.output;
  const auto bytes = static_cast<size_t>(size_of(output.dtype));
  const PlainAxes axes(geometry);
  PlainTaps<Mode::kNearest> taps;
  for_samples<Mode::kNearest>(params, begin, end, [&](int64_t batch, int64_t sample) {
    find_taps(geometry, axes, params.grid, batch, sample, taps);
    if (params.finishes && !(taps.filled || taps.excluded)) return;
    const Element& own = taps.excluded ? params.outside_value : params.fill_value;
    const int64_t out = sample_offset(geometry, output, batch, sample);
    const int64_t pixel = batch * input.batch_stride + tap_offset(taps, input, 0, 0, 0);
    for (int64_t c = 0; c < geometry.channels; ++c) {
      const void* from =
          taps.inside ? element_at(input, pixel + c * input.channel_stride) : own.bytes;
      std::memcpy(element_at(output, out + c * output.channel_stride), from, bytes);
    }
  });
}

/// The output, or with tangent_grid its derivative along both directions.
template <Mode kMode>
void plain_output_items(const PlainParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.geometry;
  const View& input = params.input;
  const View& tangent = params.tangent_input;
  const bool moves = params.tangent_grid.data != nullptr;
  const PlainAxes axes(geometry);
  PlainTaps<kMode> taps;
  MovedTaps<PlainTaps<kMode>::kTaps> moved;
  for_samples<kMode>(params, begin, end, [&](int64_t batch, int64_t sample) {
    find_taps(geometry, axes, params.grid, batch, sample, taps);
    if (params.finishes && !(taps.filled || taps.excluded)) return;
    if (moves) move_taps(params, taps, batch, sample, moved);
    const int64_t out = sample_offset(geometry, params.output, batch, sample);
    for (int64_t c = 0; c < geometry.channels; ++c) {
      const int64_t first = batch * input.batch_stride + c * input.channel_stride;
      const int64_t to = out + c * params.output.channel_stride;
      compute_t sum = compute_t(0);
      if (!taps.inside) {
        const double own = taps.excluded ? *geometry.outside_value : geometry.fill_value;
        if (!moves) sum = static_cast<compute_t>(own);
      } else if (moves) {
        const int64_t tangent_first = batch * tangent.batch_stride + c * tangent.channel_stride;
        for (int t = 0; t < moved.count; ++t) {
          const auto& tap = moved.tap[t];
          if (tangent.data != nullptr && tap.offset != kFilled) {
            const compute_t change = load_value(tangent, tangent_first + tap.tangent_offset);
            sum = multiply_add(tap.weight.value, change, sum);
          }
          if (taps.moves()) {
            sum = multiply_add(tap.weight.dot, read_moved(params, taps, tap, first), sum);
          }
        }
      } else {
        compute_t unused[kMaxDims];
        sum = contract<false>(taps, input, first, unused);
      }
      store_value(params.output, to, sum);
    }
  });
}

/// sums[a] += grad_output * d output / d coordinate, or with `moved` the derivative of that along
/// both directions, over all channels of one image.
template <Mode kMode>
void add_derivatives(const PlainParams& params, const PlainTaps<kMode>& taps,
                     const MovedTaps<PlainTaps<kMode>::kTaps>* moved, int64_t batch, int64_t sample,
                     compute_t (&sums)[kMaxDims]) {
  const View& input = params.input;
  const View& tangent = params.tangent_input;
  const int64_t source = sample_offset(params.geometry, params.grad_output, batch, sample);
  for (int64_t c = 0; c < params.geometry.channels; ++c) {
    const int64_t first = batch * input.batch_stride + c * input.channel_stride;
    const int64_t tangent_first = batch * tangent.batch_stride + c * tangent.channel_stride;
    compute_t d[kMaxDims] = {};
    if (moved == nullptr) {
      contract<true>(taps, input, first, d);
    } else {
      for (int t = 0; t < moved->count; ++t) {
        const auto& tap = moved->tap[t];
        if (tangent.data != nullptr && tap.offset != kFilled) {
          const compute_t change = load_value(tangent, tangent_first + tap.tangent_offset);
          for (int a = 0; a < kMaxDims; ++a) {
            d[a] = multiply_add(tap.derivative[a].value, change, d[a]);
          }
        }
        const compute_t pixel = read_moved(params, taps, tap, first);
        for (int a = 0; a < kMaxDims; ++a) d[a] = multiply_add(tap.derivative[a].dot, pixel, d[a]);
      }
    }
    const compute_t grad =
        load_value(params.grad_output, source + c * params.grad_output.channel_stride);
    for (int a = 0; a < kMaxDims; ++a) sums[a] = multiply_add(grad, d[a], sums[a]);
  }
}

/// The gradient by grid of the output, or with tangent_grid of <tangent_input, grad_input> +
/// <tangent_grid, grad_grid>.
template <Mode kMode>
void plain_grad_grid_items(const PlainParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.geometry;
  const View& target = params.grad_grid;
  const PlainAxes axes(geometry);
  PlainTaps<kMode> taps;
  MovedTaps<PlainTaps<kMode>::kTaps> moved;
  const bool curved = params.tangent_grid.data != nullptr;
  for_samples<kMode>(params, begin, end, [&](int64_t grid_batch, int64_t sample) {
    find_taps(geometry, axes, params.grid, grid_batch, sample, taps);
    if (params.finishes && !(taps.filled && taps.inside)) return;
    if (curved) move_taps(params, taps, grid_batch, sample, moved);
    compute_t sums[kMaxDims] = {};
    const Range images = batches_of(geometry, params.grid_batch, grid_batch);
    for (int64_t batch = images.begin; taps.moves() && batch < images.end; ++batch) {
      add_derivatives(params, taps, curved ? &moved : nullptr, batch, sample, sums);
    }
    const int64_t at = sample_offset(geometry, target, grid_batch, sample);
    for (int a = 0; a < geometry.dims; ++a) {
      // Never -0, as in grad_grid.h.
      store_value(target, at + a * target.channel_stride,
                  move_along(taps.slope[a], sums[a]) + compute_t(0));
    }
  });
}

/// Calls each(pixel, weight) for what a sample adds to grad_input: weight * grad_output at each of
/// its taps inside, W or with tangent_grid the derivative of that along it. Pixels are offsets in
/// the first channel of the first image.
template <Mode kMode>
class Contributions {
 public:
  explicit Contributions(const PlainParams& params) : params_(params), axes_(params.geometry) {}

  template <typename F>
  void for_each(int64_t batch, int64_t sample, const F& each) {
    const View& target = params_.input;
    const int64_t first = batch * target.batch_stride;
    find_taps(params_.geometry, axes_, params_.grid, batch, sample, taps_);
    if (!taps_.inside) return;
    if (params_.tangent_grid.data == nullptr) {
      for_taps(taps_, [&](int x, int y, int z) {
        if (!is_inside(taps_, x, y, z)) return;
        each(first + tap_offset(taps_, target, x, y, z),
             taps_.weight[2][z] * taps_.weight[1][y] * taps_.weight[0][x]);
      });
    } else if constexpr (ModeTraits<kMode>::kSmooth) {
      if (!taps_.moves()) return;
      move_taps(params_, taps_, batch, sample, moved_);
      for (int t = 0; t < moved_.count; ++t) {
        if (moved_.tap[t].offset == kFilled) continue;
        each(first + moved_.tap[t].offset, moved_.tap[t].weight.dot);
      }
    }
  }

 private:
  const PlainParams& params_;
  const PlainAxes axes_;
  PlainTaps<kMode> taps_;
  MovedTaps<kTapsPerAxis<kMode>> moved_;
};

template <Mode kMode>
void plain_list_items(const PlainParams& params, int64_t begin, int64_t end) {
  constexpr int64_t kTaps = kTapsPerAxis<kMode>;
  const Geometry& geometry = params.geometry;
  const int64_t taps_of_sample = kTaps * kTaps * (geometry.dims == 3 ? kTaps : 1);
  Contributions<kMode> contributions(params);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t batch = item / geometry.samples;
    const int64_t sample = item % geometry.samples;
    const int64_t source = sample_offset(geometry, params.grad_output, batch, sample);
    int64_t number = item * taps_of_sample;
    const int64_t numbers_end = number + taps_of_sample;
    const auto list = [&](int64_t pixel, compute_t weight) {
      params.taps[number] = {pixel, source, number, static_cast<double>(weight)};
      ++number;
    };
    contributions.for_each(batch, sample, list);
    while (number < numbers_end) list(kOutside, compute_t(0));
  }
}

/// Adds what all samples add to the item's slab of grad_input, in the order of the samples.
template <Mode kMode>
void plain_scatter_items(const PlainParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.geometry;
  const View& source = params.grad_output;
  const View& target = params.input;
  const int outermost = geometry.dims - 1;
  const int64_t stride = target.stride[outermost];
  auto* data = static_cast<compute_t*>(target.data);
  Contributions<kMode> contributions(params);
  for (int64_t item = begin; item < end; ++item) {
    const int64_t input_batch = item / params.slabs;
    const Range slab =
        block_range(geometry.input_size[outermost], params.slabs, item % params.slabs);
    const Range batches = batches_of(geometry, params.input_batch, input_batch);
    for (int64_t batch = batches.begin; batch < batches.end; ++batch) {
      const int64_t image = batch * target.batch_stride;
      const Range pixels{image + slab.begin * stride, image + slab.end * stride};
      for (int64_t sample = 0; sample < geometry.samples; ++sample) {
        const int64_t from = sample_offset(geometry, source, batch, sample);
        contributions.for_each(batch, sample, [&](int64_t pixel, compute_t weight) {
          if (pixel < pixels.begin || pixel >= pixels.end) return;
          for (int64_t c = 0; c < geometry.channels; ++c) {
            compute_t& sum = data[pixel + c * target.channel_stride];
            sum = multiply_add(load_value(source, from + c * source.channel_stride), weight, sum);
          }
        });
      }
    }
  }
}

void plain_add_taps(const PlainParams& params, int64_t begin, int64_t end) {
  const PlainTap* taps = params.taps;
  const View& source = params.grad_output;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t pixel = taps[item].pixel;
    if (pixel < 0 || (item > 0 && taps[item - 1].pixel == pixel)) continue;
    int64_t last = item + 1;
    while (last < params.tap_count && taps[last].pixel == pixel) ++last;
    for (int64_t c = 0; c < params.geometry.channels; ++c) {
      compute_t sum = compute_t(0);
      for (int64_t t = item; t < last; ++t) {
        const compute_t grad = load_value(source, taps[t].source + c * source.channel_stride);
        sum = multiply_add(grad, static_cast<compute_t>(taps[t].weight), sum);
      }
      store_value(params.input, pixel + c * params.input.channel_stride, sum);
    }
  }
}

void plain_output(const PlainParams& params, int64_t begin, int64_t end) {
  dispatch_mode(params.geometry.mode, [&]<Mode kMode>() {
    if constexpr (ModeTraits<kMode>::kCopies) {
      plain_nearest_items(params, begin, end);
    } else {
      plain_output_items<kMode>(params, begin, end);
    }
  });
}

void plain_grad_grid(const PlainParams& params, int64_t begin, int64_t end) {
  dispatch_mode(params.geometry.mode, [&]<Mode kMode>() {
    if constexpr (ModeTraits<kMode>::kSmooth) {  // else grad_grid is zeros, and never asked for
      plain_grad_grid_items<kMode>(params, begin, end);
    }
  });
}

void plain_list_taps(const PlainParams& params, int64_t begin, int64_t end) {
  dispatch_mode(params.geometry.mode,
                [&]<Mode kMode>() { plain_list_items<kMode>(params, begin, end); });
}

void plain_scatter(const PlainParams& params, int64_t begin, int64_t end) {
  dispatch_mode(params.geometry.mode,
                [&]<Mode kMode>() { plain_scatter_items<kMode>(params, begin, end); });
}

/// The label of a sample in the channel that begins at `first`.
template <Mode kMode>
int64_t label_of(const LabelParams& params, const PlainTaps<kMode>& taps, int64_t first) {
  constexpr int kTaps = kTapsPerAxis<kMode>;
  if (taps.excluded) return params.outside_value;
  if (!taps.inside) return params.fill_value;
  const View& labels = params.labels;
  Votes<compute_t, kTaps * kTaps * kTaps> votes;
  for_taps(taps, [&](int x, int y, int z) {
    const int64_t offset = first + tap_offset(taps, labels, x, y, z);
    votes.add(
        is_inside(taps, x, y, z) ? load_label(labels.data, offset, params.type) : params.fill_value,
        taps.weight[2][z] * (taps.weight[1][y] * taps.weight[0][x]));
  });
  return votes.winner(params.fill_value);
}

template <Mode kMode>
void plain_label_items(const LabelParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.geometry;
  const PlainAxes axes(geometry);
  PlainTaps<kMode> taps;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t batch = item / geometry.samples;
    const int64_t sample = item % geometry.samples;
    find_taps(geometry, axes, params.grid, batch, sample, taps);
    const int64_t out = sample_offset(geometry, params.output, batch, sample);
    for (int64_t c = 0; c < geometry.channels; ++c) {
      const int64_t first = batch * params.labels.batch_stride + c * params.labels.channel_stride;
      store_label(params.output.data, out + c * params.output.channel_stride,
                  label_of(params, taps, first), params.type);
    }
  }
}

void plain_labels(const LabelParams& params, int64_t begin, int64_t end) {
  dispatch_mode(params.geometry.mode,
                [&]<Mode kMode>() { plain_label_items<kMode>(params, begin, end); });
}

void spline_filter(const SplineParams& params, int64_t worker, int64_t begin, int64_t end) {
  dispatch_image_dtype(params.from.dtype, [&]<typename scalar>() {
    spline_filter_items<scalar>(params, worker, begin, end);
  });
}

extern const PlainKernels plain_kernels;
const PlainKernels plain_kernels{plain_output,  plain_grad_grid, plain_list_taps, plain_add_taps,
                                 plain_scatter, plain_labels,    spline_filter};

GRIDSAMPLE_NAMESPACE_END
