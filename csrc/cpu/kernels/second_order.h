#pragma once

// The derivative of the output along a direction (jvp), and the gradients of both gradients. Images
// are rows; see SecondOrderParams.

#include "cpu/kernels/dispatch.h"
#include "cpu/pixels/pack.h"
#include "cpu/pixels/rows.h"
#include "cpu/taps/second_order_taps.h"
#include "cpu/kernels/jvp.h"
#include "cpu/kernels/slabs.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// sums[a] += grad_output * (sum over taps of derivative[a] * tangent + derivative_dot[a] * pixel):
/// the products of a vector of channels, to be added up over them.
template <int kDims, int kLanes, int kLeft, typename Tile>
GRIDSAMPLE_INLINE void curve_row(const TapVectors<Tile>& taps, int s, const compute_t* image,
                                 const compute_t* tangent, const compute_t* grad_output,
                                 Vector<compute_t, kLanes> (&sums)[kDims]) {
  using T = compute_t;
  using scalar = ScalarOf<T>;
  Vector<T, kLanes> curved[kDims] = {};
  const auto add = [&](const typename TapVectors<Tile>::PerTap(&weight)[kMaxDims], int t,
                       const T* row) {
    const auto pixel = load_row_lanes<scalar, T, kLanes, kLeft>(row);
    GRIDSAMPLE_UNROLL
    for (int a = 0; a < kDims; ++a) {
      curved[a] =
          multiply_add_vector<T, kLanes>(broadcast<T, kLanes>(weight[a][t][s]), pixel, curved[a]);
    }
  };
  for_taps(taps, [&](int t) {
    const auto offset = taps.moved[t][s];  // still: of no account
    if (offset < 0) return;
    if (tangent != nullptr) add(taps.derivative, t, tangent + offset);
    add(taps.derivative_dot, t, image + offset);
  });
  const auto grad = load_row_lanes<scalar, T, kLanes, kLeft>(grad_output);
  GRIDSAMPLE_UNROLL
  for (int a = 0; a < kDims; ++a) {
    sums[a] = multiply_add_vector<T, kLanes>(grad, curved[a], sums[a]);
  }
}

template <int kFirst, typename V, size_t... I>
GRIDSAMPLE_INLINE auto lanes_from(V v, std::index_sequence<I...>) {
  return __builtin_shufflevector(v, v, static_cast<int>(kFirst + I)...);
}

/// The sum of all lanes, halves first.
template <typename T, int kLanes>
GRIDSAMPLE_INLINE T sum_of_lanes(const Vector<T, kLanes>& v) {
  if constexpr (kLanes == 2) {
    return v[0] + v[1];
  } else {
    constexpr std::make_index_sequence<kLanes / 2> kHalf{};
    return sum_of_lanes<T, kLanes / 2>(lanes_from<0>(v, kHalf) + lanes_from<kLanes / 2>(v, kHalf));
  }
}

/// sums[a] of sample i, over `count` channels.
template <int kDims, typename Tile>
GRIDSAMPLE_INLINE void curve_sample(const TapVectors<Tile>& taps, int s, const compute_t* image,
                                    const compute_t* tangent, const compute_t* grad_output,
                                    int count, compute_t (&sums)[kDims]) {
  using T = compute_t;
  constexpr int kFull = kFullLanes<T>;
  Vector<T, kFull> wide[kDims] = {};
  bool any_wide = false;
  for (T& sum : sums) sum = T(0);
  const auto tangent_at = [&](int64_t c) { return tangent != nullptr ? tangent + c : nullptr; };
  for_channel_vectors<T>(0, count, [&]<int kLanes, int kUnits, int kLeft>(int64_t c) {
    if constexpr (kLanes == kFull && kLeft == 0) {
      any_wide = true;
      GRIDSAMPLE_KEEP_LOOP
      for (int u = 0; u < kUnits; ++u) {
        const int64_t at = c + u * kLanes;
        curve_row<kDims, kLanes, kLeft>(taps, s, image + at, tangent_at(at), grad_output + at,
                                        wide);
      }
    } else {
      Vector<T, kLanes> narrow[kDims] = {};
      curve_row<kDims, kLanes, kLeft>(taps, s, image + c, tangent_at(c), grad_output + c, narrow);
      for (int a = 0; a < kDims; ++a) sums[a] += sum_of_lanes<T, kLanes>(narrow[a]);
    }
  });
  if (any_wide) {
    for (int a = 0; a < kDims; ++a) sums[a] += sum_of_lanes<T, kFull>(wide[a]);
  }
}

/// The gradient by grid of one strip, without slopes: its `images` images are added up.
template <bool kRows, typename Tile>
void double_backward_grid_strip(const SecondOrderParams& params, const Tile& tile,
                                const TapDerivatives<Tile>& derivatives,
                                const Direction<Tile>& direction, Range images, int64_t first,
                                PerAxis<Tile::kSize>& sums) {
  using T = compute_t;
  constexpr int kLanes = TapVectors<Tile>::kLanes;
  const Geometry& geometry = params.geometry;
  const View& source = params.grad_output;
  TileOffsets located;
  locate_samples(geometry, source, first, tile.count, located);
  TapVectors<Tile> taps(tile);
  alignas(64) std::conditional_t<kRows, StagedRows<T>, StagedPlanes<T>> grad_output;
  for (int a = 0; a < tile.dims; ++a) fill_rest(sums[a], 0, T(0));
  for (int64_t batch = images.begin; batch < images.end; ++batch) {
    const T* image = image_of<T>(params.input, batch);
    const T* tangent = tangent_of(params, batch);
    for (int64_t c = 0; c < geometry.channels; c += kStagedChannels) {
      const int count = static_cast<int>(std::min(kStagedChannels, geometry.channels - c));
      if constexpr (kRows) {
        load_rows(source, batch, c, count, located, grad_output, count);
      } else {
        for (int channel = 0; channel < count; ++channel) {
          load_samples(source, batch * source.batch_stride + channel * source.channel_stride,
                       located, grad_output[channel]);
        }
      }
      for (int group = 0; group < tile.count; group += kLanes) {
        fill_tap_vectors<false, true>(tile, derivatives, direction, group, taps);
        with_dims<Tile::kDims>(tile.dims, [&]<int kDims>() {
          if constexpr (kRows) {
            const int end = std::min(group + kLanes, tile.count);
            for (int i = group; i < end; ++i) {
              T sum[kDims];
              curve_sample<kDims>(taps, i - group, image + c,
                                  tangent != nullptr ? tangent + c : nullptr,
                                  grad_output + i * count, count, sum);
              for (int a = 0; a < kDims; ++a) sums[a][i] += sum[a];
            }
          } else {
            for (int channel = 0; channel < count; ++channel) {
              Vector<T, kLanes> curved[kDims] = {};
              for_taps(taps, [&](int t) {
                const auto pixel = pixels_at<Tile>(image + channel, taps.moved[t]);
                Vector<T, kLanes> change{};
                if (tangent != nullptr) change = pixels_at<Tile>(tangent + channel, taps.moved[t]);
                GRIDSAMPLE_UNROLL
                for (int a = 0; a < kDims; ++a) {
                  if (tangent != nullptr) {
                    add_product<kLanes>(taps.derivative[a][t], change, curved[a]);
                  }
                  add_product<kLanes>(taps.derivative_dot[a][t], pixel, curved[a]);
                }
              });
              GRIDSAMPLE_UNROLL
              for (int a = 0; a < kDims; ++a) {
                auto sum = load_vector<T, kLanes>(&sums[a][group]);
                add_product<kLanes>(&grad_output[channel][group], curved[a], sum);
                store_vector<T, kLanes>(&sums[a][group], sum);
              }
            }
          }
        });
      }
    }
  }
}

/// rows += weight_dot * grad_output at the taps of a strip, `count` channels of them from
/// `grad_image` on.
template <typename Tile>
GRIDSAMPLE_INLINE void scatter_along(const TapVectors<Tile>& taps, int group, int end,
                                     const RowPrefetch& prefetch, const Tile& tile,
                                     const compute_t* grad_output, int count,
                                     compute_t* grad_image) {
  using T = compute_t;
  using scalar = ScalarOf<T>;
  for (int i = group; i < end; ++i) {
    const int s = i - group;
    prefetch(tile, i, grad_image);
    for_channel_vectors<T>(0, count, [&]<int kLanes, int kUnits, int kLeft>(int64_t c) {
      Vector<T, kLanes> grad[kUnits];
      GRIDSAMPLE_UNROLL
      for (int u = 0; u < kUnits; ++u) {
        grad[u] =
            load_row_lanes<scalar, T, kLanes, kLeft>(grad_output + i * count + c + u * kLanes);
      }
      for_taps(taps, [&](int t) {
        if (taps.moved[t][s] < 0) return;
        T* row = grad_image + taps.moved[t][s] + c;
        const auto weight = broadcast<T, kLanes>(taps.weight_dot[t][s]);
        GRIDSAMPLE_UNROLL
        for (int u = 0; u < kUnits; ++u) {
          const auto sum = multiply_add_vector<T, kLanes>(
              weight, grad[u], load_row_lanes<scalar, T, kLanes, kLeft>(row + u * kLanes));
          if constexpr (kLeft > 0) {
            store_first_lanes<scalar, T, kLeft>(row, sum);
          } else {
            store_vector<T, kLanes>(row + u * kLanes, sum);
          }
        }
      });
    });
  }
}

template <bool kRows, typename Tile>
void double_backward_grid_items(const SecondOrderParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.geometry;
  const int64_t strips = strip_count(geometry);
  Tile tile(geometry.dims);
  TapDerivatives<Tile> derivatives;
  Direction<Tile> direction;
  TileOffsets located;
  alignas(64) PerAxis<Tile::kSize> sums;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t grid_batch = item / strips;
    const int64_t first = item % strips * kStripSize;
    const auto count = static_cast<int>(std::min<int64_t>(kStripSize, geometry.samples - first));
    const Range images = batches_of(geometry, params.grid_batch, grid_batch);
    fill_taps(tile, derivatives, geometry, params.grid, grid_batch, first, count, params.input);
    fill_direction(tile, derivatives, geometry, params.grid, params.tangent_grid, grid_batch, first,
                   direction);
    double_backward_grid_strip<kRows>(params, tile, derivatives, direction, images, first, sums);
    for (int a = 0; a < tile.dims; ++a) {
      for (int i = 0; i < Tile::kSize; ++i)
        sums[a][i] = move_along(derivatives.axis[a].slope[i], sums[a][i]);
    }
    locate_samples(geometry, params.grad_grid, first, count, located);
    store_coordinates(params.grad_grid, grid_batch * params.grad_grid.batch_stride, located,
                      geometry.dims, sums);
  }
}

template <typename Tile>
void double_backward_input_items(const SecondOrderParams& params, int64_t begin, int64_t end) {
  using T = compute_t;
  constexpr int kLanes = TapVectors<Tile>::kLanes;
  const Geometry& geometry = params.geometry;
  const GradInputParams& to_input = params.to_input;
  Tile tile(geometry.dims);
  TapDerivatives<Tile> derivatives;
  Direction<Tile> direction;
  TileOffsets located;
  TapVectors<Tile> taps(tile);
  alignas(64) StagedRows<T> grad_output;
  for (int64_t item = begin; item < end; ++item) {
    const GradInputItem owned = grad_input_item(to_input, item);
    auto* image = static_cast<T*>(to_input.grad_input.data) +
                  owned.input_batch * to_input.grad_input.batch_stride;
    const RowPrefetch prefetch(geometry,
                               std::min(kStagedChannels, owned.channels.end - owned.channels.begin),
                               sizeof(T), Pass::kBackward);
    Zeros zeros(to_input.grad_input, geometry, owned.input_batch, owned.channels,
                to_input.slab_axis, owned.slab);
    const Range batches = batches_of(geometry, to_input.input_batch, owned.input_batch);
    for (int64_t batch = batches.begin; batch < batches.end; ++batch) {
      for (int64_t first = 0; first < geometry.samples; first += kStripSize) {
        const SlabOverlap overlap = overlap_with(to_input, owned.slab, batch, first / kTileSize);
        if (!overlap.any) continue;
        const auto count =
            static_cast<int>(std::min<int64_t>(kStripSize, geometry.samples - first));
        fill_taps(tile, derivatives, geometry, params.grid, batch, first, count,
                  to_input.grad_input);
        zero_ahead(to_input, batch, first / kTileSize, tile, zeros);
        fill_direction(tile, derivatives, geometry, params.grid, params.tangent_grid, batch, first,
                       direction);
        if (overlap.crosses) restrict_to_slab(to_input, owned.slab, tile);
        locate_samples(geometry, params.grad_output, first, count, located);
        for (int64_t c = owned.channels.begin; c < owned.channels.end; c += kStagedChannels) {
          const int channels = static_cast<int>(std::min(kStagedChannels, owned.channels.end - c));
          load_rows(params.grad_output, batch, c, channels, located, grad_output, channels);
          for (int group = 0; group < count; group += kLanes) {
            fill_tap_vectors<true, false>(tile, derivatives, direction, group, taps);
            scatter_along(taps, group, std::min(group + kLanes, count), prefetch, tile, grad_output,
                          channels, image + c);
          }
        }
      }
    }
    zeros.finish();
  }
}

/// Calls function.template operator()<Tile>() for a strip, of the modes that have second
/// derivatives.
template <typename F>
GRIDSAMPLE_INLINE void dispatch_strip(const Geometry& geometry, const F& function) {
  dispatch_smooth_tile(
      geometry, [&]<typename Tile>() { function.template operator()<typename Tile::Strip>(); });
}

void jvp(const SecondOrderParams& params, int64_t begin, int64_t end) {
  dispatch_strip(params.geometry, [&]<typename Tile>() {
    has_channel_lanes(params.geometry) ? jvp_items<true, Tile>(params, begin, end)
                                       : jvp_items<false, Tile>(params, begin, end);
  });
}

void double_backward_grid(const SecondOrderParams& params, int64_t begin, int64_t end) {
  dispatch_strip(params.geometry, [&]<typename Tile>() {
    has_channel_lanes(params.geometry)
        ? double_backward_grid_items<true, Tile>(params, begin, end)
        : double_backward_grid_items<false, Tile>(params, begin, end);
  });
}

void double_backward_input(const SecondOrderParams& params, int64_t begin, int64_t end) {
  dispatch_strip(params.geometry,
                 [&]<typename Tile>() { double_backward_input_items<Tile>(params, begin, end); });
}

void to_rows(const RowsParams& params, int64_t begin, int64_t end) {
  for (int64_t item = begin; item < end; ++item) {
    const int64_t batch = item / params.parts;
    pack_image(params.image, params.geometry, batch, 0, static_cast<int>(params.geometry.channels),
               static_cast<compute_t*>(params.rows.data) + batch * params.rows.batch_stride,
               item % params.parts, params.parts);
  }
}

void from_rows(const RowsParams& params, int64_t begin, int64_t end) {
  for (int64_t item = begin; item < end; ++item) {
    const int64_t batch = item / params.parts;
    unpack_image(params.image, params.geometry, batch, static_cast<int>(params.geometry.channels),
                 image_of<compute_t>(params.rows, batch), item % params.parts, params.parts);
  }
}

extern const SecondOrderKernels second_order_kernels;
const SecondOrderKernels second_order_kernels{to_rows, from_rows, jvp, double_backward_input,
                                              double_backward_grid};

GRIDSAMPLE_NAMESPACE_END
