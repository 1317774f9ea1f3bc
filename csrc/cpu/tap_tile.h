#pragma once

// The taps of a tile of samples, structure of arrays, computed once and shared by all channels.

#include "../math/taps.h"
#include "samples.h"

GRIDSAMPLE_NAMESPACE_BEGIN

template <typename T, typename index_t, int dims, int taps, bool derivatives>
struct TapTile {
  using compute_t = T;
  using offset_t = index_t;
  static constexpr int kDims = dims;
  static constexpr int kTaps = taps;
  static constexpr bool kDerivatives = derivatives;

  alignas(64) offset_t offset[kDims][kTaps][kTileSize];  // in elements, or kOutside
  alignas(64) compute_t weight[kDims][kTaps][kTileSize];
  alignas(64) compute_t derivative[derivatives ? kDims : 1][derivatives ? kTaps : 1][kTileSize];
  alignas(64) compute_t slope[derivatives ? kDims : 1][kTileSize];
  int count;    // samples; the lanes beyond repeat the last one
  bool inside;  // no tap is outside
};

/// One lane of one axis. A function of its own, because the compiler vectorises locals of an inlined
/// function but not structs declared in the body of a simd loop.
template <Mode kMode, Padding kPadding, bool kFar, typename Tile>
GRIDSAMPLE_INLINE void fill_lane(Tile& tile, int a, int i, typename Tile::compute_t grid_value,
                                 const Axis<typename Tile::compute_t>& axis,
                                 typename Tile::offset_t size, typename Tile::offset_t stride) {
  const auto taps = axis_taps<kMode, kPadding, kFar>(grid_value, axis);
  GRIDSAMPLE_UNROLL
  for (int k = 0; k < Tile::kTaps; ++k) {
    tile.offset[a][k][i] = tap_offset(taps.position[k], size, stride);
    tile.weight[a][k][i] = taps.weight[k];
    if constexpr (Tile::kDerivatives) tile.derivative[a][k][i] = taps.derivative[k];
  }
  if constexpr (Tile::kDerivatives) tile.slope[a][i] = taps.slope;
}

/// One axis. kFar: some coordinate is past kNearLimit, where reflecting takes the exact way.
template <Mode kMode, Padding kPadding, bool kFar, typename Tile>
void fill_axis(Tile& tile, int a, const typename Tile::compute_t* grid_values,
               const Axis<typename Tile::compute_t>& axis, int64_t size, int64_t stride) {
  const auto axis_size = static_cast<typename Tile::offset_t>(size);
  const auto axis_stride = static_cast<typename Tile::offset_t>(stride);
#pragma omp simd
  for (int i = 0; i < kTileSize; ++i) {
    fill_lane<kMode, kPadding, kFar>(tile, a, i, grid_values[i], axis, axis_size, axis_stride);
  }
}

template <Mode kMode, typename Tile>
void fill_axis(Tile& tile, int a, const typename Tile::compute_t* grid_values, Padding padding,
               const Axis<typename Tile::compute_t>& axis, int64_t size, int64_t stride) {
  using compute_t = typename Tile::compute_t;
  switch (padding) {
    case Padding::kZeros:
      return fill_axis<kMode, Padding::kZeros, false>(tile, a, grid_values, axis, size, stride);
    case Padding::kBorder:
      return fill_axis<kMode, Padding::kBorder, false>(tile, a, grid_values, axis, size, stride);
    case Padding::kReflection: {
      int far = 0;
      for (int i = 0; i < kTileSize; ++i) {
        far |= std::fabs(unnormalize(grid_values[i], axis).value) >= kNearLimit<compute_t>;
      }
      return far ? fill_axis<kMode, Padding::kReflection, true>(tile, a, grid_values, axis, size,
                                                                 stride)
                 : fill_axis<kMode, Padding::kReflection, false>(tile, a, grid_values, axis, size,
                                                                  stride);
    }
  }
}

template <typename Tile>
void update_inside(Tile& tile) {
  typename Tile::offset_t any = 0;
  for (int a = 0; a < Tile::kDims; ++a) {
    for (int k = 0; k < Tile::kTaps; ++k) {
      const auto* offset = tile.offset[a][k];
#pragma omp simd reduction(| : any)
      for (int i = 0; i < kTileSize; ++i) any |= offset[i];
    }
  }
  tile.inside = any >= 0;
}

/// Taps of samples [first, first + count) of one grid, as offsets into one plane of `image`.
template <Mode kMode, typename Tile>
void fill_taps(Tile& tile, const Geometry& geometry, const View& grid, int64_t batch,
               int64_t first, int count, const View& image) {
  using compute_t = typename Tile::compute_t;
  TileOffsets located;
  locate_samples(geometry, grid, first, count, located);
  alignas(64) compute_t values[kTileSize];
  for (int a = 0; a < Tile::kDims; ++a) {
    load_samples(grid, batch * grid.batch_stride + a * grid.channel_stride, located, true, values);
    const int64_t size = geometry.input_size[a];
    fill_axis<kMode>(tile, a, values, geometry.padding,
                     make_axis<compute_t>(size, geometry.align_corners), size, image.stride[a]);
  }
  tile.count = count;
  update_inside(tile);
}

/// Declares all taps outside that do not fall into [begin, end) on one axis.
template <typename Tile>
void restrict_taps(Tile& tile, int a, int64_t begin, int64_t end, int64_t stride) {
  using offset_t = typename Tile::offset_t;
  const auto low = static_cast<offset_t>(begin * stride);
  const auto high = static_cast<offset_t>(end * stride);
  for (int k = 0; k < Tile::kTaps; ++k) {
    auto* offset = tile.offset[a][k];
#pragma omp simd
    for (int i = 0; i < kTileSize; ++i) {
      offset[i] = offset[i] >= low && offset[i] < high ? offset[i] : offset_t(kOutside);
    }
  }
  update_inside(tile);
}

/// The samples with a tap inside on every axis, in order.
struct ActiveSamples {
  int count = 0;
  int16_t index[kTileSize];
};

template <typename Tile>
void list_active(const Tile& tile, ActiveSamples& active) {
  using offset_t = typename Tile::offset_t;
  offset_t dead[kTileSize] = {};  // negative where all taps of some axis are outside
  if (!tile.inside) {
    for (int a = 0; a < Tile::kDims; ++a) {
#pragma omp simd
      for (int i = 0; i < kTileSize; ++i) {
        offset_t all = tile.offset[a][0][i];
        GRIDSAMPLE_UNROLL
        for (int k = 1; k < Tile::kTaps; ++k) all &= tile.offset[a][k][i];
        dead[i] |= all;
      }
    }
  }
  active.count = 0;
  for (int i = 0; i < tile.count; ++i) {
    active.index[active.count] = static_cast<int16_t>(i);
    active.count += dead[i] >= 0;
  }
}

/// The combined offset of one tap of one sample, negative if it is outside on any axis.
template <typename Tile>
GRIDSAMPLE_INLINE typename Tile::offset_t combined_offset(const Tile& tile, int kz, int ky, int kx,
                                                          int i) {
  using offset_t = typename Tile::offset_t;
  offset_t sum = tile.offset[0][kx][i] + tile.offset[1][ky][i];
  offset_t signs = tile.offset[0][kx][i] | tile.offset[1][ky][i];
  if constexpr (Tile::kDims == 3) {
    sum += tile.offset[2][kz][i];
    signs |= tile.offset[2][kz][i];
  }
  return signs < 0 ? offset_t(kOutside) : sum;
}

GRIDSAMPLE_NAMESPACE_END
