// The CPU implementation of the ops: check, allocate, describe, run.

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "checks.h"
#include "tensors.h"
#include "cpu/host/copies.h"
#include "cpu/host/ops.h"
#include "cpu/host/isa.h"
#include "cpu/host/schedule.h"
#include "cpu/host/scratch.h"

namespace gridsample_ext::cpu {
namespace {

bool has_compute_type(const Tensor& image, const Geometry& geometry) {
  return dtype_of(image) == compute_dtype(geometry);
}

/// Whether an image is computed in float64 only because the grid is: a pair too rare for vectors of
/// its own. Plain kernels read it as it is; the others, of many samples, from a float64 copy, which
/// is exact.
bool is_widened(const Tensor& input, const Geometry& geometry) {
  return geometry.compute_in_double && !has_compute_type(input, geometry);
}

Tensor in_compute_type(const Tensor& image, const Geometry& geometry) {
  if (has_compute_type(image, geometry)) return image;
  Tensor wide = empty_image(image, sizes_vector(image), sum_type(geometry));
  copy(wide, image);
  return wide;
}

}  // namespace

Tensor grid_sample(const Tensor& input, const Tensor& grid, int64_t interpolation_mode,
                   int64_t padding_mode, bool align_corners) {
  const Geometry geometry =
      check_call(input, grid, interpolation_mode, padding_mode, align_corners);
  Tensor output = empty_image(input, output_sizes(geometry), input.scalar_type());
  if (output.numel() == 0) return output;
  const View image = image_view(input, geometry);
  const bool widens = is_widened(input, geometry);
  if (!has_narrow_offsets(geometry, image) ||
      (widens && has_few_samples(geometry, input.size(0), kPlainRead))) {
    plain_output(plain_params(geometry, grid, std::nullopt), input, std::nullopt, output);
    return output;
  }
  if (widens) {
    copy(output, grid_sample(in_compute_type(input, geometry), grid, interpolation_mode,
                             padding_mode, align_corners));
    return output;
  }

  ForwardParams params;
  params.geometry = geometry;
  params.input = image;
  params.grid = grid_view(grid, geometry);
  params.output = mutable_image_view(output, geometry);
  const KernelTable& kernels = kernels_for(geometry);
  const int64_t threads = useful_threads(geometry);
  params.packed_channels = packed_channels(geometry, params.input, bytes_of(input));
  if (params.packed_channels > 0) {
    const int64_t items = geometry.batch * ceil_div(geometry.channels, params.packed_channels);
    if (worth_sharing_blocks(items, threads, true)) {
      const int64_t workers = std::min(threads, items);
      const Scratch scratch(geometry, workers * packed_elements(geometry, params.packed_channels));
      if (scratch.allocated()) {
        params.scratch = scratch.data();
        run_items(items, workers, [&](int64_t worker, int64_t begin, int64_t end) {
          kernels.forward.packed(params, worker, begin, end);
        });
        return output;
      }
    }
  }
  params.run_tiles = forward_run_tiles(geometry, threads, reads_rows(params));
  const int64_t runs = geometry.batch * ceil_div(tile_count(geometry), params.run_tiles);
  params.channel_blocks = forward_channel_blocks(geometry, runs, threads);
  const int64_t items = runs * params.channel_blocks;
  run_items(items, threads, [&](int64_t, int64_t begin, int64_t end) {
    kernels.forward.forward(params, begin, end);
  });
  return output;
}

namespace {

/// Whether samples that follow each other lie far apart in the image, as a few runs of them show:
/// whether one run reaches over most of it. The same for any number of threads, because it decides
/// about the order of sums.
bool is_scattered(const Geometry& geometry, const Tensor& input, const Tensor& grid) {
  constexpr int64_t kRuns = 16;
  constexpr int64_t kRunSamples = 8;
  constexpr int64_t kLeastTiles = 64;
  constexpr int64_t kLeastSize = 32;
  const int64_t tiles = tile_count(geometry);
  GradInputParams params;
  params.slab_axis = geometry.dims - 1;
  while (params.slab_axis > 0 && geometry.input_size[params.slab_axis] == 1) --params.slab_axis;
  const int64_t size = geometry.input_size[params.slab_axis];
  if (geometry.batch == 0 || tiles < kLeastTiles || size < kLeastSize) return false;
  params.geometry = geometry;
  params.grid = grid_view(grid, geometry);
  params.grad_input = image_view(input, geometry);
  for (int64_t& stride : params.grad_input.stride) stride = 1;  // positions, not offsets
  int64_t reached = 0;
  with_kernel_stack([&] {
    for (int64_t run = 0; run < kRuns; ++run) {
      const int64_t which = geometry.batch * tiles * (2 * run + 1) / (2 * kRuns);
      // The first samples of a tile are those of the last tile of an image that ends with them.
      const int64_t t = which % tiles;
      params.geometry.samples = std::min(geometry.samples, t * kTileSize + kRunSamples);
      const int64_t item = which / tiles * (t + 1) + t;
      TapRange range;
      kernels_for(geometry).backward.slab_ranges(params, item, item + 1, &range);
      reached += std::max<int64_t>(range.last - range.first + 1, 0);
    }
  });
  return reached * 2 > kRuns * size;
}

/// What the backward pass is given, and what it decides once for both gradients.
struct BackwardCall {
  const Tensor& grad_output;
  Tensor input;
  const Tensor& grid;
  const Geometry& geometry;
  // By its size: a grid expanded over the batch has a gradient for each image.
  bool grid_is_broadcast = grid.size(0) != geometry.batch;
  int64_t threads = useful_threads(geometry);
  // Blocks are turned back into planes: not for gradients that are channels-last.
  int64_t packed = prefers_channels_last(input)
                       ? 0
                       : packed_channels(geometry, image_view(input, geometry), bytes_of(input));
  int64_t piece = piece_channels(geometry, packed);
  bool scattered = is_scattered(geometry, input, grid);

  /// Before a kernel reads the input itself, not packed blocks of it.
  void read_in_compute_type() { input = in_compute_type(input, geometry); }
};

/// Whether the gradients are better computed one after the other, from the input and into
/// grad_input, than both at once: where samples are scattered over more memory than is at hand. (Of
/// rows of many channels whole cache lines are used, and both at once is better.)
bool wants_one_image_at_a_time(const BackwardCall& call) {
  constexpr int64_t kAtHand = int64_t(5) << 19;
  constexpr int64_t kRowBytes = 32;
  const Geometry& geometry = call.geometry;
  const int64_t element = geometry.compute_in_double ? 8 : 4;
  return call.scattered && packed_elements(geometry, geometry.channels) * element > kAtHand &&
         (geometry.channels * element < kRowBytes || call.input.stride(1) != 1);
}

/// `partial` of grad_grid.
Scratch partial_sums(const Geometry& geometry, int64_t chunks, int64_t grid_batch) {
  return Scratch(geometry, chunks * grid_batch * tile_count(geometry) * geometry.dims * kTileSize);
}

/// Adds up the partial sums of grad_grid.
void finish_grad_grid(const BackwardCall& call, GradGridParams& params) {
  run_items(params.grid_batch * tile_count(call.geometry), call.threads,
            [&](int64_t, int64_t begin, int64_t end) {
              kernels_for(call.geometry).backward.finish_grad_grid(params, begin, end);
            });
}

GradGridParams grad_grid_params(const BackwardCall& call, const Tensor& grad_grid) {
  GradGridParams params;
  params.geometry = call.geometry;
  params.grad_output = image_view(call.grad_output, call.geometry);
  params.input = image_view(call.input, call.geometry);
  params.grid = grid_view(call.grid, call.geometry);
  params.grad_grid = mutable_grid_view(grad_grid, call.geometry);
  params.grid_batch = call.grid.size(0);
  params.piece_channels = call.piece;
  params.chunk_groups = 1;
  params.partial = nullptr;
  params.partial_sums = 0;
  params.has_first_sums = false;
  params.scattered = call.scattered;
  return params;
}

/// Both gradients in one walk over the samples, where lanes can go over channels and whole images
/// or blocks of channels are enough to share. False if not; then nothing has been written.
bool compute_together(BackwardCall& call, Tensor grad_input, Tensor grad_grid) {
  const Geometry& geometry = call.geometry;
  if (call.grid_is_broadcast) return false;
  if (call.packed == 0 && wants_one_image_at_a_time(call)) return false;
  if (call.packed == 0 && grad_grid.defined()) call.read_in_compute_type();
  BackwardParams params;
  params.geometry = geometry;
  params.grad_output = image_view(call.grad_output, geometry);
  params.input = image_view(call.input, geometry);
  params.grid = grid_view(call.grid, geometry);
  if (grad_input.defined()) params.grad_input = mutable_image_view(grad_input, geometry);
  if (grad_grid.defined()) params.grad_grid = mutable_grid_view(grad_grid, geometry);
  params.input_batch = call.input.size(0);
  params.packed_channels = call.packed;
  params.piece_channels = call.piece;
  if (call.packed == 0) {
    const View& rows = grad_input.defined() ? params.grad_input : params.input;
    if (!has_rows(geometry, params.input) || !has_rows(geometry, rows) ||
        !same_spatial_strides(params.input, rows, geometry)) {
      return false;
    }
    if (ceil_div(geometry.channels, call.piece) > kMostChunks) return false;
  }
  const BackwardSplit split =
      split_backward(geometry, params.input_batch, call.packed, call.piece, grad_grid.defined(),
                     scratch_budget(bytes_of(call.input)), call.threads);
  if (split.groups == 0) return false;
  params.groups = split.groups;
  params.group_channels = split.group_channels;
  const int64_t items = params.input_batch * params.groups;
  const int64_t workers = std::min(call.threads, items);
  const Scratch scratch(geometry, workers * packed_elements(geometry, call.packed));
  params.scratch = scratch.data();
  // Of all groups but the first.
  const int64_t other_pieces = grad_grid.defined() ? ceil_div(geometry.channels, call.piece) -
                                                         ceil_div(params.group_channels, call.piece)
                                                   : 0;
  const Scratch partial =
      partial_sums(geometry, std::max<int64_t>(other_pieces, 0), geometry.batch);
  if (!scratch.allocated() || !partial.allocated()) return false;
  params.partial = partial.data();
  run_items(items, workers, [&](int64_t worker, int64_t begin, int64_t end) {
    kernels_for(geometry).backward.both(params, worker, begin, end);
  });
  if (other_pieces > 0) {
    GradGridParams finish = grad_grid_params(call, grad_grid);
    finish.partial = partial.data();
    finish.partial_sums = other_pieces;
    finish.has_first_sums = true;
    finish_grad_grid(call, finish);
  }
  return true;
}

/// Where grad_input goes, cut into blocks of channels and slabs. `ranges` has to outlive the
/// result.
GradInputParams grad_input_params(const BackwardCall& call, const Tensor& grad_input,
                                  std::vector<TapRange>& ranges) {
  GradInputParams params;
  params.geometry = call.geometry;
  params.grad_output = image_view(call.grad_output, call.geometry);
  params.grid = grid_view(call.grid, call.geometry);
  params.grad_input = mutable_image_view(grad_input, call.geometry);
  params.input_batch = call.input.size(0);
  params.scattered = call.scattered;
  divide_grad_input(params, call.threads, ranges);
  return params;
}

/// Threads share the channels and parts of the image.
void compute_grad_input(const BackwardCall& call, const GradInputParams& params) {
  run_items(params.input_batch * params.channel_blocks * params.slabs, call.threads,
            [&](int64_t, int64_t begin, int64_t end) {
              kernels_for(call.geometry).backward.grad_input(params, begin, end);
            });
}

/// Both gradients where threads share parts of the image, each with all its channels. False if that
/// cannot be; then nothing has been written.
bool compute_in_slabs(BackwardCall& call, const GradInputParams& to_input,
                      const Tensor& grad_grid) {
  const Geometry& geometry = call.geometry;
  call.read_in_compute_type();
  BackwardSlabParams params;
  params.grad_input = to_input;
  params.grad_grid = grad_grid_params(call, grad_grid);
  BackwardParams& rows = params.rows;
  rows.geometry = geometry;
  rows.grad_output = to_input.grad_output;
  rows.input = params.grad_grid.input;
  rows.grid = to_input.grid;
  rows.grad_input = to_input.grad_input;
  rows.grad_grid = params.grad_grid.grad_grid;
  rows.input_batch = to_input.input_batch;
  rows.groups = 1;
  rows.group_channels = ceil_div(geometry.channels, call.piece) * call.piece;
  rows.packed_channels = 0;
  rows.piece_channels = call.piece;
  rows.scratch = nullptr;
  rows.partial = nullptr;
  const bool same_layout = has_rows(geometry, rows.input) == has_rows(geometry, rows.grad_input) &&
                           same_spatial_strides(rows.input, rows.grad_input, geometry);
  // An item passes over the scattered samples of other slabs, whose grad_grid it would compute.
  if (picks_samples(to_input) || wants_one_image_at_a_time(call) || to_input.channel_blocks > 1 ||
      !same_layout || call.grid_is_broadcast || grad_grid_pieces(params.grad_grid) > kMostChunks) {
    return false;
  }
  run_items(to_input.input_batch * to_input.slabs, call.threads,
            [&](int64_t, int64_t begin, int64_t end) {
              kernels_for(geometry).backward.both_in_slabs(params, begin, end);
            });
  return true;
}

/// Threads share the samples, and the channels where the samples are few.
void compute_grad_grid(BackwardCall& call, const Tensor& grad_grid) {
  const Geometry& geometry = call.geometry;
  call.read_in_compute_type();
  GradGridParams params = grad_grid_params(call, grad_grid);
  const int64_t tiles = params.grid_batch * tile_count(geometry);
  // Too few tiles to keep the threads evenly busy: they share the chunks as well.
  const bool few_tiles = call.threads > 1 && tiles < 4 * call.threads;
  params.chunk_groups = few_tiles ? grad_grid_chunks(params) : 1;
  const Scratch partial =
      partial_sums(geometry, params.chunk_groups > 1 ? params.chunk_groups : 0, params.grid_batch);
  if (!partial.allocated()) params.chunk_groups = 1;
  const bool split_sums = params.chunk_groups > 1;
  params.partial = partial.data();
  run_items(tiles * params.chunk_groups, call.threads, [&](int64_t, int64_t begin, int64_t end) {
    kernels_for(geometry).backward.grad_grid(params, begin, end);
  });
  if (split_sums) {
    params.partial_sums = params.chunk_groups;
    finish_grad_grid(call, params);
  }
}

/// One packed block of channels after the other; threads share the pixels to be packed, then the
/// samples. False if there is no memory for a block; then nothing has been written.
bool compute_grad_grid_packed(const BackwardCall& call, const Tensor& grad_grid) {
  const Geometry& geometry = call.geometry;
  PackedBlockParams params;
  params.geometry = geometry;
  params.grad_output = image_view(call.grad_output, geometry);
  params.input = image_view(call.input, geometry);
  params.grid = grid_view(call.grid, geometry);
  params.grad_grid = mutable_grid_view(grad_grid, geometry);
  params.piece_channels = call.piece;
  params.parts = call.threads;
  const Scratch scratch(geometry, packed_elements(geometry, call.packed));
  if (!scratch.allocated()) return false;
  params.packed = scratch.data();
  for (int64_t batch = 0; batch < geometry.batch; ++batch) {
    for (int64_t c = 0; c < geometry.channels; c += call.packed) {
      params.batch = batch;
      params.channel = c;
      params.channels = std::min(call.packed, geometry.channels - c);
      params.first = c == 0 && (batch == 0 || !call.grid_is_broadcast);
      run_items(params.parts, call.threads, [&](int64_t, int64_t begin, int64_t end) {
        kernels_for(geometry).backward.pack(params, begin, end);
      });
      run_items(tile_count(geometry), call.threads, [&](int64_t, int64_t begin, int64_t end) {
        kernels_for(geometry).backward.grad_grid_packed(params, begin, end);
      });
    }
  }
  return true;
}

}  // namespace

void divide_grad_input(GradInputParams& params, int64_t threads, std::vector<TapRange>& ranges) {
  const Geometry& geometry = params.geometry;
  const GradInputSplit split = split_grad_input(geometry, params.input_batch,
                                                params.grad_input.channel_stride == 1, threads);
  params.channel_blocks = split.channel_blocks;
  params.slabs = split.slabs;
  params.slab_axis = split.slab_axis;
  if (params.slabs == 1) return;
  const int64_t tiles = geometry.batch * tile_count(geometry);
  try {
    ranges.resize(static_cast<size_t>(tiles));
  } catch (const std::bad_alloc&) {
    params.slabs = 1;
    return;
  }
  params.ranges = ranges.data();
  run_items(tiles, threads, [&](int64_t, int64_t begin, int64_t end) {
    kernels_for(geometry).backward.slab_ranges(params, begin, end, ranges.data() + begin);
  });
  params.slabs *= finer_slabs(ranges, geometry.input_size[params.slab_axis], params.slabs);
}

std::tuple<Tensor, Tensor> grid_sample_backward(const Tensor& grad_output, const Tensor& input,
                                                const Tensor& grid, int64_t interpolation_mode,
                                                int64_t padding_mode, bool align_corners,
                                                const std::vector<bool>& output_mask,
                                                bool /*deterministic: always*/) {
  const Geometry geometry =
      check_call(input, grid, interpolation_mode, padding_mode, align_corners);
  check_grad_output(grad_output, input, grid, geometry);
  check_output_mask(output_mask);
  const bool no_samples = grad_output.numel() == 0;
  Tensor grad_input;  // both in the compute type, until the end
  Tensor grad_grid;
  bool wants_input = output_mask[0];
  bool wants_grid = output_mask[1];
  if (wants_input) {
    const bool few =
        !has_compute_type(input, geometry) && has_few_samples(geometry, input.size(0), kPlainAdd);
    if (few && !no_samples) {
      grad_input = empty_image(input, sizes_vector(input), input.scalar_type());
      wants_input =
          !plain_grad_input(plain_params(geometry, grid, std::nullopt), grad_output, grad_input);
    }
    if (wants_input) {
      const ScalarType type = no_samples ? input.scalar_type() : sum_type(geometry);
      grad_input = empty_image(input, sizes_vector(input), type);
      if (no_samples) {
        zero(grad_input);
        wants_input = false;
      } else if (!has_narrow_offsets(geometry, image_view(grad_input, geometry))) {
        plain_scatter(plain_params(geometry, grid, std::nullopt), grad_output, grad_input);
        wants_input = false;
      }
    }
  }
  if (wants_grid) {
    grad_grid = empty_contiguous(sizes_vector(grid), sum_type(geometry), grid);
    if (no_samples || geometry.mode == Mode::kNearest) {
      zero(grad_grid);
      wants_grid = false;
    } else if (!has_narrow_offsets(geometry, image_view(input, geometry)) ||
               (!has_compute_type(input, geometry) &&
                has_few_samples(geometry, input.size(0), kPlainRead))) {
      plain_grad_grid(plain_params(geometry, grid, std::nullopt), grad_output, input, std::nullopt,
                      grad_grid);
      wants_grid = false;
    }
  }
  if (!wants_input && !wants_grid) {
    return {rounded(grad_input, input, copy), rounded(grad_grid, grid, copy)};
  }
  // Only grad_grid reads the input.
  const bool widens = wants_grid && is_widened(input, geometry);
  BackwardCall call{grad_output, widens ? in_compute_type(input, geometry) : input, grid, geometry};
  if (!compute_together(call, wants_input ? grad_input : Tensor(),
                        wants_grid ? grad_grid : Tensor())) {
    if (wants_input) {
      std::vector<TapRange> ranges;
      const GradInputParams params = grad_input_params(call, grad_input, ranges);
      if (wants_grid && call.packed == 0 && compute_in_slabs(call, params, grad_grid)) {
        wants_grid = false;
      } else {
        compute_grad_input(call, params);
      }
    }
    if (wants_grid && !(call.packed > 0 && compute_grad_grid_packed(call, grad_grid))) {
      compute_grad_grid(call, grad_grid);
    }
  }
  return {rounded(grad_input, input, copy), rounded(grad_grid, grid, copy)};
}

}  // namespace gridsample_ext::cpu

STABLE_TORCH_LIBRARY_IMPL(gridsample_ext, CPU, m) {
  m.impl("grid_sample", TORCH_BOX(&gridsample_ext::cpu::grid_sample));
  m.impl("grid_sample_backward", TORCH_BOX(&gridsample_ext::cpu::grid_sample_backward));
  m.impl("grid_sample_jvp", TORCH_BOX(&gridsample_ext::cpu::grid_sample_jvp));
  m.impl("grid_sample_double_backward",
         TORCH_BOX(&gridsample_ext::cpu::grid_sample_double_backward));
}
