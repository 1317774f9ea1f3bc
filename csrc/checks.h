#pragma once

// All validation of the ops' arguments, for every device. Host code, before any kernel.

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/Layout.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cmath>
#include <iterator>
#include <limits>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "math/labels.h"
#include "params.h"

namespace gridsample_ext {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

/// Prints as "[2, 3, 4, 5]", and only when a check has failed.
struct SizesOf {
  const Tensor& tensor;
};

inline SizesOf sizes_of(const Tensor& tensor) { return {tensor}; }

inline std::ostream& operator<<(std::ostream& out, const SizesOf& sizes) {
  out << '[';
  for (int64_t d = 0; d < sizes.tensor.dim(); ++d) out << (d ? ", " : "") << sizes.tensor.size(d);
  return out << ']';
}

/// Prints as "cpu" or "cuda:1"; device types of no interest here as their number.
struct DeviceOf {
  const Tensor& tensor;
};

inline DeviceOf device_of(const Tensor& tensor) { return {tensor}; }

inline std::ostream& operator<<(std::ostream& out, const DeviceOf& device) {
  if (device.tensor.is_cpu()) return out << "cpu";
  const auto where = device.tensor.device();
  if (device.tensor.is_cuda()) return out << "cuda:" << where.index();
  return out << "device type " << static_cast<int>(where.type());
}

/// Throws what Python sees as a RuntimeError.
template <typename... Parts>
void check(bool condition, const Parts&... parts) {
  if (condition) return;
  std::ostringstream text;
  text << "gridsample_ext: ";
  (text << ... << parts);
  throw std::runtime_error(text.str());
}

inline int32_t dtype_code(const Tensor& tensor) {
  int32_t code = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(tensor.get(), &code));
  return code;
}

/// Calls function.template operator()<T>() if the tensor holds integers or bools, and returns
/// whether it does. (ScalarType cannot express every type there is.)
template <typename F>
bool with_integers(const Tensor& tensor, const F& function) {
  const int32_t code = dtype_code(tensor);
  const auto try_type = [&]<typename T>(int32_t of_type) {
    if (code == of_type) function.template operator()<T>();
    return code == of_type;
  };
  return try_type.template operator()<uint8_t>(aoti_torch_dtype_uint8()) ||
         try_type.template operator()<int64_t>(aoti_torch_dtype_int64()) ||
         try_type.template operator()<int32_t>(aoti_torch_dtype_int32()) ||
         try_type.template operator()<int16_t>(aoti_torch_dtype_int16()) ||
         try_type.template operator()<int8_t>(aoti_torch_dtype_int8()) ||
         try_type.template operator()<bool>(aoti_torch_dtype_bool()) ||
         try_type.template operator()<uint16_t>(aoti_torch_dtype_uint16()) ||
         try_type.template operator()<uint32_t>(aoti_torch_dtype_uint32()) ||
         try_type.template operator()<uint64_t>(aoti_torch_dtype_uint64());
}

/// Nothing for the types that kernels do not have.
inline std::optional<DType> dtype_of(const Tensor& tensor) {
  const int32_t code = dtype_code(tensor);
  if (code == aoti_torch_dtype_float32()) return DType::kFloat;
  if (code == aoti_torch_dtype_float64()) return DType::kDouble;
  if (code == aoti_torch_dtype_float16()) return DType::kHalf;
  if (code == aoti_torch_dtype_bfloat16()) return DType::kBFloat16;
  std::optional<DType> dtype;
  with_integers(tensor, [&]<typename T>() {
    dtype = sizeof(T) == 1   ? DType::kByte
            : sizeof(T) == 2 ? DType::kBytes2
            : sizeof(T) == 4 ? DType::kBytes4
                             : DType::kBytes8;
  });
  return dtype;
}

/// True when every element lies in the tensor's storage, which may have been freed or shrunk behind
/// its back (untyped_storage().resize_).
inline bool has_storage(const Tensor& tensor) {
  if (tensor.numel() == 0) return true;
  int64_t bytes = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_storage_size(tensor.get(), &bytes));
  const auto sizes = tensor.sizes();
  const auto strides = tensor.strides();
  int64_t reach = tensor.storage_offset() + 1;
  for (size_t d = 0; d < sizes.size(); ++d) reach += (sizes[d] - 1) * strides[d];
  return reach <= bytes / static_cast<int64_t>(tensor.element_size());
}

/// Prints as "Float" or "ComplexDouble", PyTorch's own names in C++.
inline const char* dtype_name(const Tensor& tensor) {
  return torch::headeronly::toString(static_cast<ScalarType>(dtype_code(tensor)));
}

/// may_copy: whether it may hold integers.
inline void check_tensor(const char* name, const Tensor& tensor, const Tensor& input,
                         bool may_copy = false) {
  check(tensor.defined(), "expected ", name, " to be a tensor, but it is undefined");
  check(tensor.layout() == torch::headeronly::Layout::Strided, "expected ", name,
        " to be a strided (dense) tensor, but got ", name, " with sizes ", sizes_of(tensor),
        " and another layout");
  check(tensor.device() == input.device(), "expected ", name,
        " and input to be on the same device, but got ", name, " with sizes ", sizes_of(tensor),
        " on ", device_of(tensor), " and input with sizes ", sizes_of(input), " on ",
        device_of(input));
  const std::optional<DType> dtype = dtype_of(tensor);
  check(dtype.has_value() && (may_copy || is_floating(*dtype)), "expected ", name,
        " to have dtype float16, bfloat16, float32 or float64",
        may_copy ? ", integers or bool" : "", ", but got ", name, " with sizes ", sizes_of(tensor),
        " and dtype ", dtype_name(tensor));
  check(has_storage(tensor), "expected ", name, " to have its data allocated, but the storage of ",
        name, " with sizes ", sizes_of(tensor), " is too small");
}

/// "0 (zeros), 1 (border), 2 (reflection) or 3 (circular)".
template <size_t kCount>
std::string numbered(const char* const (&names)[kCount]) {
  std::ostringstream known;
  for (size_t n = 0; n < kCount; ++n) {
    known << (n == 0 ? "" : n + 1 == kCount ? " or " : ", ") << n << " (" << names[n] << ")";
  }
  return known.str();
}

/// Whether some axis is padded with zeros.
inline bool check_padding_mode(int64_t padding_mode, int dims) {
  constexpr auto kPaddings = static_cast<int64_t>(std::size(kPaddingNames));
  bool known = padding_mode < kPaddingPerAxis + (1 << dims * kBitsOfPadding);
  bool has_zeros = false;
  for (int axis = 0; axis < dims; ++axis) {
    const int64_t number = padding_number(padding_mode, axis);
    known = known && number >= 0 && number < kPaddings;
    has_zeros = has_zeros || number == static_cast<int64_t>(Padding::kZeros);
  }
  if (!known) {
    check(false, "expected padding_mode to be ", numbered(kPaddingNames), ", or ", kPaddingPerAxis,
          " + x + 16 y + 256 z for those of the axes, but got ", padding_mode);
  }
  return has_zeros;
}

inline void check_options(const Options& options, int dims) {
  constexpr auto kModes = static_cast<int64_t>(std::size(kModeNames));
  const int64_t mode = options.interpolation_mode;
  const int64_t padding_mode = options.padding_mode;
  if (mode < 0 || mode >= kModes) {
    check(false, "expected interpolation_mode to be ", numbered(kModeNames), ", but got ", mode);
  }
  const bool has_zeros = check_padding_mode(padding_mode, dims);
  check(options.fill_value == 0 || has_zeros,
        "expected fill_value to be 0 where no axis is padded with zeros, but got ",
        options.fill_value, " and padding_mode ", padding_mode);
  check(options.cubic_coefficient >= -1 && options.cubic_coefficient <= 0,
        "expected cubic_coefficient to be in [-1, 0], but got ", options.cubic_coefficient);
}

/// Whether a value outside, in float64, is finite in float32 if it is at all.
inline void check_fits_float(const char* name, double value) {
  check(!std::isfinite(value) || std::fabs(value) <= std::numeric_limits<float>::max(), "expected ",
        name, " to be a number that float32, which this call computes in, holds, but got ", value);
}

/// name: by which the caller knows the image.
inline void check_dims(const Tensor& image, const char* name) {
  check(image.dim() == 4 || image.dim() == 5, "expected ", name,
        " to be 4-D (N, C, H, W) or 5-D (N, C, D, H, W), but got ", name, " with sizes ",
        sizes_of(image));
}

inline void check_not_empty_in_space(const Tensor& image, const char* name) {
  for (int64_t d = image.dim() - 1; d >= 2; --d) {
    check(image.size(d) > 0, "expected ", name, " to have non-empty spatial dimensions, but got ",
          name, " with sizes ", sizes_of(image), ", dimension ", d, " being empty");
  }
}

/// Whether an image may hold elements that kernels do not compute with.
inline bool may_copy(const Options& options) {
  return options.interpolation_mode == static_cast<int64_t>(Mode::kNearest);
}

/// Checks input, grid and options, and says what the call is about. The caller knows input and grid
/// by these names. copies: whether input may hold integers; is_wide: whether something else is
/// float64.
inline Geometry check_call(const Tensor& input, const Tensor& grid, const Options& options,
                           bool copies = false, const char* name = "input",
                           const char* grid_name = "grid", bool is_wide = false) {
  check_tensor(name, input, input, copies);
  check_tensor(grid_name, grid, input);
  check_dims(input, name);
  check(grid.dim() == input.dim(), "expected ", grid_name, " to have as many dimensions as ", name,
        ", but got ", name, " with sizes ", sizes_of(input), " and ", grid_name, " with sizes ",
        sizes_of(grid));

  const int dims = static_cast<int>(input.dim()) - 2;
  check_options(options, dims);
  check(grid.size(grid.dim() - 1) == dims, "expected ", grid_name, " to have size ", dims,
        " in its last dimension, but got ", grid_name, " with sizes ", sizes_of(grid), " for ",
        name, " with sizes ", sizes_of(input));
  const int64_t input_batch = input.size(0);
  const int64_t grid_batch = grid.size(0);
  check(input_batch == grid_batch || input_batch == 1 || grid_batch == 1, "expected ", name,
        " and ", grid_name, " to have the same batch size, or one of them a batch of 1, but got ",
        name, " with sizes ", sizes_of(input), " and ", grid_name, " with sizes ", sizes_of(grid));

  check_not_empty_in_space(input, name);
  const bool in_double =
      is_wide || dtype_of(input) == DType::kDouble || dtype_of(grid) == DType::kDouble;
  if (!in_double) {
    check_fits_float("fill_value", options.fill_value);
    check_fits_float("outside_value", options.outside_value.value_or(0));
  }
  return make_geometry(
      dims, [&](int d) { return input.size(d); }, [&](int d) { return grid.size(d); }, options,
      in_double);
}

/// Checks the arguments of a warp, whose displacement has the sizes of a grid.
inline Geometry check_warp(const Tensor& input, const Tensor& displacement,
                           const std::optional<Tensor>& affine, const Options& options,
                           bool copies = false) {
  if (affine.has_value()) check_tensor("affine", *affine, input);
  const bool is_wide = affine.has_value() && dtype_of(*affine) == DType::kDouble;
  const Geometry geometry =
      check_call(input, displacement, options, copies, "input", "displacement", is_wide);
  if (!affine.has_value()) return geometry;
  const int64_t dims = geometry.dims;
  check(affine->dim() == 3 && affine->size(1) == dims && affine->size(2) == dims + 1,
        "expected affine to be (N, ", dims, ", ", dims + 1, "), but got affine with sizes ",
        sizes_of(*affine), " for input with sizes ", sizes_of(input));
  check(affine->size(0) == displacement.size(0) || affine->size(0) == 1,
        "expected affine to have the batch size of displacement, or a batch of 1, but got affine ",
        "with sizes ", sizes_of(*affine), " and displacement with sizes ", sizes_of(displacement));
  return geometry;
}

/// What labels are, and a call of sample_labels: its geometry has values outside where the call has
/// labels there.
struct LabelCall {
  Geometry geometry;
  LabelType type;
  int64_t fill_value;  // in order, as labels are loaded
  int64_t outside_value;
};

inline LabelCall check_labels(const Tensor& labels, const Tensor& grid,
                              const LabelOptions& options) {
  Options call_options = options.options;
  call_options.fill_value = options.fill_value.has_value() ? 1 : 0;
  if (options.outside_value.has_value()) call_options.outside_value = 1;
  LabelCall call{};
  const bool has_labels =
      labels.defined() && with_integers(labels, [&]<typename T>() {
        call.type = {static_cast<int64_t>(sizeof(T)), std::is_signed_v<T>};
        const auto in_order = [&](const char* name, std::optional<int64_t> value) {
          const int64_t label = value.value_or(0);
          // Labels of uint64 are given as the int64 of their bits.
          const bool is_sound = label >= 0 || std::is_signed_v<T> || sizeof(T) == 8;
          check(static_cast<int64_t>(static_cast<T>(label)) == label && is_sound, "expected ", name,
                " to be a number that labels' dtype holds, but got ", label);
          return portable::in_order(label, call.type);
        };
        call.fill_value = in_order("fill_value", options.fill_value);
        call.outside_value = in_order("outside_value", options.outside_value);
      });
  check(has_labels, "expected labels to hold integers or bools, but got labels with sizes ",
        sizes_of(labels), " and dtype ", dtype_name(labels));
  call.geometry = check_call(labels, grid, call_options, true, "labels");
  return call;
}

/// Checks the arguments of spline_filter; the geometry has no samples.
inline Geometry check_spline_filter(const Tensor& image, const SplineOptions& options) {
  check_tensor("image", image, image);
  check_dims(image, "image");
  const int dims = static_cast<int>(image.dim()) - 2;
  check_padding_mode(options.padding_mode, dims);
  check_not_empty_in_space(image, "image");
  Geometry geometry;
  geometry.dims = dims;
  geometry.align_corners = options.align_corners;
  geometry.compute_in_double = dtype_of(image) == DType::kDouble;
  geometry.batch = image.size(0);
  geometry.channels = image.size(1);
  for (int axis = 0; axis < dims; ++axis) {
    geometry.input_size[axis] = image.size(dims + 1 - axis);
    geometry.padding[axis] = static_cast<Padding>(padding_number(options.padding_mode, axis));
  }
  return geometry;
}

inline void check_grad_output(const Tensor& grad_output, const Tensor& input, const Tensor& grid,
                              const Geometry& geometry, const char* grid_name = "grid") {
  check_tensor("grad_output", grad_output, input);
  bool matches = grad_output.dim() == input.dim() && grad_output.size(0) == geometry.batch &&
                 grad_output.size(1) == geometry.channels;
  for (int axis = 0; matches && axis < geometry.dims; ++axis) {
    matches = grad_output.size(grad_output.dim() - 1 - axis) == geometry.output_size[axis];
  }
  check(matches,
        "expected grad_output to have the sizes of the output, but got grad_output with sizes ",
        sizes_of(grad_output), " for input with sizes ", sizes_of(input), " and ", grid_name,
        " with sizes ", sizes_of(grid));
}

inline void check_output_mask(const std::vector<bool>& output_mask, size_t results = 2) {
  check(output_mask.size() == results, "expected output_mask to have ", results,
        " elements, but got ", output_mask.size());
}

/// What is given along with a tensor, as its tangent or as the gradient of its gradient, if it is.
inline void check_companion(const char* name, const std::optional<Tensor>& companion,
                            const char* of_name, const Tensor& of, const Tensor& input) {
  if (!companion.has_value()) return;
  check_tensor(name, *companion, input);
  bool matches = companion->dim() == of.dim();
  for (int64_t d = 0; matches && d < of.dim(); ++d) matches = companion->size(d) == of.size(d);
  check(matches, "expected ", name, " to have the sizes of ", of_name, ", but got ", name,
        " with sizes ", sizes_of(*companion), " and ", of_name, " with sizes ", sizes_of(of));
}

inline void check_companions(const char* input_name, const std::optional<Tensor>& of_input,
                             const char* grid_name, const std::optional<Tensor>& of_grid,
                             const Tensor& input, const Tensor& grid) {
  check(of_input.has_value() || of_grid.has_value(), "expected ", input_name, " or ", grid_name,
        " to be a tensor, but both are None");
  check_companion(input_name, of_input, "input", input, input);
  check_companion(grid_name, of_grid, "grid", grid, input);
}

}  // namespace gridsample_ext
