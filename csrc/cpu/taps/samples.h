#pragma once

// The tensors indexed by sample (grid, output and their gradients), read and written a tile at a
// time through buffers of the compute type.

#include "cpu/simd/lanes.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Where the samples of one tile lie in a View: evenly spaced, or one offset each.
struct TileOffsets {
  int64_t first = 0;
  int64_t step = 0;
  int count = 0;
  bool even = true;
  int64_t offset[kTileSize];

  GRIDSAMPLE_INLINE int64_t at(int i) const { return even ? first + i * step : offset[i]; }
};

/// Samples [first, first + count) of the output, row-major, in a view of them.
GRIDSAMPLE_NOINLINE inline void locate_samples(const Geometry& geometry, const View& view,
                                               int64_t first, int count, TileOffsets& tile) {
  const int64_t* size = geometry.output_size;
  tile.count = count;
  // Evenly spaced when stepping past the end of each axis is one step of the next.
  tile.step = size[0] > 1 ? view.stride[0] : 0;
  int64_t run = size[0];
  tile.even = true;
  const auto go_on = [&](int64_t length, int64_t stride) {
    if (length == 1) return;
    if (run == 1) tile.step = stride;
    tile.even = tile.even && stride == run * tile.step;
    run *= length;
  };
  for (int axis = 1; axis < geometry.dims; ++axis) go_on(size[axis], view.stride[axis]);
  go_on(geometry.images_per_group, view.stride[geometry.dims]);
  if (tile.even) {
    tile.first = first * tile.step;
    return;
  }
  constexpr int kAxes = kMaxDims + 1;
  int64_t length[kAxes] = {1, 1, 1, 1};
  std::copy_n(size, geometry.dims, length);
  length[geometry.dims] = geometry.images_per_group;
  int64_t position[kAxes];
  int64_t rest = first;
  for (int axis = 0; axis < kAxes; ++axis) {
    position[axis] = rest % length[axis];
    rest /= length[axis];
  }
  for (int i = 0; i < count; ++i) {
    int64_t offset = 0;
    for (int axis = 0; axis < kAxes; ++axis) offset += position[axis] * view.stride[axis];
    tile.offset[i] = offset;
    for (int axis = 0; axis < kAxes; ++axis) {
      if (++position[axis] < length[axis]) break;
      position[axis] = 0;
    }
  }
}

/// Samples first + number[i], whole numbers.
inline void locate_samples(const Geometry& geometry, const View& view, int64_t first,
                           const compute_t* number, int count, TileOffsets& tile) {
  locate_samples(geometry, view, first, 1, tile);
  const bool even = tile.even;
  tile.even = false;
  tile.count = count;
  for (int i = 0; i < count; ++i) {
    const auto ahead = static_cast<int64_t>(number[i]);
    int64_t offset = tile.first + ahead * tile.step;
    if (!even) {  // a sample of one image: such samples are not taken in groups
      int64_t rest = first + ahead;
      offset = 0;
      for (int axis = 0; axis < geometry.dims; ++axis) {
        offset += rest % geometry.output_size[axis] * view.stride[axis];
        rest /= geometry.output_size[axis];
      }
    }
    tile.offset[i] = offset;
  }
}

/// offset[i] += the offset of the image that sample first + i of a group is of, where it is not
/// negative. The samples beyond the group's last are taken for more of the last image.
template <int kSize>
GRIDSAMPLE_NOINLINE void add_image_offsets(const Geometry& geometry, const View& image,
                                           int64_t batch, int64_t first, offset_t* offset) {
  // Of the quotient of so few samples so many bits are enough.
  constexpr int kBits = 20;
  static_assert(int64_t(2) * kTileSize * kTileSize < 1 << kBits);
  const auto reciprocal = static_cast<offset_t>(
      (int64_t(1) << kBits) * geometry.images_per_group / geometry.samples + 1);
  const auto last = static_cast<offset_t>(images_of(geometry, batch) - 1);
  const auto stride = static_cast<offset_t>(image.stride[geometry.dims]);
  const auto begin = static_cast<offset_t>(first);
#pragma omp simd
  for (int i = 0; i < kSize; ++i) {
    const offset_t number = ((begin + i) * reciprocal) >> kBits;
    const offset_t added = (number < last ? number : last) * stride;
    offset[i] += offset[i] < 0 ? 0 : added;
  }
}

/// Fills the lanes from `count` on.
template <typename T, int kSize>
void fill_rest(T (&buffer)[kSize], int count, T value) {
  for (int i = count; i < kSize; ++i) buffer[i] = value;
}

/// Asks for `count` numbers of the next tile, where those of this one begin at `data`. They are
/// used after long work on this one, too long for the hardware to look ahead.
template <typename storage_t>
GRIDSAMPLE_INLINE void prefetch_next_tile(const storage_t* data, int count, int per_sample) {
  constexpr int kLine = 64 / sizeof(storage_t);
  const auto* next = data + kTileSize * per_sample;
  for (int i = 0; i < count * per_sample; i += kLine) GRIDSAMPLE_PREFETCH(next + i);
}

/// Asks for the memory that results of the next tile are written to: a store to a line that is not
/// at hand holds up all that follow it.
template <typename storage_t>
GRIDSAMPLE_INLINE void prefetch_next_result(storage_t* data, int count, int per_sample) {
  constexpr int kLine = 64 / sizeof(storage_t);
  auto* next = data + kTileSize * per_sample;
  for (int i = 0; i < count * per_sample; i += kLine) GRIDSAMPLE_PREFETCH_TO_WRITE(next + i);
}

/// to[i] = from[offset + i], of any type.
GRIDSAMPLE_NOINLINE inline void load_run(const View& view, int64_t offset, int count,
                                         compute_t* to) {
  dispatch_dtype(view.dtype, [&]<typename scalar>() {
    const auto* from = static_cast<const typename scalar::storage_t*>(view.data) + offset;
    constexpr int kLanes = kFullLanes<compute_t>;
    int i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      store_vector<compute_t, kLanes>(to + i, load_lanes<scalar, compute_t, kLanes>(from + i));
    }
    for (; i < count; ++i) to[i] = scalar::template load<compute_t>(from[i]);
  });
}

/// One channel of a tile whose samples do not lie side by side, of any type: read, written.
GRIDSAMPLE_NOINLINE inline void gather_samples(const View& view, int64_t base,
                                               const TileOffsets& tile, compute_t* to) {
  dispatch_dtype(view.dtype, [&]<typename scalar>() {
    const auto* from = static_cast<const typename scalar::storage_t*>(view.data) + base;
    GRIDSAMPLE_KEEP_LOOP
    for (int i = 0; i < tile.count; ++i) to[i] = scalar::template load<compute_t>(from[tile.at(i)]);
  });
}
GRIDSAMPLE_NOINLINE inline void scatter_samples(const View& view, int64_t base,
                                                const TileOffsets& tile, const compute_t* from) {
  dispatch_dtype(view.dtype, [&]<typename scalar>() {
    auto* to = static_cast<typename scalar::storage_t*>(view.data) + base;
    GRIDSAMPLE_KEEP_LOOP
    for (int i = 0; i < tile.count; ++i) to[tile.at(i)] = scalar::store(from[i]);
  });
}
GRIDSAMPLE_NOINLINE inline void store_run(const View& view, int64_t offset, int count,
                                          const compute_t* from) {
  dispatch_dtype(view.dtype, [&]<typename scalar>() {
    auto* to = static_cast<typename scalar::storage_t*>(view.data) + offset;
    constexpr int kLanes = kFullLanes<compute_t>;
    int i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      store_lanes<scalar, compute_t, kLanes>(to + i, load_vector<compute_t, kLanes>(from + i));
    }
    for (; i < count; ++i) to[i] = scalar::store(from[i]);
  });
}

/// Asks for the next tile of one channel, as prefetch_next_tile; kResults: as prefetch_next_result.
template <bool kResults>
void prefetch_next_run(const View& view, int64_t offset, int count) {
  const int element = view.dtype == DType::kDouble ? 8 : view.dtype == DType::kFloat ? 4 : 2;
  auto* bytes = static_cast<char*>(view.data) + offset * element;
  if constexpr (kResults) {
    prefetch_next_result(bytes, count, element);
  } else {
    prefetch_next_tile(bytes, count, element);
  }
}

/// Reads one channel of a tile, or of a strip of one. Lanes past the tile's end get 0.
template <int kSize>
void load_samples(const View& view, int64_t base, const TileOffsets& tile,
                  compute_t (&buffer)[kSize]) {
  if (tile.even && tile.step == 1) {
    prefetch_next_run<false>(view, base + tile.first, kSize);
    load_run(view, base + tile.first, tile.count, buffer);
  } else {
    gather_samples(view, base, tile, buffer);
  }
  fill_rest(buffer, tile.count, compute_t(0));
}

/// Writes one channel of a tile.
inline void store_samples(const View& view, int64_t base, const TileOffsets& tile,
                          const compute_t* buffer) {
  if (tile.even && tile.step == 1) {
    prefetch_next_run<true>(view, base + tile.first, tile.count);
    store_run(view, base + tile.first, tile.count, buffer);
  } else {
    scatter_samples(view, base, tile, buffer);
  }
}

/// In place of a number of dimensions that is known at run time only.
constexpr int kAnyDims = 0;

/// Calls function.template operator()<kDims>() for `dims`. kKnown is what it is, where the compiler
/// knows.
template <int kKnown = kAnyDims, typename F>
GRIDSAMPLE_INLINE void with_dims(int dims, const F& function) {
  if constexpr (kKnown != kAnyDims) {
    function.template operator()<kKnown>();
  } else if (dims == 2) {
    function.template operator()<2>();
  } else {
    function.template operator()<3>();
  }
}

/// A number for each axis of each sample of a tile, coordinates or their gradients; an image has
/// none for z.
template <int kSize>
using PerAxis = compute_t[kMaxDims][kSize];

/// Grids as they usually are: the coordinates of a sample side by side, one sample after the other.
inline bool is_interleaved(const View& view, const TileOffsets& tile, int dims) {
  return tile.even && tile.step == dims && view.channel_stride == 1;
}

template <int kDims, int kSize>
GRIDSAMPLE_NOINLINE void load_coordinates(const View& view, int64_t base, const TileOffsets& tile,
                                          PerAxis<kSize>& axes) {
  if (is_interleaved(view, tile, kDims)) {
    constexpr int kLanes = kFullLanes<compute_t>;
    alignas(64) compute_t converted[kDims * kSize];
    const compute_t* from = converted;
    if (view.dtype == kDTypeOf<compute_t>) {
      from = static_cast<const compute_t*>(view.data) + base + tile.first;
      prefetch_next_tile(from, kSize, kDims);
    } else {
      load_run(view, base + tile.first, tile.count * kDims, converted);
    }
    int i = 0;
    for (; i + kLanes <= tile.count; i += kLanes) {
      Vector<compute_t, kLanes> v[kDims];
      GRIDSAMPLE_UNROLL
      for (int a = 0; a < kDims; ++a) {
        v[a] = load_vector<compute_t, kLanes>(from + i * kDims + a * kLanes);
      }
      take_apart<compute_t, kLanes>(v);
      GRIDSAMPLE_UNROLL
      for (int a = 0; a < kDims; ++a) store_vector<compute_t, kLanes>(axes[a] + i, v[a]);
    }
    for (; i < tile.count; ++i) {
      for (int a = 0; a < kDims; ++a) axes[a][i] = from[i * kDims + a];
    }
  } else {
    for (int a = 0; a < kDims; ++a) {
      load_samples(view, base + a * view.channel_stride, tile, axes[a]);
    }
  }
  for (int a = 0; a < kDims; ++a) fill_rest(axes[a], tile.count, axes[a][tile.count - 1]);
}

/// Reads all coordinates of a tile. Lanes past the tile's end repeat the last sample.
template <int kSize>
void load_coordinates(const View& view, int64_t base, const TileOffsets& tile, int dims,
                      PerAxis<kSize>& axes) {
  with_dims(dims, [&]<int kDims>() { load_coordinates<kDims>(view, base, tile, axes); });
}

template <int kDims, int kSize>
GRIDSAMPLE_NOINLINE void store_coordinates(const View& view, int64_t base, const TileOffsets& tile,
                                           const PerAxis<kSize>& axes) {
  if (is_interleaved(view, tile, kDims)) {
    constexpr int kLanes = kFullLanes<compute_t>;
    const bool in_place = view.dtype == kDTypeOf<compute_t>;
    alignas(64) compute_t staged[kDims * kSize];
    compute_t* to = staged;
    if (in_place) {
      to = static_cast<compute_t*>(view.data) + base + tile.first;
      prefetch_next_result(to, kSize, kDims);
    }
    int i = 0;
    for (; i + kLanes <= tile.count; i += kLanes) {
      Vector<compute_t, kLanes> v[kDims];
      GRIDSAMPLE_UNROLL
      for (int a = 0; a < kDims; ++a) v[a] = load_vector<compute_t, kLanes>(axes[a] + i);
      put_together<compute_t, kLanes>(v);
      GRIDSAMPLE_UNROLL
      for (int a = 0; a < kDims; ++a) {
        store_vector<compute_t, kLanes>(to + i * kDims + a * kLanes, v[a]);
      }
    }
    for (; i < tile.count; ++i) {
      for (int a = 0; a < kDims; ++a) to[i * kDims + a] = axes[a][i];
    }
    if (!in_place) store_run(view, base + tile.first, tile.count * kDims, staged);
  } else {
    for (int a = 0; a < kDims; ++a) {
      store_samples(view, base + a * view.channel_stride, tile, axes[a]);
    }
  }
}

/// Writes all coordinates of a tile.
template <int kSize>
void store_coordinates(const View& view, int64_t base, const TileOffsets& tile, int dims,
                       const PerAxis<kSize>& axes) {
  with_dims(dims, [&]<int kDims>() { store_coordinates<kDims>(view, base, tile, axes); });
}

GRIDSAMPLE_NAMESPACE_END
