#pragma once

// The pixels of one vector of samples, lanes over samples.

#include "cpu/pixels/planes.h"
#include "cpu/registers/taps.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// kTaps pixels that lie side by side, of kWidth channels each: pixel[c][k] of each sample.
template <int kTaps, int kWidth, typename T>  // T: only what is called is compiled
GRIDSAMPLE_INLINE void load_lane_row(const T* image, const offset_t* offset,
                                     SampleLanes (&pixel)[kWidth][kTaps]) {
  constexpr int kTuple = kTaps * kWidth;
  SampleLanes v[kTuple];
  const auto load = [&]() GRIDSAMPLE_INLINE_LAMBDA {
    if constexpr (kTuple == 1 && kGathers<compute_t>) {
      if (fast_gathers) {
        v[0] = gather_lanes<kSampleLanes>(image, offset);
        return;
      }
    }
    if constexpr (kTuple == 2 && kGathersPairs<compute_t>) {
      if (fast_gathers) return gather_pairs(image, offset, v);
    }
    load_apart<compute_t, kTuple, kSampleLanes>(image, offset, v);
  };
  load();
  GRIDSAMPLE_UNROLL
  for (int c = 0; c < kWidth; ++c) {
    GRIDSAMPLE_UNROLL
    for (int k = 0; k < kTaps; ++k) pixel[c][k] = v[k * kWidth + c];
  }
}

/// load_lane_row for row ky of a vector of samples, some of whose taps are outside.
template <int kWidth, typename Edge, typename T>
GRIDSAMPLE_INLINE void load_edge_row(const Edge& edge, const T* image, int ky,
                                     SampleLanes (&pixel)[kWidth][Edge::kTaps]) {
  constexpr int kLast = Edge::kTaps - 1;
  SampleLanes found[kWidth][kLast + 1];
  load_lane_row<kLast + 1, kWidth>(image, edge.row[ky], found);
  GRIDSAMPLE_UNROLL
  for (int n = 0; n < kWidth; ++n) {
    GRIDSAMPLE_UNROLL
    for (int kx = 0; kx <= kLast; ++kx) pixel[n][kx] = edge.choose(found[n], ky, kx);
  }
  if constexpr (Edge::kMayWrap) {
    if (!edge.is_circular) return;
    SampleLanes first[kWidth][1];
    load_lane_row<1, kWidth>(image, edge.beginning[ky], first);
    GRIDSAMPLE_UNROLL
    for (int n = 0; n < kWidth; ++n) {
      const auto own = (MaskLanes)pixel[n][kLast];
      const auto next = (MaskLanes)first[n][0] & edge.valid[ky][kLast];
      pixel[n][kLast] = (SampleLanes)(edge.goes_on ? next : own);
    }
  }
}

/// The sum over the taps of weight * pixel, of vector v as interpolate nests it; row(ky, pixel)
/// gives a row.
template <Mode kMode, int kWidth, typename Row>
GRIDSAMPLE_INLINE void interpolate_lanes(const LaneTaps<kMode>& taps, int v, const Row& row,
                                         SampleLanes (&sum)[kWidth]) {
  constexpr int kTaps = kTapsPerAxis<kMode>;
  for (auto& lanes : sum) lanes = SampleLanes{};
  GRIDSAMPLE_UNROLL
  for (int ky = 0; ky < kTaps; ++ky) {
    SampleLanes pixel[kWidth][kTaps];
    row(ky, pixel);
    GRIDSAMPLE_UNROLL
    for (int c = 0; c < kWidth; ++c) {
      if constexpr (ModeTraits<kMode>::kCopies) {
        sum[c] = pixel[c][0];
      } else {
        SampleLanes sum_x{};
        GRIDSAMPLE_UNROLL
        for (int kx = 0; kx < kTaps; ++kx) {
          sum_x = multiply_add_vector<compute_t, kSampleLanes>(taps.axis[0].weight[kx][v],
                                                               pixel[c][kx], sum_x);
        }
        sum[c] =
            multiply_add_vector<compute_t, kSampleLanes>(taps.axis[1].weight[ky][v], sum_x, sum[c]);
      }
    }
  }
}

GRIDSAMPLE_NAMESPACE_END
