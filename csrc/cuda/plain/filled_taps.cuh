#pragma once

// Taps of a sample that may read values of their own outside the image.

#include "cuda/device/taps.cuh"

namespace gridsample_ext::cuda {

/// In place of the offset of a tap outside that reads the fill value, not nothing.
constexpr int kFilled = -2;
static_assert(kFilled != portable::kOutside);

/// taps_t: Taps or MovingTaps, which have been computed.
template <typename Config, typename taps_t = Taps<Config>>
struct FilledTaps {
  using compute_t = typename Config::compute_t;

  taps_t taps;
  bool excluded;  // does not lie on a pixel, and therefore has a value of its own
  bool filled;    // some tap is
  bool inside;    // some tap is, and the sample is not excluded

  /// fills: whether there is a fill value.
  GRIDSAMPLE_DEVICE FilledTaps(const taps_t& computed, const Sample& sample,
                               const Sampling<compute_t>& sampling, bool fills)
      : taps(computed), filled(false), inside(true) {
    compute_t values[Config::kDims];
    load_point<Config>(values, sample, sampling);
    excluded = sampling.excludes_off_image && !is_on_image(values, sampling);
    GRIDSAMPLE_UNROLL_ALL
    for (int a = 0; a < Config::kDims; ++a) {
      bool any = false;
      GRIDSAMPLE_UNROLL_ALL
      for (int k = 0; k < Config::kTaps; ++k) {
        auto& offset = taps.offset[a][k];
        any = any || offset >= 0;
        if (fills && offset < 0 && sampling.padding[a] == Padding::kZeros) {
          offset = kFilled;
          filled = true;
        }
      }
      inside = inside && any;
    }
    inside = inside && !excluded;
  }

  /// Whether a tap reads a pixel, whose offset is offset_of_tap, or, where that is negative, the
  /// fill value.
  GRIDSAMPLE_DEVICE bool is_read(int z, int y, int x) const {
    const bool in_plane =
        taps.offset[0][x] != portable::kOutside && taps.offset[1][y] != portable::kOutside;
    if constexpr (Config::kDims == 2) return in_plane;
    return in_plane && taps.offset[Config::kDims - 1][z] != portable::kOutside;
  }
};

}  // namespace gridsample_ext::cuda
