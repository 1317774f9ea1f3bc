#pragma once

// Weights of taps for second-order kernels: those of the output's derivative along a direction of
// the grid, and of the derivatives of that. They do not separate into a factor per axis, so there
// is one per tap, for a vector of samples at a time.

#include "math/moved_taps.h"
#include "cpu/taps/tap_list.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// A direction in which the grid of a tile moves.
template <typename Tile>
struct Direction {
  static constexpr bool kCurved = ModeTraits<Tile::kMode>::kCurved;

  alignas(64) compute_t along[kMaxDims][Tile::kSize];  // slope * tangent, 0 where slope is 0
  // w'' of the taps, which for two taps are 0.
  alignas(64) compute_t second[kMaxDims][kCurved ? Tile::kTaps : 1][Tile::kSize];
  // kOutside for samples that no direction moves, else 0: they have no derivative, whatever their
  // pixels.
  alignas(64) offset_t still[Tile::kSize];
};

template <typename Tile>
void fill_direction(const Tile& tile, const TapDerivatives<Tile>& derivatives,
                    const Geometry& geometry, const GridView& grid, const View& tangent_grid,
                    int64_t batch, int64_t first, Direction<Tile>& direction) {
  alignas(64) PerAxis<Tile::kSize> values;
  load_stored(geometry, tangent_grid, batch, first, tile.count, values);
  fill_rest(direction.still, 0, offset_t(kOutside));
  for (int a = 0; a < geometry.dims; ++a) {
    const compute_t* slope = derivatives.axis[a].slope;
    compute_t* along = direction.along[a];
    offset_t* still = direction.still;
    for (int i = 0; i < Tile::kSize; ++i) {
      along[i] = move_along(slope[i], values[a][i]);
      still[i] = slope[i] == 0 ? still[i] : 0;
    }
  }
  if constexpr (Direction<Tile>::kCurved) {
    load_grid(geometry, grid, batch, first, tile.count, values);
    for (int a = 0; a < geometry.dims; ++a) {
      const auto axis = make_axis<compute_t>(geometry, a);
      const bool is_circular = wraps(geometry.padding[a]);
      for (int i = 0; i < Tile::kSize; ++i) {
        compute_t second[Tile::kTaps];
        second_derivatives<Tile::kMode>(values[a][i], axis, is_circular, second);
        GRIDSAMPLE_UNROLL
        for (int k = 0; k < Tile::kTaps; ++k) direction.second[a][k][i] = second[k];
      }
    }
  }
}

/// What second-order kernels weight the taps with (MovedTap), for a vector of samples.
template <typename Tile>
struct TapVectors : Tile::Dims {
  static constexpr int kLanes = kFullLanes<compute_t>;
  using PerTap = compute_t[Tile::kMostTaps][kLanes];

  explicit TapVectors(const Tile& tile) : Tile::Dims(tile) {}

  alignas(64) offset_t offset[Tile::kMostTaps][kLanes];  // negative outside
  alignas(64) offset_t moved[Tile::kMostTaps][kLanes];   // and where the sample stands still
  alignas(64) PerTap weight;
  alignas(64) PerTap weight_dot;
  alignas(64) PerTap derivative[kMaxDims];
  alignas(64) PerTap derivative_dot[kMaxDims];
};

/// One tap of one axis, of a vector of samples.
template <int kLanes, typename Tile>
GRIDSAMPLE_INLINE auto axis_lanes(const Tile& tile, const TapDerivatives<Tile>& derivatives,
                                  const Direction<Tile>& direction, int a, int k, int i) {
  using Lanes = Vector<compute_t, kLanes>;
  constexpr bool kCurved = Direction<Tile>::kCurved;
  const auto at = [](const compute_t* from) { return load_vector<compute_t, kLanes>(from); };
  Lanes first = broadcast<compute_t, kLanes>(compute_t(k == 0 ? -1 : 1));
  Lanes second{};
  if constexpr (kCurved) {
    first = at(&derivatives.axis[a].derivative[k][i]);
    second = at(&direction.second[a][k][i]);
  }
  return axis_tap<kCurved, Lanes>(at(&direction.along[a][i]), at(&tile.axis[a].weight[k][i]), first,
                                  second);
}

/// For the samples from i on. kOutput: weights of the output, W and its derivative along the
/// direction; kGrid: of the gradient by grid, derivatives of both.
template <bool kOutput, bool kGrid, typename Tile>
void fill_tap_vectors(const Tile& tile, const TapDerivatives<Tile>& derivatives,
                      const Direction<Tile>& direction, int i, TapVectors<Tile>& taps) {
  using T = compute_t;
  constexpr int kLanes = TapVectors<Tile>::kLanes;
  constexpr bool kCurved = Direction<Tile>::kCurved;
  using Lanes = Vector<T, kLanes>;
  using Offsets = Vector<offset_t, kLanes>;
  using Mask = Vector<std::conditional_t<sizeof(T) == 4, int32_t, int64_t>, kLanes>;
  const auto offset_at = [i](const offset_t* of_part) {
    return load_vector<offset_t, kLanes>(of_part + i);
  };
  const Offsets still = offset_at(direction.still);
  GRIDSAMPLE_KEEP_LOOP
  for (int kz = 0; kz < tile.slices; ++kz) {
    auto z = axis_tap<kCurved, Lanes>(Lanes{}, broadcast<T, kLanes>(T(1)), Lanes{}, Lanes{});
    Offsets z_offset{};
    if (tile.is_volume()) {
      z = axis_lanes<kLanes>(tile, derivatives, direction, 2, kz, i);
      z_offset = offset_at(tile.axis[2].offset[kz]);
    }
    GRIDSAMPLE_KEEP_LOOP
    for (int ky = 0; ky < Tile::kTaps; ++ky) {
      const auto y = axis_lanes<kLanes>(tile, derivatives, direction, 1, ky, i);
      const Offsets y_offset = offset_at(tile.axis[1].offset[ky]);
      const TapRow<Lanes> row = tap_row(y, z);
      GRIDSAMPLE_KEEP_LOOP
      for (int kx = 0; kx < Tile::kTaps; ++kx) {
        const auto x = axis_lanes<kLanes>(tile, derivatives, direction, 0, kx, i);
        const int t = tap_number<Tile>(kz, ky, kx);
        const Offsets x_offset = offset_at(tile.axis[0].offset[kx]);
        const Offsets offset =
            (x_offset + y_offset + z_offset) | ((x_offset | y_offset | z_offset) < 0);
        const Offsets moved = offset | still;
        store_vector<offset_t, kLanes>(taps.offset[t], offset);
        store_vector<offset_t, kLanes>(taps.moved[t], moved);
        const auto none = __builtin_convertvector(moved < 0, Mask);
        const auto store = [](T(&to)[kLanes], const Lanes& lanes) {
          store_vector<T, kLanes>(to, lanes);
        };
        // A direction may be infinite, and a tap that is not there reads as 0.
        const auto store_moved = [&](T(&to)[kLanes], const Lanes& lanes) {
          store(to, none ? Lanes{} : lanes);
        };
        const MovedTap<Lanes> tap = moved_tap(x, row);
        if constexpr (kOutput) {
          store(taps.weight[t], tap.weight.value);
          store_moved(taps.weight_dot[t], tap.weight.dot);
        }
        if constexpr (kGrid) {
          GRIDSAMPLE_UNROLL
          for (int a = 0; a < kMaxDims; ++a) {
            if (a >= tile.dims) continue;
            store(taps.derivative[a][t], tap.derivative[a].value);
            store_moved(taps.derivative_dot[a][t], tap.derivative[a].dot);
          }
        }
      }
    }
  }
}

GRIDSAMPLE_NAMESPACE_END
