#pragma once

// What a kernel is told: enums and plain structs, no tensors.
//
// Axes are counted in the order of the grid's last dimension: axis 0 is x (width), 1 is y (height),
// 2 is z (depth, 5-D only). All strides are in elements and 64-bit.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>

#include "math/lists.h"

namespace gridsample_ext {

/// Types that kernels compute with, and, by their bytes, others whose elements they copy.
enum class DType : int8_t { kHalf, kBFloat16, kFloat, kDouble, kByte, kBytes2, kBytes4, kBytes8 };

constexpr bool is_floating(DType dtype) { return dtype <= DType::kDouble; }

constexpr int64_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kByte:
      return 1;
    case DType::kHalf:
    case DType::kBFloat16:
    case DType::kBytes2:
      return 2;
    case DType::kFloat:
    case DType::kBytes4:
      return 4;
    default:
      return 8;
  }
}

/// An element of a tensor of any type: as many of the bytes as it has.
struct Element {
  alignas(8) unsigned char bytes[8] = {};
};

constexpr int kMaxDims = 3;

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// A tensor as a kernel sees it. For a grid the channel is the coordinate (x, y, z).
/// A batch stride of 0 repeats a batch of one. Behind the strides of the axes is that of images in
/// a group (Geometry::images_per_group).
struct View {
  void* data = nullptr;
  DType dtype = DType::kFloat;
  int64_t batch_stride = 0;
  int64_t channel_stride = 0;
  int64_t stride[kMaxDims + 1] = {0, 0, 0, 0};
};

/// What samples are looked up at: the values of a grid. Or, of a warp, the places to which an
/// affine map takes the pixels of the output, and values that are added, those of a displacement.
struct GridView : View {
  GridView() = default;
  GridView(const View& values) : View(values) {}

  bool is_warp = false;
  // Of the compute type: for each image `dims` rows of dims + 1. Null: the identity.
  const void* affine = nullptr;
  int64_t affine_batch_stride = 0;
};

/// Where gradients by coordinates go; of a warp also into sums, of which the gradient of its affine
/// map is made.
struct GradGridView : View {
  GradGridView() = default;
  GradGridView(const View& values) : View(values) {}

  // For each tile of samples as many as an affine map has numbers. Null: not wanted.
  double* affine_sums = nullptr;
  int64_t affine_batch_stride = 0;

  bool is_wanted() const { return data != nullptr || affine_sums != nullptr; }
};

/// What a tensor of labels holds.
struct LabelType {
  int64_t bytes;
  bool is_signed;
};

/// The arguments of an op behind its tensors, which schemas.h describes.
struct Options {
  int64_t interpolation_mode;
  int64_t padding_mode;
  bool align_corners;
  bool pixel_coordinates;
  double fill_value;
  std::optional<double> outside_value;
  double cubic_coefficient;
};

/// The options of sample_labels. A value outside the image is a label, so `options` has none.
struct LabelOptions {
  Options options;
  std::optional<int64_t> fill_value;
  std::optional<int64_t> outside_value;
};

/// The options of spline_filter.
struct SplineOptions {
  int64_t padding_mode;
  bool align_corners;
  bool transposed;
};

/// The coefficient of PyTorch's cubic kernel.
constexpr double kUsualCubic = -0.75;

/// padding_mode holds a padding for each axis: kPaddingPerAxis, and kBitsOfPadding of each, x in
/// the lowest.
constexpr int64_t kPaddingPerAxis = 1 << 16;
constexpr int kBitsOfPadding = 4;

/// Number of the padding of an axis.
constexpr int64_t padding_number(int64_t padding_mode, int axis) {
  if (padding_mode < kPaddingPerAxis) return padding_mode;
  return padding_mode >> (axis * kBitsOfPadding) & ((1 << kBitsOfPadding) - 1);
}

/// The shape of one call and how coordinates are to be read.
struct Geometry {
  int dims = 2;
  Mode mode = Mode::kBilinear;
  Padding padding[kMaxDims] = {};
  bool align_corners = false;
  bool pixel_coordinates = false;  // what the grid holds; else normalised ones
  double cubic_coefficient = kUsualCubic;
  bool bspline = false;  // what the weights of bicubic are of; else of the cubic coefficient
  // What taps outside the image read on axes padded with zeros.
  double fill_value = 0;
  // Samples that do not lie on a pixel have this value, and no gradients.
  std::optional<double> outside_value;
  bool compute_in_double = false;
  int64_t batch = 0;
  int64_t channels = 0;
  int64_t samples = 0;  // product of output_size
  int64_t input_size[kMaxDims] = {1, 1, 1};
  int64_t output_size[kMaxDims] = {1, 1, 1};
  // Images of few samples may be taken together, in groups of so many: then `batch` counts groups,
  // `samples` those of a group, and images are one more axis of the samples, number `dims`. The
  // last group may have fewer images, and then so many samples less.
  int64_t images_per_group = 1;
  int64_t missing_samples = 0;
};

/// After so many pixels the factors of spline_filter change no more in float64, and after so many a
/// pixel no longer counts.
constexpr int kSplineFactors = 16;
constexpr int64_t kWrappedPixels = 32;

/// How spline_filter works along an axis: see math/splines.h.
struct SplineAxis {
  int64_t size;
  bool wraps;
  double factor[kSplineFactors];  // of the first pixels; that of the last of them holds on
  double last_factor;
  double wrap_gain;
  double end_gain;
  double end_scale;
};

/// Lines of pixels along one axis, and the lines of coefficients that they become, which are of the
/// compute type and may lie in the same place. Lines are counted along all other dimensions.
struct SplineParams {
  static constexpr int kOthers = kMaxDims + 1;
  SplineAxis axis;
  View from;
  View to;
  int64_t from_stride;
  int64_t to_stride;
  int64_t lines;
  int64_t size[kOthers];  // in the order of to's strides, the least first
  int64_t from_strides[kOthers];
  int64_t to_strides[kOthers];
  void* scratch;  // on the CPU: lines that are filtered together, for each worker
};

/// From the arguments of a call, which have been checked. input_size(d), grid_size(d): sizes of the
/// tensors by dimension.
template <typename InputSize, typename GridSize>
Geometry make_geometry(int dims, const InputSize& input_size, const GridSize& grid_size,
                       const Options& options, bool compute_in_double) {
  Geometry geometry;
  geometry.dims = dims;
  geometry.bspline = options.interpolation_mode == kBspline;
  geometry.mode = geometry.bspline ? Mode::kBicubic : static_cast<Mode>(options.interpolation_mode);
  for (int axis = 0; axis < dims; ++axis) {
    geometry.padding[axis] = static_cast<Padding>(padding_number(options.padding_mode, axis));
  }
  geometry.align_corners = options.align_corners;
  geometry.pixel_coordinates = options.pixel_coordinates;
  geometry.cubic_coefficient = options.cubic_coefficient;
  geometry.fill_value = options.fill_value;
  geometry.outside_value = options.outside_value;
  geometry.compute_in_double = compute_in_double;
  geometry.batch = input_size(0) == 1 ? grid_size(0) : input_size(0);
  geometry.channels = input_size(1);
  geometry.samples = 1;
  for (int axis = 0; axis < dims; ++axis) {
    geometry.input_size[axis] = input_size(dims + 1 - axis);
    geometry.output_size[axis] = grid_size(dims - axis);
    geometry.samples *= geometry.output_size[axis];
  }
  return geometry;
}

inline bool pads_all_axes_with(const Geometry& geometry, Padding padding) {
  return std::all_of(geometry.padding, geometry.padding + geometry.dims,
                     [&](Padding of_axis) { return of_axis == padding; });
}

/// Whether taps outside the image are all there is beside those inside it.
inline bool only_pads_with_zeros(const Geometry& geometry) {
  return pads_all_axes_with(geometry, Padding::kZeros) && !geometry.outside_value.has_value();
}

/// Whether samples off the image, or with taps outside it, have values other than 0, which kernels
/// leave to a second pass.
inline bool has_values_outside(const Geometry& geometry) {
  return geometry.fill_value != 0 || geometry.outside_value.value_or(0) != 0;
}

/// For what is linear in an image, a tangent of input: values that do not change add nothing.
inline Geometry of_directions(Geometry geometry) {
  geometry.fill_value = 0;
  if (geometry.outside_value.has_value()) geometry.outside_value = 0;
  return geometry;
}

/// True when one offset finds a pixel in both.
inline bool same_spatial_strides(const View& a, const View& b, const Geometry& geometry) {
  for (int axis = 0; axis < geometry.dims; ++axis) {
    if (a.stride[axis] != b.stride[axis]) return false;
  }
  return true;
}

/// True when offsets within one plane of the view, or those of a group of images, fit 32 bits, two
/// steps past each end included, with room for a float that rounds up.
inline bool has_32_bit_offsets(const Geometry& geometry, const View& image) {
  constexpr int64_t kLimit = (int64_t(1) << 31) - 256;
  if (geometry.images_per_group > 1 && image.stride[geometry.dims] >= kLimit) return false;
  int64_t reach = (geometry.images_per_group - 1) * image.stride[geometry.dims];
  for (int a = 0; a < geometry.dims; ++a) {
    if (geometry.input_size[a] >= kLimit || image.stride[a] >= kLimit) return false;
    // Clamped positions and those after them; past 2^24, up to 128 more are rounded on.
    const int64_t size = geometry.input_size[a];
    reach += (size + (size < (int64_t(1) << 24) ? 2 : 256)) * image.stride[a];
    if (reach >= kLimit) return false;
  }
  return true;
}

}  // namespace gridsample_ext
