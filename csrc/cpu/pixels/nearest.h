#pragma once

// Nearest: the one pixel of each sample, without weights.

#include "cpu/taps/tap_tile.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// One axis of the pixels looked for: those at `count` positions from `begin` on.
struct PixelAxis {
  Axis<compute_t> axis;
  offset_t size;  // of the image
  offset_t begin;
  offset_t count;
  offset_t stride;
};

/// The sum of a sample's offsets on all axes, or kOutside if one of them is, of which `signs` is
/// negative.
GRIDSAMPLE_INLINE offset_t sum_or_outside(offset_t sum, offset_t signs) {
  return sum | (signs >> (8 * sizeof(offset_t) - 1));
}

/// Where the pixel of one sample is on an axis, or kOutside. kChecks: sets `beyond` if the
/// coordinate is folded more than once; `once`: folded_once of the axis.
template <Padding kPadding, Distance kDistance, bool kChecks>
GRIDSAMPLE_INLINE offset_t pixel_offset(compute_t value, const PixelAxis& axis,
                                        [[maybe_unused]] compute_t once,
                                        [[maybe_unused]] int& beyond) {
  const auto taps = axis_taps<Mode::kNearest, kPadding, kDistance>(value, axis.axis);
  const auto index = static_cast<offset_t>(taps.position[0]);
  if constexpr (kChecks && PaddingTraits<kPadding>::kWraps) {
    // Wrapped once, others are not on the image.
    beyond |= offset_inside(offset_t(0), index, axis.size);
  } else if constexpr (kChecks) {
    beyond |= is_beyond<kPadding>(value, axis.axis, once);
  }
  return offset_inside(offset_t(index * axis.stride), offset_t(index - axis.begin), axis.count);
}

/// Where the pixel of one sample is in its plane, or kOutside.
template <int kDims, Padding kPadding, Distance kDistance, bool kChecks>
GRIDSAMPLE_INLINE offset_t pixel_offset(const compute_t (&value)[kDims],
                                        const PixelAxis (&axes)[kMaxDims],
                                        const compute_t (&once)[kDims], int& beyond) {
  offset_t sum = 0;
  offset_t signs = 0;
  GRIDSAMPLE_UNROLL
  for (int a = 0; a < kDims; ++a) {
    const offset_t offset =
        pixel_offset<kPadding, kDistance, kChecks>(value[a], axes[a], once[a], beyond);
    sum += offset;
    signs |= offset;
  }
  return sum_or_outside(sum, signs);
}

/// offset[i] of a whole tile; returns a negative number if any is outside. kChecks: sets `beyond`
/// if some coordinate is folded more than once.
template <int kDims, Padding kPadding, Distance kDistance, bool kChecks>
offset_t pixel_offsets(const PerAxis<kTileSize>& values, const PixelAxis (&of_image)[kMaxDims],
                       offset_t* offset, bool& beyond) {
  PixelAxis axes[kMaxDims];  // locals, which stores of offsets cannot change
  std::copy_n(of_image, kDims, axes);
  compute_t once[kDims] = {};
  if constexpr (kChecks) {
    for (int a = 0; a < kDims; ++a) {
      once[a] = folded_once<Mode::kNearest, kPadding>(axes[a].axis);
    }
  }
  offset_t any = 0;
  int any_beyond = 0;
#pragma omp simd reduction(| : any, any_beyond)
  for (int i = 0; i < kTileSize; ++i) {
    compute_t value[kDims];
    GRIDSAMPLE_UNROLL
    for (int a = 0; a < kDims; ++a) value[a] = values[a][i];
    int lane_beyond = 0;
    offset[i] = pixel_offset<kDims, kPadding, kDistance, kChecks>(value, axes, once, lane_beyond);
    any |= offset[i];
    any_beyond |= lane_beyond;
  }
  beyond = any_beyond != 0;
  return any;
}

/// Adds those on one axis to the sums of a tile. kChecks: returns whether some coordinate is folded
/// more than once.
template <Padding kPadding, Distance kDistance, bool kChecks>
GRIDSAMPLE_NOINLINE bool pixel_offsets_along(const compute_t* values, const PixelAxis& of_image,
                                             offset_t (&offset)[kTileSize]) {
  const PixelAxis axis = of_image;
  compute_t once{};
  if constexpr (kChecks) once = folded_once<Mode::kNearest, kPadding>(axis.axis);
  int beyond = 0;
#pragma omp simd reduction(| : beyond)
  for (int i = 0; i < kTileSize; ++i) {
    int lane_beyond = 0;
    offset[i] = pixel_offset<kPadding, kDistance, kChecks>(values[i], axis, once, lane_beyond);
    beyond |= lane_beyond;
  }
  return beyond != 0;
}

/// Finds the pixels of tiles, of those at the positions `slab` of an axis.
class PixelFinder {
 public:
  PixelFinder(const Geometry& geometry, const View& image, int slab_axis, Range slab)
      : geometry_(geometry), image_(image) {
    for (int a = 0; a < geometry.dims; ++a) {
      const int64_t size = geometry.input_size[a];
      const Range wanted = a == slab_axis ? slab : Range{0, size};
      axes_[a] = {make_axis<compute_t>(geometry, a), static_cast<offset_t>(size),
                  static_cast<offset_t>(wanted.begin),
                  static_cast<offset_t>(wanted.end - wanted.begin),
                  static_cast<offset_t>(image.stride[a])};
    }
  }

  /// offset[i] of a tile, kOutside for the samples without a pixel; whether all have one.
  bool find(const GridView& grid, int64_t batch, int64_t t, offset_t* offset) const {
    const int64_t first = t * kTileSize;
    alignas(64) PerAxis<kTileSize> values;
    load_grid(geometry_, grid, batch, first, tile_samples(geometry_, batch, first), values);
    bool inside = find(values, offset) >= 0;
    if (geometry_.outside_value.has_value()) inside = exclude(values, offset) && inside;
    if (geometry_.images_per_group > 1) {
      add_image_offsets<kTileSize>(geometry_, image_, batch, first, offset);
    }
    return inside;
  }

 private:
  offset_t find(const PerAxis<kTileSize>& values, offset_t* offset) const {
    if (!pads_all_axes_with(geometry_, geometry_.padding[0])) return find_by_axis(values, offset);
    offset_t any = 0;
    bool beyond = false;
    const auto find = [&]<Padding kPadding, Distance kDistance, bool kChecks>() {
      with_dims(geometry_.dims, [&]<int kDims>() {
        any = pixel_offsets<kDims, kPadding, kDistance, kChecks>(values, axes_, offset, beyond);
      });
    };
    with_padding(
        geometry_.padding[0],
        [&]<Padding kPadding>() {
          find.template operator()<kPadding, Distance::kOnce, true>();
          return beyond;
        },
        [&]<Padding kPadding>() {
          Distance farthest = Distance::kNear;
          for (int a = 0; a < geometry_.dims; ++a) {
            farthest = std::max(farthest, distance_along<kPadding>(values, a));
          }
          return farthest;
        },
        [&]<Padding kPadding, Distance kDistance>() {
          find.template operator()<kPadding, kDistance, false>();
        });
    return any;
  }

  template <Padding kPadding>
  Distance distance_along(const PerAxis<kTileSize>& values, int a) const {
    return distance_of<Mode::kNearest, kPadding, kTileSize>(values[a], axes_[a].axis);
  }

  /// Where axes differ in their padding.
  offset_t find_by_axis(const PerAxis<kTileSize>& values, offset_t* offset) const {
    alignas(64) offset_t along[kMaxDims][kTileSize] = {};
    for (int a = 0; a < geometry_.dims; ++a) {
      with_padding(
          geometry_.padding[a],
          [&]<Padding kPadding>() {
            return pixel_offsets_along<kPadding, Distance::kOnce, true>(values[a], axes_[a],
                                                                        along[a]);
          },
          [&]<Padding kPadding>() { return distance_along<kPadding>(values, a); },
          [&]<Padding kPadding, Distance kDistance>() {
            pixel_offsets_along<kPadding, kDistance, false>(values[a], axes_[a], along[a]);
          });
    }
    offset_t any = 0;
#pragma omp simd reduction(| : any)
    for (int i = 0; i < kTileSize; ++i) {
      offset[i] = sum_or_outside(along[0][i] + along[1][i] + along[2][i],
                                 along[0][i] | along[1][i] | along[2][i]);
      any |= offset[i];
    }
    return any;
  }

  /// Samples that do not lie on a pixel have none; whether all do.
  bool exclude(const PerAxis<kTileSize>& values, offset_t* offset) const {
    alignas(64) offset_t outside[kTileSize];
    find_off_image(geometry_, values, outside);
    offset_t any = 0;
    for (int i = 0; i < kTileSize; ++i) {
      offset[i] |= outside[i];
      any |= outside[i];
    }
    return any == 0;
  }

  const Geometry& geometry_;
  const View& image_;
  PixelAxis axes_[kMaxDims];
};

/// The pixels of a run of tiles: those of all samples, one after the other, or else a list of the
/// samples that have one.
class NearestPixels {
 public:
  static constexpr int kAhead = 32;  // offset(s + kAhead) may be asked for, beyond the last, too

  void clear() {
    samples_ = 0;
    any_ = false;
    all_ = true;
  }
  /// The next tile, number t.
  void append(const PixelFinder& finder, const GridView& grid, int64_t batch, int64_t t,
              int count) {
    all_ = finder.find(grid, batch, t, offset_ + samples_) && all_;
    any_ = true;
    samples_ += count;
  }
  /// The next tile, of whose samples none has a pixel.
  void skip(int count) {
    std::fill_n(offset_ + samples_, count, offset_t(kOutside));
    all_ = false;
    samples_ += count;
  }
  /// After the last tile.
  void finish() {
    count_ = any_ ? samples_ : 0;
    if (any_ && !all_) list();
    std::fill_n(offset_ + count_, kAhead, offset_t(0));
  }

  /// Of samples that have a pixel.
  GRIDSAMPLE_INLINE int count() const { return count_; }
  GRIDSAMPLE_INLINE offset_t offset(int s) const { return offset_[s]; }
  /// Whether sample(s) tells which they are, counted from the run's first; else it is s.
  GRIDSAMPLE_INLINE bool is_listed() const { return !all_; }
  GRIDSAMPLE_INLINE offset_t sample(int s) const { return sample_[s]; }

 private:
  static constexpr int kLanes = kFullLanes<offset_t>;
  static constexpr int kMostSamples = kNearestRun * kTileSize;

  void list() {
    std::fill_n(offset_ + samples_, kLanes, offset_t(kOutside));
    Vector<offset_t, kLanes> sample;
    for (int l = 0; l < kLanes; ++l) sample[l] = l;
    count_ = 0;
    for (int i = 0; i < samples_; i += kLanes, sample += kLanes) {
      const auto offset = load_vector<offset_t, kLanes>(offset_ + i);
      const auto keep = (Vector<offset_t, kLanes>)(offset >= 0);
      count_ += compress_lanes<kLanes, offset_t, 2>(keep, {offset, sample},
                                                    {offset_ + count_, sample_ + count_});
    }
  }

  int samples_;
  int count_;
  bool any_;
  bool all_;
  // With room for a whole vector behind the last, and for kAhead.
  alignas(64) offset_t offset_[kMostSamples + std::max(kLanes, kAhead)];
  alignas(64) offset_t sample_[kMostSamples + kLanes];
};

GRIDSAMPLE_NAMESPACE_END
