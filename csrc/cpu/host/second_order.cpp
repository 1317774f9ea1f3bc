// Derivatives along a direction, and gradients of the gradients: check, allocate, describe, run.

#include "checks.h"
#include "tensors.h"
#include "cpu/host/copies.h"
#include "cpu/host/ops.h"
#include "cpu/host/isa.h"
#include "cpu/host/schedule.h"

namespace gridsample_ext::cpu {
namespace {

/// An image as rows: the tensor itself where its layout and type allow, else memory of its own.
struct Rows {
  Tensor memory;
  View view;
};

bool is_rows(const Tensor& image, const View& view, const Geometry& geometry) {
  if (view.dtype != compute_dtype(geometry)) return false;
  if (geometry.channels > 1 && view.channel_stride != 1) return false;
  int64_t stride = geometry.channels;
  for (int axis = 0; axis < geometry.dims; ++axis) {
    if (geometry.input_size[axis] > 1 && view.stride[axis] != stride) return false;
    stride *= geometry.input_size[axis];
  }
  return image.size(0) == 1 || view.batch_stride >= stride;
}

View rows_view(void* data, int64_t batch_stride, const Geometry& geometry) {
  View view;
  view.data = data;
  view.dtype = compute_dtype(geometry);
  view.batch_stride = batch_stride;
  view.channel_stride = 1;
  int64_t stride = geometry.channels;
  for (int axis = 0; axis < geometry.dims; ++axis) {
    view.stride[axis] = stride;
    stride *= geometry.input_size[axis];
  }
  return view;
}

/// Rows for an image of `image`'s sizes, to be filled in; the image itself if it is rows.
Rows rows_like(const Tensor& image, const View& view, const Geometry& geometry) {
  if (is_rows(image, view, geometry)) {
    return {image, rows_view(view.data, view.batch_stride, geometry)};
  }
  const Tensor memory = empty_contiguous({image.numel()}, sum_type(geometry), image);
  const int64_t batch_stride =
      image.size(0) == 1 ? 0 : packed_elements(geometry, geometry.channels);
  return {memory, rows_view(memory.mutable_data_ptr(), batch_stride, geometry)};
}

/// Whether offsets within an image of rows are too large for vectors.
bool has_wide_rows(const Geometry& geometry) {
  return !has_narrow_offsets(geometry, rows_view(nullptr, 0, geometry));
}

/// Whether plain kernels read the images: of few samples, where they would be copied (one that is
/// rows already is not), or too large.
bool reads_plainly(const Geometry& geometry, const Tensor& input,
                   const std::optional<Tensor>& tangent_input) {
  const auto is_copied = [&](const Tensor& image) {
    return !is_rows(image, image_view(image, geometry), geometry);
  };
  if (has_wide_rows(geometry)) return true;
  return has_few_samples(geometry, input.size(0), kPlainRead) &&
         (is_copied(input) || (tangent_input.has_value() && is_copied(*tangent_input)));
}

RowsParams between(const Rows& rows, const Tensor& image, const View& view,
                   const Geometry& geometry, int64_t threads) {
  return {geometry, view, rows.view, ceil_div(enough_items(threads), image.size(0))};
}

Rows rows_of(const Tensor& image, const Geometry& geometry, int64_t threads) {
  const View view = image_view(image, geometry);
  Rows rows = rows_like(image, view, geometry);
  if (rows.view.data != view.data) {
    const RowsParams params = between(rows, image, view, geometry, threads);
    run_items(image.size(0) * params.parts, threads, [&](int64_t, int64_t begin, int64_t end) {
      kernels_for(geometry).second_order.to_rows(params, begin, end);
    });
  }
  return rows;
}

/// What both ops tell the kernels.
SecondOrderParams second_order_params(const Geometry& geometry, const Tensor& grid,
                                      const Tensor& tangent_grid) {
  SecondOrderParams params;
  params.geometry = geometry;
  params.grid = grid_view(grid, geometry);
  params.tangent_grid = grid_view(tangent_grid, geometry);
  params.grid_batch = grid.size(0);
  return params;
}

/// Whether a direction that takes input's place in an op has another type, and there are few
/// samples.
bool reads_plainly_as(const Tensor& direction, const Tensor& input, const Geometry& geometry) {
  return direction.scalar_type() != input.scalar_type() &&
         has_few_samples(geometry, input.size(0), kPlainRead);
}

/// A direction of another type than input's, in the compute type: an op may take input's place by
/// it and not round to its type.
Tensor of_type(const Tensor& direction, const Tensor& input, const Geometry& geometry) {
  if (direction.scalar_type() == input.scalar_type()) return direction;
  const Tensor moved = empty_image(direction, sizes_vector(direction), sum_type(geometry));
  copy(moved, direction);
  return moved;
}

Tensor zeros(Tensor tensor) {
  zero(tensor);
  return tensor;
}

/// grad_input from what moves the grid.
Tensor double_backward_input(SecondOrderParams& params, const Tensor& grad_output,
                             const Tensor& input, const Tensor& grid, const Tensor& tangent_grid,
                             int64_t threads) {
  const Geometry& geometry = params.geometry;
  if (has_wide_rows(geometry)) {
    const Tensor sums = empty_image(input, sizes_vector(input), sum_type(geometry));
    plain_scatter(plain_params(geometry, grid, tangent_grid), grad_output, sums);
    return rounded(sums, input, copy);
  }
  Tensor grad_input = empty_image(input, sizes_vector(input), input.scalar_type());
  const View view = mutable_image_view(grad_input, geometry);
  if (!is_rows(grad_input, view, geometry) && has_few_samples(geometry, input.size(0), kPlainAdd) &&
      plain_grad_input(plain_params(geometry, grid, tangent_grid), grad_output, grad_input)) {
    return grad_input;
  }
  const Rows rows = rows_like(grad_input, view, geometry);
  params.input = rows.view;  // for its strides
  GradInputParams& to_input = params.to_input;
  to_input.geometry = geometry;
  to_input.grad_output = params.grad_output;
  to_input.grid = params.grid;
  to_input.grad_input = rows.view;
  to_input.input_batch = input.size(0);
  std::vector<TapRange> ranges;
  divide_grad_input(to_input, threads, ranges);
  run_items(to_input.input_batch * to_input.channel_blocks * to_input.slabs, threads,
            [&](int64_t, int64_t begin, int64_t end) {
              kernels_for(geometry).second_order.double_backward_input(params, begin, end);
            });
  if (rows.view.data != view.data) {
    const RowsParams back = between(rows, grad_input, view, geometry, threads);
    run_items(input.size(0) * back.parts, threads, [&](int64_t, int64_t begin, int64_t end) {
      kernels_for(geometry).second_order.from_rows(back, begin, end);
    });
  }
  return grad_input;
}

Tensor double_backward_grid(SecondOrderParams& params, const Tensor& grad_output,
                            const Tensor& input, const Tensor& grid,
                            const std::optional<Tensor>& tangent_input, const Tensor& tangent_grid,
                            int64_t threads) {
  const Geometry& geometry = params.geometry;
  Tensor grad_grid = empty_contiguous(sizes_vector(grid), grid.scalar_type(), grid);
  if (reads_plainly(geometry, input, tangent_input)) {
    plain_grad_grid(plain_params(geometry, grid, tangent_grid), grad_output, input, tangent_input,
                    grad_grid);
    return grad_grid;
  }
  const Rows image = rows_of(input, geometry, threads);
  Rows tangent;
  if (tangent_input.has_value()) tangent = rows_of(*tangent_input, geometry, threads);
  params.input = image.view;
  params.tangent_input = tangent.view;
  params.grad_grid = mutable_grid_view(grad_grid, geometry);
  run_items(params.grid_batch * part_count(geometry), threads,
            [&](int64_t, int64_t begin, int64_t end) {
              kernels_for(geometry).second_order.double_backward_grid(params, begin, end);
            });
  return grad_grid;
}

}  // namespace

Tensor grid_sample_jvp(const Tensor& input, const Tensor& grid,
                       const std::optional<Tensor>& tangent_input,
                       const std::optional<Tensor>& tangent_grid, int64_t interpolation_mode,
                       int64_t padding_mode, bool align_corners) {
  const Geometry geometry =
      check_call(input, grid, interpolation_mode, padding_mode, align_corners);
  check_companions("tangent_input", tangent_input, "tangent_grid", tangent_grid, input, grid);
  Tensor output = empty_image(input, output_sizes(geometry), input.scalar_type());
  if (output.numel() == 0) return output;
  if (!tangent_grid.has_value() || geometry.mode == Mode::kNearest) {
    if (!tangent_input.has_value()) return zeros(output);
    // The output is linear in input.
    if (reads_plainly_as(*tangent_input, input, geometry)) {
      plain_output(plain_params(geometry, grid, std::nullopt), *tangent_input, std::nullopt,
                   output);
      return output;
    }
    const Tensor tangent = grid_sample(of_type(*tangent_input, input, geometry), grid,
                                       interpolation_mode, padding_mode, align_corners);
    if (tangent.scalar_type() == output.scalar_type() && tangent.strides() == output.strides()) {
      return tangent;
    }
    copy(output, tangent);
    return output;
  }
  if (reads_plainly(geometry, input, tangent_input)) {
    plain_output(plain_params(geometry, grid, tangent_grid), input, tangent_input, output);
    return output;
  }
  const int64_t threads = useful_threads(geometry);
  SecondOrderParams params = second_order_params(geometry, grid, *tangent_grid);
  const Rows image = rows_of(input, geometry, threads);
  Rows tangent;
  if (tangent_input.has_value()) tangent = rows_of(*tangent_input, geometry, threads);
  params.input = image.view;
  params.tangent_input = tangent.view;
  params.output = mutable_image_view(output, geometry);
  run_items(geometry.batch * part_count(geometry), threads,
            [&](int64_t, int64_t begin, int64_t end) {
              kernels_for(geometry).second_order.jvp(params, begin, end);
            });
  return output;
}

std::tuple<Tensor, Tensor> grid_sample_double_backward(
    const std::optional<Tensor>& grad_grad_input, const std::optional<Tensor>& grad_grad_grid,
    const Tensor& grad_output, const Tensor& input, const Tensor& grid, int64_t interpolation_mode,
    int64_t padding_mode, bool align_corners, const std::vector<bool>& output_mask,
    bool /*deterministic: always*/) {
  const Geometry geometry =
      check_call(input, grid, interpolation_mode, padding_mode, align_corners);
  check_grad_output(grad_output, input, grid, geometry);
  check_companions("grad_grad_input", grad_grad_input, "grad_grad_grid", grad_grad_grid, input,
                   grid);
  check_output_mask(output_mask);
  const bool curved = grad_output.numel() > 0 && geometry.mode != Mode::kNearest;
  const int64_t threads = useful_threads(geometry);
  Tensor grad_input;
  Tensor grad_grid;
  SecondOrderParams params;
  if (curved && grad_grad_grid.has_value()) {
    params = second_order_params(geometry, grid, *grad_grad_grid);
    params.grad_output = image_view(grad_output, geometry);
  }
  if (output_mask[0]) {
    grad_input =
        curved && grad_grad_grid.has_value()
            ? double_backward_input(params, grad_output, input, grid, *grad_grad_grid, threads)
            : zeros(empty_image(input, sizes_vector(input), input.scalar_type()));
  }
  if (output_mask[1]) {
    if (!curved) {
      grad_grid = zeros(empty_contiguous(sizes_vector(grid), grid.scalar_type(), grid));
    } else if (grad_grad_grid.has_value()) {
      grad_grid = double_backward_grid(params, grad_output, input, grid, grad_grad_input,
                                       *grad_grad_grid, threads);
    } else if (reads_plainly_as(*grad_grad_input, input, geometry)) {
      grad_grid = empty_contiguous(sizes_vector(grid), grid.scalar_type(), grid);
      plain_grad_grid(plain_params(geometry, grid, std::nullopt), grad_output, *grad_grad_input,
                      std::nullopt, grad_grid);
    } else {
      // grad_grid is linear in input.
      grad_grid = std::get<1>(grid_sample_backward(
          grad_output, of_type(*grad_grad_input, input, geometry), grid, interpolation_mode,
          padding_mode, align_corners, {false, true}, true));
    }
  }
  return {grad_input, grad_grid};
}

}  // namespace gridsample_ext::cpu
