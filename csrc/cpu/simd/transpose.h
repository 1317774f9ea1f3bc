#pragma once

// Planes of channels to rows of channels and back, by blocks in registers.

#include "cpu/simd/lanes.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// rows[p * row_stride + c] = planes[c * plane_stride + p] for kRows channels c and N pixels p.
template <typename scalar, typename compute_t, int kRows>
GRIDSAMPLE_INLINE void planes_to_rows(const typename scalar::storage_t* planes,
                                      int64_t plane_stride, compute_t* rows, int64_t row_stride) {
  constexpr int kLanes = kFullLanes<compute_t>;
  Vector<compute_t, kLanes> v[kRows];
  GRIDSAMPLE_UNROLL_16
  for (int c = 0; c < kRows; ++c) {
    const auto* plane = planes + c * plane_stride;
    GRIDSAMPLE_PREFETCH(plane + 2 * kLanes);  // too many streams for the hardware to follow
    v[c] = load_lanes<scalar, compute_t, kLanes>(plane);
  }
  interleave<compute_t, kLanes>(v);
  GRIDSAMPLE_UNROLL_16
  for (int r = 0; r < kRows; ++r) {
    constexpr int kPixels = kLanes / kRows;
    if (kPixels == 1 || row_stride == kRows) {
      store_vector<compute_t, kLanes>(rows + r * kPixels * row_stride, v[r]);
    } else {
      alignas(64) compute_t lanes[kLanes];
      store_vector<compute_t, kLanes>(lanes, v[r]);
      for (int p = 0; p < kPixels; ++p) {
        std::memcpy(rows + (r * kPixels + p) * row_stride, lanes + p * kRows,
                    kRows * sizeof(compute_t));
      }
    }
  }
}

/// planes[c * plane_stride + p] = rows[p * row_stride + c] for kRows channels c and N pixels p.
template <typename scalar, typename compute_t, int kRows>
GRIDSAMPLE_INLINE void rows_to_planes(const compute_t* rows, int64_t row_stride,
                                      typename scalar::storage_t* planes, int64_t plane_stride) {
  constexpr int kLanes = kFullLanes<compute_t>;
  Vector<compute_t, kLanes> v[kRows];
  GRIDSAMPLE_UNROLL_16
  for (int r = 0; r < kRows; ++r) {
    constexpr int kPixels = kLanes / kRows;
    if (kPixels == 1 || row_stride == kRows) {
      v[r] = load_vector<compute_t, kLanes>(rows + r * kPixels * row_stride);
    } else {
      alignas(64) compute_t lanes[kLanes];
      for (int p = 0; p < kPixels; ++p) {
        std::memcpy(lanes + p * kRows, rows + (r * kPixels + p) * row_stride,
                    kRows * sizeof(compute_t));
      }
      v[r] = load_vector<compute_t, kLanes>(lanes);
    }
  }
  deinterleave<compute_t, kLanes>(v);
  GRIDSAMPLE_UNROLL_16
  for (int c = 0; c < kRows; ++c) {
    store_lanes<scalar, compute_t, kLanes>(planes + c * plane_stride, v[c]);
  }
}

/// Calls block.template operator()<kRows>(c, p) for blocks of kRows channels by N pixels, and
/// single(c, p) for what is left of `channels` by `pixels`. A few hundred pixels of some channels
/// after the other: planes a power of two apart would push each other out of the cache.
template <typename compute_t, typename Block, typename Single>
GRIDSAMPLE_INLINE void for_blocks(int channels, int64_t pixels, const Block& block,
                                  const Single& single) {
  constexpr int kLanes = kFullLanes<compute_t>;
  constexpr int64_t kRun = 256;
  const int64_t whole = pixels - pixels % kLanes;
  for (int64_t first = 0; first < whole; first += kRun) {
    const int64_t last = std::min(first + kRun, whole);
    int c = 0;
    const auto blocks = [&]<int kRows>() {
      for (int64_t p = first; p < last; p += kLanes) block.template operator()<kRows>(c, p);
      c += kRows;
    };
    while (c + kLanes <= channels) blocks.template operator()<kLanes>();
    if constexpr (kLanes > 8) {
      if (c + 8 <= channels) blocks.template operator()<8>();
    }
    if constexpr (kLanes > 4) {
      if (c + 4 <= channels) blocks.template operator()<4>();
    }
    for (; c < channels; ++c) {
      for (int64_t p = first; p < last; ++p) single(c, p);
    }
  }
  for (int64_t p = whole; p < pixels; ++p) {
    for (int c = 0; c < channels; ++c) single(c, p);
  }
}

/// rows[p * row_stride + c] = planes[c * plane_stride + p].
template <typename scalar, typename compute_t>
void transpose_to_rows(const typename scalar::storage_t* planes, int64_t plane_stride, int channels,
                       int64_t pixels, compute_t* rows, int64_t row_stride) {
  for_blocks<compute_t>(
      channels, pixels,
      [&]<int kRows>(int c, int64_t p) {
        planes_to_rows<scalar, compute_t, kRows>(planes + c * plane_stride + p, plane_stride,
                                                 rows + p * row_stride + c, row_stride);
      },
      [&](int c, int64_t p) {
        rows[p * row_stride + c] = scalar::template load<compute_t>(planes[c * plane_stride + p]);
      });
}

/// planes[c * plane_stride + p] = rows[p * row_stride + c].
template <typename scalar, typename compute_t>
void transpose_to_planes(const compute_t* rows, int64_t row_stride, int channels, int64_t pixels,
                         typename scalar::storage_t* planes, int64_t plane_stride) {
  for_blocks<compute_t>(
      channels, pixels,
      [&]<int kRows>(int c, int64_t p) {
        rows_to_planes<scalar, compute_t, kRows>(rows + p * row_stride + c, row_stride,
                                                 planes + c * plane_stride + p, plane_stride);
      },
      [&](int c, int64_t p) {
        planes[c * plane_stride + p] = scalar::store(rows[p * row_stride + c]);
      });
}

GRIDSAMPLE_NAMESPACE_END
