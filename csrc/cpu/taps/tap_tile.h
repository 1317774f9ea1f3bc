#pragma once

// The taps of a tile of samples, structure of arrays, computed once and shared by all channels.

#include "math/taps.h"
#include "cpu/taps/coordinates.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// One axis of a tile.
template <Mode mode, int size>
struct AxisTapTile {
  static constexpr Mode kMode = mode;
  static constexpr int kTaps = kTapsPerAxis<mode>;
  static constexpr int kSize = size;

  alignas(64) offset_t offset[kTaps][kSize];  // in elements, or kOutside
  alignas(64) compute_t weight[kTaps][kSize];
};

/// How many spatial dimensions samples have, and how many slices their taps lie in: kTaps along z
/// of a volume, or an image's one. Known to the compiler, or (kAnyDims) at run time.
/// A base, so that it takes no memory where it is known.
template <int kTaps, int kDims>
struct TileDims {
  static constexpr int dims = kDims;
  static constexpr int slices = kDims == 3 ? kTaps : 1;
  explicit TileDims(int) {}
  static constexpr bool is_volume() { return kDims == 3; }
  static constexpr int taps() { return slices * kTaps * kTaps; }  // of a sample
};
template <int kTaps>
struct TileDims<kTaps, kAnyDims> {
  int dims;
  int slices;
  explicit TileDims(int dims) : dims(dims), slices(dims == 3 ? kTaps : 1) {}
  GRIDSAMPLE_INLINE bool is_volume() const { return dims == 3; }
  GRIDSAMPLE_INLINE int taps() const { return slices * kTaps * kTaps; }
};

/// The taps of a tile, or (size = kStripSize) of a strip of one.
template <Mode mode, int dims_or_any, int size = kTileSize>
struct TapTile : TileDims<kTapsPerAxis<mode>, dims_or_any> {
  static constexpr Mode kMode = mode;
  static constexpr int kDims = dims_or_any;
  static constexpr int kMostDims = kDims == kAnyDims ? kMaxDims : kDims;
  static constexpr int kTaps = kTapsPerAxis<mode>;
  static constexpr int kMostRows = kMostDims == 3 ? kTaps * kTaps : kTaps;  // of taps along x
  static constexpr int kMostTaps = kMostRows * kTaps;                       // of a sample
  static constexpr int kSize = size;
  using Dims = TileDims<kTaps, kDims>;
  using Strip = TapTile<mode, kDims, kStripSize>;

  explicit TapTile(int dims) : Dims(dims) {}

  AxisTapTile<mode, kSize> axis[kMostDims];
  alignas(64) offset_t outside[kSize];  // negative where a tap is outside
  int count;                            // samples; the lanes beyond repeat the last one
  bool inside;                          // no tap is outside
};

/// How the weights of one axis change with the grid.
template <Mode mode, int size>
struct AxisDerivatives {
  // Where the mode is not curved, the derivatives are -1 and 1 everywhere.
  static constexpr bool kStored = ModeTraits<mode>::kCurved;

  alignas(64) compute_t derivative[kStored ? kTapsPerAxis<mode> : 1][size];
  alignas(64) compute_t slope[size];
};

/// The derivatives that belong to a tile's taps.
template <typename Tile>
struct TapDerivatives {
  AxisDerivatives<Tile::kMode, Tile::kSize> axis[Tile::kMostDims];
};

/// Whether kernels compute in float32, for which more lengths of rows have code of their own.
constexpr bool kIsFloat = std::is_same_v<compute_t, float>;

/// One lane of one axis. A function of its own, because the compiler vectorises locals of an
/// inlined function but not structs declared in the body of a simd loop.
/// Returns the first tap's offset.
template <Padding kPadding, Distance kDistance, typename AxisTile, typename Change>
GRIDSAMPLE_INLINE offset_t fill_lane(AxisTile& tile, Change* change, int i, compute_t grid_value,
                                     const Axis<compute_t>& axis, offset_t size, offset_t stride) {
  const auto taps = axis_taps<AxisTile::kMode, kPadding, kDistance>(grid_value, axis);
  offset_t offset[AxisTile::kTaps];
  tap_offsets<AxisTile::kMode>(taps, size, stride, PaddingTraits<kPadding>::kWraps, offset);
  GRIDSAMPLE_UNROLL
  for (int k = 0; k < AxisTile::kTaps; ++k) {
    tile.offset[k][i] = offset[k];
    tile.weight[k][i] = taps.weight[k];
    if constexpr (!std::is_void_v<Change>) {
      if constexpr (Change::kStored) change->derivative[k][i] = taps.derivative[k];
    }
  }
  if constexpr (!std::is_void_v<Change>) change->slope[i] = taps.slope;
  return offset[0];
}

/// Of derivatives only if there is where to put them: Change is void if not.
template <Padding kPadding, Distance kDistance, typename AxisTile, typename Change>
GRIDSAMPLE_NOINLINE void fill_axis(AxisTile& tile, Change* change, const compute_t* grid_values,
                                   const Axis<compute_t>& of_image, int64_t size, int64_t stride) {
  const Axis<compute_t> axis = of_image;  // a local, which stores to taps cannot change
  const auto axis_size = static_cast<offset_t>(size);
  const auto axis_stride = static_cast<offset_t>(stride);
#pragma omp simd
  for (int i = 0; i < AxisTile::kSize; ++i) {
    fill_lane<kPadding, kDistance>(tile, change, i, grid_values[i], axis, axis_size, axis_stride);
  }
}

/// Within this distance from the padding's center all taps of a coordinate are folded once at most.
template <Mode kMode, Padding kPadding>
GRIDSAMPLE_INLINE compute_t folded_once(const Axis<compute_t>& axis) {
  // What is wrapped after it has been rounded may lie half a pixel further away.
  constexpr int kRounding = PaddingTraits<kPadding>::kWraps && ModeTraits<kMode>::kCopies ? 1 : 0;
  // Never so large that taking off the margin would round.
  return std::min(PaddingTraits<kPadding>::reach(axis), kNearLimit<compute_t>) -
         compute_t(ModeTraits<kMode>::kMargin + kRounding);
}

/// Whether taps of a grid value may be folded more than once; `once`: folded_once of its axis.
template <Padding kPadding>
GRIDSAMPLE_INLINE bool is_beyond(compute_t grid_value, const Axis<compute_t>& axis,
                                 compute_t once) {
  const compute_t coordinate = finite(unnormalize(grid_value, axis).value);
  return std::fabs(coordinate - PaddingTraits<kPadding>::center(axis)) >= once;
}

/// fill_axis for coordinates that are folded once at most; returns whether some is not.
template <Padding kPadding, typename AxisTile, typename Change>
GRIDSAMPLE_NOINLINE bool try_axis(AxisTile& tile, Change* change, const compute_t* grid_values,
                                  const Axis<compute_t>& of_image, int64_t size, int64_t stride) {
  const Axis<compute_t> axis = of_image;
  const auto axis_size = static_cast<offset_t>(size);
  const auto axis_stride = static_cast<offset_t>(stride);
  [[maybe_unused]] const compute_t once = folded_once<AxisTile::kMode, kPadding>(axis);
  int beyond = 0;
#pragma omp simd reduction(| : beyond)
  for (int i = 0; i < AxisTile::kSize; ++i) {
    const offset_t first = fill_lane<kPadding, Distance::kOnce>(tile, change, i, grid_values[i],
                                                                axis, axis_size, axis_stride);
    // Wrapped once, others are not on the image, nor are the pixels below them.
    if constexpr (PaddingTraits<kPadding>::kWraps && !ModeTraits<AxisTile::kMode>::kPadsTaps) {
      beyond |= first < 0;
    } else {
      beyond |= is_beyond<kPadding>(grid_values[i], axis, once);
    }
  }
  return beyond != 0;
}

/// Whether taps of `kSize` grid values may be so far from the image that kNear does not do.
template <Mode kMode, Padding kPadding, int kSize>
GRIDSAMPLE_NOINLINE Distance distance_of(const compute_t* grid_values,
                                         const Axis<compute_t>& axis) {
  constexpr compute_t kMargin = ModeTraits<kMode>::kMargin;
  const compute_t center = PaddingTraits<kPadding>::center(axis);
  int far = 0;
#pragma omp simd reduction(| : far)
  for (int i = 0; i < kSize; ++i) {
    const compute_t distance = std::fabs(finite(unnormalize(grid_values[i], axis).value) - center);
    far |= distance + kMargin >= kNearLimit<compute_t>;
  }
  return far ? Distance::kFar : Distance::kNear;
}

/// Calls try_once.template operator()<kPadding>(), which does what is to be done with coordinates
/// that are folded once at most, and returns whether some is not. If so, calls
/// find_distance.template operator()<kPadding>(), and last.template operator()<kPadding,
/// kDistance>() to do it again. Where coordinates are not folded, kDistance means nothing.
template <typename TryOnce, typename FindDistance, typename Last>
GRIDSAMPLE_INLINE void with_padding(Padding padding, const TryOnce& try_once,
                                    const FindDistance& find_distance, const Last& last) {
  dispatch_padding(padding, [&]<Padding kPadding>() {
    if constexpr (PaddingTraits<kPadding>::kMonotone) {
      last.template operator()<kPadding, Distance::kOnce>();
    } else {
      if (!try_once.template operator()<kPadding>()) return;
      if (find_distance.template operator()<kPadding>() == Distance::kFar) {
        last.template operator()<kPadding, Distance::kFar>();
      } else {
        last.template operator()<kPadding, Distance::kNear>();
      }
    }
  });
}

template <typename AxisTile, typename Change>
void fill_axis(AxisTile& tile, Change* change, const compute_t* grid_values, Padding padding,
               const Axis<compute_t>& axis, int64_t size, int64_t stride) {
  with_padding(
      padding,
      [&]<Padding kPadding>() {
        return try_axis<kPadding>(tile, change, grid_values, axis, size, stride);
      },
      [&]<Padding kPadding>() {
        return distance_of<AxisTile::kMode, kPadding, AxisTile::kSize>(grid_values, axis);
      },
      [&]<Padding kPadding, Distance kDistance>() {
        fill_axis<kPadding, kDistance>(tile, change, grid_values, axis, size, stride);
      });
}

template <int kDims, typename Tile>
GRIDSAMPLE_NOINLINE void update_inside(Tile& tile) {
  offset_t any = 0;
#pragma omp simd reduction(| : any)
  for (int i = 0; i < Tile::kSize; ++i) {
    offset_t signs = 0;
    GRIDSAMPLE_UNROLL
    for (int a = 0; a < kDims; ++a) {
      GRIDSAMPLE_UNROLL
      for (int k = 0; k < Tile::kTaps; ++k) signs |= tile.axis[a].offset[k][i];
    }
    tile.outside[i] = signs;
    any |= signs;
  }
  tile.inside = any >= 0;
}
template <typename Tile>
void update_inside(Tile& tile) {
  with_dims<Tile::kDims>(tile.dims, [&]<int kDims>() { update_inside<kDims>(tile); });
}

/// Negative for the samples whose taps are all outside on some axis.
template <typename Tile>
GRIDSAMPLE_NOINLINE void find_dead(const Tile& tile, offset_t (&dead)[Tile::kSize]) {
  fill_rest(dead, 0, offset_t(0));
  for (int a = 0; a < tile.dims; ++a) {
    const auto& offset = tile.axis[a].offset;
#pragma omp simd
    for (int i = 0; i < Tile::kSize; ++i) {
      offset_t all = offset[0][i];
      GRIDSAMPLE_UNROLL
      for (int k = 1; k < Tile::kTaps; ++k) all &= offset[k][i];
      dead[i] |= all;
    }
  }
}

/// A sample without a pixel has a gradient of exactly 0, also where an infinity is multiplied by
/// it.
template <typename Tile>
GRIDSAMPLE_NOINLINE void stop_dead_slopes(const Tile& tile, TapDerivatives<Tile>& derivatives) {
  offset_t dead[Tile::kSize];
  find_dead(tile, dead);
  for (int a = 0; a < tile.dims; ++a) {
    compute_t* slope = derivatives.axis[a].slope;
#pragma omp simd
    for (int i = 0; i < Tile::kSize; ++i) slope[i] = dead[i] < 0 ? 0 : slope[i];
  }
}

/// Taps along axis a; `change` as fill_axis has it.
template <typename AxisTile, typename Change>
void fill_axis_taps(AxisTile& tile, Change* change, const Geometry& geometry, int a,
                    const compute_t* values, const View& image) {
  const int64_t size = geometry.input_size[a];
  fill_axis(tile, change, values, geometry.padding[a], make_axis<compute_t>(geometry, a), size,
            image.stride[a]);
}
constexpr void* kNoChange = nullptr;

/// outside[i]: all ones for the samples that do not lie on a pixel, else 0.
template <int kStride, int kSize>
GRIDSAMPLE_NOINLINE void find_off_image(const Geometry& geometry, const PerAxis<kStride>& values,
                                        offset_t (&outside)[kSize]) {
  std::fill_n(outside, kSize, offset_t(0));
  for (int a = 0; a < geometry.dims; ++a) {
    const auto axis = make_axis<compute_t>(geometry, a);
    const compute_t* of_axis = values[a];
#pragma omp simd
    for (int i = 0; i < kSize; ++i) {
      const bool is_on = is_on_image(unnormalize(of_axis[i], axis).value, axis);
      outside[i] |= static_cast<offset_t>(is_on) - 1;
    }
  }
}

/// Samples that do not lie on a pixel lose all taps, if they have a value of their own.
template <typename Tile, int kStride>
void exclude_off_image(Tile& tile, const Geometry& geometry, const PerAxis<kStride>& values) {
  if (!geometry.outside_value.has_value()) return;
  alignas(64) offset_t outside[Tile::kSize];
  find_off_image(geometry, values, outside);
  for (auto& offset : tile.axis[0].offset) {
    for (int i = 0; i < Tile::kSize; ++i) offset[i] |= outside[i];
  }
}

/// In place of derivatives that are not wanted.
struct None {};
constexpr None kNone;

/// Taps of `count` samples at given grid values, as offsets into one plane of `image`. The lanes
/// beyond repeat the last sample. derivatives: where those of the taps go, or kNone.
template <typename Tile, int kStride, typename DerivativesOrNone>
void fill_taps(Tile& tile, DerivativesOrNone& derivatives, const Geometry& geometry,
               const PerAxis<kStride>& values, int count, const View& image) {
  static_assert(kStride >= Tile::kSize);
  constexpr bool kDerivatives = !std::is_same_v<DerivativesOrNone, const None>;
  for (int a = 0; a < tile.dims; ++a) {
    if constexpr (kDerivatives) {
      fill_axis_taps(tile.axis[a], &derivatives.axis[a], geometry, a, values[a], image);
    } else {
      fill_axis_taps(tile.axis[a], kNoChange, geometry, a, values[a], image);
    }
  }
  exclude_off_image(tile, geometry, values);
  tile.count = count;
  update_inside(tile);
  if constexpr (kDerivatives) {
    if (!tile.inside) stop_dead_slopes(tile, derivatives);
  }
}

/// Taps of samples [first, first + count) of one grid. Where they are of a group of images, the
/// offset of each one's image counts as one on the outermost axis.
template <typename Tile, typename DerivativesOrNone>
void fill_taps(Tile& tile, DerivativesOrNone& derivatives, const Geometry& geometry,
               const GridView& grid, int64_t batch, int64_t first, int count, const View& image) {
  // All axes are read before the first is used: a vector load right behind the scalar stores of
  // what it loads would wait for them.
  alignas(64) PerAxis<Tile::kSize> values;
  load_grid(geometry, grid, batch, first, count, values);
  fill_taps(tile, derivatives, geometry, values, count, image);
  if (geometry.images_per_group == 1) return;
  for (auto& offset : tile.axis[tile.dims - 1].offset) {
    add_image_offsets<Tile::kSize>(geometry, image, batch, first, offset);
  }
}

/// The offsets between which the taps of a tile lie on one axis.
template <typename AxisTile>
GRIDSAMPLE_NOINLINE TapRange tap_range(const AxisTile& axis) {
  using unsigned_t = std::make_unsigned_t<offset_t>;
  unsigned_t low = std::numeric_limits<unsigned_t>::max();  // kOutside, too
  offset_t high = kOutside;
  for (const auto& offset : axis.offset) {
#pragma omp simd reduction(min : low) reduction(max : high)
    for (int i = 0; i < AxisTile::kSize; ++i) {
      const auto as_unsigned = static_cast<unsigned_t>(offset[i]);
      low = as_unsigned < low ? as_unsigned : low;
      high = offset[i] > high ? offset[i] : high;
    }
  }
  return {high < 0 ? std::numeric_limits<int64_t>::max() : static_cast<int64_t>(low), high};
}

/// The positions between which the taps for some grid values lie on one axis; a wider range at
/// worst. Where padding leaves the coordinates in order, those of the least and the greatest.
template <Mode kMode, Padding kPadding, typename T, int kSize>
TapRange range_of_values(const T (&values)[kSize], const Geometry& geometry, int a) {
  constexpr int kLanes = kFullLanes<T>;
  using Lanes = Vector<T, kLanes>;
  Lanes least = broadcast<T, kLanes>(std::numeric_limits<T>::infinity());
  Lanes greatest = -least;
  const auto axis = make_axis<T>(geometry, a);
  const Lanes of_nan = broadcast<T, kLanes>(value_of_nan(axis));
  for (int i = 0; i < kSize; i += kLanes) {
    Lanes value = load_vector<T, kLanes>(values + i);
    value = value == value ? value : of_nan;
    least = value < least ? value : least;
    greatest = value > greatest ? value : greatest;
  }
  T low = least[0];
  T high = greatest[0];
  for (int l = 1; l < kLanes; ++l) {
    low = std::min<T>(low, least[l]);
    high = std::max<T>(high, greatest[l]);
  }
  const auto position = [&](T value, int k) {
    return static_cast<int64_t>(
        axis_taps<kMode, kPadding, Distance::kNear>(value, axis).position[k]);
  };
  constexpr int kLast = kTapsPerAxis<kMode> - 1;
  const int64_t first = position(low, 0);
  // As tap_offsets counts.
  const int64_t last =
      ModeTraits<kMode>::kPadsTaps ? position(high, kLast) : position(high, 0) + kLast;
  return {std::max<int64_t>(first, 0), std::min<int64_t>(last, geometry.input_size[a] - 1)};
}

/// The positions between which the taps for the values of a tile lie on axis a of `image`, with any
/// padding. A padding that folds coordinates needs all taps.
template <typename Tile>
TapRange range_of_values(Tile& tile, const Geometry& geometry, int a,
                         const compute_t (&values)[Tile::kSize], const View& image) {
  return dispatch_padding(geometry.padding[a], [&]<Padding kPadding>() -> TapRange {
    if constexpr (PaddingTraits<kPadding>::kMonotone) {
      return range_of_values<Tile::kMode, kPadding>(values, geometry, a);
    } else {
      fill_axis_taps(tile.axis[a], kNoChange, geometry, a, values, image);
      const TapRange offsets = tap_range(tile.axis[a]);
      const int64_t stride = std::max<int64_t>(image.stride[a], 1);
      return {offsets.first / stride, offsets.last < 0 ? -1 : offsets.last / stride};
    }
  });
}

/// Declares all taps outside that do not fall into [begin, end) on one axis.
template <typename Tile>
void restrict_taps(Tile& tile, int a, int64_t begin, int64_t end, int64_t stride) {
  const auto low = static_cast<offset_t>(begin * stride);
  const auto high = static_cast<offset_t>(end * stride);
  for (int k = 0; k < Tile::kTaps; ++k) {
    auto* offset = tile.axis[a].offset[k];
#pragma omp simd
    for (int i = 0; i < Tile::kSize; ++i) {
      offset[i] = offset[i] >= low && offset[i] < high ? offset[i] : offset_t(kOutside);
    }
  }
  update_inside(tile);
}

/// The samples with a tap inside on every axis.
struct ActiveSamples {
  int count = 0;
  int16_t index[kTileSize];
};

/// In order, or from kStrands places of the tile in turn: neighbours often hit the same pixels, and
/// an addition to a pixel waits for the one before.
template <int kStrands, typename Tile>
GRIDSAMPLE_NOINLINE void list_active(const Tile& tile, ActiveSamples& active) {
  constexpr int kLength = Tile::kSize / kStrands;
  if (tile.inside && tile.count == Tile::kSize) {
    active.count = Tile::kSize;
#pragma omp simd
    for (int s = 0; s < Tile::kSize; ++s) {
      active.index[s] = static_cast<int16_t>(s % kStrands * kLength + s / kStrands);
    }
    return;
  }
  offset_t dead[Tile::kSize];
  find_dead(tile, dead);
  active.count = 0;
  for (int j = 0; j < kLength; ++j) {
    for (int i = j; i < tile.count; i += kLength) {
      active.index[active.count] = static_cast<int16_t>(i);
      active.count += dead[i] >= 0;
    }
  }
}

/// Calls each(kz) for the slices of a sample's taps. An image's one is not in a loop: GCC would
/// keep what a loop's turns have in common in memory.
template <int kTaps, typename F>
GRIDSAMPLE_INLINE void for_slices(int slices, const F& each) {
  if (slices == 1) return each(0);
  GRIDSAMPLE_KEEP_LOOP
  for (int kz = 0; kz < kTaps; ++kz) each(kz);
}

/// The weight that the taps of one row along x have in common.
template <typename Tile>
GRIDSAMPLE_INLINE compute_t row_weight(const Tile& tile, int kz, int ky, int i) {
  const compute_t weight = tile.axis[1].weight[ky][i];
  return tile.is_volume() ? tile.axis[2].weight[kz][i] * weight : weight;
}

/// Where one tap of one sample is in its plane. Branch-free, so that loops over samples vectorise.
struct PlaneOffset {
  offset_t offset;   // in the image when `outside` is 0, else anything
  offset_t outside;  // all ones when outside on any axis, else 0

  /// An offset that is always in the plane.
  GRIDSAMPLE_INLINE offset_t safe() const { return offset & ~outside; }
};

template <typename Tile>
GRIDSAMPLE_INLINE PlaneOffset plane_offset(const Tile& tile, int kz, int ky, int kx, int i) {
  offset_t sum = tile.axis[0].offset[kx][i] + tile.axis[1].offset[ky][i];
  offset_t signs = tile.axis[0].offset[kx][i] | tile.axis[1].offset[ky][i];
  if (tile.is_volume()) {
    sum += tile.axis[2].offset[kz][i];
    signs |= tile.axis[2].offset[kz][i];
  }
  return {sum, signs >> (8 * sizeof(offset_t) - 1)};
}

GRIDSAMPLE_NAMESPACE_END
