#pragma once

// Images as plans see them: sizes, layouts and types.

#include "cpu/plan/plan.h"

namespace gridsample_ext::cpu {

constexpr DType compute_type(const Geometry& geometry) {
  return geometry.compute_in_double ? DType::kDouble : DType::kFloat;
}
inline int64_t compute_size(const Geometry& geometry) { return size_of(compute_type(geometry)); }

inline bool has_compute_type(const Geometry& geometry, const Image& image) {
  return image.view.dtype == compute_type(geometry);
}

/// Whether an image is computed in float64 only because the grid is: a pair too rare for vectors of
/// its own. Plain kernels read it as it is; the others, of many samples, from a float64 copy, which
/// is exact.
inline bool is_widened(const Geometry& geometry, const Image& image) {
  return geometry.compute_in_double && !has_compute_type(geometry, image);
}

inline bool has_no_output(const Geometry& geometry) {
  return geometry.batch == 0 || geometry.channels == 0 || geometry.samples == 0;
}

inline int64_t elements_of(const Geometry& geometry, const Image& image) {
  return image.batch * packed_elements(geometry, geometry.channels);
}
inline int64_t bytes_of(const Geometry& geometry, const Image& image) {
  return elements_of(geometry, image) * size_of(image.view.dtype);
}
inline int64_t compute_bytes(const Geometry& geometry, const Image& image) {
  return elements_of(geometry, image) * compute_size(geometry);
}

/// A copy in the compute type: of an image that is repeated over the batch, of one image.
inline int64_t copy_bytes(const Geometry& geometry, const Image& image) {
  const int64_t images = image.view.batch_stride == 0 ? 1 : image.batch;
  return images * packed_elements(geometry, geometry.channels) * compute_size(geometry);
}

/// An image without gaps, with channels innermost or in planes.
inline View dense_view(const Geometry& geometry, int64_t batch, bool channels_innermost,
                       DType dtype) {
  View view;
  view.dtype = dtype;
  int64_t stride = channels_innermost ? geometry.channels : 1;
  for (int axis = 0; axis < geometry.dims; ++axis) {
    view.stride[axis] = stride;
    stride *= geometry.input_size[axis];
  }
  view.channel_stride = channels_innermost ? 1 : stride;
  view.batch_stride = batch == 1 ? 0 : channels_innermost ? stride : stride * geometry.channels;
  return view;
}

/// An image that the host allocates beside another, of its sizes and the layout of its results.
inline Image dense_like(const Geometry& geometry, const Image& image, DType dtype) {
  return {dense_view(geometry, image.batch, image.channels_last, dtype), image.batch,
          image.channels_last};
}

/// Rows as the second-order kernels take them: of the compute type, channels innermost, pixel after
/// pixel.
inline View rows_view(const Geometry& geometry, int64_t batch) {
  return dense_view(geometry, batch, true, compute_type(geometry));
}

/// Whether an image is such rows, whatever lies between its batches.
inline bool is_rows(const Geometry& geometry, const Image& image) {
  const View& view = image.view;
  if (view.dtype != compute_type(geometry)) return false;
  if (geometry.channels > 1 && view.channel_stride != 1) return false;
  int64_t stride = geometry.channels;
  for (int axis = 0; axis < geometry.dims; ++axis) {
    if (geometry.input_size[axis] > 1 && view.stride[axis] != stride) return false;
    stride *= geometry.input_size[axis];
  }
  return image.batch == 1 || view.batch_stride >= stride;
}

}  // namespace gridsample_ext::cpu
