#pragma once

// Images in planes taken through rows of channels, for the sake of grad_input; host code.

#include <optional>

#include "cuda/host/describe.h"
#include "cuda/kernels/kernels.cuh"

namespace gridsample_ext::cuda {

/// What the backward pass works on: all with channels innermost.
struct PackedImages {
  Tensor grad_output;
  Tensor input;       // as it was, where its values are not read
  Tensor sums;        // of the compute type, uninitialised
  Tensor grad_input;  // where the result is to be in planes
};

/// Whether backward_rows takes the image as it is.
inline bool is_in_rows(const Tensor& image, const Geometry& geometry,
                       const int64_t (&sizes)[kMaxDims]) {
  const int64_t vector =
      geometry.compute_in_double ? kBackwardVector<double> : kBackwardVector<float>;
  return has_vector_rows(image_view(image, geometry), sizes, geometry.channels, vector,
                         static_cast<int64_t>(image.element_size()));
}

inline bool can_be_packed(const Tensor& image, const Geometry& geometry,
                          const int64_t (&sizes)[kMaxDims]) {
  return linear_stride(image_view(image, geometry), geometry.dims, sizes) >= 0;
}

inline int64_t number_of_taps(const Geometry& geometry) {
  const int64_t along = portable::taps_per_axis(geometry.mode);
  return geometry.dims == 3 ? along * along * along : along * along;
}

/// Of grad_output, for a multiprocessor: below, launches cost more than they save.
constexpr int64_t kLeastElements = 4096;

/// Whether it is better to sum grad_input in rows of channels though some image is in planes. The
/// second-level cache adds by sectors of 32 bytes: of a row they hold eight channels; in a plane
/// neighbouring samples share some if the grid is smooth, and none if it is not. An element that
/// goes through another layout costs as much as some 3/4 of an addition to a plane; see
/// docs/call.md. The one addition of nearest is not worth it.
inline bool worth_packing(const Tensor& grad_output, const Tensor& input, bool reads_input,
                          const Geometry& geometry, const Queue& queue) {
  constexpr int64_t kLeastChannels = 8;
  const int64_t elements = grad_output.numel();
  if (!portable::is_smooth(geometry.mode) || geometry.channels < kLeastChannels ||
      geometry.channels % kBackwardVector<float> != 0 ||
      elements < kLeastElements * queue.multiprocessors) {
    return false;
  }
  int64_t moved = prefers_channels_last(input) ? 0 : input.numel();  // the result
  if (!is_in_rows(grad_output, geometry, geometry.output_size)) {
    if (!can_be_packed(grad_output, geometry, geometry.output_size)) return false;
    moved += elements;
  }
  if (reads_input && !is_in_rows(input, geometry, geometry.input_size)) {
    if (!can_be_packed(input, geometry, geometry.input_size)) return false;
    moved += input.numel();
  }
  return moved > 0 && 4 * number_of_taps(geometry) * elements > 3 * moved;
}

/// Of an image in planes; without data.
inline PackParams describe_packing(const Tensor& planes, const Geometry& geometry,
                                   const int64_t (&sizes)[kMaxDims]) {
  const View view = image_view(planes, geometry);
  PackParams params = {};
  params.batch = planes.size(0);
  params.channels = planes.size(1);
  params.pixels = 1;
  for (int a = 0; a < geometry.dims; ++a) params.pixels *= sizes[a];
  params.planes_batch_stride = view.batch_stride;
  params.planes_channel_stride = view.channel_stride;
  params.planes_stride = linear_stride(view, geometry.dims, sizes);
  return params;
}

/// Images of one type, and what the gradient of `original_input`, of which `input` may be a copy in
/// another type, is to be summed in; nothing if it is not worth it or memory is short.
inline std::optional<PackedImages> pack_images(const Tensor& grad_output, const Tensor& input,
                                               const Tensor& original_input, bool reads_input,
                                               const Geometry& geometry, const Queue& queue) {
  if (input.scalar_type() != original_input.scalar_type() ||
      !worth_packing(grad_output, input, reads_input, geometry, queue)) {
    return std::nullopt;
  }
  PackedImages packed{grad_output, input, {}, {}};
  bool enough_memory = true;
  const auto rows_like = [&](const Tensor& image, ScalarType dtype) {
    const std::vector<int64_t> sizes = sizes_vector(image);
    const Tensor rows = enough_memory
                            ? try_empty_strided(sizes, channels_last_strides(sizes), dtype, image)
                            : Tensor();
    enough_memory = rows.defined();
    return rows;
  };
  const bool packs_grad_output = !is_in_rows(grad_output, geometry, geometry.output_size);
  const bool packs_input = reads_input && !is_in_rows(input, geometry, geometry.input_size);
  packed.sums = rows_like(input, sum_type(geometry));
  if (packs_grad_output) packed.grad_output = rows_like(grad_output, grad_output.scalar_type());
  if (packs_input) packed.input = rows_like(input, input.scalar_type());
  if (enough_memory && !prefers_channels_last(input)) {
    const std::vector<int64_t> sizes = sizes_vector(input);
    packed.grad_input =
        try_empty_strided(sizes, contiguous_strides(sizes), input.scalar_type(), input);
    enough_memory = packed.grad_input.defined();
  }
  if (!enough_memory) return std::nullopt;
  const auto fill = [&](const Tensor& rows, const Tensor& planes,
                        const int64_t (&sizes)[kMaxDims]) {
    PackParams params = describe_packing(planes, geometry, sizes);
    params.from = planes.const_data_ptr();
    params.to = rows.mutable_data_ptr();
    pack(params, *dtype_of(planes), queue);
  };
  if (packs_grad_output) fill(packed.grad_output, grad_output, geometry.output_size);
  if (packs_input) fill(packed.input, input, geometry.input_size);
  return packed;
}

/// Whether backward_three_channels can take a call.
inline bool takes_three_channels(const Tensor& grad_output, const Tensor& input,
                                 const GridSource& grid, const Geometry& geometry) {
  if (geometry.channels != 3 || number_of_taps(geometry) > 16 ||
      input.scalar_type() != ScalarType::Float || grad_output.scalar_type() != ScalarType::Float ||
      geometry.compute_in_double || !can_be_packed(input, geometry, geometry.input_size)) {
    return false;
  }
  GridView grids = grid_view(grid, geometry);
  View grads = image_view(grad_output, geometry);
  View numbers;  // of pixels
  int64_t pixels = 1;
  for (int a = 0; a < geometry.dims; ++a) {
    numbers.stride[a] = pixels;
    pixels *= geometry.input_size[a];
  }
  return is_narrow(geometry, numbers, walk_over(geometry, geometry.batch, {&grids, &grads}));
}

/// Whether the sums of three channels are better made elsewhere than in the result, and moved there
/// in the end. A sample of a smooth grid adds to 1.9 sectors a tap in rows of three, 0.9 in planes
/// and 0.7 in rows of four, which take a vector at once; moving a pixel costs as much as half a
/// sector. See docs/call.md.
inline bool worth_summing_apart(const Tensor& grad_output, const Tensor& input,
                                const Geometry& geometry, const Queue& queue) {
  if (grad_output.numel() < kLeastElements * queue.multiprocessors) return false;
  const int64_t additions = number_of_taps(geometry) * geometry.batch * geometry.samples;
  const int64_t pixels = input.numel() / 3;
  if (prefers_channels_last(input)) return 2 * additions > pixels;
  return queue.adds_vectors && additions > 3 * pixels;
}

/// What the gradient of three channels is summed in, uninitialised: an image of four channels in
/// rows, the last of which is padding, or one in planes; undefined if that is not worth it, or
/// memory is short. `input` may be a copy of the original in another type, to which sums would have
/// to be rounded.
inline Tensor sums_of_three_channels(const Tensor& grad_output, const Tensor& input,
                                     const Tensor& original_input, const GridSource& grid,
                                     const Geometry& geometry, const Queue& queue) {
  if (input.scalar_type() != original_input.scalar_type() ||
      !takes_three_channels(grad_output, input, grid, geometry) ||
      !worth_summing_apart(grad_output, input, geometry, queue)) {
    return {};
  }
  std::vector<int64_t> sizes = sizes_vector(input);
  if (queue.adds_vectors) sizes[1] = 4;
  return try_empty_strided(
      sizes, queue.adds_vectors ? channels_last_strides(sizes) : contiguous_strides(sizes),
      ScalarType::Float, input);
}

/// From such sums to the result.
inline void move_three_channels(Tensor& result, const Tensor& sums, const Geometry& geometry,
                                const Queue& queue) {
  if (sums.size(1) == 3) {
    torch::stable::copy_(result, sums);
    return;
  }
  PackParams params = describe_packing(result, geometry, geometry.input_size);
  params.planes_batch_stride = result.stride(0);
  params.from = sums.const_data_ptr();
  params.to = result.mutable_data_ptr();
  drop_padding(params, queue);
}

/// Rounds the sums to the result in planes.
inline void unpack_sums(const PackedImages& packed, const Geometry& geometry, const Queue& queue) {
  PackParams params = describe_packing(packed.grad_input, geometry, geometry.input_size);
  params.from = packed.sums.const_data_ptr();
  params.to = packed.grad_input.mutable_data_ptr();
  unpack(params, *dtype_of(packed.grad_input), queue);
}

}  // namespace gridsample_ext::cuda
