#pragma once

// The taps of a few vectors of samples of an image. Those of a tile (taps/tap_tile.h) are for many
// channels to share.

#include "cpu/registers/numbers.h"
#include "cpu/taps/tap_tile.h"

GRIDSAMPLE_NAMESPACE_BEGIN

using OffsetLanes = Vector<offset_t, kSampleLanes>;

/// The taps along one axis: the first, which the others follow.
template <Mode kMode>
struct AxisLanes {
  OffsetLanes first[kNumbersVectors];
  SampleLanes weight[kTapsPerAxis<kMode>][kNumbersVectors];
};

/// The numbers of an axis in all lanes, but those of the cubic kernel, which has too many taps.
GRIDSAMPLE_INLINE Axis<Numbers> lane_axis(const Axis<compute_t>& axis) {
  return {axis.extent, axis.low, axis.last, axis.end, axis.unit, axis.scale, axis.origin, {}};
}

/// Whether coordinates are folded more than once.
template <Mode kMode, Padding kPadding>
GRIDSAMPLE_INLINE bool is_far(const Numbers& grid_value, const Axis<compute_t>& axis) {
  const Numbers x = finite(unnormalize(grid_value, lane_axis(axis)).value);
  const Numbers center(PaddingTraits<kPadding>::center(axis));
  return any(magnitude(x - center) >= Numbers(folded_once<kMode, kPadding>(axis)));
}

/// For such coordinates.
template <Mode kMode, Padding kPadding>
GRIDSAMPLE_NOINLINE void fold_lanes(const Numbers& grid_values, const Axis<compute_t>& axis,
                                    AxisLanes<kMode>& lanes,
                                    SampleLanes (&slope)[kNumbersVectors]) {
  for (int v = 0; v < kNumbersVectors; ++v) {
    for (int l = 0; l < kSampleLanes; ++l) {
      const auto taps = axis_taps<kMode, kPadding, Distance::kFar>(grid_values.vector[v][l], axis);
      lanes.first[v][l] = static_cast<offset_t>(taps.position[0]);
      for (int k = 0; k < kTapsPerAxis<kMode>; ++k) {
        lanes.weight[k][v][l] = taps.weight[k];
      }
      slope[v][l] = taps.slope;
    }
  }
}

/// The taps along one axis, and its slope.
template <Mode kMode, Padding kPadding>
GRIDSAMPLE_INLINE void fill_lanes(const Numbers& grid_values, const Axis<compute_t>& axis,
                                  AxisLanes<kMode>& lanes, SampleLanes (&slope)[kNumbersVectors]) {
  if constexpr (!PaddingTraits<kPadding>::kMonotone) {
    if (is_far<kMode, kPadding>(grid_values, axis)) [[unlikely]] {
      return fold_lanes<kMode, kPadding>(grid_values, axis, lanes, slope);
    }
  }
  const auto taps = axis_taps<kMode, kPadding, Distance::kOnce>(grid_values, lane_axis(axis));
  GRIDSAMPLE_UNROLL
  for (int v = 0; v < kNumbersVectors; ++v) {
    lanes.first[v] = __builtin_convertvector(taps.position[0].vector[v], OffsetLanes);
    GRIDSAMPLE_UNROLL
    for (int k = 0; k < kTapsPerAxis<kMode>; ++k) {
      if constexpr (!ModeTraits<kMode>::kCopies) lanes.weight[k][v] = taps.weight[k].vector[v];
    }
    slope[v] = taps.slope.vector[v];
  }
}

/// Of a padding named at run time.
template <Mode kMode>
GRIDSAMPLE_NOINLINE void fill_lanes(Padding padding, const Numbers& grid_values,
                                    const Axis<compute_t>& axis, AxisLanes<kMode>& lanes,
                                    SampleLanes (&slope)[kNumbersVectors]) {
  dispatch_padding(padding, [&]<Padding kPadding>() {
    fill_lanes<kMode, kPadding>(grid_values, axis, lanes, slope);
  });
}

/// Stands for paddings that have no code of their own here: a circular one, or one for each axis.
constexpr Padding kByAxis = Padding::kCircular;

/// Calls function.template operator()<kPadding>() for the padding of both axes, or kByAxis.
template <typename F>
GRIDSAMPLE_INLINE void dispatch_lane_padding(const Geometry& geometry, const F& function) {
  dispatch_padding(geometry.padding[0] == geometry.padding[1] ? geometry.padding[0] : kByAxis,
                   function);
}

/// An image, or its gradient, as vectors of samples see it.
struct LaneImage {
  /// For rows of so many taps. reads_on: a pixel is read with what follows it, so the last row of
  /// pixels counts as an edge.
  LaneImage(const Geometry& geometry, const View& image, int taps, bool reads_on) {
    for (int a = 0; a < 2; ++a) {
      axis[a] = make_axis<compute_t>(geometry, a);
      padding[a] = geometry.padding[a];
      is_circular[a] = wraps(padding[a]);
      size[a] = static_cast<offset_t>(geometry.input_size[a]);
      stride[a] = static_cast<offset_t>(image.stride[a]);
      inside[a] = std::max(size[a] - (taps - 1), 0);
    }
    if (reads_on) inside[1] = std::max(inside[1] - 1, 0);
  }
  /// Positions along axis a, those behind the last from the first on if the axis is circular.
  GRIDSAMPLE_INLINE OffsetLanes wrapped(int a, const OffsetLanes& position) const {
    return is_circular[a] ? (position >= size[a] ? position - size[a] : position) : position;
  }
  Axis<compute_t> axis[2];
  Padding padding[2];
  bool is_circular[2];
  offset_t size[2];
  offset_t inside[2];  // from so many positions of the first tap on, not all taps are inside
  offset_t stride[2];
};

/// The taps of a few vectors of samples along both axes.
template <Mode kMode>
struct LaneTaps {
  static constexpr int kTaps = kTapsPerAxis<kMode>;
  AxisLanes<kMode> axis[2];
  // Where the first tap is. Of one tap it is 0 where the tap is outside, and not `valid`.
  alignas(64) offset_t offset[kNumbersVectors][kSampleLanes];
  OffsetLanes valid[kNumbersVectors];
  // Of each vector, whether all taps of all samples are inside. Of one tap it does not matter.
  bool inside[kNumbersVectors];
  // Where the image of each sample is. `offset` counts from the group's first image, too.
  alignas(64) offset_t image[kNumbersVectors][kSampleLanes] = {};

  /// After `fill`, for samples from `first` on of a group of images. The lanes beyond those that
  /// were loaded are of the images that follow, or of the last one.
  GRIDSAMPLE_NOINLINE void find_images(const Geometry& geometry, const View& view, int64_t batch,
                                       int64_t first) {
    std::memset(image, 0, sizeof(image));
    add_image_offsets<kNumbers>(geometry, view, batch, first, image[0]);
    for (int v = 0; v < kNumbersVectors; ++v) {
      for (int l = 0; l < kSampleLanes; ++l) offset[v][l] += image[v][l];
    }
  }

  /// The pixels of vector v, 0 where the one tap is outside.
  GRIDSAMPLE_INLINE SampleLanes or_zero(int v, const SampleLanes& pixel) const {
    return (SampleLanes)((MaskLanes)pixel & __builtin_convertvector(valid[v], MaskLanes));
  }

  /// kPadding: of both axes, or kByAxis.
  template <Padding kPadding>
  GRIDSAMPLE_INLINE void fill(const Numbers (&grid_values)[2], const LaneImage& image,
                              SampleLanes (&slope)[2][kNumbersVectors]) {
    if constexpr (kPadding == kByAxis) {
      fill_by_axis(grid_values, image, slope);
    } else {
      AxisLanes<kMode> along[2];
      GRIDSAMPLE_UNROLL
      for (int a = 0; a < 2; ++a) {
        fill_lanes<kMode, kPadding>(grid_values[a], image.axis[a], along[a], slope[a]);
      }
      locate(along, image);
    }
  }

 private:
  GRIDSAMPLE_INLINE void fill_by_axis(const Numbers (&grid_values)[2], const LaneImage& image,
                                      SampleLanes (&slope)[2][kNumbersVectors]) {
    // Copies, which have an address, as registers have not.
    const Numbers values[2] = {grid_values[0], grid_values[1]};
    AxisLanes<kMode> along[2];
    SampleLanes slopes[2][kNumbersVectors];
    for (int a = 0; a < 2; ++a) {
      fill_lanes<kMode>(image.padding[a], values[a], image.axis[a], along[a], slopes[a]);
      GRIDSAMPLE_UNROLL
      for (int v = 0; v < kNumbersVectors; ++v) slope[a][v] = slopes[a][v];
    }
    locate(along, image);
  }

  GRIDSAMPLE_INLINE void locate(const AxisLanes<kMode> (&along)[2], const LaneImage& image) {
    if constexpr (kTaps > 1) std::memcpy(axis, along, sizeof(axis));
    using Unsigned = Vector<std::make_unsigned_t<offset_t>, kSampleLanes>;
    GRIDSAMPLE_UNROLL
    for (int v = 0; v < kNumbersVectors; ++v) {
      OffsetLanes outside{};
      OffsetLanes sum{};
      GRIDSAMPLE_UNROLL
      for (int a = 0; a < 2; ++a) {
        outside |= (OffsetLanes)((Unsigned)along[a].first[v] >=
                                 static_cast<std::make_unsigned_t<offset_t>>(image.inside[a]));
        sum += along[a].first[v] * image.stride[a];
      }
      if constexpr (kTaps == 1) {
        valid[v] = ~outside;
        sum &= valid[v];
      } else {
        inside[v] = !any_lane<offset_t, kSampleLanes>(outside);
      }
      store_vector<offset_t, kSampleLanes>(offset[v], sum);
    }
  }
};

/// Where the pixels of a vector of samples are, some of whose taps are outside.
///
/// A row of taps is read at the places nearest to it that are inside. `moved` where they are not
/// its own; `valid` where a tap is inside, and so among the places.
template <Mode mode, Padding kPadding>
struct EdgePlaces {
  static constexpr Mode kMode = mode;
  static constexpr int kTaps = kTapsPerAxis<kMode>;
  static constexpr bool kMayWrap = kPadding == kByAxis && kTaps > 1;
  alignas(64) offset_t row[kTaps][kSampleLanes];
  MaskLanes moved;
  MaskLanes valid[kTaps][kTaps];
  // If kMayWrap: of a row that goes on at its beginning, from the last pixel on.
  bool is_circular;
  MaskLanes goes_on;
  alignas(64) offset_t beginning[kTaps][kSampleLanes];

  EdgePlaces(const LaneTaps<kMode>& taps, int v, const LaneImage& image) {
    static_assert(kTaps <= 2);
    const auto clamped = [](const OffsetLanes& index, offset_t last) {
      const OffsetLanes most = index < last ? index : OffsetLanes{} + last;
      return most > 0 ? most : OffsetLanes{};
    };
    using Unsigned = Vector<std::make_unsigned_t<offset_t>, kSampleLanes>;
    const auto is_inside = [](const OffsetLanes& index, offset_t size) {
      return (OffsetLanes)((Unsigned)index < static_cast<std::make_unsigned_t<offset_t>>(size));
    };
    const OffsetLanes& x = taps.axis[0].first[v];
    const OffsetLanes& y = taps.axis[1].first[v];
    const OffsetLanes place = clamped(x, image.size[0] - kTaps);
    moved = __builtin_convertvector(place != x, MaskLanes);
    OffsetLanes at_end{};
    if constexpr (kMayWrap) {
      is_circular = image.is_circular[0];
      if (is_circular) at_end = (OffsetLanes)(x == image.size[0] - 1);
      goes_on = __builtin_convertvector(at_end, MaskLanes);
    }
    for (int ky = 0; ky < kTaps; ++ky) {
      OffsetLanes position = y + ky;
      if constexpr (kMayWrap) position = image.wrapped(1, position);
      const OffsetLanes inside_y = is_inside(position, image.size[1]);
      const OffsetLanes start = clamped(position, image.size[1] - 1) * image.stride[1] +
                                load_vector<offset_t, kSampleLanes>(taps.image[v]);
      if constexpr (kMayWrap) store_vector<offset_t, kSampleLanes>(beginning[ky], start);
      store_vector<offset_t, kSampleLanes>(row[ky], start + place * image.stride[0]);
      for (int kx = 0; kx < kTaps; ++kx) {
        OffsetLanes inside_x = is_inside(x + kx, image.size[0]);
        if constexpr (kMayWrap) inside_x |= at_end;
        valid[ky][kx] = __builtin_convertvector(inside_y & inside_x, MaskLanes);
      }
    }
  }

  /// Of the pixels at the places of row ky, that of tap kx, or 0.
  GRIDSAMPLE_INLINE SampleLanes choose(const SampleLanes (&pixel)[kTaps], int ky, int kx) const {
    // A row of two that is moved has one tap inside at most, at the other place.
    const auto own = (MaskLanes)pixel[kx];
    const auto other = (MaskLanes)pixel[kTaps - 1 - kx];
    return (SampleLanes)((moved ? other : own) & valid[ky][kx]);
  }
};

GRIDSAMPLE_NAMESPACE_END
