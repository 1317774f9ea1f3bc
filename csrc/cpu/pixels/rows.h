#pragma once

// Lanes over channels, which are innermost in memory: a tap of a sample is a row of channels.
//
// Sums are nested as they are where lanes go over samples (tap_sums.h), x within y within z, so
// both ways give the same bits.

#include "cpu/pixels/prefetch.h"
#include "cpu/taps/tap_list.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Calls function.template operator()<kLanes, kUnits, kLeft>(c) for pieces of [begin, end) of
/// kUnits vectors of kLanes channels: as many as fit of four full vectors, then of one, then
/// of eight and of four channels. kLeft > 0: the last one to three, as a vector of four.
template <typename compute_t, typename F>
GRIDSAMPLE_INLINE void for_channel_vectors(int64_t begin, int64_t end, const F& function) {
  constexpr int kLanes = kFullLanes<compute_t>;
  int64_t c = begin;
  constexpr int kMostUnits = 4;
  constexpr int kMost = kMostUnits * kLanes;
  for (; c + kMost <= end; c += kMost) function.template operator()<kLanes, kMostUnits, 0>(c);
  for (; c + kLanes <= end; c += kLanes) function.template operator()<kLanes, 1, 0>(c);
  if constexpr (kLanes > 8) {
    if (c + 8 <= end) {
      function.template operator()<8, 1, 0>(c);
      c += 8;
    }
  }
  if constexpr (kLanes != 4) {
    for (; c + 4 <= end;) {
      function.template operator()<4, 1, 0>(c);
      c += 4;
    }
  }
  dispatch_left(end - c, [&]<int kLeft>() { function.template operator()<4, 1, kLeft>(c); });
}

/// A vector of a row: all lanes, or (kLeft > 0) the first kLeft of four.
template <typename scalar, typename compute_t, int kLanes, int kLeft>
GRIDSAMPLE_INLINE Vector<compute_t, kLanes> load_row_lanes(const typename scalar::storage_t* row) {
  if constexpr (kLeft > 0) {
    return load_first_lanes<scalar, compute_t, kLeft>(row);
  } else {
    return load_lanes<scalar, compute_t, kLanes>(row);
  }
}

/// Where the last pixel is in a plane, or in those of a group of images.
inline int64_t last_pixel(const Geometry& geometry, const View& image, int64_t batch) {
  int64_t last = (images_of(geometry, batch) - 1) * image.stride[geometry.dims];
  for (int a = 0; a < geometry.dims; ++a) last += (geometry.input_size[a] - 1) * image.stride[a];
  return last;
}

/// Where the last of a tile's taps is in its plane.
template <int kDims, typename Tile>
offset_t last_tap(const Tile& tile) {
  offset_t most = 0;
#pragma omp simd reduction(max : most)
  for (int i = 0; i < Tile::kSize; ++i) {
    offset_t sum = 0;
    GRIDSAMPLE_UNROLL
    for (int a = 0; a < kDims; ++a) {
      offset_t farthest = 0;
      GRIDSAMPLE_UNROLL
      for (int k = 0; k < Tile::kTaps; ++k) {
        const offset_t offset = tile.axis[a].offset[k][i];
        farthest = offset > farthest ? offset : farthest;
      }
      sum += farthest;
    }
    most = sum > most ? sum : most;
  }
  return most;
}

/// Whether what lies a number beyond each row of a tile's taps may be read, and passed over: it
/// lies before the end of another pixel, because none of the taps is at the image's last. Rows of
/// three are best read as four.
template <typename Tile>
bool can_read_on(const Tile& tile, const Geometry& geometry, const View& image, int64_t batch) {
  offset_t last = 0;
  with_dims<Tile::kDims>(tile.dims, [&]<int kDims>() { last = last_tap<kDims>(tile); });
  return last < last_pixel(geometry, image, batch);
}

/// sum = sum over the taps of one slice of weight * row, for sample i, none of whose taps is
/// outside.
template <typename scalar, int kLanes, int kUnits, int kLeft, typename Tile>
GRIDSAMPLE_INLINE void sample_row_of_slice(const typename scalar::storage_t* slice,
                                           const Tile& tile, int i,
                                           Vector<compute_t, kLanes> (&sum)[kUnits]) {
  using Lanes = Vector<compute_t, kLanes>;
  for (int u = 0; u < kUnits; ++u) sum[u] = Lanes{};
  GRIDSAMPLE_UNROLL
  for (int ky = 0; ky < Tile::kTaps; ++ky) {
    Lanes sum_y[kUnits] = {};
    GRIDSAMPLE_UNROLL
    for (int kx = 0; kx < Tile::kTaps; ++kx) {
      const auto* row = slice + (tile.axis[1].offset[ky][i] + tile.axis[0].offset[kx][i]);
      const Lanes weight = broadcast<compute_t, kLanes>(tile.axis[0].weight[kx][i]);
      GRIDSAMPLE_UNROLL
      for (int u = 0; u < kUnits; ++u) {
        sum_y[u] = multiply_add_vector<compute_t, kLanes>(
            weight, load_row_lanes<scalar, compute_t, kLanes, kLeft>(row + u * kLanes), sum_y[u]);
      }
    }
    const Lanes weight = broadcast<compute_t, kLanes>(tile.axis[1].weight[ky][i]);
    GRIDSAMPLE_UNROLL
    for (int u = 0; u < kUnits; ++u) {
      sum[u] = multiply_add_vector<compute_t, kLanes>(weight, sum_y[u], sum[u]);
    }
  }
}

/// sum = sum over all taps of weight * row.
template <typename scalar, int kLanes, int kUnits, int kLeft, typename Tile>
GRIDSAMPLE_INLINE void sample_row(const typename scalar::storage_t* image, const Tile& tile, int i,
                                  Vector<compute_t, kLanes> (&sum)[kUnits]) {
  using Lanes = Vector<compute_t, kLanes>;
  if (!tile.is_volume()) {
    return sample_row_of_slice<scalar, kLanes, kUnits, kLeft>(image, tile, i, sum);
  }
  for (int u = 0; u < kUnits; ++u) sum[u] = Lanes{};
  for (int kz = 0; kz < Tile::kTaps; ++kz) {
    Lanes sum_z[kUnits];
    sample_row_of_slice<scalar, kLanes, kUnits, kLeft>(image + tile.axis[2].offset[kz][i], tile, i,
                                                       sum_z);
    const Lanes weight = broadcast<compute_t, kLanes>(tile.axis[2].weight[kz][i]);
    GRIDSAMPLE_UNROLL
    for (int u = 0; u < kUnits; ++u) {
      sum[u] = multiply_add_vector<compute_t, kLanes>(weight, sum_z[u], sum[u]);
    }
  }
}

/// sums = sum over taps of weight * row, for a sample at the image's edge: taps outside are passed
/// over.
template <typename scalar, int kLanes, int kLeft, typename Tile>
GRIDSAMPLE_NOINLINE void sample_row_at_edge(const typename scalar::storage_t* image,
                                            const Tile& tile, int i, compute_t* sums) {
  using Lanes = Vector<compute_t, kLanes>;
  const auto add = [](compute_t weight, const Lanes& value, Lanes& sum) {
    sum = multiply_add_vector<compute_t, kLanes>(broadcast<compute_t, kLanes>(weight), value, sum);
  };
  Lanes sum{};
  GRIDSAMPLE_KEEP_LOOP
  for (int kz = 0; kz < tile.slices; ++kz) {
    const auto* slice = image;
    if (tile.is_volume()) {
      if (tile.axis[2].offset[kz][i] < 0) continue;
      slice += tile.axis[2].offset[kz][i];
    }
    Lanes sum_z{};
    GRIDSAMPLE_KEEP_LOOP
    for (int ky = 0; ky < Tile::kTaps; ++ky) {
      if (tile.axis[1].offset[ky][i] < 0) continue;
      Lanes sum_y{};
      GRIDSAMPLE_KEEP_LOOP
      for (int kx = 0; kx < Tile::kTaps; ++kx) {
        if (tile.axis[0].offset[kx][i] < 0) continue;
        const auto* row = slice + (tile.axis[1].offset[ky][i] + tile.axis[0].offset[kx][i]);
        add(tile.axis[0].weight[kx][i], load_row_lanes<scalar, compute_t, kLanes, kLeft>(row),
            sum_y);
      }
      add(tile.axis[1].weight[ky][i], sum_y, sum_z);
    }
    if (tile.is_volume()) {
      add(tile.axis[2].weight[kz][i], sum_z, sum);
    } else {
      sum = sum_z;
    }
  }
  store_vector<compute_t, kLanes>(sums, sum);
}

/// kCount rows, at from(first), from(first + 1), ..., side by side in one vector.
template <typename scalar, typename compute_t, int kLanes, int kLeft, int kCount, typename From>
GRIDSAMPLE_INLINE Vector<compute_t, kLanes * kCount> load_side_by_side(const From& from,
                                                                       int first = 0) {
  if constexpr (kCount == 1) {
    return load_row_lanes<scalar, compute_t, kLanes, kLeft>(from(first));
  } else {
    constexpr int kHalf = kCount / 2;
    return join(load_side_by_side<scalar, compute_t, kLanes, kLeft, kHalf>(from, first),
                load_side_by_side<scalar, compute_t, kLanes, kLeft, kHalf>(from, first + kHalf));
  }
}

/// A vector of samples from `first` on, all inside, of rows of kLeft or kWidth channels, a fraction
/// of a vector: a vector holds the rows of several samples. kRead: how many numbers of a row are
/// read, as kLeft has it. `last`: where the tile's samples end that are written in turn.
template <typename scalar, typename out_scalar, int kWidth, int kLeft, int kRead, typename Tile,
          typename OutRow>
GRIDSAMPLE_INLINE void sample_short(const typename scalar::storage_t* image, const Tile& tile,
                                    const TapOffsets<Tile>& taps, int first, int last,
                                    const OutRow& out_row) {
  constexpr int kLanes = kFullLanes<compute_t>;
  constexpr int kPer = kLanes / kWidth;
  constexpr int kChannels = kLeft > 0 ? kLeft : kWidth;
  // A whole vector is stored over the beginnings of so many rows that are yet to be written.
  constexpr int kOver = (kLanes - kPer * kChannels + kChannels - 1) / kChannels;
  using Lanes = Vector<compute_t, kLanes>;
  GRIDSAMPLE_KEEP_LOOP
  for (int i = 0; i < kLanes; i += kPer) {
    const auto add = [&](const compute_t* weight, const Lanes& value, Lanes& sum) {
      const auto weights = load_vector<compute_t, kLanes>(weight + first);
      sum = multiply_add_vector<compute_t, kLanes>(
          repeat_lanes<kWidth, compute_t, kLanes>(weights, i), value, sum);
    };
    const auto slice = [&](int kz) GRIDSAMPLE_INLINE_LAMBDA {
      Lanes sum{};
      GRIDSAMPLE_UNROLL
      for (int ky = 0; ky < Tile::kTaps; ++ky) {
        Lanes sum_y{};
        GRIDSAMPLE_UNROLL
        for (int kx = 0; kx < Tile::kTaps; ++kx) {
          const auto row = [&](int s) { return image + taps.offset(kz, ky, kx, first + i + s); };
          add(tile.axis[0].weight[kx],
              load_side_by_side<scalar, compute_t, kWidth, kRead, kPer>(row), sum_y);
        }
        add(tile.axis[1].weight[ky], sum_y, sum);
      }
      return sum;
    };
    Lanes sum{};
    if (tile.is_volume()) {
      GRIDSAMPLE_UNROLL
      for (int kz = 0; kz < Tile::kTaps; ++kz) add(tile.axis[2].weight[kz], slice(kz), sum);
    } else {
      sum = slice(0);
    }
    auto* out = out_row(first + i);
    // One after the other, as rows of samples that are evenly spaced are if the last of them is.
    const int end = first + i + kPer + kOver;
    if (end <= last && out_row(end - 1) == out + (kPer + kOver - 1) * kChannels) {
      store_lanes<out_scalar, compute_t, kLanes>(
          out, first_of_groups<kWidth, kChannels>(sum, std::make_index_sequence<kLanes>{}));
    } else {
      alignas(64) compute_t lanes[kLanes];
      store_vector<compute_t, kLanes>(lanes, sum);
      GRIDSAMPLE_UNROLL
      for (int s = 0; s < kPer; ++s) {
        const auto value = load_vector<compute_t, kWidth>(lanes + s * kWidth);
        if constexpr (kLeft > 0) {
          store_first_lanes<out_scalar, compute_t, kLeft>(out_row(first + i + s), value);
        } else {
          store_lanes<out_scalar, compute_t, kWidth>(out_row(first + i + s), value);
        }
      }
    }
  }
}

/// Channels [begin, end) of one sample. read_on: can_read_on its tile.
template <typename scalar, typename out_scalar, typename Tile>
GRIDSAMPLE_INLINE void sample_long(const typename scalar::storage_t* image, const Tile& tile, int i,
                                   int64_t begin, int64_t end, bool read_on,
                                   typename out_scalar::storage_t* out) {
  const bool inside = tile.outside[i] >= 0;
  const auto sample = [&]<int kLanes, int kUnits, int kLeft>(int64_t c) GRIDSAMPLE_INLINE_LAMBDA {
    const auto store = [&](int u, const Vector<compute_t, kLanes>& sum) {
      if constexpr (kLeft > 0) {
        store_first_lanes<out_scalar, compute_t, kLeft>(out + c, sum);
      } else {
        store_lanes<out_scalar, compute_t, kLanes>(out + c + u * kLanes, sum);
      }
    };
    if (inside) {
      Vector<compute_t, kLanes> sum[kUnits];
      if (kLeft == 3 && read_on) {
        sample_row<scalar, kLanes, kUnits, 0>(image + c, tile, i, sum);
      } else {
        sample_row<scalar, kLanes, kUnits, kLeft>(image + c, tile, i, sum);
      }
      GRIDSAMPLE_UNROLL
      for (int u = 0; u < kUnits; ++u) store(u, sum[u]);
    } else {
      alignas(64) compute_t sums[kLanes];
      GRIDSAMPLE_KEEP_LOOP
      for (int u = 0; u < kUnits; ++u) {
        sample_row_at_edge<scalar, kLanes, kLeft>(image + c + u * kLanes, tile, i, sums);
        store(u, load_vector<compute_t, kLanes>(sums));
      }
    }
  };
  for_channel_vectors<compute_t>(begin, end, sample);
}

/// Channels [begin, end) of samples [first, last) of a tile, written to out_row(i) + channel.
template <typename scalar, typename out_scalar, typename Tile, typename OutRow>
GRIDSAMPLE_INLINE void sample_long_rows(const typename scalar::storage_t* image, const Tile& tile,
                                        int first, int last, int64_t begin, int64_t end,
                                        bool read_on, const RowPrefetch& prefetch,
                                        const OutRow& out_row) {
  for (int i = first; i < last; ++i) {
    prefetch(tile, i, image + begin);
    sample_long<scalar, out_scalar>(image, tile, i, begin, end, read_on, out_row(i));
  }
}

template <typename scalar, typename out_scalar, typename Tile, typename OutRow>
GRIDSAMPLE_NOINLINE void sample_long_rows_apart(const typename scalar::storage_t* image,
                                                const Tile& tile, int first, int last,
                                                int64_t begin, int64_t end, bool read_on,
                                                const RowPrefetch& prefetch,
                                                const OutRow& out_row) {
  sample_long_rows<scalar, out_scalar>(image, tile, first, last, begin, end, read_on, prefetch,
                                       out_row);
}

/// Rows of three or four channels of samples [first, last) of a tile, written as sample_long_rows
/// does.
template <typename scalar, typename out_scalar, int kLeft, typename Tile, typename OutRow>
GRIDSAMPLE_INLINE void sample_short_rows(const typename scalar::storage_t* image, const Tile& tile,
                                         const TapOffsets<Tile>& taps, int first, int last,
                                         int64_t begin, int64_t end, bool read_on,
                                         const RowPrefetch& prefetch, const OutRow& out_row) {
  constexpr int kLanes = kFullLanes<compute_t>;
  int i = first;
  for (; i + kLanes <= last; i += kLanes) {
    offset_t outside = 0;
    for (int l = 0; l < kLanes; ++l) outside |= tile.outside[i + l];
    if (outside < 0) {
      sample_long_rows_apart<scalar, out_scalar>(image, tile, i, i + kLanes, begin, end, read_on,
                                                 prefetch, out_row);
      continue;
    }
    for (int l = 0; l < kLanes; ++l) prefetch(tile, i + l, image + begin);
    const auto out = [&](int sample) { return out_row(sample) + begin; };
    if (kLeft > 0 && !read_on) {
      sample_short<scalar, out_scalar, 4, kLeft, kLeft>(image + begin, tile, taps, i, last, out);
    } else {
      sample_short<scalar, out_scalar, 4, kLeft, 0>(image + begin, tile, taps, i, last, out);
    }
  }
  if (i < last) {
    sample_long_rows_apart<scalar, out_scalar>(image, tile, i, last, begin, end, read_on, prefetch,
                                               out_row);
  }
}

/// Rows of any length of samples [first, last) of a tile. `taps` is TapOffsets if it is three or
/// four: see with_taps_for.
template <typename scalar, typename out_scalar, typename Tile, typename Taps, typename OutRow>
GRIDSAMPLE_INLINE void sample_rows(const typename scalar::storage_t* image, const Tile& tile,
                                   const Taps& taps, int first, int last, int64_t begin,
                                   int64_t end, bool read_on, const RowPrefetch& prefetch,
                                   const OutRow& out_row) {
  if constexpr (std::is_same_v<Taps, TapOffsets<Tile>>) {
    if (end - begin == 3) {
      return sample_short_rows<scalar, out_scalar, 3>(image, tile, taps, first, last, begin, end,
                                                      read_on, prefetch, out_row);
    }
    sample_short_rows<scalar, out_scalar, 0>(image, tile, taps, first, last, begin, end, read_on,
                                             prefetch, out_row);
  } else {
    sample_long_rows<scalar, out_scalar>(image, tile, first, last, begin, end, read_on, prefetch,
                                         out_row);
  }
}

/// Whether rows of three or four channels are worth code of their own.
template <typename Tile>
constexpr bool kShortRows =
    kFullLanes<compute_t> >= 8 && std::is_same_v<compute_t, float> && Tile::kTaps == 2;

/// Calls function(taps) with what sample_rows needs for rows of so many channels.
template <typename Tile, typename F>
GRIDSAMPLE_INLINE void with_taps_for(const Tile& tile, int64_t channels, const F& function) {
  if constexpr (kShortRows<Tile>) {
    if (channels == 3 || channels == 4) return function(TapOffsets<Tile>(tile));
  }
  function(nullptr);
}

GRIDSAMPLE_NAMESPACE_END
