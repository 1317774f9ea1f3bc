#pragma once

// From run-time enums to template parameters: the one switch.

#include "pixels.h"

GRIDSAMPLE_NAMESPACE_BEGIN

template <bool kDerivatives, Mode kMode, typename compute_t, typename offset_t, typename F>
GRIDSAMPLE_INLINE void dispatch_dims(int dims, const F& function) {
  constexpr int kTaps = kTapsPerAxis<kMode>;
  if (dims == 2) {
    function.template operator()<kMode, TapTile<compute_t, offset_t, 2, kTaps, kDerivatives>>();
  } else {
    function.template operator()<kMode, TapTile<compute_t, offset_t, 3, kTaps, kDerivatives>>();
  }
}

template <bool kDerivatives, typename compute_t, typename offset_t, typename F>
GRIDSAMPLE_INLINE void dispatch_mode(const Geometry& geometry, const F& function) {
  switch (geometry.mode) {
    case Mode::kBilinear:
      return dispatch_dims<kDerivatives, Mode::kBilinear, compute_t, offset_t>(geometry.dims,
                                                                               function);
    case Mode::kNearest:
      return dispatch_dims<kDerivatives, Mode::kNearest, compute_t, offset_t>(geometry.dims,
                                                                              function);
    case Mode::kBicubic:
      return dispatch_dims<kDerivatives, Mode::kBicubic, compute_t, offset_t>(geometry.dims,
                                                                              function);
  }
}

/// Calls function.template operator()<kMode, Tile>() for a tile of the geometry's mode, dimensions
/// and compute type, with 32-bit offsets.
template <bool kDerivatives, typename compute_t, typename F>
GRIDSAMPLE_INLINE void dispatch_narrow_tile(const Geometry& geometry, const F& function) {
  dispatch_mode<kDerivatives, compute_t, int32_t>(geometry, function);
}

/// The same, with offsets wide enough for planes of `image`.
template <bool kDerivatives, typename compute_t, typename F>
GRIDSAMPLE_INLINE void dispatch_tile(const Geometry& geometry, [[maybe_unused]] const View& image,
                                     const F& function) {
#if defined(GRIDSAMPLE_WIDE_OFFSETS)
  if (!has_narrow_offsets(geometry, image)) {
    return dispatch_mode<kDerivatives, compute_t, int64_t>(geometry, function);
  }
#endif
  dispatch_mode<kDerivatives, compute_t, int32_t>(geometry, function);
}

/// Calls function.template operator()<compute_t>().
template <typename F>
GRIDSAMPLE_INLINE void dispatch_compute(const Geometry& geometry, const F& function) {
  if (geometry.compute_in_double) {
    function.template operator()<double>();
  } else {
    function.template operator()<float>();
  }
}

/// dispatch_tile with the geometry's compute type.
template <bool kDerivatives, typename F>
GRIDSAMPLE_INLINE void dispatch_compute_tile(const Geometry& geometry, const View& image,
                                             const F& function) {
  dispatch_compute(geometry, [&]<typename compute_t>() {
    dispatch_tile<kDerivatives, compute_t>(geometry, image, function);
  });
}

/// Calls function.template operator()<scalar, compute_t>() for the image's type: float64 images are
/// computed in float64, the others in float32 (see widened, cpu/grid_sample.cpp).
template <typename F>
GRIDSAMPLE_INLINE void dispatch_types(DType image, const F& function) {
  dispatch_dtype(image, [&]<typename scalar>() {
    constexpr bool kDouble = std::is_same_v<scalar, Scalar<DType::kDouble>>;
    function.template operator()<scalar, std::conditional_t<kDouble, double, float>>();
  });
}

GRIDSAMPLE_NAMESPACE_END
