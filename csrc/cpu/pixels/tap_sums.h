#pragma once

// Sums over the taps of a sample, lanes over samples, nested x within y within z.

#include "cpu/taps/tap_tile.h"
#include "cpu/simd/lanes.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// The sum over the taps of one slice of weight * value. row(kz, ky, values) gives the values of a
/// row of taps.
template <int kLanes, typename Tile, typename Row>
GRIDSAMPLE_INLINE Vector<compute_t, kLanes> interpolate_slice(const Tile& tile, int i, int kz,
                                                              const Row& row) {
  using Lanes = Vector<compute_t, kLanes>;
  Lanes sum{};
  GRIDSAMPLE_UNROLL
  for (int ky = 0; ky < Tile::kTaps; ++ky) {
    Lanes value[Tile::kTaps];
    row(kz, ky, value);
    Lanes sum_y{};
    GRIDSAMPLE_UNROLL
    for (int kx = 0; kx < Tile::kTaps; ++kx) {
      add_product<kLanes>(&tile.axis[0].weight[kx][i], value[kx], sum_y);
    }
    add_product<kLanes>(&tile.axis[1].weight[ky][i], sum_y, sum);
  }
  return sum;
}

/// The sum over taps of weight * value.
template <int kLanes, typename Tile, typename Row>
GRIDSAMPLE_INLINE Vector<compute_t, kLanes> interpolate(const Tile& tile, int i, const Row& row) {
  if (!tile.is_volume()) return interpolate_slice<kLanes>(tile, i, 0, row);
  Vector<compute_t, kLanes> sum{};
  for (int kz = 0; kz < Tile::kTaps; ++kz) {
    add_product<kLanes>(&tile.axis[2].weight[kz][i], interpolate_slice<kLanes>(tile, i, kz, row),
                        sum);
  }
  return sum;
}

/// sum += w' * value for tap k of an axis.
template <int kLanes, typename Axis>
GRIDSAMPLE_INLINE void add_derivative(const Axis& axis, int k, int i,
                                      const Vector<compute_t, kLanes>& value,
                                      Vector<compute_t, kLanes>& sum) {
  if constexpr (Axis::kStored) {
    add_product<kLanes>(&axis.derivative[k][i], value, sum);
  } else {
    sum = k == 0 ? -value : sum + value;
  }
}

/// The sums over the taps of one slice of w'_x w_y * value, w_x w'_y * value, w_x w_y * value.
template <int kLanes, typename Tile, typename Row>
GRIDSAMPLE_INLINE void differentiate_slice(const Tile& tile,
                                           const TapDerivatives<Tile>& derivatives, int i, int kz,
                                           const Row& row, Vector<compute_t, kLanes> (&sums)[3]) {
  using Lanes = Vector<compute_t, kLanes>;
  for (auto& sum : sums) sum = Lanes{};
  GRIDSAMPLE_UNROLL
  for (int ky = 0; ky < Tile::kTaps; ++ky) {
    Lanes value[Tile::kTaps];
    row(kz, ky, value);
    Lanes row_dx{}, row_sum{};
    GRIDSAMPLE_UNROLL
    for (int kx = 0; kx < Tile::kTaps; ++kx) {
      add_derivative<kLanes>(derivatives.axis[0], kx, i, value[kx], row_dx);
      add_product<kLanes>(&tile.axis[0].weight[kx][i], value[kx], row_sum);
    }
    add_product<kLanes>(&tile.axis[1].weight[ky][i], row_dx, sums[0]);
    add_derivative<kLanes>(derivatives.axis[1], ky, i, row_sum, sums[1]);
    add_product<kLanes>(&tile.axis[1].weight[ky][i], row_sum, sums[2]);
  }
}

/// d[a] = the sum over taps of w'_a prod_(b != a) w_b * value. Of an image d[2] means nothing.
template <int kLanes, typename Tile, typename Row>
GRIDSAMPLE_INLINE void differentiate(const Tile& tile, const TapDerivatives<Tile>& derivatives,
                                     int i, const Row& row,
                                     Vector<compute_t, kLanes> (&d)[kMaxDims]) {
  using Lanes = Vector<compute_t, kLanes>;
  if (!tile.is_volume()) return differentiate_slice<kLanes>(tile, derivatives, i, 0, row, d);
  for (auto& sum : d) sum = Lanes{};
  for (int kz = 0; kz < Tile::kTaps; ++kz) {
    Lanes slice[3];
    differentiate_slice<kLanes>(tile, derivatives, i, kz, row, slice);
    add_product<kLanes>(&tile.axis[2].weight[kz][i], slice[0], d[0]);
    add_product<kLanes>(&tile.axis[2].weight[kz][i], slice[1], d[1]);
    add_derivative<kLanes>(derivatives.axis[2], kz, i, slice[2], d[2]);
  }
}

GRIDSAMPLE_NAMESPACE_END
