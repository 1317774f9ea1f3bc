#pragma once

// From tensors to what the kernels are told; host side of all ops.

#include <torch/csrc/stable/ops.h>

#include <initializer_list>

#include "math/modes.h"
#include "tensors.h"
#include "cuda/device/launch.cuh"
#include "cuda/device/params.cuh"

namespace gridsample_ext::cuda {

/// Calls function.template operator()<compute_t>().
template <typename F>
void dispatch_compute(const Geometry& geometry, const F& function) {
  if (geometry.compute_in_double) return function.template operator()<double>();
  return function.template operator()<float>();
}

inline void set_zero(const Tensor& tensor, const Queue& queue) {
  if (tensor.numel() == 0) return;
  check_cuda(cudaMemsetAsync(tensor.mutable_data_ptr(), 0, bytes_of(tensor), queue.stream),
             "a result could not be zeroed");
}

/// Images of different types, and all where sums are made in float64, as copies in the compute
/// type. Kernels are for images and gradients of one type, computed in float64 if that is float64;
/// the other pairs are too rare for kernels of their own. Undefined ones stay so.
template <size_t kCount>
void in_one_type(Tensor (&images)[kCount], const Geometry& geometry) {
  const ScalarType wide = sum_type(geometry);
  const ScalarType first = images[0].scalar_type();
  bool one_type = first == wide || (!geometry.compute_in_double && first != ScalarType::Double);
  for (const Tensor& image : images) {
    one_type = one_type && (!image.defined() || image.scalar_type() == first);
  }
  if (one_type) return;
  for (Tensor& image : images) {
    if (!image.defined() || image.scalar_type() == wide) continue;
    Tensor copy = empty_image(image, sizes_vector(image), wide);
    torch::stable::copy_(copy, image);
    image = copy;
  }
}

/// Copies, where need be, with the same strides along the axes: kernels have one offset for both.
inline void in_one_layout(Tensor& image, Tensor& companion, const Geometry& geometry) {
  for (Tensor* copied : {&companion, &image}) {
    if (same_spatial_strides(image_view(image, geometry), image_view(companion, geometry),
                             geometry)) {
      return;
    }
    Tensor copy = empty_image(image, sizes_vector(image), copied->scalar_type());
    torch::stable::copy_(copy, *copied);
    *copied = copy;
  }
}

/// The stride at which the elements of one channel in row-major order follow each other, or -1.
inline int64_t linear_stride(const View& view, int dims, const int64_t (&sizes)[kMaxDims]) {
  int64_t stride = 0;
  int64_t inner = 0;  // elements within a step of the axis; 0 before the first of more than one
  for (int a = 0; a < dims; ++a) {
    const int64_t size = sizes[a];
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

/// Of samples.
inline int64_t linear_stride(const View& view, const Geometry& geometry) {
  return linear_stride(view, geometry.dims, geometry.output_size);
}

inline Walk walk_over(const Geometry& geometry, int64_t batch, std::initializer_list<View*> views) {
  Walk walk = {};
  walk.batch = batch;
  walk.per_image = geometry.samples;
  walk.total = batch * geometry.samples;
  walk.narrow = walk.total < (int64_t(1) << 31);
  if (walk.narrow && walk.per_image > 0) walk.divisor = Divisor(walk.per_image);
  walk.linear = true;
  for (int a = 0; a < kMaxDims; ++a) walk.output_size[a] = geometry.output_size[a];
  for (int a = 0; a < 2 && walk.narrow && walk.per_image > 0; ++a) {
    walk.size_divisor[a] = Divisor(geometry.output_size[a]);
  }
  for (const View* view : views) {
    walk.linear = walk.linear && linear_stride(*view, geometry) >= 0;
  }
  if (walk.linear) {
    for (View* view : views) view->stride[0] = linear_stride(*view, geometry);
  }
  return walk;
}

/// Whether kernels may be those for offsets of 32 bits.
inline bool is_narrow(const Geometry& geometry, const View& image, const Walk& walk) {
  return walk.linear && walk.narrow && geometry.channels < (int64_t(1) << 30) &&
         has_32_bit_offsets(geometry, image);
}

template <typename compute_t>
void describe_sampling(Sampling<compute_t>& sampling, const Geometry& geometry) {
  sampling.excludes_off_image = geometry.outside_value.has_value();
  for (int a = 0; a < kMaxDims; ++a) {
    sampling.padding[a] = geometry.padding[a];
    sampling.input_size[a] = geometry.input_size[a];
    sampling.axis[a] = portable::make_axis<compute_t>(geometry, a);
    sampling.places[a] = portable::make_places<compute_t>(geometry, a);
  }
}

/// True when a pixel's channels are whole vectors of `vector` elements, each at an address that is
/// a multiple of its size.
inline bool has_vector_rows(const View& view, const int64_t (&sizes)[kMaxDims], int64_t channels,
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

}  // namespace gridsample_ext::cuda
