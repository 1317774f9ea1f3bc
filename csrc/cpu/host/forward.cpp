// The forward pass: plan, allocate, describe, run.

#include <optional>

#include "cpu/host/explain.h"
#include "cpu/host/isa.h"
#include "cpu/host/ops.h"
#include "cpu/host/scratch.h"
#include "cpu/threads/run_items.h"

namespace gridsample_ext::cpu {
namespace {

void sample(const ForwardPlan& plan, const Geometry& of_images, const View& input,
            const GridView& grid, const View& output, void* scratch) {
  const Geometry geometry = group_images(of_images, plan.images_per_group);
  const ForwardParams params{.geometry = geometry,
                             .input = group_images(input, geometry),
                             .grid = group_images(grid, geometry),
                             .output = group_images(output, geometry),
                             .channel_blocks = plan.channel_blocks,
                             .run_tiles = plan.run_tiles,
                             .packed_channels = plan.packed_channels,
                             .scratch = scratch};
  const ForwardKernels& kernels = kernels_for(geometry).forward;
  run_items(plan.items, plan.threads, [&](int64_t worker, int64_t begin, int64_t end) {
    switch (plan.path) {
      case ForwardPath::kPackedRows:
        return kernels.packed(params, worker, begin, end);
      case ForwardPath::kInRegisters:
        return kernels.in_registers(params, begin, end);
      default:
        return kernels.forward(params, begin, end);
    }
  });
}

}  // namespace

Tensor forward(const Tensor& input, const GridSource& grid, const Geometry& geometry) {
  const Tensor output = empty_image(input, output_sizes(geometry), input.scalar_type());
  const ForwardCall call{geometry, plan_image(input, geometry),
                         mutable_image_view(output, geometry)};
  const int64_t threads = most_threads();
  Without without;
  ForwardPlan plan = plan_forward(call, threads, without);
  Tensor image = input;
  Tensor result = output;
  if (plan.widens) {
    image = read_in_compute_type(input, geometry);
    result = empty_image(input, output_sizes(geometry), sum_type(geometry));
  }
  std::optional<Lent> lent(std::in_place, plan.memory);
  if (!lent->is_complete(without)) {
    plan = plan_forward(call, threads, without);
    lent.emplace(plan.memory);
  }
  executed.output = plan.path;
  if (plan.path == ForwardPath::kPlain) {
    plain_output(plain_params(geometry, grid, std::nullopt), input, std::nullopt, output,
                 plan.threads);
  } else if (plan.path != ForwardPath::kEmpty) {
    sample(plan, geometry, plan.widens ? image_view(image, geometry) : call.input.view,
           grid_view(grid, geometry),
           plan.widens ? mutable_image_view(result, geometry) : call.output,
           lent->packed_blocks.data());
    if (plan.widens) copy(output, result);
    finish_output(geometry, input, grid, std::nullopt, std::nullopt, output, plan.threads);
  }
  return output;
}

Tensor Ops::grid_sample(const Tensor& input, const Tensor& grid, const Options& options) {
  const Geometry geometry = check_call(input, grid, options, may_copy(options));
  if (!is_floating(*dtype_of(input))) check_values(geometry, input);
  return forward(input, grid, geometry);
}

Tensor Ops::warp(const Tensor& input, const Tensor& displacement,
                 const std::optional<Tensor>& affine, const Options& options) {
  const Geometry geometry = check_warp(input, displacement, affine, options, may_copy(options));
  if (!is_floating(*dtype_of(input))) check_values(geometry, input);
  return forward(input, {displacement, dense_affine(affine, geometry, copy)}, geometry);
}

}  // namespace gridsample_ext::cpu
