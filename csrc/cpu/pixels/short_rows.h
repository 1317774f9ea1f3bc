#pragma once

// grad_input with rows of few channels, a fraction of a vector: where the taps of a row lie side by
// side, vectors go over taps and channels.

#include "cpu/pixels/rows.h"
#include "cpu/taps/tap_rows.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Rows of the channels of one piece: `channels` of them, in the input, in grad_input and of the
/// tile's samples in grad_output, `grad_stride` apart.
struct PieceRows {
  const compute_t* image;
  compute_t* grad_image;
  const compute_t* grad_output;
  int64_t grad_stride;
  int channels;
  // Of grad_input along x: how many pixels, and from one to the next.
  int64_t pixels;
  int64_t pixel_step;
};

/// Lanes kFirst, kFirst + 1, ... of: lane (l / kChannels) of a vector, or (l % kChannels).
template <int kChannels, int kFirst, typename V, size_t... I>
GRIDSAMPLE_INLINE auto per_tap(V v, std::index_sequence<I...>) {
  return __builtin_shufflevector(v, v, (kFirst + static_cast<int>(I)) / kChannels...);
}
template <int kChannels, int kFirst, typename V, size_t... I>
GRIDSAMPLE_INLINE auto per_channel(V v, std::index_sequence<I...>) {
  return __builtin_shufflevector(v, v, (kFirst + static_cast<int>(I)) % kChannels...);
}

/// row[kFirst to kTaps * kChannels] += weight * grad, for the channels of taps that lie side by
/// side, one tap after the other.
template <int kTaps, int kChannels, int kFirst, typename T, typename Weight>
GRIDSAMPLE_INLINE void add_tap_row(T* row, const Weight& weight, const Vector<T, 4>& grad) {
  constexpr int kNumbers = kTaps * kChannels - kFirst;
  if constexpr (kNumbers > 0) {
    constexpr int kLanes = kNumbers >= 8 && kFullLanes<T> >= 8 ? 8 : 4;
    constexpr std::make_index_sequence<kLanes> kAll{};
    constexpr int kLeft = kNumbers < kLanes ? kNumbers : 0;
    const auto pixels = load_row_lanes<ScalarOf<T>, T, kLanes, kLeft>(row + kFirst);
    const Vector<T, kLanes> sum =
        multiply_add_vector<T, kLanes>(per_channel<kChannels, kFirst>(grad, kAll),
                                       per_tap<kChannels, kFirst>(weight, kAll), pixels);
    if constexpr (kLeft > 0) {
      store_first_lanes<ScalarOf<T>, T, kLeft>(row + kFirst, sum);
    } else {
      store_vector<T, kLanes>(row + kFirst, sum);
    }
    add_tap_row<kTaps, kChannels, kFirst + kLanes>(row, weight, grad);
  }
}

/// Rows of taps of images with rows of few channels.
template <typename Tile>
struct ShortRowTaps {
  ShortRowTaps(const Tile& tile, const PieceRows& rows)
      : rows(tile, rows.pixels, rows.channels, rows.pixel_step == rows.channels), weights(tile) {}
  TapRows<Tile> rows;
  RowWeights<Tile> weights;
};

/// grad_image += weight * grad_output for one sample of kLeft or kWidth channels. short_row_taps:
/// ShortRowTaps or nullptr.
template <int kWidth, int kLeft, typename Tile, typename ShortRowTapsOrNone>
GRIDSAMPLE_INLINE void scatter_short(const PieceRows& rows, const TapList<Tile>& taps,
                                     const ShortRowTapsOrNone& short_row_taps, int i) {
  using scalar = ScalarOf<compute_t>;
  const auto grad =
      load_row_lanes<scalar, compute_t, kWidth, kLeft>(rows.grad_output + i * rows.grad_stride);
  const int slices = taps.slices;  // a local, which stores to pixels cannot change
  if constexpr (!std::is_same_v<ShortRowTapsOrNone, std::nullptr_t>) {
    if (short_row_taps.rows.is_regular(i)) {
      return for_slices<Tile::kTaps>(slices, [&](int kz) GRIDSAMPLE_INLINE_LAMBDA {
        GRIDSAMPLE_UNROLL
        for (int ky = 0; ky < Tile::kTaps; ++ky) {
          add_tap_row<Tile::kTaps, (kLeft > 0 ? kLeft : kWidth), 0>(
              rows.grad_image + short_row_taps.rows.row(kz, ky)[i],
              short_row_taps.weights.row_of(kz, ky, i), grad);
        }
      });
    }
  }
  GRIDSAMPLE_KEEP_LOOP
  for (int kz = 0; kz < slices; ++kz) {
    GRIDSAMPLE_KEEP_LOOP
    for (int ky = 0; ky < Tile::kTaps; ++ky) {
      GRIDSAMPLE_UNROLL
      for (int kx = 0; kx < Tile::kTaps; ++kx) {
        const auto offset = taps.offset(kz, ky, kx, i);
        if (offset < 0) continue;
        compute_t* row = rows.grad_image + offset;
        const auto pixel = multiply_add_vector<compute_t, kWidth>(
            grad, broadcast<compute_t, kWidth>(taps.weight(kz, ky, kx, i)),
            load_row_lanes<scalar, compute_t, kWidth, kLeft>(row));
        if constexpr (kLeft > 0) {
          store_first_lanes<scalar, compute_t, kLeft>(row, pixel);
        } else {
          store_vector<compute_t, kWidth>(row, pixel);
        }
      }
    }
  }
}

GRIDSAMPLE_NAMESPACE_END
