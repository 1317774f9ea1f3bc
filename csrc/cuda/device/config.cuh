#pragma once

// What kernels are compiled for, which of them there are, and the one switch from run-time enums,
// types and sizes to their template parameters.

#include "math/taps.h"
#include "cuda/device/pixels.cuh"

namespace gridsample_ext::cuda {

using portable::kTapsPerAxis;

/// index_t holds the offset of a pixel within one channel of one image; batches and channels are
/// added in 64 bits. If it has 32 bits, so have the numbers of samples and channels, and the walk
/// over the samples is linear, too: without that, a sample of one channel took half as many
/// instructions again. Padding is with zeros, or any, which Sampling names.
template <typename pixel_type, int dims, Mode mode, typename index_type, bool pads_with_zeros>
struct Config {
  using pixel_t = pixel_type;
  using compute_t = compute_type<pixel_type>;
  using index_t = index_type;
  static constexpr int kDims = dims;
  static constexpr Mode kMode = mode;
  static constexpr bool kPadsWithZeros = pads_with_zeros;
  static constexpr int kTaps = kTapsPerAxis<mode>;
  static constexpr int kTapsZ = dims == 3 ? kTaps : 1;
  static constexpr int kAllTaps = kTapsZ * kTaps * kTaps;
  static constexpr bool kCopies = portable::ModeTraits<mode>::kCopies;
  static constexpr bool kSmooth = portable::ModeTraits<mode>::kSmooth;
  static constexpr bool kCurved = portable::ModeTraits<mode>::kCurved;
  static constexpr bool kNarrow = sizeof(index_type) == sizeof(int32_t);
  // Numbers of samples and of channels, and steps from one to a later one.
  using number_t = std::conditional_t<kNarrow, uint32_t, int64_t>;
};

/// float16 and bfloat16: not read by type, in one kernel or, where speed depends on it, in two.
enum class Halves { kNone, kTogether, kApart };

/// The kernels of an op. All ops have one for each mode, number of dimensions and compute type that
/// takes offsets of 64 bits and any padding; what speed depends on has more.
struct KernelSet {
  bool rough;     // for modes without derivatives by the grid, too
  bool narrow;    // for offsets of 32 bits
  bool zeros;     // among these, for padding with zeros, computed in float32
  Halves halves;  // kApart: among the narrow ones, but for copies
};

inline constexpr KernelSet kForwardKernels = {true, true, true, Halves::kApart};
inline constexpr KernelSet kBackwardKernels = {true, true, true, Halves::kTogether};
inline constexpr KernelSet kSecondOrderKernels = {false, true, false, Halves::kTogether};
inline constexpr KernelSet kFixedPointKernels = {true, false, false, Halves::kNone};

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
