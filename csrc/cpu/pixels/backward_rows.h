#pragma once

// Both gradients with lanes over channels, which are innermost in memory: one walk over the samples
// of a tile reads each tap's row of the input for grad_grid and adds to its row of grad_input. Of
// few channels a tile has one gradient after the other.

#include "cpu/pixels/short_rows.h"
#include "cpu/pixels/tap_sums.h"

GRIDSAMPLE_NAMESPACE_BEGIN

template <typename Tile>
using AxisSums = PerAxis<Tile::kSize>;

/// products[t][s][l]: for tap t of sample s of a group, the product of grad_output and pixel,
/// summed over the channels of lane l.
template <typename Tile, int kLanes>
using TapProducts = compute_t[Tile::kMostTaps][kLanes][kLanes];

/// A vector of channels of one tap: sum += grad * pixel (kGrid), grad_row += weight * grad
/// (kInput).
template <int kLanes, bool kInput, bool kGrid>
GRIDSAMPLE_INLINE void backward_lanes(const compute_t* row, compute_t* grad_row,
                                      const Vector<compute_t, kLanes>& grad, compute_t weight,
                                      Vector<compute_t, kLanes>& sum) {
  if constexpr (kGrid) {
    sum = multiply_add_vector<compute_t, kLanes>(grad, load_vector<compute_t, kLanes>(row), sum);
  }
  if constexpr (kInput) {
    const auto pixel = load_vector<compute_t, kLanes>(grad_row);
    store_vector<compute_t, kLanes>(
        grad_row,
        multiply_add_vector<compute_t, kLanes>(grad, broadcast<compute_t, kLanes>(weight), pixel));
  }
}

/// The channels that do not fill a vector; their products go to the first lanes.
template <int kLanes, bool kInput, bool kGrid>
GRIDSAMPLE_NOINLINE void backward_rest(const compute_t* row, compute_t* grad_row,
                                       const compute_t* grad_output, int channels, compute_t weight,
                                       compute_t* product) {
  Vector<compute_t, 4> sum{};
  if constexpr (kGrid) sum = load_vector<compute_t, 4>(product);
  int c = 0;
  if constexpr (kLanes > 4) {
    for (; c + 4 <= channels; c += 4) {
      backward_lanes<4, kInput, kGrid>(row + c, grad_row + c,
                                       load_vector<compute_t, 4>(grad_output + c), weight, sum);
    }
  }
  dispatch_left(channels - c, [&]<int kLeft>() {
    const auto grad = load_first<kLeft>(grad_output + c);
    if constexpr (kGrid) {
      sum = multiply_add_vector<compute_t, 4>(grad, load_first<kLeft>(row + c), sum);
    }
    if constexpr (kInput) {
      const auto pixel = load_first<kLeft>(grad_row + c);
      store_first_lanes<ScalarOf<compute_t>, compute_t, kLeft>(
          grad_row + c,
          multiply_add_vector<compute_t, 4>(grad, broadcast<compute_t, 4>(weight), pixel));
    }
  });
  if constexpr (kGrid) store_vector<compute_t, 4>(product, sum);
}

/// All taps of sample i, which is number s of its group: products[t][s] gets the sum over channels,
/// lane by lane. The rows have kUnits vectors of channels; 0: any number.
template <int kLanes, int kUnits, bool kInput, bool kGrid, typename Tile>
GRIDSAMPLE_INLINE void backward_sample(const PieceRows& rows, const TapList<Tile>& taps, int i,
                                       int s,
                                       std::type_identity_t<TapProducts<Tile, kLanes>>* products) {
  using Lanes = Vector<compute_t, kLanes>;
  const compute_t* grad_output = rows.grad_output + i * rows.grad_stride;
  Lanes grad[std::max(kUnits, 1)];
  GRIDSAMPLE_UNROLL_16
  for (int u = 0; u < kUnits; ++u) {
    grad[u] = load_vector<compute_t, kLanes>(grad_output + u * kLanes);
  }
  const int slices = taps.slices;  // a local, which stores to pixels cannot change
  GRIDSAMPLE_KEEP_LOOP
  for (int kz = 0; kz < slices; ++kz) {
    GRIDSAMPLE_KEEP_LOOP
    for (int ky = 0; ky < Tile::kTaps; ++ky) {
      GRIDSAMPLE_UNROLL
      for (int kx = 0; kx < Tile::kTaps; ++kx) {
        const auto offset = taps.offset(kz, ky, kx, i);
        compute_t* product = nullptr;
        if constexpr (kGrid) product = (*products)[tap_number<Tile>(kz, ky, kx)][s];
        Lanes sum{};
        if (offset >= 0) {
          const auto* row = rows.image + offset;
          auto* grad_row = rows.grad_image + offset;
          const compute_t weight = taps.weight(kz, ky, kx, i);
          if constexpr (kUnits > 0) {
            GRIDSAMPLE_UNROLL_16
            for (int u = 0; u < kUnits; ++u) {
              backward_lanes<kLanes, kInput, kGrid>(row + u * kLanes, grad_row + u * kLanes,
                                                    grad[u], weight, sum);
            }
          } else {
            int c = 0;
            for (; c + kLanes <= rows.channels; c += kLanes) {
              backward_lanes<kLanes, kInput, kGrid>(row + c, grad_row + c,
                                                    load_vector<compute_t, kLanes>(grad_output + c),
                                                    weight, sum);
            }
            if (c < rows.channels) {
              if constexpr (kGrid) store_vector<compute_t, kLanes>(product, sum);
              backward_rest<kLanes, kInput, kGrid>(row + c, grad_row + c, grad_output + c,
                                                   rows.channels - c, weight, product);
              continue;
            }
          }
        }
        if constexpr (kGrid) store_vector<compute_t, kLanes>(product, sum);
      }
    }
  }
}

/// The sum over the lanes of each of kLanes vectors, as one vector, always in the same order: first
/// within blocks of 16 bytes, where shuffles are cheap, then over the blocks.
template <typename T, int kLanes>
GRIDSAMPLE_INLINE Vector<T, kLanes> sum_lanes(const T (&rows)[kLanes][kLanes]) {
  constexpr std::make_index_sequence<kLanes> kAll{};
  constexpr int kBlock = std::min(kLanes, 16 / static_cast<int>(sizeof(T)));
  Vector<T, kLanes> v[kLanes];
  GRIDSAMPLE_UNROLL_16
  for (int r = 0; r < kLanes; ++r) v[r] = load_vector<T, kLanes>(rows[r]);
  if constexpr (kBlock >= 2) {
    GRIDSAMPLE_UNROLL_16
    for (int r = 0; r < kLanes / 2; ++r) v[r] = add_halves<kBlock, 1>(v[2 * r], v[2 * r + 1], kAll);
  }
  if constexpr (kBlock >= 4) {
    GRIDSAMPLE_UNROLL_16
    for (int r = 0; r < kLanes / 4; ++r) v[r] = add_halves<kBlock, 2>(v[2 * r], v[2 * r + 1], kAll);
  }
  static_assert(kBlock <= 4);
  GRIDSAMPLE_UNROLL_16
  for (int left = kLanes / kBlock; left > 1; left /= 2) {
    GRIDSAMPLE_UNROLL_16
    for (int r = 0; r < left / 2; ++r) v[r] = add_blocks<kBlock>(v[2 * r], v[2 * r + 1], kAll);
  }
  return v[0];
}

/// sums[a] = sum over taps of w'_a prod_(b != a) w_b * product, for the kLanes samples from i on.
template <int kLanes, typename Tile>
GRIDSAMPLE_INLINE void contract_products(const Tile& tile, const TapDerivatives<Tile>& derivatives,
                                         int i, const compute_t (&product)[Tile::kMostTaps][kLanes],
                                         AxisSums<Tile>& sums) {
  using Lanes = Vector<compute_t, kLanes>;
  const auto row = [&](int kz, int ky, Lanes(&values)[Tile::kTaps]) GRIDSAMPLE_INLINE_LAMBDA {
    GRIDSAMPLE_UNROLL
    for (int kx = 0; kx < Tile::kTaps; ++kx) {
      values[kx] = load_vector<compute_t, kLanes>(product[tap_number<Tile>(kz, ky, kx)]);
    }
  };
  Lanes d[kMaxDims];
  differentiate<kLanes>(tile, derivatives, i, row, d);
  GRIDSAMPLE_UNROLL
  for (int a = 0; a < kMaxDims; ++a) {
    if (a >= tile.dims) continue;
    store_vector<compute_t, kLanes>(&sums[a][i], d[a]);
  }
}

/// Asks for what samples a little later need: the rows under sample i's followers, and theirs of
/// grad_output, which may have gaps between them that the hardware does not look across.
template <int kLanes, int kUnits, bool kInput, bool kGrid, typename Tile>
GRIDSAMPLE_INLINE void prefetch_sample(const RowPrefetch& prefetch, const PieceRows& rows,
                                       const Tile& tile, int i) {
  if constexpr (kGrid && kInput) {
    prefetch(tile, i, rows.image, rows.grad_image);
  } else if constexpr (kGrid) {
    prefetch(tile, i, rows.image);
  } else {
    prefetch(tile, i, rows.grad_image);
  }
  constexpr int kAhead = 16;
  constexpr int kLine = 64 / static_cast<int>(sizeof(compute_t));
  const auto* ahead = rows.grad_output + (i + kAhead) * rows.grad_stride;
  if constexpr (kUnits > 0) {
    GRIDSAMPLE_UNROLL_16
    for (int c = 0; c < kUnits * kLanes; c += kLine) GRIDSAMPLE_PREFETCH(ahead + c);
  } else {
    for (int c = 0; c < rows.channels; c += kLine) GRIDSAMPLE_PREFETCH(ahead + c);
  }
}

/// Samples [first, tile.count), lanes over the channels of one sample.
template <int kLanes, int kUnits, bool kInput, typename Tile>
void backward_long(const PieceRows& rows, const Tile& tile, const TapDerivatives<Tile>& derivatives,
                   const TapList<Tile>& taps, int first, const RowPrefetch& prefetch,
                   AxisSums<Tile>& sums) {
  alignas(64) TapProducts<Tile, kLanes> products;
  const int tap_count = tile.taps();
  for (int group = first; group < tile.count; group += kLanes) {
    const int end = std::min(group + kLanes, tile.count);
    for (int i = group; i < end; ++i) {
      prefetch_sample<kLanes, kUnits, kInput, true>(prefetch, rows, tile, i);
      backward_sample<kLanes, kUnits, kInput, true>(rows, taps, i, i - group, &products);
    }
    for (int s = end - group; s < kLanes; ++s) {
      for (int t = 0; t < tap_count; ++t) {
        store_vector<compute_t, kLanes>(products[t][s], Vector<compute_t, kLanes>{});
      }
    }
    alignas(64) compute_t product[Tile::kMostTaps][kLanes];
    GRIDSAMPLE_KEEP_LOOP
    for (int t = 0; t < tap_count; ++t) {
      store_vector<compute_t, kLanes>(product[t], sum_lanes(products[t]));
    }
    contract_products<kLanes>(tile, derivatives, group, product, sums);
  }
}

/// grad_grid of rows of kLeft or kWidth channels, a fraction of a vector: a vector holds those of
/// several samples. For whole vectors of samples from the tile's first on; returns where they end.
/// kRead: how many numbers of the image's rows are read, as kLeft has it.
template <int kWidth, int kLeft, int kRead, typename Tile>
int differentiate_short(const PieceRows& rows, const Tile& tile,
                        const TapDerivatives<Tile>& derivatives, const TapList<Tile>& taps,
                        const RowPrefetch& prefetch, AxisSums<Tile>& sums) {
  constexpr int kLanes = kFullLanes<compute_t>;
  constexpr int kPer = kLanes / kWidth;  // samples in a vector
  using Lanes = Vector<compute_t, kLanes>;
  using Mask = Vector<std::conditional_t<sizeof(compute_t) == 4, int32_t, int64_t>, kLanes>;
  Mask of_row;
  for (int l = 0; l < kLanes; ++l) of_row[l] = l % kWidth < kLeft ? -1 : 0;
  int group = 0;
  for (; group + kLanes <= tile.count; group += kLanes) {
    const compute_t* grad_output = rows.grad_output + group * rows.grad_stride;
    for (int i = group; i < group + kLanes; ++i) {
      prefetch_sample<kWidth, 1, false, true>(prefetch, rows, tile, i);
    }
    Lanes grad[kWidth];
    GRIDSAMPLE_UNROLL_16
    for (int v = 0; v < kWidth; ++v) {
      grad[v] = load_side_by_side<ScalarOf<compute_t>, compute_t, kWidth, kLeft, kPer>(
          [&](int s) { return grad_output + (v * kPer + s) * rows.grad_stride; });
    }
    alignas(64) compute_t product[Tile::kMostTaps][kLanes];
    GRIDSAMPLE_KEEP_LOOP
    for (int kz = 0; kz < tile.slices; ++kz) {
      GRIDSAMPLE_KEEP_LOOP
      for (int ky = 0; ky < Tile::kTaps; ++ky) {
        GRIDSAMPLE_KEEP_LOOP
        for (int kx = 0; kx < Tile::kTaps; ++kx) {
          const auto offsets = taps.template offsets<kLanes>(kz, ky, kx, group);
          const auto outside = offsets < 0;
          alignas(64) offset_t offset[kLanes];
          store_vector<offset_t, kLanes>(offset, offsets & ~outside);
          Lanes sum[kWidth];
          GRIDSAMPLE_UNROLL_16
          for (int v = 0; v < kWidth; ++v) {
            const auto row = [&](int s) { return rows.image + offset[v * kPer + s]; };
            sum[v] = grad[v] *
                     load_side_by_side<ScalarOf<compute_t>, compute_t, kWidth, kRead, kPer>(row);
            if constexpr (kRead != kLeft) sum[v] = (Lanes)((Mask)sum[v] & of_row);
          }
          GRIDSAMPLE_UNROLL_16
          for (int left = kWidth; left > 1; left /= 2) {
            GRIDSAMPLE_UNROLL_16
            for (int v = 0; v < left / 2; ++v) {
              Lanes even, odd;
              unzip<kLanes>(sum[2 * v], sum[2 * v + 1], even, odd,
                            std::make_index_sequence<kLanes>{});
              sum[v] = even + odd;
            }
          }
          store_vector<compute_t, kLanes>(
              product[tap_number<Tile>(kz, ky, kx)],
              __builtin_convertvector(outside, Mask) ? Lanes{} : sum[0]);
        }
      }
    }
    contract_products<kLanes>(tile, derivatives, group, product, sums);
  }
  return group;
}

/// Calls short_rows.template operator()<kWidth, kLeft>() or long_rows.template operator()<kLanes,
/// kUnits>() for rows of `channels`. This alone decides the order of the sums over channels.
template <typename Tile, typename ShortRows, typename LongRows>
GRIDSAMPLE_INLINE void dispatch_channels(int channels, const ShortRows& short_rows,
                                         const LongRows& long_rows) {
  constexpr int kFull = std::max(4, kFullLanes<compute_t>);
  if constexpr (kIsFloat) {
    if constexpr (kFull > 8) {
      if (channels == 8) return short_rows.template operator()<8, 0>();
    }
    if constexpr (kFull > 4) {
      if (channels == 4) return short_rows.template operator()<4, 0>();
      if (channels == 3) return short_rows.template operator()<4, 3>();
      if (channels == 2) return short_rows.template operator()<4, 2>();
    }
    if (channels == kFull) return long_rows.template operator()<kFull, 1>();
    if (channels == 2 * kFull) return long_rows.template operator()<kFull, 2>();
    if (channels == 4 * kFull) return long_rows.template operator()<kFull, 4>();
  }
  if constexpr (kFull > 8) {
    if (channels >= 8 && channels < kFull) return long_rows.template operator()<8, 0>();
  }
  if constexpr (kFull > 4) {
    if (channels < kFull) return long_rows.template operator()<4, 0>();
  }
  long_rows.template operator()<kFull, 0>();
}

/// scatter_rows for rows of few channels.
template <int kWidth, int kLeft, typename Tile>
void scatter_short_rows(const PieceRows& rows, const Tile& tile, const TapList<Tile>& taps,
                        const ActiveSamples& active, const RowPrefetch& prefetch) {
  const auto scatter = [&](const auto& short_row_taps) {
    for (int s = 0; s < active.count; ++s) {
      const int i = active.index[s];
      prefetch_sample<kWidth, 1, true, false>(prefetch, rows, tile, i);
      scatter_short<kWidth, kLeft>(rows, taps, short_row_taps, i);
    }
  };
  if constexpr (kWidth == 4) {
    scatter(ShortRowTaps<Tile>(tile, rows));
  } else {
    scatter(nullptr);
  }
}

/// sums = sum over taps and the piece's channels of w'_a prod_(b != a) w_b * pixel * grad_output,
/// and (kInput) grad_image += weight * grad_output, for the samples of a tile. read_on:
/// can_read_on the tile.
template <bool kInput, typename Tile>
void backward_rows(const PieceRows& rows, const Tile& tile, const TapDerivatives<Tile>& derivatives,
                   const TapList<Tile>& taps, bool read_on, const RowPrefetch& prefetch,
                   AxisSums<Tile>& sums) {
  const auto short_rows = [&]<int kWidth, int kLeft>() {
    const auto differentiate = [&]<int kRead>() {
      const int done =
          differentiate_short<kWidth, kLeft, kRead>(rows, tile, derivatives, taps, prefetch, sums);
      backward_long<kWidth, 0, false>(rows, tile, derivatives, taps, done, prefetch, sums);
    };
    if (kLeft == 3 && read_on) {
      differentiate.template operator()<kLeft == 3 ? 0 : kLeft>();
    } else {
      differentiate.template operator()<kLeft>();
    }
    if constexpr (kInput) {
      ActiveSamples active;
      list_active<1>(tile, active);
      scatter_short_rows<kWidth, kLeft, Tile>(
          {nullptr, rows.grad_image, rows.grad_output, rows.grad_stride, rows.channels, rows.pixels,
           rows.pixel_step},
          tile, taps, active, prefetch);
    }
  };
  const auto long_rows = [&]<int kLanes, int kUnits>() {
    backward_long<kLanes, kUnits, kInput>(rows, tile, derivatives, taps, 0, prefetch, sums);
  };
  dispatch_channels<Tile>(rows.channels, short_rows, long_rows);
}

/// grad_image += weight * grad_output alone, for the samples that have a tap inside.
template <typename Tile>
void scatter_rows(const PieceRows& rows, const Tile& tile, const TapList<Tile>& taps,
                  const ActiveSamples& active, const RowPrefetch& prefetch) {
  const auto short_rows = [&]<int kWidth, int kLeft>() {
    scatter_short_rows<kWidth, kLeft>(rows, tile, taps, active, prefetch);
  };
  const auto long_rows = [&]<int kLanes, int kUnits>() {
    for (int s = 0; s < active.count; ++s) {
      const int i = active.index[s];
      prefetch_sample<kLanes, kUnits, true, false>(prefetch, rows, tile, i);
      backward_sample<kLanes, kUnits, true, false>(rows, taps, i, 0, nullptr);
    }
  };
  dispatch_channels<Tile>(rows.channels, short_rows, long_rows);
}

GRIDSAMPLE_NAMESPACE_END
