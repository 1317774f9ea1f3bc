// The CUDA implementation of the ops, host side: check, allocate, describe, launch. Nothing here
// waits for the device, and all memory comes from PyTorch.

#include "grid_sample.h"

#include <torch/csrc/stable/ops.h>

#include <initializer_list>
#include <type_traits>

#include "../checks.h"
#include "../tensors.h"
#include "kernels.cuh"
#include "queue.cuh"

namespace gridsample_ext::cuda {
namespace {

/// Calls function.template operator()<compute_t>().
template <typename F>
void dispatch_compute(const Geometry& geometry, const F& function) {
  if (geometry.compute_in_double) return function.template operator()<double>();
  return function.template operator()<float>();
}

void set_zero(const Tensor& tensor, const Queue& queue) {
  if (tensor.numel() == 0) return;
  check_cuda(cudaMemsetAsync(tensor.mutable_data_ptr(), 0, bytes_of(tensor), queue.stream),
             "a result could not be zeroed");
}

/// A copy in the compute type, which is exact. Kernels are for images and gradients of one type,
/// computed in float64 if that is float64; the other pairs are too rare for kernels of their own.
Tensor widened(const Tensor& image, const Geometry& geometry) {
  if (image.scalar_type() == sum_type(geometry)) return image;
  Tensor wide = empty_image(image, sizes_vector(image), sum_type(geometry));
  torch::stable::copy_(wide, image);
  return wide;
}

/// The stride at which samples in row-major order follow each other, or -1.
int64_t linear_stride(const View& view, const Geometry& geometry) {
  int64_t stride = 0;
  int64_t inner = 0;  // samples within a step of the axis; 0 before the first of more than one
  for (int a = 0; a < geometry.dims; ++a) {
    const int64_t size = geometry.output_size[a];
    if (size == 1) continue;
    if (inner == 0) {
      stride = view.stride[a];
      inner = 1;
    }
    if (view.stride[a] != stride * inner) return -1;
    inner *= size;
  }
  return stride;
}

Walk walk_over(const Geometry& geometry, int64_t batch, std::initializer_list<View*> views) {
  Walk walk = {};
  walk.batch = batch;
  walk.per_image = geometry.samples;
  walk.total = batch * geometry.samples;
  walk.narrow = walk.total < (int64_t(1) << 31);
  walk.linear = true;
  for (int a = 0; a < kMaxDims; ++a) walk.output_size[a] = geometry.output_size[a];
  for (const View* view : views) {
    walk.linear = walk.linear && linear_stride(*view, geometry) >= 0;
  }
  if (walk.linear) {
    for (View* view : views) view->stride[0] = linear_stride(*view, geometry);
  }
  return walk;
}

template <typename compute_t>
void describe_axes(Sampling<compute_t>& sampling, const Geometry& geometry) {
  for (int a = 0; a < kMaxDims; ++a) {
    sampling.input_size[a] = geometry.input_size[a];
    sampling.axis[a] =
        portable::make_axis<compute_t>(geometry.input_size[a], geometry.align_corners);
  }
}

/// True when a pixel's channels are whole vectors of `vector` elements, each at an address that is
/// a multiple of its size.
bool has_vector_rows(const View& view, const int64_t (&sizes)[kMaxDims], int64_t channels,
                     int64_t vector, int64_t element_size) {
  if (view.channel_stride != 1 || channels % vector != 0 || view.batch_stride % vector != 0 ||
      reinterpret_cast<uintptr_t>(view.data) % (vector * element_size) != 0) {
    return false;
  }
  for (int a = 0; a < kMaxDims; ++a) {
    if (sizes[a] > 1 && view.stride[a] % vector != 0) return false;
  }
  return true;
}

Tensor grid_sample_checked(const Tensor& input, const Tensor& grid, const Geometry& geometry,
                           const Queue& queue) {
  Tensor output = empty_image(input, output_sizes(geometry), input.scalar_type());
  if (output.numel() == 0) return output;
  dispatch_compute(geometry, [&]<typename compute_t>() {
    ForwardParams<compute_t> params = {};
    params.input = image_view(input, geometry);
    params.output = mutable_image_view(output, geometry);
    params.channels = geometry.channels;
    params.sampling.grid = grid_view(grid, geometry);
    describe_axes(params.sampling, geometry);
    const bool narrow = has_narrow_offsets(geometry, params.input);
    const auto element_size = static_cast<int64_t>(input.element_size());
    const int64_t vector = 16 / element_size;
    const bool rows = has_vector_rows(params.input, geometry.input_size, geometry.channels, vector,
                                      element_size) &&
                      params.output.channel_stride == 1;
    if (rows) {
      params.sampling.walk = walk_over(geometry, geometry.batch, {&params.sampling.grid});
      params.output.stride[0] = geometry.channels;
      forward_rows(params, geometry, narrow, queue);
    } else {
      params.sampling.walk =
          walk_over(geometry, geometry.batch, {&params.sampling.grid, &params.output});
      forward_planes(params, geometry, narrow, queue);
    }
  });
  return output;
}

/// One launch for what is wanted of both gradients: null views for what is not.
template <typename compute_t>
void launch_backward(BackwardParams<compute_t> params, const Geometry& geometry,
                     int64_t element_size, const Queue& queue) {
  constexpr int64_t kVector = kBackwardVector<compute_t>;
  const bool narrow = has_narrow_offsets(geometry, params.input);
  const auto is_rows = [&](const View& view, const int64_t (&sizes)[kMaxDims], int64_t size) {
    return view.data == nullptr || has_vector_rows(view, sizes, geometry.channels, kVector, size);
  };
  const bool rows = is_rows(params.input, geometry.input_size, element_size) &&
                    is_rows(params.grad_output, geometry.output_size, element_size) &&
                    is_rows(params.grad_input, geometry.input_size, sizeof(compute_t));
  if (rows) {
    backward_rows(params, geometry, narrow, queue);
  } else {
    backward_planes(params, geometry, narrow, queue);
  }
}

/// Whether one launch for both gradients keeps the device busy: grad_grid has one block for all
/// channels of a sample, and of all images where the grid is broadcast; grad_input has not.
bool worth_joining(const Geometry& geometry, int64_t grid_batch, const Queue& queue) {
  constexpr int64_t kFewChannels = 64;
  return grid_batch * geometry.samples >= int64_t(kWarpSize) * queue.multiprocessors ||
         geometry.batch / grid_batch * geometry.channels <= kFewChannels;
}

/// Adds to grad_input, writes grad_grid; either may be undefined.
void accumulate_gradients(const Tensor& grad_output, const Tensor& input, const Tensor& grid,
                          const Geometry& geometry, const Tensor& grad_input,
                          const Tensor& grad_grid, const Queue& queue) {
  dispatch_compute(geometry, [&]<typename compute_t>() {
    const auto element_size = static_cast<int64_t>(input.element_size());
    BackwardParams<compute_t> params = {};
    params.channels = geometry.channels;
    params.grad_output = image_view(grad_output, geometry);
    params.input = image_view(input, geometry);
    params.sampling.grid = grid_view(grid, geometry);
    describe_axes(params.sampling, geometry);
    View to_input;
    if (grad_input.defined()) to_input = mutable_image_view(grad_input, geometry);
    // By its size: a grid expanded over the batch has a gradient for each image.
    const int64_t grid_batch = grid.size(0);
    // Offsets are for one set of strides.
    const bool together = grad_input.defined() && grad_grid.defined() &&
                          same_spatial_strides(params.input, to_input, geometry) &&
                          worth_joining(geometry, grid_batch, queue);
    if (grad_input.defined() && !together) {
      BackwardParams<compute_t> alone = params;
      alone.grad_input = to_input;
      alone.input = to_input;  // for its strides; no pixel is read
      alone.input.dtype = params.input.dtype;
      alone.images = 1;
      alone.sampling.walk =
          walk_over(geometry, geometry.batch, {&alone.sampling.grid, &alone.grad_output});
      launch_backward(alone, geometry, element_size, queue);
    }
    if (grad_grid.defined()) {
      if (together) params.grad_input = to_input;
      params.grad_grid = mutable_grid_view(grad_grid, geometry);
      params.images = geometry.batch / grid_batch;
      params.sampling.walk = walk_over(
          geometry, grid_batch, {&params.sampling.grid, &params.grad_output, &params.grad_grid});
      launch_backward(params, geometry, element_size, queue);
    }
  });
}

Tensor deterministic_grad_input(const Tensor& grad_output, const Tensor& input, const Tensor& grid,
                                const Geometry& geometry, const Queue& queue) {
  Tensor grad_input = empty_image(input, sizes_vector(input), input.scalar_type());
  const int64_t elements = grad_input.numel();
  const int64_t images = input.size(0);
  const int64_t numbers = geometry.compute_in_double ? 2 * elements : elements;
  // The largest gradients, the sums, a byte for each element.
  const Tensor scratch =
      empty_contiguous({images + numbers + ceil_div(elements, 8)}, ScalarType::Long, input);
  set_zero(scratch, queue);
  auto* memory = static_cast<unsigned long long*>(scratch.mutable_data_ptr());
  dispatch_compute(geometry, [&]<typename compute_t>() {
    FixedPointParams<compute_t> params = {};
    params.grad_output = image_view(grad_output, geometry);
    params.grad_input = mutable_image_view(grad_input, geometry);
    params.sampling.grid = grid_view(grid, geometry);
    describe_axes(params.sampling, geometry);
    params.sampling.walk =
        walk_over(geometry, geometry.batch, {&params.sampling.grid, &params.grad_output});
    params.channels = geometry.channels;
    params.elements = elements;
    params.image_elements = elements / images;
    params.largest = memory;
    params.sums = memory + images;
    params.specials = reinterpret_cast<unsigned*>(memory + images + numbers);
    params.result = grad_input.mutable_data_ptr();
    params.result_dtype = *dtype_of(grad_input);
    grad_input_in_fixed_point(params, geometry, queue);
  });
  return grad_input;
}

}  // namespace

Tensor grid_sample(const Tensor& input, const Tensor& grid, int64_t interpolation_mode,
                   int64_t padding_mode, bool align_corners) {
  const Geometry geometry =
      check_call(input, grid, interpolation_mode, padding_mode, align_corners);
  const CurrentQueue queue(input);
  const Tensor image = geometry.compute_in_double ? widened(input, geometry) : input;
  const Tensor output = grid_sample_checked(image, grid, geometry, queue);
  if (output.scalar_type() == input.scalar_type()) return output;
  Tensor narrow = empty_image(input, sizes_vector(output), input.scalar_type());
  torch::stable::copy_(narrow, output);
  return narrow;
}

std::tuple<Tensor, Tensor> grid_sample_backward(const Tensor& grad_output, const Tensor& input,
                                                const Tensor& grid, int64_t interpolation_mode,
                                                int64_t padding_mode, bool align_corners,
                                                const std::vector<bool>& output_mask,
                                                bool deterministic) {
  const Geometry geometry =
      check_call(input, grid, interpolation_mode, padding_mode, align_corners);
  check_grad_output(grad_output, input, grid, geometry);
  check_output_mask(output_mask);
  const CurrentQueue queue(input);
  const bool no_samples = grad_output.numel() == 0;
  Tensor grad_input;
  Tensor grad_grid;
  bool wants_input = output_mask[0] && !no_samples;
  bool wants_grid = output_mask[1] && !no_samples && geometry.mode != Mode::kNearest;
  if (wants_input && deterministic) {
    grad_input = deterministic_grad_input(grad_output, input, grid, geometry, queue);
    wants_input = false;
  } else if (output_mask[0]) {
    grad_input = empty_image(input, sizes_vector(input), sum_type(geometry));
    set_zero(grad_input, queue);
  }
  if (output_mask[1]) {
    grad_grid = empty_contiguous(sizes_vector(grid), grid.scalar_type(), grid);
    if (!wants_grid) set_zero(grad_grid, queue);
  }
  if (wants_input || wants_grid) {
    const bool as_it_is =
        !geometry.compute_in_double && grad_output.scalar_type() == input.scalar_type();
    accumulate_gradients(as_it_is ? grad_output : widened(grad_output, geometry),
                         as_it_is ? input : widened(input, geometry), grid, geometry,
                         wants_input ? grad_input : Tensor(), wants_grid ? grad_grid : Tensor(),
                         queue);
  }
  return {rounded(grad_input, input), grad_grid};
}

}  // namespace gridsample_ext::cuda
