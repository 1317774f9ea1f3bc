#pragma once

// Sums over the taps of a sample, lanes over samples, nested x within y within z.

#include "cpu/taps/tap_tile.h"
#include "cpu/simd/lanes.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// The sum over taps of weight * value. row(kz, ky, values) gives the values of a row of taps.
template <int kLanes, typename Tile, typename Row>
GRIDSAMPLE_INLINE Vector<compute_t, kLanes> interpolate(const Tile& tile, int i, const Row& row) {
  using Lanes = Vector<compute_t, kLanes>;
  Lanes sum{};
  for (int kz = 0; kz < Tile::kTapsZ; ++kz) {
    Lanes sum_z{};
    GRIDSAMPLE_UNROLL
    for (int ky = 0; ky < Tile::kTaps; ++ky) {
      Lanes value[Tile::kTaps];
      row(kz, ky, value);
      Lanes sum_y{};
      GRIDSAMPLE_UNROLL
      for (int kx = 0; kx < Tile::kTaps; ++kx) {
        add_product<kLanes>(&tile.axis[0].weight[kx][i], value[kx], sum_y);
      }
      add_product<kLanes>(&tile.axis[1].weight[ky][i], sum_y, sum_z);
    }
    if constexpr (Tile::kDims == 3) {
      add_product<kLanes>(&tile.axis[2].weight[kz][i], sum_z, sum);
    } else {
      sum = sum_z;
    }
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

/// d[a] = the sum over taps of w'_a prod_(b != a) w_b * value.
template <int kLanes, typename Tile, typename Row>
GRIDSAMPLE_INLINE void differentiate(const Tile& tile, const TapDerivatives<Tile>& derivatives,
                                     int i, const Row& row,
                                     Vector<compute_t, kLanes> (&d)[Tile::kDims]) {
  using Lanes = Vector<compute_t, kLanes>;
  for (auto& sum : d) sum = Lanes{};
  for (int kz = 0; kz < Tile::kTapsZ; ++kz) {
    Lanes plane_dx{}, plane_dy{}, plane_sum{};
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
      add_product<kLanes>(&tile.axis[1].weight[ky][i], row_dx, plane_dx);
      add_derivative<kLanes>(derivatives.axis[1], ky, i, row_sum, plane_dy);
      add_product<kLanes>(&tile.axis[1].weight[ky][i], row_sum, plane_sum);
    }
    if constexpr (Tile::kDims == 3) {
      add_product<kLanes>(&tile.axis[2].weight[kz][i], plane_dx, d[0]);
      add_product<kLanes>(&tile.axis[2].weight[kz][i], plane_dy, d[1]);
      add_derivative<kLanes>(derivatives.axis[2], kz, i, plane_sum, d[2]);
    } else {
      d[0] = plane_dx;
      d[1] = plane_dy;
    }
  }
}

GRIDSAMPLE_NAMESPACE_END
