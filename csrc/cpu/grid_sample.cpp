// The CPU implementation of the ops: check, allocate, describe, run.

#include <torch/csrc/stable/library.h>

#include <cstddef>
#include <memory>
#include <new>
#include <tuple>
#include <vector>

#include "../checks.h"
#include "../tensors.h"
#include "isa.h"
#include "schedule.h"

namespace gridsample_ext {
namespace {

int64_t bytes_of(const Tensor& tensor) {
  return tensor.numel() * static_cast<int64_t>(tensor.element_size());
}

/// Uninitialised values of the compute type.
class Scratch {
 public:
  Scratch(const Geometry& geometry, int64_t elements)
      : data_(::operator new(static_cast<size_t>(elements) * (geometry.compute_in_double ? 8 : 4),
                             std::align_val_t(kAlignment))) {}
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { ::operator delete(data_, std::align_val_t(kAlignment)); }
  void* data() const { return data_; }

 private:
  static constexpr size_t kAlignment = 64;
  void* data_;
};

Tensor grid_sample(const Tensor& input, const Tensor& grid, int64_t interpolation_mode,
                   int64_t padding_mode, bool align_corners) {
  const Geometry geometry =
      check_call(input, grid, interpolation_mode, padding_mode, align_corners);
  Tensor output = empty_image(input, output_sizes(geometry), input.scalar_type());
  if (output.numel() == 0) return output;

  ForwardParams params;
  params.geometry = geometry;
  params.input = image_view(input, geometry);
  params.grid = grid_view(grid, geometry);
  params.output = mutable_image_view(output, geometry);
  const int64_t threads = useful_threads(geometry);
  params.packed_channels = packed_channels(geometry, params.input, bytes_of(input));
  if (params.packed_channels > 0) {
    const int64_t items = geometry.batch * ceil_div(geometry.channels, params.packed_channels);
    if (worth_packing(items, threads)) {
      const int64_t workers = std::min(threads, items);
      const Scratch scratch(geometry, workers * packed_elements(geometry, params.packed_channels));
      params.scratch = scratch.data();
      run_items(items, workers, [&](int64_t worker, int64_t begin, int64_t end) {
        active_kernels().forward_packed(params, worker, begin, end);
      });
      return output;
    }
  }
  params.channel_blocks = forward_channel_blocks(geometry, threads);
  const int64_t items = geometry.batch * tile_count(geometry) * params.channel_blocks;
  const KernelTable& kernels = kernels_for(geometry, params.input);
  run_items(items, threads,
            [&](int64_t, int64_t begin, int64_t end) { kernels.forward(params, begin, end); });
  return output;
}

Tensor compute_grad_input(const Tensor& grad_output, const Tensor& input, const Tensor& grid,
                          const Geometry& geometry) {
  // Summed in the compute type and rounded once.
  const ScalarType sum_type = scalar_type_of(compute_dtype(geometry));
  Tensor sums = empty_image(input, sizes_vector(input), sum_type);
  torch::stable::zero_(sums);
  if (grad_output.numel() > 0) {
    const int64_t threads = useful_threads(geometry);
    GradInputParams params;
    params.geometry = geometry;
    params.grad_output = image_view(grad_output, geometry);
    params.grid = grid_view(grid, geometry);
    params.grad_input = mutable_image_view(sums, geometry);
    params.input_batch = input.size(0);
    const GradInputSplit split = split_grad_input(geometry, params.input_batch,
                                                  params.grad_input.channel_stride == 1, threads);
    params.channel_blocks = split.channel_blocks;
    params.slabs = split.slabs;
    params.slab_axis = split.slab_axis;
    const KernelTable& kernels = kernels_for(geometry, params.grad_input);
    run_items(params.input_batch * split.channel_blocks * split.slabs, threads,
              [&](int64_t, int64_t begin, int64_t end) { kernels.grad_input(params, begin, end); });
  }
  if (input.scalar_type() == sum_type) return sums;
  Tensor grad_input = empty_image(input, sizes_vector(input), input.scalar_type());
  torch::stable::copy_(grad_input, sums);
  return grad_input;
}

Tensor compute_grad_grid(const Tensor& grad_output, const Tensor& input, const Tensor& grid,
                         const Geometry& geometry) {
  Tensor grad_grid = empty_contiguous(sizes_vector(grid), grid.scalar_type(), grid);
  if (geometry.mode == Mode::kNearest || grad_output.numel() == 0) {
    return torch::stable::zero_(grad_grid);
  }
  GradGridParams params;
  params.geometry = geometry;
  params.grad_output = image_view(grad_output, geometry);
  params.input = image_view(input, geometry);
  params.grid = grid_view(grid, geometry);
  params.grad_grid = mutable_grid_view(grad_grid, geometry);
  params.grid_batch = grid.size(0);
  const int64_t threads = useful_threads(geometry);
  const int64_t tiles = params.grid_batch * tile_count(geometry);
  // Too few tiles to keep the threads evenly busy: they share the chunks as well.
  const bool few_tiles = threads > 1 && tiles < 4 * threads;
  params.chunk_groups = few_tiles ? grad_grid_chunks(params) : 1;
  std::unique_ptr<std::byte[]> partial;
  if (params.chunk_groups > 1) {
    const size_t element = geometry.compute_in_double ? sizeof(double) : sizeof(float);
    partial.reset(
        new std::byte[static_cast<size_t>(params.chunk_groups * tiles * geometry.dims * kTileSize) *
                      element]);
  }
  params.partial = partial.get();
  const KernelTable& kernels = kernels_for(geometry, params.input);
  run_items(tiles * params.chunk_groups, threads,
            [&](int64_t, int64_t begin, int64_t end) { kernels.grad_grid(params, begin, end); });
  if (params.chunk_groups > 1) {
    run_items(tiles, threads, [&](int64_t, int64_t begin, int64_t end) {
      kernels.finish_grad_grid(params, begin, end);
    });
  }
  return grad_grid;
}

std::tuple<Tensor, Tensor> grid_sample_backward(const Tensor& grad_output, const Tensor& input,
                                                const Tensor& grid, int64_t interpolation_mode,
                                                int64_t padding_mode, bool align_corners,
                                                const std::vector<bool>& output_mask) {
  const Geometry geometry =
      check_call(input, grid, interpolation_mode, padding_mode, align_corners);
  check_grad_output(grad_output, input, grid, geometry);
  check(output_mask.size() == 2, "expected output_mask to have 2 elements, but got ",
        output_mask.size());
  Tensor grad_input;
  Tensor grad_grid;
  if (output_mask[0]) grad_input = compute_grad_input(grad_output, input, grid, geometry);
  if (output_mask[1]) grad_grid = compute_grad_grid(grad_output, input, grid, geometry);
  return {grad_input, grad_grid};
}

}  // namespace
}  // namespace gridsample_ext

STABLE_TORCH_LIBRARY_IMPL(gridsample_ext, CPU, m) {
  m.impl("grid_sample", TORCH_BOX(&gridsample_ext::grid_sample));
  m.impl("grid_sample_backward", TORCH_BOX(&gridsample_ext::grid_sample_backward));
}
