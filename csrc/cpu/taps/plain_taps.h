#pragma once

// The taps of one sample at a time, for plain kernels: numbers of any type read by offsets of 64
// bits, and sums over the taps.

#include "cpu/simd/scalars.h"
#include "math/moved_taps.h"
#include "math/taps.h"
#include "math/warps.h"

GRIDSAMPLE_NAMESPACE_BEGIN

inline compute_t load_value(const View& view, int64_t offset) {
  compute_t value{};
  dispatch_dtype(view.dtype, [&]<typename scalar>() {
    const auto* data = static_cast<const typename scalar::storage_t*>(view.data);
    value = scalar::template load<compute_t>(data[offset]);
  });
  return value;
}

inline void store_value(const View& view, int64_t offset, compute_t value) {
  dispatch_dtype(view.dtype, [&]<typename scalar>() {
    static_cast<typename scalar::storage_t*>(view.data)[offset] = scalar::store(value);
  });
}

/// Where a sample, by its number in its batch, lies in a tensor of samples.
inline int64_t sample_offset(const Geometry& geometry, const View& view, int64_t batch,
                             int64_t sample) {
  int64_t offset = batch * view.batch_stride;
  for (int a = 0; a < geometry.dims; ++a) {
    offset += sample % geometry.output_size[a] * view.stride[a];
    sample /= geometry.output_size[a];
  }
  return offset;
}

/// The axes of the image, which have nothing to do with the sample.
struct PlainAxes {
  explicit PlainAxes(const Geometry& geometry) {
    for (int a = 0; a < geometry.dims; ++a) {
      axis[a] = make_axis<compute_t>(geometry, a);
    }
  }
  Axis<compute_t> axis[kMaxDims];
};

/// In place of the index of a tap outside that reads the fill value, not nothing.
constexpr int64_t kFilled = -2;
static_assert(kFilled != kOutside);

template <Mode mode>
struct PlainTaps {
  static constexpr Mode kMode = mode;
  static constexpr int kTaps = kTapsPerAxis<kMode>;

  int64_t index[kMaxDims][kTaps];  // of a pixel on the axis, or kOutside or kFilled
  compute_t weight[kMaxDims][kTaps];
  compute_t derivative[kMaxDims][kTaps];
  compute_t second[kMaxDims][kTaps];
  compute_t slope[kMaxDims];
  bool is_volume;
  bool inside;    // some tap is; else all slopes are 0
  bool excluded;  // does not lie on a pixel, and therefore has a value of its own
  bool filled;    // some tap reads `fill`
  compute_t fill;

  GRIDSAMPLE_INLINE int planes() const { return is_volume ? kTaps : 1; }
  GRIDSAMPLE_INLINE bool moves() const { return slope[0] != 0 || slope[1] != 0 || slope[2] != 0; }
};

/// The coordinates of a sample, as a grid has them.
inline void load_point(const Geometry& geometry, const GridView& grid, int64_t batch,
                       int64_t sample, compute_t (&values)[kMaxDims]) {
  const int64_t at = sample_offset(geometry, grid, batch, sample);
  for (int a = 0; a < geometry.dims; ++a) {
    values[a] = load_value(grid, at + a * grid.channel_stride);
  }
  if (!grid.is_warp) return;
  Places<compute_t> places[kMaxDims];
  int64_t pixel[kMaxDims];
  for (int a = 0; a < geometry.dims; ++a) {
    places[a] = make_places<compute_t>(geometry, a);
    pixel[a] = sample % geometry.output_size[a];
    sample /= geometry.output_size[a];
  }
  const auto* affine = static_cast<const compute_t*>(grid.affine);
  if (affine != nullptr) affine += batch * grid.affine_batch_stride;
  add_warped_place(places, affine, geometry.dims, pixel, values);
}

template <Mode kMode>
void find_taps(const Geometry& geometry, const PlainAxes& axes, const GridView& grid, int64_t batch,
               int64_t sample, PlainTaps<kMode>& taps) {
  constexpr int kTaps = PlainTaps<kMode>::kTaps;
  compute_t values[kMaxDims];
  load_point(geometry, grid, batch, sample, values);
  taps.is_volume = geometry.dims == 3;
  taps.inside = true;
  taps.excluded = false;
  taps.filled = false;
  taps.fill = static_cast<compute_t>(geometry.fill_value);
  for (int a = 0; a < kMaxDims; ++a) {
    if (a >= geometry.dims) {
      taps.index[a][0] = 0;
      taps.weight[a][0] = compute_t(1);
      taps.derivative[a][0] = taps.second[a][0] = taps.slope[a] = compute_t(0);
      continue;
    }
    const compute_t value = values[a];
    const bool is_circular = wraps(geometry.padding[a]);
    const auto along = dispatch_padding(geometry.padding[a], [&]<Padding kPadding>() {
      return axis_taps<kMode, kPadding, Distance::kFar>(value, axes.axis[a]);
    });
    tap_offsets<kMode>(along, geometry.input_size[a], int64_t(1), is_circular, taps.index[a]);
    ModeTraits<kMode>::second(along.fraction, axes.axis[a].cubic, taps.second[a]);
    taps.slope[a] = along.slope;
    const bool fills = geometry.fill_value != 0 && geometry.padding[a] == Padding::kZeros;
    bool inside = false;
    for (int k = 0; k < kTaps; ++k) {
      taps.weight[a][k] = along.weight[k];
      taps.derivative[a][k] = along.derivative[k];
      inside = inside || taps.index[a][k] >= 0;
      if (fills && taps.index[a][k] < 0) {
        taps.index[a][k] = kFilled;
        taps.filled = true;
      }
    }
    taps.inside = taps.inside && inside;
    if (geometry.outside_value.has_value()) {
      const compute_t coordinate = unnormalize(value, axes.axis[a]).value;
      taps.excluded = taps.excluded || !is_on_image(coordinate, axes.axis[a]);
    }
  }
  taps.inside = taps.inside && !taps.excluded;
  // Without a pixel there is no gradient, also where an infinity is multiplied by it.
  if (!taps.inside) std::fill_n(taps.slope, kMaxDims, compute_t(0));
}

/// Calls each(x, y, z) for the taps that read a pixel or the fill value, x within y within z.
template <typename Taps, typename F>
GRIDSAMPLE_INLINE void for_taps(const Taps& taps, const F& each) {
  for (int z = 0; z < taps.planes(); ++z) {
    if (taps.index[2][z] == kOutside) continue;
    for (int y = 0; y < Taps::kTaps; ++y) {
      if (taps.index[1][y] == kOutside) continue;
      for (int x = 0; x < Taps::kTaps; ++x) {
        if (taps.index[0][x] != kOutside) each(x, y, z);
      }
    }
  }
}

/// Whether such a tap is on a pixel.
template <typename Taps>
GRIDSAMPLE_INLINE bool is_inside(const Taps& taps, int x, int y, int z) {
  return (taps.index[0][x] | taps.index[1][y] | taps.index[2][z]) >= 0;
}

template <typename Taps>
GRIDSAMPLE_INLINE int64_t tap_offset(const Taps& taps, const View& image, int x, int y, int z) {
  return taps.index[0][x] * image.stride[0] + taps.index[1][y] * image.stride[1] +
         taps.index[2][z] * image.stride[2];
}

/// What such a tap reads of one channel of one image, which begins at `first`.
template <typename Taps>
GRIDSAMPLE_INLINE compute_t read_tap(const Taps& taps, const View& image, int64_t first, int x,
                                     int y, int z) {
  if (!is_inside(taps, x, y, z)) return taps.fill;
  return load_value(image, first + tap_offset(taps, image, x, y, z));
}

/// The sum over the taps of weight * pixel, one channel of one image, which begins at `first`; with
/// kDerivatives its derivatives by the coordinates as well. Nested as in tap_sums.h, for the same
/// bits.
template <bool kDerivatives, Mode kMode>
compute_t contract(const PlainTaps<kMode>& taps, const View& image, int64_t first,
                   compute_t (&d)[kMaxDims]) {
  compute_t sum = compute_t(0);
  std::fill_n(d, kMaxDims, compute_t(0));
  for (int z = 0; z < taps.planes(); ++z) {
    if (taps.index[2][z] == kOutside) continue;
    compute_t plane = compute_t(0), plane_dx = compute_t(0), plane_dy = compute_t(0);
    for (int y = 0; y < taps.kTaps; ++y) {
      if (taps.index[1][y] == kOutside) continue;
      compute_t row = compute_t(0), row_dx = compute_t(0);
      for (int x = 0; x < taps.kTaps; ++x) {
        if (taps.index[0][x] == kOutside) continue;
        const compute_t pixel = read_tap(taps, image, first, x, y, z);
        row = multiply_add(taps.weight[0][x], pixel, row);
        if constexpr (kDerivatives) row_dx = multiply_add(taps.derivative[0][x], pixel, row_dx);
      }
      plane = multiply_add(taps.weight[1][y], row, plane);
      if constexpr (kDerivatives) {
        plane_dx = multiply_add(taps.weight[1][y], row_dx, plane_dx);
        plane_dy = multiply_add(taps.derivative[1][y], row, plane_dy);
      }
    }
    sum = taps.is_volume ? multiply_add(taps.weight[2][z], plane, sum) : plane;
    if constexpr (kDerivatives) {
      d[0] = taps.is_volume ? multiply_add(taps.weight[2][z], plane_dx, d[0]) : plane_dx;
      d[1] = taps.is_volume ? multiply_add(taps.weight[2][z], plane_dy, d[1]) : plane_dy;
      d[2] = multiply_add(taps.derivative[2][z], plane, d[2]);
    }
  }
  return sum;
}

/// The taps of a sample that read something, when its grid values move along a direction.
template <int kTaps>
struct MovedTaps {
  struct Tap : MovedTap<compute_t> {
    int64_t offset;          // in one channel of input, or kFilled
    int64_t tangent_offset;  // of tangent_input
  };
  int count = 0;
  Tap tap[kTaps * kTaps * kTaps];
};

/// What a tap reads of the channel of input that begins at `first`.
template <typename Taps, typename Tap>
GRIDSAMPLE_INLINE compute_t read_moved(const PlainParams& params, const Taps& taps, const Tap& tap,
                                       int64_t first) {
  return tap.offset == kFilled ? taps.fill : load_value(params.input, first + tap.offset);
}

/// Unlike nested sums, products per tap leave an infinite direction with the taps that are there.
template <Mode kMode>
void move_taps(const PlainParams& params, const PlainTaps<kMode>& taps, int64_t batch,
               int64_t sample, MovedTaps<PlainTaps<kMode>::kTaps>& moved) {
  constexpr bool kCurved = ModeTraits<kMode>::kCurved;
  const View& direction = params.tangent_grid;
  compute_t c[kMaxDims] = {};
  const int64_t at = sample_offset(params.geometry, direction, batch, sample);
  for (int a = 0; a < params.geometry.dims; ++a) {
    c[a] = move_along(taps.slope[a], load_value(direction, at + a * direction.channel_stride));
  }
  moved.count = 0;
  for_taps(taps, [&](int kx, int ky, int kz) {
    const auto of_axis = [&](int a, int k) {
      return axis_tap<kCurved>(c[a], taps.weight[a][k], taps.derivative[a][k], taps.second[a][k]);
    };
    const TapRow<compute_t> row = tap_row(of_axis(1, ky), of_axis(2, kz));
    auto& tap = moved.tap[moved.count++];
    static_cast<MovedTap<compute_t>&>(tap) = moved_tap(of_axis(0, kx), row);
    const bool inside = is_inside(taps, kx, ky, kz);
    tap.offset = inside ? tap_offset(taps, params.input, kx, ky, kz) : kFilled;
    tap.tangent_offset = tap_offset(taps, params.tangent_input, kx, ky, kz);
  });
}

GRIDSAMPLE_NAMESPACE_END
