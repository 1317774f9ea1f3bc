#pragma once

// spline_filter: what the CPU and CUDA share.

#include <algorithm>
#include <array>

#include "math/splines.h"
#include "tensors.h"

namespace gridsample_ext {

/// The lines of one axis, from `image` to `coefficients`, which may be the same tensor.
inline SplineParams spline_params(const Tensor& image, const Tensor& coefficients,
                                  const Geometry& geometry, int axis, bool transposed) {
  SplineParams params = {};
  params.axis = portable::make_spline_axis(geometry.input_size[axis], geometry.padding[axis],
                                           geometry.align_corners, transposed);
  params.from = image_view(image, geometry);
  params.to = mutable_image_view(coefficients, geometry);
  params.from_stride = params.from.stride[axis];
  params.to_stride = params.to.stride[axis];
  struct Dimension {
    int64_t size, from_stride, to_stride;
  };
  std::array<Dimension, SplineParams::kOthers> others;
  int count = 0;
  others[count++] = {geometry.channels, params.from.channel_stride, params.to.channel_stride};
  others[count++] = {geometry.batch, params.from.batch_stride, params.to.batch_stride};
  for (int a = 0; a < kMaxDims; ++a) {
    if (a == axis) continue;
    others[count++] = {geometry.input_size[a], params.from.stride[a], params.to.stride[a]};
  }
  std::stable_sort(others.begin(), others.end(), [](const Dimension& a, const Dimension& b) {
    return a.size > 1 && b.size > 1 ? a.to_stride < b.to_stride : a.size > b.size;
  });
  params.lines = 1;
  for (int d = 0; d < count; ++d) {
    params.size[d] = others[d].size;
    params.from_strides[d] = others[d].from_stride;
    params.to_strides[d] = others[d].to_stride;
    params.lines *= others[d].size;
  }
  return params;
}

/// The op. run(params) filters along an axis, copy(to, from) copies and converts.
template <typename Run, typename Copy>
Tensor filter_image(const Tensor& image, const Geometry& geometry, bool transposed, const Run& run,
                    const Copy& copy) {
  const Tensor coefficients = empty_image(image, sizes_vector(image), sum_type(geometry));
  if (image.numel() == 0) return rounded(coefficients, image, copy);
  Tensor from = image;
  for (int axis = 0; axis < geometry.dims; ++axis) {
    if (!portable::changes_line(geometry.input_size[axis], geometry.padding[axis])) continue;
    run(spline_params(from, coefficients, geometry, axis, transposed));
    from = coefficients;
  }
  if (from.get() == image.get()) copy(coefficients, image);
  return rounded(coefficients, image, copy);
}

}  // namespace gridsample_ext
