#pragma once

// Calls of few samples on a large image that the other kernels could not read as it is: one sample
// after the other, the pixels under its taps converted as they are read. Their work does not grow
// with the image. Plain loops, of any types and strides; modes are template parameters for their
// numbers of taps. An image is a volume of one plane, whose tap has the weight 1 and no derivative.

#include "../math/moved_taps.h"
#include "../math/taps.h"
#include "scalars.h"

GRIDSAMPLE_NAMESPACE_BEGIN

template <typename T>
T load_value(const View& view, int64_t offset) {
  T value{};
  dispatch_dtype(view.dtype, [&]<typename scalar>() {
    const auto* data = static_cast<const typename scalar::storage_t*>(view.data);
    value = scalar::template load<T>(data[offset]);
  });
  return value;
}

template <typename T>
void store_value(const View& view, int64_t offset, T value) {
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
template <typename T>
struct PlainAxes {
  explicit PlainAxes(const Geometry& geometry) {
    for (int a = 0; a < geometry.dims; ++a) {
      axis[a] = make_axis<T>(geometry.input_size[a], geometry.align_corners);
    }
  }
  Axis<T> axis[kMaxDims];
};

template <typename T, Mode mode>
struct PlainTaps {
  static constexpr Mode kMode = mode;
  static constexpr int kTaps = kTapsPerAxis<kMode>;

  int64_t index[kMaxDims][kTaps];  // of a pixel on the axis, or kOutside
  T weight[kMaxDims][kTaps];
  T derivative[kMaxDims][kTaps];
  T second[kMaxDims][kTaps];
  T slope[kMaxDims];
  bool is_volume;
  bool inside;  // some tap is; else all slopes are 0

  GRIDSAMPLE_INLINE int planes() const { return is_volume ? kTaps : 1; }
  GRIDSAMPLE_INLINE bool moves() const { return slope[0] != 0 || slope[1] != 0 || slope[2] != 0; }
};

template <Mode kMode, typename T>
AxisTaps<T, kTapsPerAxis<kMode>> padded_taps(Padding padding, T grid_value, const Axis<T>& axis) {
  switch (padding) {
    case Padding::kZeros:
      return axis_taps<kMode, Padding::kZeros, Reach::kFar>(grid_value, axis);
    case Padding::kBorder:
      return axis_taps<kMode, Padding::kBorder, Reach::kFar>(grid_value, axis);
    default:
      return axis_taps<kMode, Padding::kReflection, Reach::kFar>(grid_value, axis);
  }
}

template <typename T, Mode kMode>
void find_taps(const Geometry& geometry, const PlainAxes<T>& axes, const View& grid, int64_t batch,
               int64_t sample, PlainTaps<T, kMode>& taps) {
  constexpr int kTaps = PlainTaps<T, kMode>::kTaps;
  const int64_t point = sample_offset(geometry, grid, batch, sample);
  taps.is_volume = geometry.dims == 3;
  taps.inside = true;
  for (int a = 0; a < kMaxDims; ++a) {
    if (a >= geometry.dims) {
      taps.index[a][0] = 0;
      taps.weight[a][0] = T(1);
      taps.derivative[a][0] = taps.second[a][0] = taps.slope[a] = T(0);
      continue;
    }
    const T value = load_value<T>(grid, point + a * grid.channel_stride);
    const auto along = padded_taps<kMode>(geometry.padding, value, axes.axis[a]);
    tap_offsets<kMode>(along, geometry.input_size[a], int64_t(1), taps.index[a]);
    second_derivatives<kMode>(value, axes.axis[a], taps.second[a]);
    taps.slope[a] = along.slope;
    bool inside = false;
    for (int k = 0; k < kTaps; ++k) {
      taps.weight[a][k] = along.weight[k];
      taps.derivative[a][k] = along.derivative[k];
      inside = inside || taps.index[a][k] >= 0;
    }
    taps.inside = taps.inside && inside;
  }
  // Without a pixel there is no gradient, also where an infinity is multiplied by it.
  if (!taps.inside) std::fill_n(taps.slope, kMaxDims, T(0));
}

/// Calls each(x, y, z) for the taps inside the image, x within y within z.
template <typename Taps, typename F>
GRIDSAMPLE_INLINE void for_taps_inside(const Taps& taps, const F& each) {
  for (int z = 0; z < taps.planes(); ++z) {
    if (taps.index[2][z] < 0) continue;
    for (int y = 0; y < Taps::kTaps; ++y) {
      if (taps.index[1][y] < 0) continue;
      for (int x = 0; x < Taps::kTaps; ++x) {
        if (taps.index[0][x] >= 0) each(x, y, z);
      }
    }
  }
}

template <typename Taps>
GRIDSAMPLE_INLINE int64_t tap_offset(const Taps& taps, const View& image, int x, int y, int z) {
  return taps.index[0][x] * image.stride[0] + taps.index[1][y] * image.stride[1] +
         taps.index[2][z] * image.stride[2];
}

/// The sum over the taps of weight * pixel, one channel of one image, which begins at `first`; with
/// kDerivatives its derivatives by the coordinates as well. Nested as in tap_sums.h, for the same
/// bits.
template <bool kDerivatives, typename T, Mode kMode>
T contract(const PlainTaps<T, kMode>& taps, const View& image, int64_t first, T (&d)[kMaxDims]) {
  T sum = T(0);
  std::fill_n(d, kMaxDims, T(0));
  for (int z = 0; z < taps.planes(); ++z) {
    if (taps.index[2][z] < 0) continue;
    T plane = T(0), plane_dx = T(0), plane_dy = T(0);
    for (int y = 0; y < taps.kTaps; ++y) {
      if (taps.index[1][y] < 0) continue;
      T row = T(0), row_dx = T(0);
      for (int x = 0; x < taps.kTaps; ++x) {
        if (taps.index[0][x] < 0) continue;
        const T pixel = load_value<T>(image, first + tap_offset(taps, image, x, y, z));
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

/// The taps of a sample inside the image, when its grid values move along a direction.
template <typename T, int kTaps>
struct MovedTaps {
  struct Tap : MovedTap<T> {
    int64_t offset;          // in one channel of input
    int64_t tangent_offset;  // of tangent_input
  };
  int count = 0;
  Tap tap[kTaps * kTaps * kTaps];
};

/// Unlike nested sums, products per tap leave an infinite direction with the taps that are there.
template <typename T, Mode kMode>
void move_taps(const PlainParams& params, const PlainTaps<T, kMode>& taps, int64_t batch,
               int64_t sample, MovedTaps<T, PlainTaps<T, kMode>::kTaps>& moved) {
  constexpr bool kCurved = kMode == Mode::kBicubic;
  const View& direction = params.tangent_grid;
  T c[kMaxDims] = {};
  const int64_t at = sample_offset(params.geometry, direction, batch, sample);
  for (int a = 0; a < params.geometry.dims; ++a) {
    c[a] = move_along(taps.slope[a], load_value<T>(direction, at + a * direction.channel_stride));
  }
  moved.count = 0;
  for_taps_inside(taps, [&](int kx, int ky, int kz) {
    const auto of_axis = [&](int a, int k) -> AxisTap<T> {
      return {taps.weight[a][k], taps.derivative[a][k], taps.second[a][k]};
    };
    const TapRow<T> row = tap_row<kCurved>(c, of_axis(1, ky), of_axis(2, kz));
    auto& tap = moved.tap[moved.count++];
    static_cast<MovedTap<T>&>(tap) = moved_tap<kCurved>(c, of_axis(0, kx), row);
    tap.offset = tap_offset(taps, params.input, kx, ky, kz);
    tap.tangent_offset = tap_offset(taps, params.tangent_input, kx, ky, kz);
  });
}

/// The output, or with tangent_grid its derivative along both directions.
template <typename T, Mode kMode>
void plain_output_items(const PlainParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.geometry;
  const View& input = params.input;
  const View& tangent = params.tangent_input;
  const PlainAxes<T> axes(geometry);
  PlainTaps<T, kMode> taps;
  [[maybe_unused]] MovedTaps<T, PlainTaps<T, kMode>::kTaps> moved;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t batch = item / geometry.samples;
    const int64_t sample = item % geometry.samples;
    find_taps(geometry, axes, params.grid, batch, sample, taps);
    const bool moves = params.tangent_grid.data != nullptr;
    if constexpr (kMode != Mode::kNearest) {
      if (moves) move_taps(params, taps, batch, sample, moved);
    }
    const int64_t out = sample_offset(geometry, params.output, batch, sample);
    for (int64_t c = 0; c < geometry.channels; ++c) {
      const int64_t first = batch * input.batch_stride + c * input.channel_stride;
      T sum = T(0);
      if constexpr (kMode == Mode::kNearest) {
        if (taps.inside) sum = load_value<T>(input, first + tap_offset(taps, input, 0, 0, 0));
      } else if (moves) {
        const int64_t tangent_first = batch * tangent.batch_stride + c * tangent.channel_stride;
        for (int t = 0; t < moved.count; ++t) {
          const auto& tap = moved.tap[t];
          if (tangent.data != nullptr) {
            const T change = load_value<T>(tangent, tangent_first + tap.tangent_offset);
            sum = multiply_add(tap.weight, change, sum);
          }
          if (taps.moves()) {
            sum = multiply_add(tap.along, load_value<T>(input, first + tap.offset), sum);
          }
        }
      } else {
        T unused[kMaxDims];
        sum = contract<false>(taps, input, first, unused);
      }
      store_value(params.output, out + c * params.output.channel_stride, sum);
    }
  }
}

/// sums[a] += grad_output * d output / d coordinate, or with `moved` the derivative of that along
/// both directions, over all channels of one image.
template <typename T, Mode kMode>
void add_derivatives(const PlainParams& params, const PlainTaps<T, kMode>& taps,
                     const MovedTaps<T, PlainTaps<T, kMode>::kTaps>* moved, int64_t batch,
                     int64_t sample, T (&sums)[kMaxDims]) {
  const View& input = params.input;
  const View& tangent = params.tangent_input;
  const int64_t source = sample_offset(params.geometry, params.grad_output, batch, sample);
  for (int64_t c = 0; c < params.geometry.channels; ++c) {
    const int64_t first = batch * input.batch_stride + c * input.channel_stride;
    const int64_t tangent_first = batch * tangent.batch_stride + c * tangent.channel_stride;
    T d[kMaxDims] = {};
    if (moved == nullptr) {
      contract<true>(taps, input, first, d);
    } else {
      for (int t = 0; t < moved->count; ++t) {
        const auto& tap = moved->tap[t];
        const auto add = [&](const T(&weight)[kMaxDims], T pixel) {
          for (int a = 0; a < kMaxDims; ++a) d[a] = multiply_add(weight[a], pixel, d[a]);
        };
        if (tangent.data != nullptr) {
          add(tap.derivative, load_value<T>(tangent, tangent_first + tap.tangent_offset));
        }
        add(tap.curvature, load_value<T>(input, first + tap.offset));
      }
    }
    const T grad =
        load_value<T>(params.grad_output, source + c * params.grad_output.channel_stride);
    for (int a = 0; a < kMaxDims; ++a) sums[a] = multiply_add(grad, d[a], sums[a]);
  }
}

/// The gradient by grid of the output, or with tangent_grid of <tangent_input, grad_input> +
/// <tangent_grid, grad_grid>.
template <typename T, Mode kMode>
void plain_grad_grid_items(const PlainParams& params, int64_t begin, int64_t end) {
  const Geometry& geometry = params.geometry;
  const View& target = params.grad_grid;
  const PlainAxes<T> axes(geometry);
  PlainTaps<T, kMode> taps;
  MovedTaps<T, PlainTaps<T, kMode>::kTaps> moved;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t grid_batch = item / geometry.samples;
    const int64_t sample = item % geometry.samples;
    find_taps(geometry, axes, params.grid, grid_batch, sample, taps);
    const bool curved = params.tangent_grid.data != nullptr;
    if (curved) move_taps(params, taps, grid_batch, sample, moved);
    T sums[kMaxDims] = {};
    const Range images = batches_of(geometry, params.grid_batch, grid_batch);
    for (int64_t batch = images.begin; taps.moves() && batch < images.end; ++batch) {
      add_derivatives(params, taps, curved ? &moved : nullptr, batch, sample, sums);
    }
    const int64_t at = sample_offset(geometry, target, grid_batch, sample);
    for (int a = 0; a < geometry.dims; ++a) {
      // Never -0, as in grad_grid.h.
      store_value(target, at + a * target.channel_stride,
                  move_along(taps.slope[a], sums[a]) + T(0));
    }
  }
}

/// What the taps of samples add to grad_input: W * grad_output, or with tangent_grid the derivative
/// of that along it.
template <typename T, Mode kMode>
void plain_list_items(const PlainParams& params, int64_t begin, int64_t end) {
  constexpr int kTaps = PlainTaps<T, kMode>::kTaps;
  const Geometry& geometry = params.geometry;
  const View& target = params.input;
  const PlainAxes<T> axes(geometry);
  PlainTaps<T, kMode> taps;
  [[maybe_unused]] MovedTaps<T, kTaps> moved;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t batch = item / geometry.samples;
    const int64_t sample = item % geometry.samples;
    find_taps(geometry, axes, params.grid, batch, sample, taps);
    const int64_t first = batch * target.batch_stride;
    const int64_t source = sample_offset(geometry, params.grad_output, batch, sample);
    int64_t number = item * kTaps * kTaps * taps.planes();
    const int64_t numbers_end = number + kTaps * kTaps * taps.planes();
    const auto list = [&](int64_t pixel, T weight) {
      params.taps[number] = {pixel, source, number, static_cast<double>(weight)};
      ++number;
    };
    if (params.tangent_grid.data == nullptr) {
      for_taps_inside(taps, [&](int x, int y, int z) {
        list(first + tap_offset(taps, target, x, y, z),
             taps.weight[2][z] * taps.weight[1][y] * taps.weight[0][x]);
      });
    } else if constexpr (kMode != Mode::kNearest) {
      if (taps.moves()) {
        move_taps(params, taps, batch, sample, moved);
        for (int t = 0; t < moved.count; ++t) {
          list(first + moved.tap[t].offset, moved.tap[t].along);
        }
      }
    }
    while (number < numbers_end) list(kOutside, T(0));
  }
}

template <typename T>
void plain_add_items(const PlainParams& params, int64_t begin, int64_t end) {
  const PlainTap* taps = params.taps;
  const View& source = params.grad_output;
  for (int64_t item = begin; item < end; ++item) {
    const int64_t pixel = taps[item].pixel;
    if (pixel < 0 || (item > 0 && taps[item - 1].pixel == pixel)) continue;
    int64_t last = item + 1;
    while (last < params.tap_count && taps[last].pixel == pixel) ++last;
    for (int64_t c = 0; c < params.geometry.channels; ++c) {
      T sum = T(0);
      for (int64_t t = item; t < last; ++t) {
        const T grad = load_value<T>(source, taps[t].source + c * source.channel_stride);
        sum = multiply_add(grad, static_cast<T>(taps[t].weight), sum);
      }
      store_value(params.input, pixel + c * params.input.channel_stride, sum);
    }
  }
}

/// Calls function.template operator()<compute_t, kMode>().
template <typename F>
void dispatch_plain(const Geometry& geometry, const F& function) {
  const auto with_mode = [&]<typename T>() {
    switch (geometry.mode) {
      case Mode::kBilinear:
        return function.template operator()<T, Mode::kBilinear>();
      case Mode::kNearest:
        return function.template operator()<T, Mode::kNearest>();
      case Mode::kBicubic:
        return function.template operator()<T, Mode::kBicubic>();
    }
  };
  geometry.compute_in_double ? with_mode.template operator()<double>()
                             : with_mode.template operator()<float>();
}

void plain_output(const PlainParams& params, int64_t begin, int64_t end) {
  dispatch_plain(params.geometry, [&]<typename T, Mode kMode>() {
    plain_output_items<T, kMode>(params, begin, end);
  });
}

void plain_grad_grid(const PlainParams& params, int64_t begin, int64_t end) {
  dispatch_plain(params.geometry, [&]<typename T, Mode kMode>() {
    if constexpr (kMode != Mode::kNearest) {  // whose grad_grid is zeros, and never asked for
      plain_grad_grid_items<T, kMode>(params, begin, end);
    }
  });
}

void plain_list_taps(const PlainParams& params, int64_t begin, int64_t end) {
  dispatch_plain(params.geometry,
                 [&]<typename T, Mode kMode>() { plain_list_items<T, kMode>(params, begin, end); });
}

void plain_add_taps(const PlainParams& params, int64_t begin, int64_t end) {
  params.geometry.compute_in_double ? plain_add_items<double>(params, begin, end)
                                    : plain_add_items<float>(params, begin, end);
}

extern const PlainTable plain_table;
const PlainTable plain_table{plain_output, plain_grad_grid, plain_list_taps, plain_add_taps};

GRIDSAMPLE_NAMESPACE_END
