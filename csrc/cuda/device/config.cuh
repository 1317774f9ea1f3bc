#pragma once

// What kernels are compiled for, and which of them there are.

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

}  // namespace gridsample_ext::cuda
