#pragma once

// From run-time enums, types and sizes to the template parameters of the kernels: the one switch.

#include "cuda/device/config.cuh"

namespace gridsample_ext::cuda {

/// Calls function.template operator()<kDims, kMode>(), of modes without derivatives by the grid
/// only if kRough.
template <bool kRough, typename F>
void dispatch_mode(const Geometry& geometry, const F& function) {
  portable::dispatch_mode(geometry.mode, [&]<Mode kMode>() {
    if constexpr (kRough || portable::ModeTraits<kMode>::kSmooth) {
      if (geometry.dims == 2) return function.template operator()<2, kMode>();
      return function.template operator()<3, kMode>();
    }
  });
}

/// Calls function.template operator()<Config>() for images of the type, which is float64 if and
/// only if compute_t is; narrow: see is_narrow in describe.h.
template <KernelSet kSet, typename compute_t, typename F>
void dispatch(const Geometry& geometry, DType dtype, bool narrow, const F& function) {
  dispatch_mode<kSet.rough>(geometry, [&]<int kDims, Mode kMode>() {
    const auto call = [&]<typename pixel_t, typename index_t = int64_t, bool kZeros = false>() {
      function.template operator()<Config<pixel_t, kDims, kMode, index_t, kZeros>>();
    };
    constexpr bool kDouble = std::is_same_v<compute_t, double>;
    const auto call_narrow = [&]<typename pixel_t>() {
      constexpr bool kApart = std::is_same_v<pixel_t, float> || kSet.halves == Halves::kApart;
      if constexpr (kSet.zeros && kApart && !kDouble) {
        if (only_pads_with_zeros(geometry)) {
          return call.template operator()<pixel_t, int32_t, true>();
        }
      }
      call.template operator()<pixel_t, int32_t>();
    };
    if (kDouble || kSet.halves == Halves::kNone || dtype == DType::kFloat) {
      if constexpr (kSet.narrow) {
        if (narrow) return call_narrow.template operator()<compute_t>();
      }
      call.template operator()<compute_t>();
    } else if constexpr (!kDouble && kSet.halves != Halves::kNone) {
      if constexpr (kSet.halves == Halves::kApart && !portable::ModeTraits<kMode>::kCopies) {
        if (narrow && dtype == DType::kHalf) return call_narrow.template operator()<Half>();
        if (narrow) return call_narrow.template operator()<BFloat16>();
      } else if constexpr (kSet.narrow) {
        if (narrow) return call_narrow.template operator()<AnyHalf>();
      }
      call.template operator()<AnyHalf>();
    }
  });
}

}  // namespace gridsample_ext::cuda
