// The CUDA implementation of the ops, host side: check, allocate, describe, launch. Nothing here
// waits for the device, and all memory comes from PyTorch.

#include "cuda/host/grid_sample.h"

#include "checks.h"
#include "splines.h"
#include "tensors.h"
#include "cuda/host/describe.h"
#include "cuda/host/gradients.h"
#include "cuda/kernels/kernels.cuh"
#include "cuda/host/queue.h"

namespace gridsample_ext::cuda {

namespace {

void sample_into(const Tensor& output, const Tensor& input, const GridSource& grid,
                 const Geometry& geometry, const Queue& queue) {
  dispatch_compute(geometry, [&]<typename compute_t>() {
    ForwardParams<compute_t> params = {};
    params.input = image_view(input, geometry);
    params.output = mutable_image_view(output, geometry);
    params.channels = geometry.channels;
    params.sampling.grid = grid_view(grid, geometry);
    describe_sampling(params.sampling, geometry);
    const auto element_size = static_cast<int64_t>(input.element_size());
    const int64_t vector = 16 / element_size;
    const bool rows = has_vector_rows(params.input, geometry.input_size, geometry.channels, vector,
                                      element_size) &&
                      params.output.channel_stride == 1;
    if (rows) {
      params.sampling.walk = walk_over(geometry, geometry.batch, {&params.sampling.grid});
      params.output.stride[0] = geometry.channels;
      forward_rows(params, geometry, is_narrow(geometry, params.input, params.sampling.walk),
                   queue);
    } else {
      params.sampling.walk =
          walk_over(geometry, geometry.batch, {&params.sampling.grid, &params.output});
      const bool narrow = is_narrow(geometry, params.input, params.sampling.walk);
      if constexpr (std::is_same_v<compute_t, float>) {
        if (takes_few_channels(params, geometry, narrow)) {
          return forward_few_channels(params, geometry, queue);
        }
      }
      forward_planes(params, geometry, narrow, queue);
    }
  });
}

/// Of integers or bools.
void copy_into(const Tensor& output, const Tensor& input, const GridSource& grid,
               const Geometry& geometry, const Queue& queue) {
  dispatch_compute(geometry, [&]<typename compute_t>() {
    CopyParams<compute_t> params = {};
    params.input = image_view(input, geometry);
    params.output = mutable_image_view(output, geometry);
    params.channels = geometry.channels;
    params.fill_value = element_of(geometry.fill_value, output, "fill_value");
    params.outside_value = element_of(geometry.outside_value.value_or(0), output, "outside_value");
    params.sampling.grid = grid_view(grid, geometry);
    describe_sampling(params.sampling, geometry);
    params.sampling.walk =
        walk_over(geometry, geometry.batch, {&params.sampling.grid, &params.output});
    copy_nearest(params, geometry, queue);
  });
}

/// tangent_input is of input's type and layout, or undefined: zero.
void differentiate_into(const Tensor& output, const Tensor& input, const Tensor& tangent_input,
                        const Tensor& grid, const Tensor& tangent_grid, const Geometry& geometry,
                        const Queue& queue) {
  dispatch_compute(geometry, [&]<typename compute_t>() {
    JvpParams<compute_t> params = {};
    params.input = image_view(input, geometry);
    if (tangent_input.defined()) params.tangent_input = image_view(tangent_input, geometry);
    params.tangent_grid = grid_view(tangent_grid, geometry);
    params.output = mutable_image_view(output, geometry);
    params.channels = geometry.channels;
    params.sampling.grid = grid_view(grid, geometry);
    describe_sampling(params.sampling, geometry);
    params.sampling.walk = walk_over(geometry, geometry.batch,
                                     {&params.sampling.grid, &params.tangent_grid, &params.output});
    jvp(params, geometry, is_narrow(geometry, params.input, params.sampling.walk), queue);
  });
}

/// The output of checked arguments.
Tensor sample(const Tensor& input, const GridSource& grid, const Geometry& geometry,
              const Queue& queue) {
  if (!is_floating(*dtype_of(input))) {
    check_values(geometry, input);
    const Tensor output = empty_image(input, output_sizes(geometry), input.scalar_type());
    if (output.numel() > 0) copy_into(output, input, grid, geometry, queue);
    return output;
  }
  Tensor images[] = {input};
  in_one_type(images, geometry);
  const Tensor output = empty_image(input, output_sizes(geometry), images[0].scalar_type());
  if (output.numel() > 0) sample_into(output, images[0], grid, geometry, queue);
  const Tensor result = rounded(output, input);
  finish_output(result, input, grid, {}, geometry, queue);
  return result;
}

}  // namespace

Tensor Ops::grid_sample(const Tensor& input, const Tensor& grid, const Options& options) {
  const Geometry geometry = check_call(input, grid, options, may_copy(options));
  return sample(input, grid, geometry, CurrentQueue(input));
}

Tensor Ops::warp(const Tensor& input, const Tensor& displacement,
                 const std::optional<Tensor>& affine, const Options& options) {
  const Geometry geometry = check_warp(input, displacement, affine, options, may_copy(options));
  const CurrentQueue queue(input);
  return sample(input, {displacement, dense_affine(affine, geometry)}, geometry, queue);
}

std::tuple<Tensor, Tensor, Tensor> Ops::warp_backward(
    const Tensor& grad_output, const Tensor& input, const Tensor& displacement,
    const std::optional<Tensor>& affine, const Options& options,
    const std::vector<bool>& output_mask, bool deterministic) {
  const Geometry geometry = check_warp(input, displacement, affine, options);
  check_grad_output(grad_output, input, displacement, geometry, "displacement");
  check_output_mask(output_mask, 3);
  const CurrentQueue queue(input);
  const GridSource source{displacement, dense_affine(affine, geometry)};
  if (!output_mask[2] || !affine.has_value()) {
    const auto [grad_input, grad_displacement] =
        gradients(grad_output, input, source, {}, geometry, output_mask[0], output_mask[1],
                  deterministic, queue);
    return {grad_input, grad_displacement, Tensor()};
  }
  // Kernels store what is to be added up, in the compute type.
  const auto [grad_input, grad_grid] =
      gradients(grad_output, input, source, {}, geometry, output_mask[0], true, deterministic,
                queue, sum_type(geometry));
  const Tensor grad_affine = sum_affine(grad_grid, *affine, geometry, queue);
  return {grad_input, output_mask[1] ? rounded(grad_grid, displacement) : Tensor(), grad_affine};
}

std::tuple<Tensor, Tensor> Ops::grid_sample_backward(const Tensor& grad_output, const Tensor& input,
                                                     const Tensor& grid, const Options& options,
                                                     const std::vector<bool>& output_mask,
                                                     bool deterministic) {
  const Geometry geometry = check_call(input, grid, options);
  check_grad_output(grad_output, input, grid, geometry);
  check_output_mask(output_mask);
  const CurrentQueue queue(input);
  return gradients(grad_output, input, grid, {}, geometry, output_mask[0], output_mask[1],
                   deterministic, queue);
}

Tensor Ops::grid_sample_jvp(const Tensor& input, const Tensor& grid,
                            const std::optional<Tensor>& tangent_input,
                            const std::optional<Tensor>& tangent_grid, const Options& options) {
  const Geometry geometry = check_call(input, grid, options);
  check_companions("tangent_input", tangent_input, "tangent_grid", tangent_grid, input, grid);
  const CurrentQueue queue(input);
  const bool moves = tangent_grid.has_value() && portable::is_smooth(geometry.mode);
  Tensor images[] = {input, tangent_input.value_or(Tensor())};
  in_one_type(images, geometry);
  const Tensor output = empty_image(input, output_sizes(geometry), images[0].scalar_type());
  if (output.numel() == 0) return rounded(output, input);
  if (moves) {
    if (images[1].defined()) in_one_layout(images[0], images[1], geometry);
    differentiate_into(output, images[0], images[1], grid, *tangent_grid, geometry, queue);
    const Tensor result = rounded(output, input);
    finish_output(result, input, grid, {tangent_input.value_or(Tensor()), *tangent_grid}, geometry,
                  queue);
    return result;
  } else if (images[1].defined()) {
    sample_into(output, images[1], grid, geometry, queue);  // linear in the input
  } else {
    set_zero(output, queue);
  }
  return rounded(output, input);
}

Tensor Ops::sample_labels(const Tensor& labels, const Tensor& grid, const LabelOptions& options) {
  const LabelCall call = check_labels(labels, grid, options);
  const Geometry& geometry = call.geometry;
  const CurrentQueue queue(labels);
  const Tensor output = empty_image(labels, output_sizes(geometry), labels.scalar_type());
  if (output.numel() == 0) return output;
  dispatch_compute(geometry, [&]<typename compute_t>() {
    LabelParams<compute_t> params = {};
    params.labels = image_view(labels, geometry);
    params.output = mutable_image_view(output, geometry);
    params.type = call.type;
    params.channels = geometry.channels;
    params.fills = geometry.fill_value != 0;
    params.fill_value = call.fill_value;
    params.outside_value = call.outside_value;
    params.sampling.grid = grid_view(grid, geometry);
    describe_sampling(params.sampling, geometry);
    params.sampling.walk =
        walk_over(geometry, geometry.batch, {&params.sampling.grid, &params.output});
    cuda::sample_labels(params, geometry, queue);
  });
  return output;
}

Tensor Ops::spline_filter(const Tensor& image, const SplineOptions& options) {
  const Geometry geometry = check_spline_filter(image, options);
  const CurrentQueue queue(image);
  const auto run = [&](const SplineParams& params) {
    dispatch_compute(geometry,
                     [&]<typename compute_t>() { filter_splines<compute_t>(params, queue); });
  };
  const auto copy = [](Tensor to, const Tensor& from) { torch::stable::copy_(to, from); };
  return filter_image(image, geometry, options.transposed, run, copy);
}

std::tuple<Tensor, Tensor> Ops::grid_sample_double_backward(
    const std::optional<Tensor>& grad_grad_input, const std::optional<Tensor>& grad_grad_grid,
    const Tensor& grad_output, const Tensor& input, const Tensor& grid, const Options& options,
    const std::vector<bool>& output_mask, bool deterministic) {
  const Geometry geometry = check_call(input, grid, options);
  check_grad_output(grad_output, input, grid, geometry);
  check_companions("grad_grad_input", grad_grad_input, "grad_grad_grid", grad_grad_grid, input,
                   grid);
  check_output_mask(output_mask);
  const CurrentQueue queue(input);
  if (grad_grad_grid.has_value()) {
    const Direction direction{grad_grad_input.value_or(Tensor()), *grad_grad_grid};
    return gradients(grad_output, input, grid, direction, geometry, output_mask[0], output_mask[1],
                     deterministic, queue);
  }
  // grad_grid is linear in the input, and grad_input does not depend on it.
  Tensor grad_input;
  if (output_mask[0]) {
    grad_input = empty_image(input, sizes_vector(input), input.scalar_type());
    set_zero(grad_input, queue);
  }
  const Tensor grad_grid =
      std::get<1>(gradients(grad_output, *grad_grad_input, grid, {}, of_directions(geometry), false,
                            output_mask[1], false, queue));
  return {grad_input, grad_grid};
}

}  // namespace gridsample_ext::cuda
