#pragma once

// From the number of a sample to its taps, and what is computed from taps with lanes over samples.

#include "math/taps.h"
#include "cuda/device/params.cuh"
#include "cuda/device/pixels.cuh"

namespace gridsample_ext::cuda {

using portable::axis_taps;
using portable::AxisTaps;
using portable::kNearLimit;
using portable::kTapsPerAxis;

/// What kernels are compiled for. index_t holds the offset of a pixel within one channel of one
/// image; batches and channels are added in 64 bits. If it has 32 bits, so have the numbers of
/// samples and channels, and the walk over the samples is linear, too: without that, a sample of
/// one channel took half as many instructions again.
template <typename pixel_type, int dims, Mode mode, Padding padding, typename index_type>
struct Config {
  using pixel_t = pixel_type;
  using compute_t = typename Compute<pixel_type>::type;
  using index_t = index_type;
  static constexpr int kDims = dims;
  static constexpr Mode kMode = mode;
  static constexpr Padding kPadding = padding;
  static constexpr int kTaps = kTapsPerAxis<mode>;
  static constexpr int kVector = 16 / sizeof(pixel_type);  // pixels in the widest access
  static constexpr int kTapsZ = dims == 3 ? kTaps : 1;
  static constexpr bool kNarrow = sizeof(index_type) == sizeof(int32_t);
  // Numbers of samples and of channels, and steps from one to a later one.
  using number_t = std::conditional_t<kNarrow, uint32_t, int64_t>;
};

/// Blocks of a multiprocessor that registers should leave room for: the more taps, the more are
/// read at once, and the fewer blocks it takes to keep memory busy.
template <typename Config>
constexpr int kLeastBlocks =
    Config::kTaps == 4 ? (Config::kDims == 2 && sizeof(typename Config::compute_t) == 4 ? 2 : 1)
    : sizeof(typename Config::compute_t) == 8 ? 2
    : Config::kTaps == 2                      ? 3
                                              : 4;

/// A sample: image, number within the image and, where some view needs it, place along each axis.
struct Sample {
  int64_t batch;
  int64_t number;
  int64_t at[kMaxDims];
};

template <typename number_t>
GRIDSAMPLE_DEVICE void locate(Sample& sample, number_t number, const Walk& walk) {
  const auto per_image = static_cast<number_t>(walk.per_image);
  const number_t batch = number / per_image;
  number -= batch * per_image;
  sample.batch = batch;
  sample.number = number;
  if (walk.linear) return;
  const auto width = static_cast<number_t>(walk.output_size[0]);
  const auto height = static_cast<number_t>(walk.output_size[1]);
  const number_t row = number / width;
  sample.at[0] = number - row * width;
  sample.at[2] = row / height;
  sample.at[1] = row - static_cast<number_t>(sample.at[2]) * height;
}

GRIDSAMPLE_DEVICE Sample locate(int64_t number, const Walk& walk) {
  Sample sample = {};
  if (walk.narrow) {
    locate(sample, static_cast<uint32_t>(number), walk);
  } else {
    locate(sample, static_cast<uint64_t>(number), walk);
  }
  return sample;
}

/// The same for kernels whose configuration may promise a linear and narrow walk.
template <typename Config>
GRIDSAMPLE_DEVICE Sample locate(int64_t number, const Walk& walk) {
  if constexpr (Config::kNarrow) {
    const auto narrow = static_cast<uint32_t>(number);
    const uint32_t batch = walk.divisor.quotient(narrow);
    Sample sample = {};
    sample.batch = batch;
    sample.number = narrow - batch * static_cast<uint32_t>(walk.per_image);
    return sample;
  } else {
    return locate(number, walk);
  }
}

/// The offset of a sample in one channel of one image.
template <int kDims>
GRIDSAMPLE_DEVICE int64_t offset_of(const Sample& sample, const View& view, const Walk& walk) {
  if (walk.linear) return sample.number * view.stride[0];
  int64_t offset = 0;
  GRIDSAMPLE_UNROLL_ALL
  for (int a = 0; a < kDims; ++a) offset += sample.at[a] * view.stride[a];
  return offset;
}

template <typename Config>
GRIDSAMPLE_DEVICE int64_t offset_of(const Sample& sample, const View& view, const Walk& walk) {
  if constexpr (Config::kNarrow) return sample.number * view.stride[0];
  return offset_of<Config::kDims>(sample, view, walk);
}

/// The taps of a sample along each axis, with offsets in elements; kOutside: see math/taps.h.
template <typename Config>
struct Taps {
  using compute_t = typename Config::compute_t;
  typename Config::index_t offset[Config::kDims][Config::kTaps];
  compute_t weight[Config::kDims][Config::kTaps];
  compute_t derivative[Config::kDims][Config::kTaps];
  compute_t slope[Config::kDims];
};

/// view: strides of the image the offsets are for.
template <typename Config>
GRIDSAMPLE_DEVICE void compute_taps(Taps<Config>& taps, const Sample& sample,
                                    const Sampling<typename Config::compute_t>& sampling,
                                    const View& view) {
  using compute_t = typename Config::compute_t;
  using index_t = typename Config::index_t;
  const View& grid = sampling.grid;
  compute_t values[Config::kDims];
  load_as(values, grid.data, grid.dtype,
          sample.batch * grid.batch_stride + offset_of<Config>(sample, grid, sampling.walk),
          grid.channel_stride);
  GRIDSAMPLE_UNROLL_ALL
  for (int a = 0; a < Config::kDims; ++a) {
    const compute_t value = values[a];
    const Axis<compute_t>& axis = sampling.axis[a];
    AxisTaps<compute_t, Config::kTaps> along;
    if constexpr (Config::kPadding == Padding::kReflection) {
      const bool far = fabs(portable::unnormalize(value, axis).value) >= kNearLimit<compute_t>;
      along = far ? axis_taps<Config::kMode, Config::kPadding, portable::Reach::kFar>(value, axis)
                  : axis_taps<Config::kMode, Config::kPadding, portable::Reach::kNear>(value, axis);
    } else {
      along = axis_taps<Config::kMode, Config::kPadding, portable::Reach::kNear>(value, axis);
    }
    portable::tap_offsets<Config::kMode>(along, static_cast<index_t>(sampling.input_size[a]),
                                         static_cast<index_t>(view.stride[a]), taps.offset[a]);
    GRIDSAMPLE_UNROLL_ALL
    for (int k = 0; k < Config::kTaps; ++k) {
      taps.weight[a][k] = along.weight[k];
      taps.derivative[a][k] = along.derivative[k];
    }
    taps.slope[a] = along.slope;
  }
}

/// A row of outer axes and a tap of an inner one: outside if either is.
template <typename index_t>
GRIDSAMPLE_DEVICE index_t join(index_t outer, index_t inner) {
  return (outer | inner) < 0 ? index_t(portable::kOutside) : index_t(outer + inner);
}

template <typename T, int kCount>
GRIDSAMPLE_DEVICE void set_zero(T (&values)[kCount]) {
  GRIDSAMPLE_UNROLL_ALL
  for (int i = 0; i < kCount; ++i) values[i] = T(0);
}

template <typename T, int kCount>
GRIDSAMPLE_DEVICE void add_product(T (&sum)[kCount], T weight, const T (&values)[kCount]) {
  GRIDSAMPLE_UNROLL_ALL
  for (int i = 0; i < kCount; ++i) sum[i] = multiply_add(weight, values[i], sum[i]);
}

/// Of all axes together; the number of a tap counts x fastest.
template <typename Config>
constexpr int kAllTaps = Config::kTapsZ * Config::kTaps * Config::kTaps;

/// Negative for a tap outside the image.
template <typename Config>
GRIDSAMPLE_DEVICE typename Config::index_t offset_of_tap(const Taps<Config>& taps, int z, int y,
                                                         int x) {
  using index_t = typename Config::index_t;
  const index_t row = Config::kDims == 3
                          ? join(taps.offset[Config::kDims - 1][z], taps.offset[1][y])
                          : taps.offset[1][y];
  return join(row, taps.offset[0][x]);
}

template <typename Config>
GRIDSAMPLE_DEVICE typename Config::compute_t weight_of_tap(const Taps<Config>& taps, int z, int y,
                                                           int x) {
  const auto weight = taps.weight[1][y] * taps.weight[0][x];
  return Config::kDims == 3 ? taps.weight[Config::kDims - 1][z] * weight : weight;
}

/// Calls visit(z, y, x) for every tap, unrolled.
template <typename Config, typename Visit>
GRIDSAMPLE_DEVICE void for_each_tap(const Visit& visit) {
  GRIDSAMPLE_UNROLL_ALL
  for (int z = 0; z < Config::kTapsZ; ++z) {
    GRIDSAMPLE_UNROLL_ALL
    for (int y = 0; y < Config::kTaps; ++y) {
      GRIDSAMPLE_UNROLL_ALL
      for (int x = 0; x < Config::kTaps; ++x) visit(z, y, x);
    }
  }
}

template <typename Config>
GRIDSAMPLE_DEVICE constexpr int number_of_tap(int z, int y, int x) {
  return (z * Config::kTaps + y) * Config::kTaps + x;
}

/// Offsets and weights of all taps, for modes of few: worked out once, used for all channels.
template <typename Config>
struct FlatTaps {
  typename Config::index_t offset[kAllTaps<Config>];
  typename Config::compute_t weight[kAllTaps<Config>];

  GRIDSAMPLE_DEVICE explicit FlatTaps(const Taps<Config>& taps) {
    for_each_tap<Config>([&](int z, int y, int x) {
      const int tap = number_of_tap<Config>(z, y, x);
      offset[tap] = offset_of_tap(taps, z, y, x);
      weight[tap] = weight_of_tap(taps, z, y, x);
    });
  }
};

/// Sums of weight times pixel, for kCount channels: load(offset, values) reads them.
///
/// Two taps an axis: tap by tap. Four: x within y within z, which multiplies less often.
template <typename Config>
struct WeightedSum {
  using compute_t = typename Config::compute_t;
  static constexpr bool kNested = Config::kTaps == 4;

  template <int kCount, typename Load>
  static GRIDSAMPLE_DEVICE void flat(const FlatTaps<Config>& taps, const Load& load,
                                     compute_t (&sum)[kCount]) {
    set_zero(sum);
    GRIDSAMPLE_UNROLL_ALL
    for (int tap = 0; tap < kAllTaps<Config>; ++tap) {
      if (taps.offset[tap] >= 0) {
        compute_t pixel[kCount];
        load(taps.offset[tap], pixel);
        add_product(sum, taps.weight[tap], pixel);
      }
    }
  }

  template <int kCount, typename Load>
  static GRIDSAMPLE_DEVICE void nested(const Taps<Config>& taps, const Load& load,
                                       compute_t (&sum)[kCount]) {
    set_zero(sum);
    GRIDSAMPLE_UNROLL_ALL
    for (int z = 0; z < Config::kTapsZ; ++z) {
      compute_t plane[kCount];
      set_zero(plane);
      GRIDSAMPLE_UNROLL_ALL
      for (int y = 0; y < Config::kTaps; ++y) {
        compute_t row[kCount];
        set_zero(row);
        GRIDSAMPLE_UNROLL_ALL
        for (int x = 0; x < Config::kTaps; ++x) {
          const auto offset = offset_of_tap(taps, z, y, x);
          if (offset >= 0) {
            compute_t pixel[kCount];
            load(offset, pixel);
            add_product(row, taps.weight[0][x], pixel);
          }
        }
        add_product(plane, taps.weight[1][y], row);
      }
      add_product(sum, Config::kDims == 3 ? taps.weight[Config::kDims - 1][z] : compute_t(1),
                  plane);
    }
  }
};

}  // namespace gridsample_ext::cuda
