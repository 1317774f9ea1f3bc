#pragma once

// Both gradients with lanes over channels, which are innermost in memory: one walk over the samples
// of a tile reads each tap's row of the input for grad_grid and adds to its row of grad_input.

#include "rows.h"
#include "tap_sums.h"

GRIDSAMPLE_NAMESPACE_BEGIN

template <typename Tile>
using AxisSums = typename Tile::compute_t[Tile::kDims][kTileSize];

template <typename Tile>
constexpr int kTapsPerSample = Tile::kTapsZ * Tile::kTaps * Tile::kTaps;

/// Rows of the channels of one piece: `channels` of them, in the input (storage type), in
/// grad_input (compute type) and of the tile's samples in grad_output, `grad_stride` apart.
template <typename storage_t, typename compute_t>
struct PieceRows {
  const storage_t* image;
  compute_t* grad_image;
  const compute_t* grad_output;
  int64_t grad_stride;
  int channels;
};

/// products[t][s][l]: for tap t of sample s of a group, the product of grad_output and pixel,
/// summed over the channels of lane l.
template <typename Tile, int kLanes>
using TapProducts = typename Tile::compute_t[kTapsPerSample<Tile>][kLanes][kLanes];

/// A vector of channels of one tap: sum += grad * pixel (kGrid), grad_row += weight * grad
/// (kInput).
template <typename scalar, int kLanes, bool kInput, bool kGrid, typename compute_t>
GRIDSAMPLE_INLINE void backward_lanes(const typename scalar::storage_t* row, compute_t* grad_row,
                                      const compute_t* grad_output, compute_t weight,
                                      Vector<compute_t, kLanes>& sum) {
  const auto grad = load_vector<compute_t, kLanes>(grad_output);
  if constexpr (kGrid) {
    sum = multiply_add_vector<compute_t, kLanes>(grad, load_lanes<scalar, compute_t, kLanes>(row),
                                                 sum);
  }
  if constexpr (kInput) {
    const auto pixel = load_vector<compute_t, kLanes>(grad_row);
    store_vector<compute_t, kLanes>(
        grad_row,
        multiply_add_vector<compute_t, kLanes>(grad, broadcast<compute_t, kLanes>(weight), pixel));
  }
}

/// The channels that do not fill a vector; their products go to the first lanes.
template <typename scalar, int kLanes, bool kInput, bool kGrid, typename compute_t>
GRIDSAMPLE_INLINE void backward_rest(const typename scalar::storage_t* row, compute_t* grad_row,
                                     const compute_t* grad_output, int channels, compute_t weight,
                                     compute_t* product) {
  Vector<compute_t, 4> sum{};
  if constexpr (kGrid) sum = load_vector<compute_t, 4>(product);
  int c = 0;
  if constexpr (kLanes > 4) {
    for (; c + 4 <= channels; c += 4) {
      backward_lanes<scalar, 4, kInput, kGrid>(row + c, grad_row + c, grad_output + c, weight, sum);
    }
  }
  dispatch_part(channels - c, [&]<int kPart>() {
    const auto grad = load_first<kPart>(grad_output + c);
    if constexpr (kGrid) {
      sum = multiply_add_vector<compute_t, 4>(
          grad, load_first_lanes<scalar, compute_t, kPart>(row + c), sum);
    }
    if constexpr (kInput) {
      const auto pixel = load_first<kPart>(grad_row + c);
      store_first_lanes<ScalarOf<compute_t>, compute_t, kPart>(
          grad_row + c,
          multiply_add_vector<compute_t, 4>(grad, broadcast<compute_t, 4>(weight), pixel));
    }
  });
  if constexpr (kGrid) store_vector<compute_t, 4>(product, sum);
}

template <typename scalar, int kLanes, bool kInput, bool kGrid, typename compute_t>
__attribute__((noinline)) void backward_rest_apart(const typename scalar::storage_t* row,
                                                   compute_t* grad_row,
                                                   const compute_t* grad_output, int channels,
                                                   compute_t weight, compute_t* product) {
  backward_rest<scalar, kLanes, kInput, kGrid>(row, grad_row, grad_output, channels, weight,
                                               product);
}

/// One tap of one sample. `product` gets the sum over channels, lane by lane.
template <typename scalar, int kLanes, bool kInput, bool kGrid, typename compute_t>
GRIDSAMPLE_INLINE void backward_tap(const typename scalar::storage_t* row, compute_t* grad_row,
                                    const compute_t* grad_output, int channels, compute_t weight,
                                    compute_t* product) {
  Vector<compute_t, kLanes> sum{};
  int c = 0;
  for (; c + kLanes <= channels; c += kLanes) {
    backward_lanes<scalar, kLanes, kInput, kGrid>(row + c, grad_row + c, grad_output + c, weight,
                                                  sum);
  }
  if constexpr (kGrid) store_vector<compute_t, kLanes>(product, sum);
  if (c < channels) {
    // Only rows of a few channels are made of nothing else.
    if constexpr (kLanes == 4) {
      backward_rest<scalar, kLanes, kInput, kGrid>(row + c, grad_row + c, grad_output + c,
                                                   channels - c, weight, product);
    } else {
      backward_rest_apart<scalar, kLanes, kInput, kGrid>(row + c, grad_row + c, grad_output + c,
                                                         channels - c, weight, product);
    }
  }
}

/// All taps of sample i, which is number s of its group. None of them is outside.
template <typename scalar, int kLanes, bool kInput, bool kGrid, typename Tile>
GRIDSAMPLE_INLINE void backward_sample(
    const PieceRows<typename scalar::storage_t, typename Tile::compute_t>& rows, const Tile& tile,
    int i, int s, TapProducts<Tile, kLanes>& products) {
  using compute_t = typename Tile::compute_t;
  const compute_t* grad_output = rows.grad_output + i * rows.grad_stride;
  GRIDSAMPLE_KEEP_LOOP
  for (int kz = 0; kz < Tile::kTapsZ; ++kz) {
    GRIDSAMPLE_KEEP_LOOP
    for (int ky = 0; ky < Tile::kTaps; ++ky) {
      const auto weight_yz = row_weight(tile, kz, ky, i);
      GRIDSAMPLE_UNROLL
      for (int kx = 0; kx < Tile::kTaps; ++kx) {
        const auto offset = plane_offset(tile, kz, ky, kx, i).offset;
        const int t = (kz * Tile::kTaps + ky) * Tile::kTaps + kx;
        backward_tap<scalar, kLanes, kInput, kGrid>(
            rows.image + offset, rows.grad_image + offset, grad_output, rows.channels,
            weight_yz * tile.axis[0].weight[kx][i], products[t][s]);
      }
    }
  }
}

/// The same for a sample at the image's edge: taps outside are passed over.
template <typename scalar, int kLanes, bool kInput, bool kGrid, typename Tile>
__attribute__((noinline)) void backward_sample_at_edge(
    const PieceRows<typename scalar::storage_t, typename Tile::compute_t>& rows, const Tile& tile,
    int i, int s, TapProducts<Tile, kLanes>& products) {
  using compute_t = typename Tile::compute_t;
  const compute_t* grad_output = rows.grad_output + i * rows.grad_stride;
  GRIDSAMPLE_KEEP_LOOP
  for (int kz = 0; kz < Tile::kTapsZ; ++kz) {
    GRIDSAMPLE_KEEP_LOOP
    for (int ky = 0; ky < Tile::kTaps; ++ky) {
      const auto weight_yz = row_weight(tile, kz, ky, i);
      GRIDSAMPLE_KEEP_LOOP
      for (int kx = 0; kx < Tile::kTaps; ++kx) {
        const auto where = plane_offset(tile, kz, ky, kx, i);
        compute_t* product = products[(kz * Tile::kTaps + ky) * Tile::kTaps + kx][s];
        if (where.outside) {
          if constexpr (kGrid) {
            store_vector<compute_t, kLanes>(product, Vector<compute_t, kLanes>{});
          }
          continue;
        }
        backward_tap<scalar, kLanes, kInput, kGrid>(
            rows.image + where.offset, rows.grad_image + where.offset, grad_output, rows.channels,
            weight_yz * tile.axis[0].weight[kx][i], product);
      }
    }
  }
}

/// The sum over the lanes of each of kLanes vectors, as one vector, always in the same order: lanes
/// half a vector apart, then a quarter, ...
template <typename T, int kLanes>
GRIDSAMPLE_INLINE Vector<T, kLanes> sum_lanes(const T (&rows)[kLanes][kLanes]) {
  if constexpr (kLanes == 1) {
    return load_vector<T, 1>(rows[0]);
  } else {
    Vector<T, kLanes> v[kLanes];
    GRIDSAMPLE_UNROLL_16
    for (int r = 0; r < kLanes; ++r) v[r] = load_vector<T, kLanes>(rows[r]);
    GRIDSAMPLE_UNROLL_16
    for (int half = kLanes / 2; half > 0; half /= 2) {
      GRIDSAMPLE_UNROLL_16
      for (int r = 0; r < half; ++r) {
        Vector<T, kLanes> low, high;
        zip(v[r], v[r + half], low, high, std::make_index_sequence<kLanes>{});
        v[r] = low + high;
      }
    }
    return v[0];
  }
}

/// sums[a] = sum over taps of w'_a prod_(b != a) w_b * product, for the kLanes samples from i on.
template <int kLanes, typename Tile>
GRIDSAMPLE_INLINE void contract_products(const Tile& tile, int i,
                                         const TapProducts<Tile, kLanes>& products,
                                         AxisSums<Tile>& sums) {
  using compute_t = typename Tile::compute_t;
  using Lanes = Vector<compute_t, kLanes>;
  alignas(64) compute_t product[kTapsPerSample<Tile>][kLanes];
  GRIDSAMPLE_KEEP_LOOP
  for (int t = 0; t < kTapsPerSample<Tile>; ++t) {
    store_vector<compute_t, kLanes>(product[t], sum_lanes(products[t]));
  }
  const auto row = [&](int kz, int ky, Lanes(&values)[Tile::kTaps]) {
    for (int kx = 0; kx < Tile::kTaps; ++kx) {
      values[kx] =
          load_vector<compute_t, kLanes>(product[(kz * Tile::kTaps + ky) * Tile::kTaps + kx]);
    }
  };
  Lanes d[Tile::kDims];
  differentiate<kLanes>(tile, i, row, d);
  for (int a = 0; a < Tile::kDims; ++a) store_vector<compute_t, kLanes>(&sums[a][i], d[a]);
}

template <typename scalar, int kLanes, bool kInput, bool kGrid, typename Tile>
void backward_rows(const PieceRows<typename scalar::storage_t, typename Tile::compute_t>& rows,
                   const Tile& tile, const RowPrefetch& prefetch, AxisSums<Tile>* sums) {
  using compute_t = typename Tile::compute_t;
  // Rows with gaps between them are not what the hardware looks ahead for.
  constexpr int kAhead = 16;
  constexpr int kLine = 64 / static_cast<int>(sizeof(compute_t));
  alignas(64) TapProducts<Tile, kLanes> products;
  for (int group = 0; group < tile.count; group += kLanes) {
    const int last = std::min(group + kLanes, tile.count);
    for (int i = group; i < last; ++i) {
      if constexpr (kGrid) prefetch(rows.image, tile, i);
      if constexpr (kInput) prefetch(rows.grad_image, tile, i);
      for (int c = 0; c < rows.channels; c += kLine) {
        GRIDSAMPLE_PREFETCH(rows.grad_output + (i + kAhead) * rows.grad_stride + c);
      }
      if (tile.outside[i] >= 0) {
        backward_sample<scalar, kLanes, kInput, kGrid>(rows, tile, i, i - group, products);
      } else {
        backward_sample_at_edge<scalar, kLanes, kInput, kGrid>(rows, tile, i, i - group, products);
      }
    }
    if constexpr (kGrid) {
      for (int s = last - group; s < kLanes; ++s) {
        for (auto& product : products) {
          store_vector<compute_t, kLanes>(product[s], Vector<compute_t, kLanes>{});
        }
      }
      contract_products<kLanes>(tile, group, products, *sums);
    }
  }
}

/// grad_image += weight * grad_output (kInput), sums = sum over taps and the piece's channels of
/// w'_a prod_(b != a) w_b * pixel * grad_output (kGrid), for the samples of a tile. The number of
/// lanes depends on the number of channels alone, and with it the order of every sum.
template <typename scalar, bool kInput, bool kGrid, typename Tile>
void backward_rows(const PieceRows<typename scalar::storage_t, typename Tile::compute_t>& rows,
                   const Tile& tile, const RowPrefetch& prefetch, AxisSums<Tile>* sums) {
  constexpr int kFull = std::max(4, kFullLanes<typename Tile::compute_t>);
  if constexpr (kFull > 8) {
    if (rows.channels >= 8 && rows.channels < kFull) {
      return backward_rows<scalar, 8, kInput, kGrid>(rows, tile, prefetch, sums);
    }
  }
  if constexpr (kFull > 4) {
    if (rows.channels < kFull) {
      return backward_rows<scalar, 4, kInput, kGrid>(rows, tile, prefetch, sums);
    }
  }
  backward_rows<scalar, kFull, kInput, kGrid>(rows, tile, prefetch, sums);
}

GRIDSAMPLE_NAMESPACE_END
