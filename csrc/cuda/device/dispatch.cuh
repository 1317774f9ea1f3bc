#pragma once

// From run-time enums, types and sizes to the template parameters of the kernels: the one switch.

#include <stdexcept>
#include <type_traits>

#include "cuda/device/taps.cuh"

namespace gridsample_ext::cuda {

/// Kernels that count in 32 bits where they can, beside those in 64 bits, which do for all. Builds
/// with sanitizers take several times as long and have them for float32 alone.
#if defined(GRIDSAMPLE_FEWER_KERNELS)
template <typename pixel_t>
inline constexpr bool kHasNarrowKernels = std::is_same_v<pixel_t, float>;
#else
template <typename pixel_t>
inline constexpr bool kHasNarrowKernels = true;
#endif

/// For offsets of any width. Calls function.template operator()<Config>().
template <typename pixel_t, typename index_t = int64_t, typename F>
void dispatch_geometry(const Geometry& geometry, const F& function) {
  const auto with_padding = [&]<int kDims, Mode kMode>() {
    switch (geometry.padding) {
      case Padding::kZeros:
        return function
            .template operator()<Config<pixel_t, kDims, kMode, Padding::kZeros, index_t>>();
      case Padding::kBorder:
        return function
            .template operator()<Config<pixel_t, kDims, kMode, Padding::kBorder, index_t>>();
      case Padding::kReflection:
        return function
            .template operator()<Config<pixel_t, kDims, kMode, Padding::kReflection, index_t>>();
    }
  };
  const auto with_mode = [&]<int kDims>() {
    switch (geometry.mode) {
      case Mode::kBilinear:
        return with_padding.template operator()<kDims, Mode::kBilinear>();
      case Mode::kNearest:
        return with_padding.template operator()<kDims, Mode::kNearest>();
      case Mode::kBicubic:
        return with_padding.template operator()<kDims, Mode::kBicubic>();
    }
  };
  return geometry.dims == 2 ? with_mode.template operator()<2>()
                            : with_mode.template operator()<3>();
}

/// narrow: see is_narrow in describe.cuh.
template <typename pixel_t, typename F>
void dispatch_geometry(const Geometry& geometry, bool narrow, const F& function) {
  if constexpr (kHasNarrowKernels<pixel_t>) {
    if (narrow) return dispatch_geometry<pixel_t, int32_t>(geometry, function);
  }
  return dispatch_geometry<pixel_t, int64_t>(geometry, function);
}

/// The same for what needs derivatives of weights, which nearest has none of: another mode.
template <typename pixel_t, typename index_t = int64_t, typename F>
void dispatch_moving_geometry(const Geometry& geometry, const F& function) {
  dispatch_geometry<pixel_t, index_t>(geometry, [&]<typename Config>() {
    if constexpr (Config::kMode != Mode::kNearest) function.template operator()<Config>();
  });
}

template <typename pixel_t, typename F>
void dispatch_moving_geometry(const Geometry& geometry, bool narrow, const F& function) {
  if constexpr (kHasNarrowKernels<pixel_t>) {
    if (narrow) return dispatch_moving_geometry<pixel_t, int32_t>(geometry, function);
  }
  return dispatch_moving_geometry<pixel_t, int64_t>(geometry, function);
}

/// The element types that are computed in compute_t: float64 in float64, the others in float32.
/// Calls function.template operator()<pixel_t>().
template <typename compute_t, typename F>
void dispatch_pixels_of(DType dtype, const F& function) {
  if constexpr (std::is_same_v<compute_t, double>) {
    return function.template operator()<double>();
  } else {
    switch (dtype) {
      case DType::kHalf:
        return function.template operator()<Half>();
      case DType::kBFloat16:
        return function.template operator()<BFloat16>();
      case DType::kFloat:
        return function.template operator()<float>();
      case DType::kDouble:
        break;
    }
    throw std::logic_error("gridsample_ext: float64 pixels are not computed in float32");
  }
}

}  // namespace gridsample_ext::cuda
