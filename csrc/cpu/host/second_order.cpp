// Derivatives along a direction, and gradients of the gradients: plan, allocate, describe, run.

#include <optional>

#include "cpu/host/explain.h"
#include "cpu/host/isa.h"
#include "cpu/host/ops.h"
#include "cpu/host/scratch.h"
#include "cpu/plan/split.h"
#include "cpu/threads/run_items.h"

namespace gridsample_ext::cpu {
namespace {

/// An image as rows: the tensor itself where its layout and type allow, else memory of its own.
struct Rows {
  Tensor memory;
  View view;
  bool copied;
};

/// Rows for an image, to be filled in; the image itself if it is rows.
Rows rows_like(const Tensor& tensor, const Image& image, const Geometry& geometry) {
  View view = rows_view(geometry, image.batch);
  if (is_rows(geometry, image)) {
    view.data = image.view.data;
    view.batch_stride = image.view.batch_stride;
    return {tensor, view, false};
  }
  const Tensor memory = empty_contiguous({tensor.numel()}, sum_type(geometry), tensor);
  view.data = memory.mutable_data_ptr();
  return {memory, view, true};
}

/// Runs a kernel that copies between an image and its rows.
void copy_rows(void (*kernel)(const RowsParams&, int64_t, int64_t), const Rows& rows,
               const Image& image, const Geometry& geometry, int64_t threads) {
  const RowsParams params{geometry, image.view, rows.view,
                          ceil_div(enough_items(threads), image.batch)};
  run_items(image.batch * params.parts, threads,
            [&](int64_t, int64_t begin, int64_t end) { kernel(params, begin, end); });
}

Rows rows_of(const Tensor& tensor, const Geometry& geometry, int64_t threads) {
  const Image image = plan_image(tensor, geometry);
  Rows rows = rows_like(tensor, image, geometry);
  if (rows.copied) {
    copy_rows(kernels_for(geometry).second_order.to_rows, rows, image, geometry, threads);
  }
  return rows;
}

SecondOrderCall describe(const Geometry& geometry, const Tensor& input,
                         const std::optional<Tensor>& tangent_input,
                         const std::optional<Tensor>& tangent_grid, const Tensor& grid) {
  SecondOrderCall call;
  call.geometry = geometry;
  call.input = plan_image(input, geometry);
  call.moves_input = tangent_input.has_value();
  if (call.moves_input) call.tangent_input = plan_image(*tangent_input, geometry);
  call.moves_grid = tangent_grid.has_value();
  call.grid_batch = grid.size(0);
  return call;
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

/// Runs a kernel that reads images as rows.
void run_on_rows(void (*kernel)(const SecondOrderParams&, int64_t, int64_t),
                 SecondOrderParams params, const Tensor& input,
                 const std::optional<Tensor>& tangent_input, int64_t items, int64_t threads) {
  const Rows image = rows_of(input, params.geometry, threads);
  Rows tangent;
  if (tangent_input.has_value()) tangent = rows_of(*tangent_input, params.geometry, threads);
  params.input = image.view;
  params.tangent_input = tangent.view;
  run_items(items, threads,
            [&](int64_t, int64_t begin, int64_t end) { kernel(params, begin, end); });
}

/// A direction of another type than input's, in the compute type: an op may take input's place by
/// it and not round to its type.
Tensor of_type(const Tensor& direction, const Tensor& input, const Geometry& geometry) {
  return direction.scalar_type() == input.scalar_type() ? direction
                                                        : in_compute_type(direction, geometry);
}

Tensor zeros(Tensor tensor) {
  zero(tensor);
  return tensor;
}

/// Writes grad_input, which is allocated in the type that the plan sums in.
void double_backward_input(const DoubleBackwardPlan& plan, const Lent& lent,
                           const Geometry& geometry, const Tensor& grad_output, const Tensor& grid,
                           const std::optional<Tensor>& tangent_grid, const Tensor& grad_input) {
  if (plan.grad_input == SecondGradInputPath::kZero) return zero(grad_input);
  const PlainParams plain = plain_params(geometry, grid, tangent_grid);
  if (plan.grad_input == SecondGradInputPath::kPlain) {
    return plain_scatter(plain, grad_output, grad_input, plan.threads);
  }
  if (plan.grad_input == SecondGradInputPath::kListedTaps) {
    return plain_grad_input(plain, grad_output, grad_input, lent.listed_taps.data(), plan.threads);
  }
  const Image image = plan_image(grad_input, geometry);
  const Rows rows = rows_like(grad_input, image, geometry);
  SecondOrderParams params = second_order_params(geometry, grid, *tangent_grid);
  params.grad_output = image_view(grad_output, geometry);
  params.input = rows.view;  // for its strides
  GradInputParams& to_input = params.to_input;
  to_input.geometry = geometry;
  to_input.grad_output = params.grad_output;
  to_input.grid = params.grid;
  to_input.grad_input = rows.view;
  to_input.input_batch = image.batch;
  divide_grad_input(to_input, plan.split, lent.slab_ranges.data(), plan.threads);
  const SecondOrderKernels& kernels = kernels_for(geometry).second_order;
  run_items(to_input.input_batch * to_input.channel_blocks * to_input.slabs, plan.threads,
            [&](int64_t, int64_t begin, int64_t end) {
              kernels.double_backward_input(params, begin, end);
            });
  if (rows.copied) copy_rows(kernels.from_rows, rows, image, geometry, plan.threads);
}

Tensor double_backward_grid(const DoubleBackwardPlan& plan, const Geometry& geometry,
                            const Tensor& grad_output, const Tensor& input, const Tensor& grid,
                            const std::optional<Tensor>& tangent_input,
                            const std::optional<Tensor>& tangent_grid) {
  if (plan.grad_grid == SecondGradGridPath::kLinear) {
    return backward(grad_output, of_type(*tangent_input, input, geometry), grid,
                    of_directions(geometry), {false, true, std::nullopt})
        .grid;
  }
  const Tensor grad_grid = empty_contiguous(sizes_vector(grid), grid.scalar_type(), grid);
  if (plan.grad_grid == SecondGradGridPath::kZero) return zeros(grad_grid);
  if (plan.grad_grid == SecondGradGridPath::kPlain) {
    const bool moves = tangent_grid.has_value();
    plain_grad_grid(plain_params(moves ? geometry : of_directions(geometry), grid, tangent_grid),
                    grad_output, moves ? input : *tangent_input,
                    moves ? tangent_input : std::nullopt, grad_grid, plan.threads);
    return grad_grid;
  }
  SecondOrderParams params = second_order_params(geometry, grid, *tangent_grid);
  params.grad_output = image_view(grad_output, geometry);
  params.grad_grid = mutable_grid_view(grad_grid, geometry);
  run_on_rows(kernels_for(geometry).second_order.double_backward_grid, params, input, tangent_input,
              plan.grad_grid_items, plan.threads);
  finish_grad_grid(geometry, grad_output, input, grid, tangent_input, tangent_grid, grad_grid,
                   plan.threads);
  return grad_grid;
}

}  // namespace

Tensor Ops::grid_sample_jvp(const Tensor& input, const Tensor& grid,
                            const std::optional<Tensor>& tangent_input,
                            const std::optional<Tensor>& tangent_grid, const Options& options) {
  const Geometry checked = check_call(input, grid, options);
  check_companions("tangent_input", tangent_input, "tangent_grid", tangent_grid, input, grid);
  const bool moves_grid = tangent_grid.has_value() && is_smooth(checked.mode);
  Geometry geometry = of_directions(checked);
  if (moves_grid) geometry.fill_value = checked.fill_value;
  const JvpPlan plan =
      plan_jvp(describe(geometry, input, tangent_input, tangent_grid, grid), most_threads());
  executed.tangent = plan.path;
  const Tensor output = empty_image(input, output_sizes(geometry), input.scalar_type());
  switch (plan.path) {
    case JvpPath::kEmpty:
      break;
    case JvpPath::kZero:
      zero(output);
      break;
    case JvpPath::kLinear: {
      const Tensor tangent = forward(of_type(*tangent_input, input, geometry), grid, geometry);
      if (tangent.scalar_type() == output.scalar_type() && tangent.strides() == output.strides()) {
        return tangent;
      }
      copy(output, tangent);
      break;
    }
    case JvpPath::kPlain: {
      plain_output(plain_params(geometry, grid, moves_grid ? tangent_grid : std::nullopt),
                   moves_grid ? input : *tangent_input, moves_grid ? tangent_input : std::nullopt,
                   output, plan.threads);
      break;
    }
    case JvpPath::kLanesOverSamples:
    case JvpPath::kLanesOverChannels: {
      SecondOrderParams params = second_order_params(geometry, grid, *tangent_grid);
      params.output = mutable_image_view(output, geometry);
      run_on_rows(kernels_for(geometry).second_order.jvp, params, input, tangent_input, plan.items,
                  plan.threads);
      finish_output(geometry, input, grid, tangent_input, tangent_grid, output, plan.threads);
    }
  }
  return output;
}

std::tuple<Tensor, Tensor> Ops::grid_sample_double_backward(
    const std::optional<Tensor>& grad_grad_input, const std::optional<Tensor>& grad_grad_grid,
    const Tensor& grad_output, const Tensor& input, const Tensor& grid, const Options& options,
    const std::vector<bool>& output_mask, bool /*deterministic: always*/) {
  const Geometry geometry = check_call(input, grid, options);
  check_grad_output(grad_output, input, grid, geometry);
  check_companions("grad_grad_input", grad_grad_input, "grad_grad_grid", grad_grad_grid, input,
                   grid);
  check_output_mask(output_mask);
  SecondOrderCall call = describe(geometry, input, grad_grad_input, grad_grad_grid, grid);
  call.wants_input = output_mask[0];
  call.wants_grid = output_mask[1];
  const int64_t most = most_threads();
  Without without;
  DoubleBackwardPlan plan;
  Tensor grad_input;
  Tensor grad_grid;
  std::optional<Lent> lent;
  do {
    lent.reset();
    plan = plan_double_backward(call, most, without);
    if (call.wants_input && !grad_input.defined()) {
      const bool sums = plan.grad_input == SecondGradInputPath::kPlain;
      grad_input =
          empty_image(input, sizes_vector(input), sums ? sum_type(geometry) : input.scalar_type());
    }
    lent.emplace(plan.memory);
  } while (!lent->is_complete(without));
  executed.second_grad_input = plan.grad_input;
  executed.second_grad_grid = plan.grad_grid;
  if (call.wants_input) {
    double_backward_input(plan, *lent, geometry, grad_output, grid, grad_grad_grid, grad_input);
    grad_input = rounded(grad_input, input, copy);
  }
  lent.reset();
  if (call.wants_grid) {
    grad_grid = double_backward_grid(plan, geometry, grad_output, input, grid, grad_grad_input,
                                     grad_grad_grid);
  }
  return {grad_input, grad_grid};
}

}  // namespace gridsample_ext::cpu
