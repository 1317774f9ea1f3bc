#pragma once

// From run-time enums to template parameters: the one switch.

#include "cpu/kernels/table.h"
#include "cpu/taps/tap_tile.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Whether images and volumes have kernels of their own, which are faster, and twice the code:
/// build.py says where.
constexpr bool kKernelsPerDims = GRIDSAMPLE_IS_USUAL;

/// Calls function.template operator()<Tile>() for a tile of so many dimensions.
template <Mode kMode, typename F>
GRIDSAMPLE_INLINE void dispatch_dims(int dims, const F& function) {
  if constexpr (!kKernelsPerDims) {
    function.template operator()<TapTile<kMode, kAnyDims>>();
  } else if (dims == 2) {
    function.template operator()<TapTile<kMode, 2>>();
  } else {
    function.template operator()<TapTile<kMode, 3>>();
  }
}

/// Calls function.template operator()<Tile>() for a tile of the geometry's mode and dimensions.
template <typename F>
GRIDSAMPLE_INLINE void dispatch_tile(const Geometry& geometry, const F& function) {
  dispatch_mode(geometry.mode,
                [&]<Mode kMode>() { dispatch_dims<kMode>(geometry.dims, function); });
}

/// dispatch_tile for the modes that have derivatives by the grid; nothing for the others.
template <typename F>
GRIDSAMPLE_INLINE void dispatch_smooth_tile(const Geometry& geometry, const F& function) {
  dispatch_mode(geometry.mode, [&]<Mode kMode>() {
    if constexpr (ModeTraits<kMode>::kSmooth) dispatch_dims<kMode>(geometry.dims, function);
  });
}

/// Calls function.template operator()<T>() for a type of so many bytes, to copy elements with.
template <typename F>
GRIDSAMPLE_INLINE void dispatch_size(DType dtype, const F& function) {
  switch (size_of(dtype)) {
    case 1:
      return function.template operator()<uint8_t>();
    case 2:
      return function.template operator()<uint16_t>();
    case 4:
      return function.template operator()<float>();
    default:
      return function.template operator()<double>();
  }
}

/// Calls function.template operator()<scalar>() for the types of images that are read as they are:
/// float64 in float64, the others in float32.
template <typename F>
GRIDSAMPLE_INLINE void dispatch_image_dtype(DType image, const F& function) {
  if constexpr (std::is_same_v<compute_t, double>) {
    function.template operator()<ScalarOf<double>>();
  } else if (image == DType::kHalf) {
    function.template operator()<Scalar<DType::kHalf>>();
  } else if (image == DType::kBFloat16) {
    function.template operator()<Scalar<DType::kBFloat16>>();
  } else {
    function.template operator()<ScalarOf<float>>();
  }
}

GRIDSAMPLE_NAMESPACE_END
