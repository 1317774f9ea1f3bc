// How gradients are computed: which kernels, by how many launches, in what memory.

#include "cuda/host/gradients.h"

#include "cuda/host/describe.h"
#include "cuda/kernels/kernels.cuh"
#include "cuda/host/packing.h"

namespace gridsample_ext::cuda {
namespace {

/// One launch for what is wanted of both gradients: null views for what is not.
/// of_three_channels: grad_input is what sums_of_three_channels gave.
template <typename compute_t>
void launch_backward(BackwardParams<compute_t> params, const Geometry& geometry,
                     int64_t element_size, bool of_three_channels, const Queue& queue) {
  if constexpr (std::is_same_v<compute_t, float>) {
    if (of_three_channels && params.grad_input.data != nullptr) {
      params.input.stride[0] = linear_stride(params.input, geometry.dims, geometry.input_size);
      params.rows_of_four = queue.adds_vectors;
      return backward_three_channels(params, geometry, queue);
    }
  }
  constexpr int64_t kVector = kBackwardVector<compute_t>;
  const bool narrow = is_narrow(geometry, params.input, params.sampling.walk);
  if (params.grad_grad_grid.data != nullptr) {
    return double_backward(params, geometry, narrow, queue);
  }
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

/// Adds to grad_input, which is of the compute type, and writes grad_grid; either may be undefined.
/// grad_output, input and direction.input are of one type, and the latter two have the same strides
/// along the axes.
void accumulate_gradients(const Tensor& grad_output, const Tensor& input, const GridSource& grid,
                          const Direction& direction, const Geometry& geometry,
                          const Tensor& grad_input, bool of_three_channels, const Tensor& grad_grid,
                          const Queue& queue) {
  dispatch_compute(geometry, [&]<typename compute_t>() {
    const auto element_size = static_cast<int64_t>(input.element_size());
    BackwardParams<compute_t> params = {};
    params.channels = geometry.channels;
    params.grad_output = image_view(grad_output, geometry);
    params.input = image_view(input, geometry);
    params.sampling.grid = grid_view(grid, geometry);
    if (direction.grid.defined()) params.grad_grad_grid = grid_view(direction.grid, geometry);
    describe_sampling(params.sampling, geometry);
    View to_input;
    if (grad_input.defined()) to_input = mutable_image_view(grad_input, geometry);
    // By its size: a grid expanded over the batch has a gradient for each image.
    const int64_t grid_batch = grid.values.size(0);
    // Offsets are for one set of strides.
    const bool together =
        grad_input.defined() && grad_grid.defined() &&
        (of_three_channels || same_spatial_strides(params.input, to_input, geometry)) &&
        worth_joining(geometry, grid_batch, queue);
    if (grad_input.defined() && !together) {
      BackwardParams<compute_t> alone = params;
      alone.grad_input = to_input;
      alone.input = to_input;  // for its strides; no pixel is read
      alone.input.dtype = params.input.dtype;
      alone.images = 1;
      alone.sampling.walk =
          walk_over(geometry, geometry.batch,
                    {&alone.sampling.grid, &alone.grad_output, &alone.grad_grad_grid});
      launch_backward(alone, geometry, element_size, of_three_channels, queue);
    }
    if (grad_grid.defined()) {
      if (together) params.grad_input = to_input;
      params.grad_grid = mutable_grid_view(grad_grid, geometry);
      if (direction.input.defined()) params.grad_grad_input = image_view(direction.input, geometry);
      params.images = geometry.batch / grid_batch;
      params.sampling.walk = walk_over(
          geometry, grid_batch,
          {&params.sampling.grid, &params.grad_output, &params.grad_grid, &params.grad_grad_grid});
      launch_backward(params, geometry, element_size, of_three_channels, queue);
    }
  });
}

/// What is common to the output and to grad_grid; the caller adds these.
template <typename compute_t>
FinishParams<compute_t> describe_finish(Tensor& input, Direction& direction, const GridSource& grid,
                                        const Geometry& geometry) {
  FinishParams<compute_t> params = {};
  if (direction.input.defined()) {
    in_one_layout(input, direction.input, geometry);
    params.tangent_input = image_view(direction.input, geometry);
  }
  params.input = image_view(input, geometry);
  params.sampling.grid = grid_view(grid, geometry);
  describe_sampling(params.sampling, geometry);
  if (direction.grid.defined()) params.tangent_grid = grid_view(direction.grid, geometry);
  params.images = 1;
  params.channels = geometry.channels;
  params.fill_value = static_cast<compute_t>(geometry.fill_value);
  params.outside_value = static_cast<compute_t>(geometry.outside_value.value_or(0));
  return params;
}

void finish_grad_grid(const Tensor& grad_grid, const Tensor& grad_output, Tensor input,
                      const GridSource& grid, Direction direction, const Geometry& geometry,
                      const Queue& queue) {
  dispatch_compute(geometry, [&]<typename compute_t>() {
    auto params = describe_finish<compute_t>(input, direction, grid, geometry);
    params.grad_output = image_view(grad_output, geometry);
    params.grad_grid = mutable_grid_view(grad_grid, geometry);
    params.images = geometry.batch / grid.values.size(0);
    params.sampling.walk = walk_over(
        geometry, grid.values.size(0),
        {&params.sampling.grid, &params.grad_output, &params.grad_grid, &params.tangent_grid});
    finish(params, geometry, queue);
  });
}

Tensor deterministic_grad_input(const Tensor& grad_output, const Tensor& input,
                                const GridSource& grid, const Tensor& grad_grad_grid,
                                const Geometry& geometry, const Queue& queue) {
  Tensor grad_input = empty_image(input, sizes_vector(input), input.scalar_type());
  const int64_t elements = grad_input.numel();
  const int64_t images = input.size(0);
  const int64_t numbers = geometry.compute_in_double ? 2 * elements : elements;
  // The sums, an exponent for each image, a byte for each element.
  const int64_t exponents = ceil_div(images, 2);
  const Tensor scratch =
      empty_contiguous({numbers + exponents + ceil_div(elements, 8)}, ScalarType::Long, input);
  set_zero(scratch, queue);
  auto* memory = static_cast<unsigned long long*>(scratch.mutable_data_ptr());
  dispatch_compute(geometry, [&]<typename compute_t>() {
    FixedPointParams<compute_t> params = {};
    params.grad_output = image_view(grad_output, geometry);
    params.grad_input = mutable_image_view(grad_input, geometry);
    params.sampling.grid = grid_view(grid, geometry);
    describe_sampling(params.sampling, geometry);
    if (grad_grad_grid.defined()) params.grad_grad_grid = grid_view(grad_grad_grid, geometry);
    params.sampling.walk =
        walk_over(geometry, geometry.batch,
                  {&params.sampling.grid, &params.grad_output, &params.grad_grad_grid});
    params.dims = geometry.dims;
    params.channels = geometry.channels;
    params.elements = elements;
    params.image_elements = elements / images;
    params.sums = memory;
    params.exponents = reinterpret_cast<unsigned*>(memory + numbers);
    params.specials = reinterpret_cast<unsigned*>(memory + numbers + exponents);
    params.result = grad_input.mutable_data_ptr();
    params.result_dtype = *dtype_of(grad_input);
    grad_input_in_fixed_point(params, geometry, queue);
  });
  return grad_input;
}

}  // namespace

void finish_output(const Tensor& output, const Tensor& input, const GridSource& grid,
                   const Direction& direction, const Geometry& geometry, const Queue& queue) {
  if (!has_values_outside(geometry) || output.numel() == 0) return;
  Tensor image = input;
  Direction along = direction;
  dispatch_compute(geometry, [&]<typename compute_t>() {
    auto params = describe_finish<compute_t>(image, along, grid, geometry);
    params.output = mutable_image_view(output, geometry);
    params.sampling.walk = walk_over(geometry, geometry.batch,
                                     {&params.sampling.grid, &params.output, &params.tangent_grid});
    finish(params, geometry, queue);
  });
}

std::tuple<Tensor, Tensor> gradients(const Tensor& grad_output, const Tensor& input,
                                     const GridSource& grid, const Direction& direction,
                                     const Geometry& geometry, bool wants_input, bool wants_grid,
                                     bool deterministic, const Queue& queue,
                                     std::optional<ScalarType> grid_type) {
  // Without, there is a gradient by input alone, and that does not depend on the grid.
  const bool smooth = portable::is_smooth(geometry.mode);
  const bool no_samples = grad_output.numel() == 0;
  Tensor grad_input;
  Tensor grad_grid;
  const bool has_grad_input = wants_input && !no_samples && (smooth || !direction.grid.defined());
  const bool deterministic_input = has_grad_input && deterministic;
  const bool adds_input = has_grad_input && !deterministic;
  const bool adds_grid = wants_grid && !no_samples && smooth;
  if (deterministic_input) {
    grad_input =
        deterministic_grad_input(grad_output, input, grid, direction.grid, geometry, queue);
  }
  if (wants_grid) {
    grad_grid = empty_grid(grid, grid_type.value_or(grid.values.scalar_type()));
    if (!adds_grid) set_zero(grad_grid, queue);
  }
  Tensor images[] = {grad_output, input, adds_grid ? direction.input : Tensor()};
  if (adds_input || adds_grid) in_one_type(images, geometry);
  std::optional<PackedImages> packed;
  if (adds_input && !direction.grid.defined()) {
    packed = pack_images(images[0], images[1], input, adds_grid, geometry, queue);
  }
  if (packed) {
    images[0] = packed->grad_output;
    images[1] = packed->input;
    grad_input = packed->sums;
  } else if (wants_input && !deterministic_input) {
    grad_input = empty_image(input, sizes_vector(input), sum_type(geometry));
  }
  Tensor apart;  // sums of three channels
  if (adds_input && !direction.grid.defined() && !packed) {
    apart = sums_of_three_channels(images[0], images[1], input, grid, geometry, queue);
  }
  const Tensor& sums = apart.defined() ? apart : grad_input;
  if (wants_input && !deterministic_input) set_zero(sums, queue);
  if (adds_input || adds_grid) {
    if (images[2].defined()) in_one_layout(images[1], images[2], geometry);
    accumulate_gradients(images[0], images[1], grid, {images[2], direction.grid}, geometry,
                         adds_input ? sums : Tensor(), apart.defined(),
                         adds_grid ? grad_grid : Tensor(), queue);
  }
  if (adds_grid && geometry.fill_value != 0) {
    finish_grad_grid(grad_grid, grad_output, input, grid, direction, geometry, queue);
  }
  if (apart.defined()) move_three_channels(grad_input, apart, geometry, queue);
  if (packed && packed->grad_input.defined()) {
    unpack_sums(*packed, geometry, queue);
    return {packed->grad_input, grad_grid};
  }
  return {rounded(grad_input, input), grad_grid};
}

Tensor sum_affine(const Tensor& grad_grid, const Tensor& affine, const Geometry& geometry,
                  const Queue& queue) {
  const Tensor total = empty_contiguous(sizes_vector(affine), ScalarType::Double, affine);
  if (grad_grid.numel() == 0) {
    set_zero(total, queue);
    return rounded(total, affine);
  }
  const int64_t images = grad_grid.size(0);
  const int64_t most = std::max<int64_t>(1, ceil_div(queue.wanted_blocks(), images));
  const int64_t chunks = std::clamp<int64_t>(geometry.samples / (4 * kThreads), 1, most);
  const int64_t numbers = geometry.dims * (geometry.dims + 1);
  const Tensor partial = empty_contiguous({images * chunks * numbers}, ScalarType::Double, affine);
  dispatch_compute(geometry, [&]<typename compute_t>() {
    AffineSumsParams<compute_t> params = {};
    params.grad_grid = grid_view(grad_grid, geometry);
    for (int a = 0; a < kMaxDims; ++a) {
      params.places[a] = portable::make_places<compute_t>(geometry, a);
      params.output_size[a] = geometry.output_size[a];
    }
    params.samples = geometry.samples;
    params.images = images;
    params.chunks = chunks;
    params.maps = affine.size(0);
    params.partial = static_cast<double*>(partial.mutable_data_ptr());
    params.total = static_cast<double*>(total.mutable_data_ptr());
    affine_sums(params, geometry.dims, queue);
  });
  return rounded(total, affine);
}

}  // namespace gridsample_ext::cuda
