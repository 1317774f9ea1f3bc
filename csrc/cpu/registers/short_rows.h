#pragma once

// Samples of rows of three or four channels, one after the other: lanes over channels. Sums are
// nested as interpolate nests them, so that results have the bits of those from planes.

#include "cpu/pixels/rows.h"
#include "cpu/registers/taps.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// out[l * kChannels + c] of a vector of samples, whose taps are all inside. Rows of three are read
/// and written as four, but for the last, which others may follow.
template <int kChannels, Mode kMode>
GRIDSAMPLE_INLINE void sample_short_rows(const LaneTaps<kMode>& taps, int v, const LaneImage& image,
                                         const compute_t* pixels, compute_t* out) {
  constexpr int kTaps = kTapsPerAxis<kMode>;
  alignas(64) compute_t weight[2][kTaps][kSampleLanes];
  GRIDSAMPLE_UNROLL
  for (int a = 0; a < 2; ++a) {
    GRIDSAMPLE_UNROLL
    for (int k = 0; k < kTaps; ++k) {
      store_vector<compute_t, kSampleLanes>(weight[a][k], taps.axis[a].weight[k][v]);
    }
  }
  GRIDSAMPLE_TO_MEMORY(weight);
  GRIDSAMPLE_UNROLL
  for (int l = 0; l < kSampleLanes; ++l) {
    Vector<compute_t, 4> sum{};
    GRIDSAMPLE_UNROLL
    for (int ky = 0; ky < kTaps; ++ky) {
      const compute_t* row = pixels + taps.offset[v][l] + int64_t(ky) * image.stride[1];
      Vector<compute_t, 4> sum_x{};
      GRIDSAMPLE_UNROLL
      for (int kx = 0; kx < kTaps; ++kx) {
        sum_x = multiply_add_vector<compute_t, 4>(broadcast<compute_t, 4>(weight[0][kx][l]),
                                                  load_vector<compute_t, 4>(row + kx * kChannels),
                                                  sum_x);
      }
      sum =
          multiply_add_vector<compute_t, 4>(broadcast<compute_t, 4>(weight[1][ky][l]), sum_x, sum);
    }
    if (kChannels == 4 || l + 1 < kSampleLanes) {
      store_vector<compute_t, 4>(out + l * kChannels, sum);
    } else {
      store_first_lanes<ScalarOf<compute_t>, compute_t, 3>(out + l * kChannels, sum);
    }
  }
}

/// Some taps are outside, or rows of three that cannot be read as four.
template <Padding kPadding, int kChannels, Mode kMode>
GRIDSAMPLE_NOINLINE void sample_short_rows_at_edges(const LaneTaps<kMode>& taps, int v,
                                                    const LaneImage& image, const compute_t* pixels,
                                                    compute_t* out) {
  constexpr int kTaps = kTapsPerAxis<kMode>;
  constexpr int kLeft = kChannels == 4 ? 0 : kChannels;
  using scalar = ScalarOf<compute_t>;
  const EdgePlaces<kMode, kPadding> edge(taps, v, image);
  for (int l = 0; l < kSampleLanes; ++l) {
    Vector<compute_t, 4> sum{};
    for (int ky = 0; ky < kTaps; ++ky) {
      Vector<compute_t, 4> sum_x{};
      for (int kx = 0; kx < kTaps; ++kx) {
        if (edge.valid[ky][kx][l] == 0) continue;
        const int place = edge.moved[l] != 0 ? kTaps - 1 - kx : kx;
        int64_t offset = edge.row[ky][l] + int64_t(place) * kChannels;
        if constexpr (edge.kMayWrap) {
          if (kx > 0 && edge.goes_on[l] != 0) offset = edge.beginning[ky][l];
        }
        const auto pixel = load_row_lanes<scalar, compute_t, 4, kLeft>(pixels + offset);
        sum_x = multiply_add_vector<compute_t, 4>(
            broadcast<compute_t, 4>(taps.axis[0].weight[kx][v][l]), pixel, sum_x);
      }
      sum = multiply_add_vector<compute_t, 4>(
          broadcast<compute_t, 4>(taps.axis[1].weight[ky][v][l]), sum_x, sum);
    }
    if constexpr (kLeft == 0) {
      store_vector<compute_t, 4>(out + l * kChannels, sum);
    } else {
      store_first_lanes<scalar, compute_t, kLeft>(out + l * kChannels, sum);
    }
  }
}

GRIDSAMPLE_NAMESPACE_END
