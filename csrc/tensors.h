#pragma once

// Between tensors and what kernels are told: views of arguments, allocation of results.

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "checks.h"

namespace gridsample_ext {

inline ScalarType scalar_type_of(DType dtype) {
  switch (dtype) {
    case DType::kHalf:
      return ScalarType::Half;
    case DType::kBFloat16:
      return ScalarType::BFloat16;
    case DType::kFloat:
      return ScalarType::Float;
    case DType::kDouble:
      return ScalarType::Double;
    default:
      break;
  }
  throw std::logic_error("gridsample_ext: unreachable dtype");
}

inline int64_t bytes_of(const Tensor& tensor) {
  return tensor.numel() * static_cast<int64_t>(tensor.element_size());
}

inline DType compute_dtype(const Geometry& geometry) {
  return geometry.compute_in_double ? DType::kDouble : DType::kFloat;
}

/// x at dimension last_spatial, y before it, z before that.
inline View view_of(const Tensor& tensor, const Geometry& geometry, void* data, int64_t channel,
                    int64_t last_spatial) {
  View view;
  view.data = data;
  view.dtype = *dtype_of(tensor);
  view.batch_stride = tensor.size(0) == 1 ? 0 : tensor.stride(0);
  view.channel_stride = tensor.stride(channel);
  for (int axis = 0; axis < geometry.dims; ++axis) {
    view.stride[axis] = tensor.stride(last_spatial - axis);
  }
  return view;
}

/// (N, C, [D,] H, W), to be read.
inline View image_view(const Tensor& tensor, const Geometry& geometry) {
  return view_of(tensor, geometry, const_cast<void*>(tensor.const_data_ptr()), 1,
                 geometry.dims + 1);
}

/// (N, [D,] H, W, dims), to be read: the coordinate is the channel.
inline View grid_view(const Tensor& tensor, const Geometry& geometry) {
  return view_of(tensor, geometry, const_cast<void*>(tensor.const_data_ptr()), geometry.dims + 1,
                 geometry.dims);
}

/// What coordinates are made of: a grid; or, of a warp, a displacement of a grid's sizes and an
/// affine map, (N or 1, dims, dims + 1) of the compute type, contiguous, or undefined.
struct GridSource {
  GridSource(const Tensor& grid) : values(grid) {}
  GridSource(const Tensor& displacement, const Tensor& affine)
      : values(displacement), affine(affine), is_warp(true) {}

  Tensor values;
  Tensor affine;
  bool is_warp = false;
};

inline GridView grid_view(const GridSource& source, const Geometry& geometry) {
  GridView view = grid_view(source.values, geometry);
  view.is_warp = source.is_warp;
  if (source.affine.defined()) {
    view.affine = source.affine.const_data_ptr();
    view.affine_batch_stride = source.affine.size(0) == 1 ? 0 : geometry.dims * (geometry.dims + 1);
  }
  return view;
}

inline View mutable_image_view(const Tensor& tensor, const Geometry& geometry) {
  return view_of(tensor, geometry, tensor.mutable_data_ptr(), 1, geometry.dims + 1);
}

inline View mutable_grid_view(const Tensor& tensor, const Geometry& geometry) {
  return view_of(tensor, geometry, tensor.mutable_data_ptr(), geometry.dims + 1, geometry.dims);
}

/// True when the strides read as channels-last (C, x, y, z, N from the inside out, gaps allowed, as
/// in a crop) and not also as contiguous. gridsample_ext/_fakes.py says so for fake tensors.
inline bool prefers_channels_last(const Tensor& tensor) {
  if (tensor.is_contiguous()) return false;
  int64_t least = 0;
  const int64_t dim = tensor.dim();
  for (int64_t i = 0; i < dim; ++i) {
    const int64_t d = i == 0 ? 1 : i == dim - 1 ? 0 : dim - i;
    const int64_t size = tensor.size(d);
    const int64_t stride = tensor.stride(d);
    if (size == 0 || stride == 0 || stride < least) return false;
    least = size > 1 ? stride * size : stride;
  }
  return true;
}

/// Undefined if there is not enough memory. Straight to the allocator: torch::stable::empty looks
/// its operator up by name, at 2 microseconds.
inline Tensor try_empty_strided(const std::vector<int64_t>& sizes,
                                const std::vector<int64_t>& strides, ScalarType dtype,
                                const Tensor& like) {
  int32_t device_type = 0;
  int32_t device_index = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(like.get(), &device_type));
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_index(like.get(), &device_index));
  const auto dtype_code = torch::stable::detail::to<int32_t>(torch::stable::detail::from(dtype));
  AtenTensorHandle handle = nullptr;
  const bool allocated =
      aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.data(), strides.data(),
                               dtype_code, device_type, device_index, &handle) == TORCH_SUCCESS;
  return allocated ? Tensor(handle) : Tensor();
}

/// PyTorch's name of a type.
inline const char* name_of(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Half:
      return "float16";
    case ScalarType::BFloat16:
      return "bfloat16";
    case ScalarType::Float:
      return "float32";
    case ScalarType::Double:
      return "float64";
    default:
      return "another type";
  }
}

/// The error begins with "gridsample_ext: could not allocate", by which it is told from others.
inline Tensor empty_strided(const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides,
                            ScalarType dtype, const Tensor& like) {
  const Tensor tensor = try_empty_strided(sizes, strides, dtype, like);
  if (!tensor.defined()) {
    std::ostringstream text;
    for (const int64_t size : sizes) text << (text.tellp() > 0 ? ", " : "") << size;
    check(false, "could not allocate a tensor with sizes [", text.str(), "] of ", name_of(dtype),
          " on ", device_of(like));
  }
  return tensor;
}

inline std::vector<int64_t> contiguous_strides(const std::vector<int64_t>& sizes) {
  std::vector<int64_t> strides(sizes.size());
  int64_t stride = 1;
  for (size_t d = sizes.size(); d-- > 0;) {
    strides[d] = stride;
    stride *= std::max<int64_t>(sizes[d], 1);
  }
  return strides;
}

/// An uninitialised contiguous tensor.
inline Tensor empty_contiguous(const std::vector<int64_t>& sizes, ScalarType dtype,
                               const Tensor& like) {
  return empty_strided(sizes, contiguous_strides(sizes), dtype, like);
}

/// Of a dense (N, C, [D,] H, W) tensor with channels innermost.
inline std::vector<int64_t> channels_last_strides(const std::vector<int64_t>& sizes) {
  std::vector<int64_t> strides(sizes.size());
  strides[1] = 1;
  int64_t stride = sizes[1];
  for (size_t d = sizes.size() - 1; d >= 2; --d) {
    strides[d] = stride;
    stride *= sizes[d];
  }
  strides[0] = stride;
  return strides;
}

/// An uninitialised (N, C, [D,] H, W) tensor in the layout that results for `input` take.
inline Tensor empty_image(const Tensor& input, const std::vector<int64_t>& sizes,
                          ScalarType dtype) {
  return prefers_channels_last(input)
             ? empty_strided(sizes, channels_last_strides(sizes), dtype, input)
             : empty_contiguous(sizes, dtype, input);
}

/// A number as an element of a tensor like `like`; `name` is for errors.
inline Element element_of(double value, const Tensor& like, const char* name) {
  Element element;
  const auto set = [&](auto number) { std::memcpy(element.bytes, &number, sizeof(number)); };
  const bool is_integer = with_integers(like, [&]<typename T>() {
    // The ends of the wider types are not among the numbers of double.
    constexpr double kEnd = std::is_same_v<T, bool>
                                ? 2.0
                                : 2.0 * static_cast<double>(uint64_t(1) << (sizeof(T) * 8 - 1)) *
                                      (std::is_signed_v<T> ? 0.5 : 1.0);
    const bool fits = value >= (std::is_signed_v<T> ? -kEnd : 0.0) && value < kEnd;
    check(fits && value == std::trunc(value), "expected ", name,
          " to be a number that input's dtype holds, but got ", value);
    set(static_cast<T>(value));
  });
  if (is_integer) return element;
  switch (like.scalar_type()) {
    case ScalarType::Half:
      set(torch::headeronly::Half(static_cast<float>(value)));
      break;
    case ScalarType::BFloat16:
      set(torch::headeronly::BFloat16(static_cast<float>(value)));
      break;
    case ScalarType::Double:
      set(value);
      break;
    default:
      set(static_cast<float>(value));
  }
  return element;
}

/// Whether the values outside of a call are good for an image of integers.
inline void check_values(const Geometry& geometry, const Tensor& input) {
  static_cast<void>(element_of(geometry.fill_value, input, "fill_value"));
  static_cast<void>(element_of(geometry.outside_value.value_or(0), input, "outside_value"));
}

/// The type that sums are made in.
inline ScalarType sum_type(const Geometry& geometry) {
  return scalar_type_of(compute_dtype(geometry));
}

inline std::vector<int64_t> output_sizes(const Geometry& geometry) {
  std::vector<int64_t> sizes;
  sizes.reserve(static_cast<size_t>(geometry.dims) + 2);
  sizes.push_back(geometry.batch);
  sizes.push_back(geometry.channels);
  for (int axis = geometry.dims - 1; axis >= 0; --axis) sizes.push_back(geometry.output_size[axis]);
  return sizes;
}

inline std::vector<int64_t> sizes_vector(const Tensor& tensor) {
  const auto sizes = tensor.sizes();
  return {sizes.begin(), sizes.end()};
}

/// An uninitialised gradient by coordinates: contiguous, but for a displacement in planes, whose
/// gradient is in planes. gridsample_ext/_fakes.py says so for fake tensors.
inline Tensor empty_grid(const GridSource& like, ScalarType dtype) {
  const Tensor& values = like.values;
  const std::vector<int64_t> sizes = sizes_vector(values);
  if (!like.is_warp || values.stride(values.dim() - 1) == 1) {
    return empty_contiguous(sizes, dtype, values);
  }
  std::vector<int64_t> strides(sizes.size());
  int64_t stride = 1;
  for (size_t d = sizes.size() - 1; d-- > 1;) {
    strides[d] = stride;
    stride *= std::max<int64_t>(sizes[d], 1);
  }
  strides.back() = stride;
  strides[0] = stride * sizes.back();
  return empty_strided(sizes, strides, dtype, values);
}

/// Sums of the compute type, rounded once to the type of what they are the gradient of, by
/// copy(to, from).
template <typename F>
Tensor rounded(const Tensor& sums, const Tensor& like, const F& copy) {
  if (!sums.defined() || sums.scalar_type() == like.scalar_type()) return sums;
  const auto strides = sums.strides();
  Tensor result =
      empty_strided(sizes_vector(sums), {strides.begin(), strides.end()}, like.scalar_type(), sums);
  copy(result, sums);
  return result;
}
inline Tensor rounded(const Tensor& sums, const Tensor& like) {
  return rounded(sums, like,
                 [](Tensor& to, const Tensor& from) { torch::stable::copy_(to, from); });
}

/// An affine map as kernels read it, by copy(to, from) where need be; undefined where there is
/// none.
template <typename F>
Tensor dense_affine(const std::optional<Tensor>& affine, const Geometry& geometry, const F& copy) {
  if (!affine.has_value()) return Tensor();
  if (affine->is_contiguous() && affine->scalar_type() == sum_type(geometry)) return *affine;
  Tensor dense = empty_contiguous(sizes_vector(*affine), sum_type(geometry), *affine);
  copy(dense, *affine);
  return dense;
}
inline Tensor dense_affine(const std::optional<Tensor>& affine, const Geometry& geometry) {
  return dense_affine(affine, geometry,
                      [](Tensor& to, const Tensor& from) { torch::stable::copy_(to, from); });
}

}  // namespace gridsample_ext
