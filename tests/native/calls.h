#pragma once

// Calls of the kernels as the host makes them, on one thread, with memory of the driver's own.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "cpu/host/isa.h"

namespace native {

using namespace gridsample_ext;

template <typename T>
constexpr DType kDTypeOf = sizeof(T) == 8                               ? DType::kDouble
                           : sizeof(T) == 4                             ? DType::kFloat
                           : std::is_same_v<T, torch::headeronly::Half> ? DType::kHalf
                                                                        : DType::kBFloat16;

/// A tensor of channels over an image, the samples or (channel: the coordinate) a grid, in planes
/// or in rows of channels. Beyond both ends lie guards, which nobody may write to.
template <typename T>
class Tensor {
 public:
  Tensor(int64_t batch, int64_t channels, const int64_t (&size)[kMaxDims], bool rows)
      : batch_(batch), channels_(channels) {
    for (int a = 0; a < kMaxDims; ++a) positions_ *= size[a];
    view.dtype = kDTypeOf<T>;
    view.batch_stride = channels * positions_;
    view.channel_stride = rows ? 1 : positions_;
    int64_t stride = rows ? channels : 1;
    for (int a = 0; a < kMaxDims; ++a) {
      view.stride[a] = stride;
      stride *= size[a];
    }
    position_stride_ = rows ? channels : 1;
    memory_.assign(static_cast<size_t>(batch * channels * positions_ + 2 * kGuard), T(kUnwritten));
    view.data = memory_.data() + kGuard;
  }
  Tensor(const Tensor&) = delete;
  Tensor& operator=(const Tensor&) = delete;

  /// Values as reference.h counts them: [batch][channel][position].
  void set(const std::vector<double>& values) {
    for (size_t i = 0; i < values.size(); ++i) at(i) = T(values[i]);
  }
  std::vector<double> get() const {
    std::vector<double> values(static_cast<size_t>(batch_ * channels_ * positions_));
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<double>(const_cast<Tensor*>(this)->at(i));
    }
    return values;
  }
  bool guards_hold() const {
    const auto holds = [](const T& value) { return value == T(kUnwritten); };
    return std::all_of(memory_.begin(), memory_.begin() + kGuard, holds) &&
           std::all_of(memory_.end() - kGuard, memory_.end(), holds);
  }

  View view;

 private:
  static constexpr int64_t kGuard = 64;
  static constexpr float kUnwritten = 12288;

  T& at(size_t index) {
    const auto i = static_cast<int64_t>(index);
    const int64_t image = i / positions_, position = i % positions_;
    return memory_[static_cast<size_t>(kGuard + image / channels_ * view.batch_stride +
                                       image % channels_ * view.channel_stride +
                                       position * position_stride_)];
  }

  int64_t batch_, channels_, positions_ = 1, position_stride_;
  std::vector<T> memory_;
};

/// A grid is rows of coordinates: [batch][sample][axis].
template <typename T>
class Grid : public Tensor<T> {
 public:
  explicit Grid(const Geometry& geometry)
      : Tensor<T>(geometry.batch, geometry.dims, geometry.output_size, true) {}
  /// Values as reference.h counts them: [batch][sample][axis].
  void set(const std::vector<double>& values) {
    auto* to = static_cast<T*>(this->view.data);
    for (size_t i = 0; i < values.size(); ++i) to[i] = T(values[i]);
  }
  std::vector<double> get(const Geometry& geometry) const {
    const auto* from = static_cast<const T*>(this->view.data);
    return {from, from + geometry.batch * geometry.samples * geometry.dims};
  }
};

inline void run_forward(const Geometry& geometry, const View& input, const View& grid,
                        const View& output) {
  ForwardParams params{};
  params.geometry = geometry;
  params.input = input;
  params.grid = grid;
  params.output = output;
  const bool runs = geometry.mode == Mode::kNearest && !reads_rows(params);
  params.run_tiles = runs ? std::min(nearest_run(geometry), tile_count(geometry)) : 1;
  params.channel_blocks = geometry.channels > 16 ? 2 : 1;
  const int64_t items =
      geometry.batch * ceil_div(tile_count(geometry), params.run_tiles) * params.channel_blocks;
  kernels_for(geometry).forward.forward(params, 0, items);
}

/// Channels of a packed block: all, or of many some.
inline int64_t packed_block(const Geometry& geometry) {
  return geometry.channels > 16 ? 16 : geometry.channels;
}

template <typename T>
void run_forward_packed(const Geometry& geometry, const View& input, const View& grid,
                        const View& output) {
  ForwardParams params{};
  params.geometry = geometry;
  params.input = input;
  params.grid = grid;
  params.output = output;
  params.packed_channels = packed_block(geometry);
  std::vector<T> scratch(packed_elements(geometry, params.packed_channels));
  params.scratch = scratch.data();
  const int64_t items = geometry.batch * ceil_div(geometry.channels, params.packed_channels);
  kernels_for(geometry).forward.packed(params, 0, 0, items);
}

/// What the backward pass is given, and where it writes.
struct BackwardViews {
  View grad_output, input, grid, grad_input, grad_grid;
};

inline GradGridParams grad_grid_params(const Geometry& geometry, const BackwardViews& views,
                                       int64_t piece) {
  GradGridParams params{};
  params.geometry = geometry;
  params.grad_output = views.grad_output;
  params.input = views.input;
  params.grid = views.grid;
  params.grad_grid = views.grad_grid;
  params.grid_batch = geometry.batch;
  params.piece_channels = piece;
  params.chunk_groups = 1;
  return params;
}

template <typename T>
std::vector<T> partial_sums(const Geometry& geometry, int64_t pieces) {
  return std::vector<T>(pieces * geometry.batch * tile_count(geometry) * geometry.dims * kTileSize);
}

/// Both gradients, or of nearest grad_input alone, in rows (packed: 0) or in packed blocks.
template <typename T>
void run_backward(const Geometry& geometry, const BackwardViews& views, int64_t packed) {
  const KernelTable& kernels = kernels_for(geometry);
  const int64_t piece = piece_channels(geometry, packed);
  const int64_t pieces = ceil_div(geometry.channels, piece);
  BackwardParams params{};
  params.geometry = geometry;
  params.grad_output = views.grad_output;
  params.input = views.input;
  params.grid = views.grid;
  params.grad_input = views.grad_input;
  params.grad_grid = views.grad_grid;
  params.input_batch = geometry.batch;
  params.packed_channels = packed;
  params.piece_channels = piece;
  params.group_channels = packed > 0 ? packed : ceil_div(pieces, 2) * piece;
  params.groups = ceil_div(geometry.channels, params.group_channels);
  std::vector<T> scratch(packed_elements(geometry, packed));
  params.scratch = scratch.data();
  const int64_t other_pieces = std::max<int64_t>(pieces - params.group_channels / piece, 0);
  std::vector<T> partial = partial_sums<T>(geometry, other_pieces);
  params.partial = partial.data();
  kernels.backward.both(params, 0, 0, params.input_batch * params.groups);
  if (other_pieces > 0 && views.grad_grid.data != nullptr) {
    GradGridParams finish = grad_grid_params(geometry, views, piece);
    finish.partial = partial.data();
    finish.partial_sums = other_pieces;
    finish.has_first_sums = true;
    kernels.backward.finish_grad_grid(finish, 0, geometry.batch * tile_count(geometry));
  }
}

/// grad_input cut into slabs of the outermost axis; `ranges` has to outlive the result.
inline GradInputParams grad_input_params(const Geometry& geometry, const BackwardViews& views,
                                         int64_t channel_blocks, bool scattered,
                                         std::vector<TapRange>& ranges) {
  GradInputParams params{};
  params.geometry = geometry;
  params.grad_output = views.grad_output;
  params.grid = views.grid;
  params.grad_input = views.grad_input;
  params.input_batch = geometry.batch;
  params.channel_blocks = channel_blocks;
  params.slab_axis = geometry.dims - 1;
  params.slabs = geometry.images_per_group > 1
                     ? 1
                     : std::min<int64_t>(geometry.input_size[params.slab_axis], 3);
  params.scattered = scattered;
  ranges.resize(static_cast<size_t>(geometry.batch * tile_count(geometry)));
  kernels_for(geometry).backward.slab_ranges(params, 0, static_cast<int64_t>(ranges.size()),
                                             ranges.data());
  params.ranges = ranges.data();
  return params;
}

inline void run_grad_input(const Geometry& geometry, const BackwardViews& views, bool scattered) {
  std::vector<TapRange> ranges;
  const int64_t blocks = std::min<int64_t>(geometry.channels, 2);
  const GradInputParams params = grad_input_params(geometry, views, blocks, scattered, ranges);
  kernels_for(geometry).backward.grad_input(
      params, 0, params.input_batch * params.channel_blocks * params.slabs);
}

/// Both gradients where each slab has all channels.
inline void run_backward_in_slabs(const Geometry& geometry, const BackwardViews& views) {
  const int64_t piece = piece_channels(geometry, 0);
  std::vector<TapRange> ranges;
  BackwardSlabParams params{};
  params.grad_input = grad_input_params(geometry, views, 1, false, ranges);
  params.grad_grid = grad_grid_params(geometry, views, piece);
  BackwardParams& rows = params.rows;
  rows.geometry = geometry;
  rows.grad_output = views.grad_output;
  rows.input = views.input;
  rows.grid = views.grid;
  rows.grad_input = views.grad_input;
  rows.grad_grid = views.grad_grid;
  rows.input_batch = geometry.batch;
  rows.groups = 1;
  rows.group_channels = ceil_div(geometry.channels, piece) * piece;
  rows.piece_channels = piece;
  kernels_for(geometry).backward.both_in_slabs(params, 0, geometry.batch * params.grad_input.slabs);
}

/// In one group of chunks, or in a group for each.
template <typename T>
void run_grad_grid(const Geometry& geometry, const BackwardViews& views, bool groups) {
  const KernelTable& kernels = kernels_for(geometry);
  GradGridParams params = grad_grid_params(geometry, views, piece_channels(geometry, 0));
  if (groups) params.chunk_groups = grad_grid_chunks(params);
  std::vector<T> partial = partial_sums<T>(geometry, params.chunk_groups);
  params.partial = partial.data();
  const int64_t tiles = geometry.batch * tile_count(geometry);
  kernels.backward.grad_grid(params, 0, tiles * params.chunk_groups);
  if (params.chunk_groups > 1) {
    params.partial_sums = params.chunk_groups;
    kernels.backward.finish_grad_grid(params, 0, tiles);
  }
}

template <typename T>
void run_grad_grid_packed(const Geometry& geometry, const BackwardViews& views) {
  const KernelTable& kernels = kernels_for(geometry);
  const int64_t width = packed_block(geometry);
  std::vector<T> packed(packed_elements(geometry, width));
  PackedBlockParams params{};
  params.geometry = geometry;
  params.grad_output = views.grad_output;
  params.input = views.input;
  params.grid = views.grid;
  params.grad_grid = views.grad_grid;
  params.piece_channels = piece_channels(geometry, width);
  params.parts = 2;
  params.packed = packed.data();
  for (params.batch = 0; params.batch < geometry.batch; ++params.batch) {
    for (params.channel = 0; params.channel < geometry.channels; params.channel += width) {
      params.channels = std::min(width, geometry.channels - params.channel);
      params.first = params.channel == 0;
      kernels.backward.pack(params, 0, params.parts);
      kernels.backward.grad_grid_packed(params, 0, tile_count(geometry));
    }
  }
}

/// Between an image in planes and in rows.
inline void run_to_rows(const Geometry& geometry, const View& image, const View& rows) {
  const RowsParams params{geometry, image, rows, 3};
  kernels_for(geometry).second_order.to_rows(params, 0, geometry.batch * params.parts);
}
inline void run_from_rows(const Geometry& geometry, const View& image, const View& rows) {
  const RowsParams params{geometry, image, rows, 3};
  kernels_for(geometry).second_order.from_rows(params, 0, geometry.batch * params.parts);
}

/// What second-order kernels are given, images as rows, and where they write; without data: what is
/// not there, or not wanted.
struct SecondOrderViews {
  View grid, tangent_grid, input, tangent_input, grad_output, output, grad_input, grad_grid;
};

inline SecondOrderParams second_order_params(const Geometry& geometry,
                                             const SecondOrderViews& views) {
  SecondOrderParams params{};
  params.geometry = geometry;
  params.grid = views.grid;
  params.tangent_grid = views.tangent_grid;
  params.input = views.input;
  params.tangent_input = views.tangent_input;
  params.grad_output = views.grad_output;
  params.output = views.output;
  params.grad_grid = views.grad_grid;
  params.grid_batch = geometry.batch;
  return params;
}

inline void run_second_order(const Geometry& geometry, const SecondOrderViews& views) {
  const SecondOrderKernels& kernels = kernels_for(geometry).second_order;
  SecondOrderParams params = second_order_params(geometry, views);
  const int64_t parts = geometry.batch * strip_count(geometry);
  kernels.jvp(params, 0, parts);
  kernels.double_backward_grid(params, 0, parts);
  std::vector<TapRange> ranges;
  const BackwardViews first{views.grad_output, views.input, views.grid, views.grad_input, {}};
  params.to_input = grad_input_params(geometry, first, 1, false, ranges);
  kernels.double_backward_input(params, 0, geometry.batch * params.to_input.slabs);
}

/// Plain kernels, of the first order if tangent_grid has no data; grad_input zeroed.
inline void run_plain(const Geometry& geometry, const SecondOrderViews& views, bool listed) {
  const PlainKernels& kernels = kernels_for(geometry).plain;
  PlainParams params{};
  params.geometry = geometry;
  params.grid = views.grid;
  params.tangent_grid = views.tangent_grid;
  params.input = views.input;
  params.tangent_input = views.tangent_input;
  params.grad_output = views.grad_output;
  params.output = views.output;
  params.grad_grid = views.grad_grid;
  params.grid_batch = geometry.batch;
  const int64_t points = geometry.batch * geometry.samples;
  kernels.output(params, 0, points);
  if (geometry.mode != Mode::kNearest) kernels.grad_grid(params, 0, points);
  params.input = views.grad_input;
  params.input_batch = geometry.batch;
  params.slabs = std::min<int64_t>(geometry.input_size[geometry.dims - 1], 3);
  if (!listed) {
    kernels.scatter(params, 0, params.input_batch * params.slabs);
    return;
  }
  const int64_t per_axis = geometry.mode == Mode::kNearest    ? 1
                           : geometry.mode == Mode::kBilinear ? 2
                                                              : 4;
  params.tap_count = points * per_axis * per_axis * (geometry.dims == 3 ? per_axis : 1);
  std::vector<PlainTap> taps(static_cast<size_t>(params.tap_count));
  params.taps = taps.data();
  kernels.list_taps(params, 0, points);
  std::sort(taps.begin(), taps.end(), [](const PlainTap& a, const PlainTap& b) {
    return a.pixel != b.pixel ? a.pixel < b.pixel : a.number < b.number;
  });
  kernels.add_taps(params, 0, params.tap_count);
}

}  // namespace native
