#pragma once

// The derivative of the output along a direction, and what it shares with the gradients of the
// gradients. Images are rows; see SecondOrderParams.

#include "cpu/kernels/dispatch.h"
#include "cpu/pixels/pack.h"
#include "cpu/pixels/rows.h"
#include "cpu/taps/second_order_taps.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Channels that are worked on together, and of which rows are staged.
constexpr int64_t kStagedChannels = 64;

template <typename T>
const T* image_of(const View& view, int64_t batch) {
  return static_cast<const T*>(view.data) + batch * view.batch_stride;
}

/// Null where input does not change.
inline const compute_t* tangent_of(const SecondOrderParams& params, int64_t batch) {
  return params.tangent_input.data == nullptr ? nullptr
                                              : image_of<compute_t>(params.tangent_input, batch);
}

/// Rows of grad_output (or, to be written, of the output) of the samples of a strip, some channels
/// of them.
template <typename T>
using StagedRows = T[kStripSize * kStagedChannels];
/// Such samples channel by channel, where lanes go over samples.
template <typename T>
using StagedPlanes = T[kLeastRowChannels][kStripSize];

/// The pixels of one tap of a vector of samples, and 0 where it is outside.
template <typename Tile>
GRIDSAMPLE_INLINE auto pixels_at(const compute_t* image, const offset_t* offset) {
  using T = compute_t;
  constexpr int kLanes = TapVectors<Tile>::kLanes;
  alignas(64) T pixel[kLanes];
  for (int l = 0; l < kLanes; ++l) pixel[l] = offset[l] < 0 ? T(0) : image[offset[l]];
  return load_vector<T, kLanes>(pixel);
}

/// Calls each(t) for the taps.
template <typename Tile, typename F>
GRIDSAMPLE_INLINE void for_taps(const TapVectors<Tile>& taps, const F& each) {
  const int tap_count = taps.taps();
  GRIDSAMPLE_KEEP_LOOP
  for (int t = 0; t < tap_count; ++t) each(t);
}

/// out = sum over taps of weight * tangent + weight_dot * pixel, for sample number s of a vector of
/// them and the channels `row` points to.
template <int kLanes, int kLeft, typename Tile>
GRIDSAMPLE_INLINE Vector<compute_t, kLanes> jvp_row(const TapVectors<Tile>& taps, int s,
                                                    const compute_t* image,
                                                    const compute_t* tangent) {
  using T = compute_t;
  using scalar = ScalarOf<T>;
  Vector<T, kLanes> sum{};
  const auto add = [&](T weight, const T* row) {
    sum = multiply_add_vector<T, kLanes>(broadcast<T, kLanes>(weight),
                                         load_row_lanes<scalar, T, kLanes, kLeft>(row), sum);
  };
  for_taps(taps, [&](int t) {
    const auto offset = taps.offset[t][s];
    if (offset < 0) return;
    if (tangent != nullptr) add(taps.weight[t][s], tangent + offset);
    if (taps.moved[t][s] >= 0) add(taps.weight_dot[t][s], image + taps.moved[t][s]);
  });
  return sum;
}

/// One strip. Lanes go over channels (kRows), or over samples.
template <bool kRows, typename Tile>
void jvp_strip(const SecondOrderParams& params, const Tile& tile,
               const TapDerivatives<Tile>& derivatives, const Direction<Tile>& direction,
               int64_t batch, int64_t first) {
  using T = compute_t;
  using scalar = ScalarOf<T>;
  constexpr int kLanes = TapVectors<Tile>::kLanes;
  const Geometry& geometry = params.geometry;
  const T* image = image_of<T>(params.input, batch);
  const T* tangent = tangent_of(params, batch);
  TileOffsets located;
  locate_samples(geometry, params.output, first, tile.count, located);
  TapVectors<Tile> taps(tile);
  const RowPrefetch prefetch(geometry, std::min(kStagedChannels, geometry.channels), sizeof(T),
                             Pass::kForward);
  alignas(64) std::conditional_t<kRows, StagedRows<T>, StagedPlanes<T>> out;
  for (int64_t c = 0; c < geometry.channels; c += kStagedChannels) {
    const int count = static_cast<int>(std::min(kStagedChannels, geometry.channels - c));
    for (int group = 0; group < tile.count; group += kLanes) {
      fill_tap_vectors<true, false>(tile, derivatives, direction, group, taps);
      if constexpr (kRows) {
        const int end = std::min(group + kLanes, tile.count);
        for (int i = group; i < end; ++i) {
          prefetch(tile, i, image + c);
          if (tangent != nullptr) prefetch(tile, i, tangent + c);
          for_channel_vectors<T>(0, count, [&]<int kWidth, int kUnits, int kLeft>(int64_t from) {
            GRIDSAMPLE_KEEP_LOOP
            for (int u = 0; u < kUnits; ++u) {
              const int64_t at = from + u * kWidth;
              const auto sum = jvp_row<kWidth, kLeft>(
                  taps, i - group, image + c + at, tangent != nullptr ? tangent + c + at : nullptr);
              if constexpr (kLeft > 0) {
                store_first_lanes<scalar, T, kLeft>(out + i * count + at, sum);
              } else {
                store_vector<T, kWidth>(out + i * count + at, sum);
              }
            }
          });
        }
      } else {
        for (int channel = 0; channel < count; ++channel) {
          Vector<T, kLanes> sum{};
          for_taps(taps, [&](int t) {
            if (tangent != nullptr) {
              add_product<kLanes>(taps.weight[t],
                                  pixels_at<Tile>(tangent + channel, taps.offset[t]), sum);
            }
            add_product<kLanes>(taps.weight_dot[t], pixels_at<Tile>(image + channel, taps.moved[t]),
                                sum);
          });
          store_vector<T, kLanes>(out[channel] + group, sum);
        }
      }
    }
    if constexpr (kRows) {
      store_rows(params.output, batch, c, count, located, 0, tile.count, out, count);
    } else {
      const View& view = params.output;
      for (int channel = 0; channel < count; ++channel) {
        store_samples(view, batch * view.batch_stride + channel * view.channel_stride, located,
                      out[channel]);
      }
    }
  }
}

template <bool kRows, typename Tile>
void jvp_items(const SecondOrderParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.geometry;
  const int64_t strips = strip_count(geometry);
  Tile tile(geometry.dims);
  TapDerivatives<Tile> derivatives;
  Direction<Tile> direction;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t batch = item / strips;
    const int64_t first = item % strips * kStripSize;
    const auto count = static_cast<int>(std::min<int64_t>(kStripSize, geometry.samples - first));
    fill_taps(tile, derivatives, geometry, params.grid, batch, first, count, params.input);
    fill_direction(tile, derivatives, geometry, params.grid, params.tangent_grid, batch, first,
                   direction);
    jvp_strip<kRows>(params, tile, derivatives, direction, batch, first);
  }
}

GRIDSAMPLE_NAMESPACE_END
