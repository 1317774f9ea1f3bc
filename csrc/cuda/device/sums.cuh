#pragma once

// Sums over the taps of a sample, which is all that kernels compute: in numbers with Taps, in duals
// with MovingTaps (moving_taps.cuh).

#include "math/duals.h"
#include "cuda/device/taps.cuh"

namespace gridsample_ext::cuda {

using portable::add;
using portable::add_product;
using portable::Dual;
using portable::multiply_add;
using portable::product;

template <typename T, int kCount>
GRIDSAMPLE_DEVICE void set_zero(T (&values)[kCount]) {
  GRIDSAMPLE_UNROLL_ALL
  for (int i = 0; i < kCount; ++i) values[i] = T{};
}

/// Calls visit(z) for every plane of taps. Of 64 taps a loop remains, since unrolled they take long
/// to compile, all registers and the instruction cache; z is 0 then, and the taps along z move up,
/// which keeps them in registers. In the end they are where they were.
template <typename T, typename Visit>
GRIDSAMPLE_DEVICE void for_each_plane(T& taps, const Visit& visit) {
  using Config = typename T::config;
  if constexpr (Config::kAllTaps > 16) {
    GRIDSAMPLE_UNROLL_NONE
    for (int turn = 0; turn < Config::kTapsZ; ++turn) {
      visit(0);
      taps.rotate_planes();
    }
  } else {
    GRIDSAMPLE_UNROLL_ALL
    for (int z = 0; z < Config::kTapsZ; ++z) visit(z);
  }
}

/// Calls visit(z, y, x) for every tap.
template <typename T, typename Visit>
GRIDSAMPLE_DEVICE void for_each_tap(T& taps, const Visit& visit) {
  using Config = typename T::config;
  for_each_plane(taps, [&](int z) {
    GRIDSAMPLE_UNROLL_ALL
    for (int y = 0; y < Config::kTaps; ++y) {
      GRIDSAMPLE_UNROLL_ALL
      for (int x = 0; x < Config::kTaps; ++x) visit(z, y, x);
    }
  });
}

/// x counts fastest.
template <typename Config>
GRIDSAMPLE_DEVICE constexpr int number_of_tap(int z, int y, int x) {
  return (z * Config::kTaps + y) * Config::kTaps + x;
}

template <typename T>
GRIDSAMPLE_DEVICE typename T::weight_t weight_of_tap(const T& taps, int z, int y, int x) {
  const auto weight = product(taps.weight_at(1, y), taps.weight_at(0, x));
  if constexpr (T::config::kDims == 3) return product(taps.weight_at(2, z), weight);
  return weight;
}

/// Offsets and weights of all taps: worked out once, used for all channels.
template <typename T>
struct FlatTaps {
  static constexpr int kCount = T::config::kAllTaps;
  typename T::config::index_t offset[kCount];
  typename T::weight_t weight[kCount];

  GRIDSAMPLE_DEVICE explicit FlatTaps(const T& taps) {
    for_each_tap(taps, [&](int z, int y, int x) {
      const int tap = number_of_tap<typename T::config>(z, y, x);
      offset[tap] = offset_of_tap(taps, z, y, x);
      weight[tap] = weight_of_tap(taps, z, y, x);
    });
  }
};

/// Of weight times pixel. Of one tap it is the pixel; of up to eight it is made tap by tap; of more
/// x within y within z, which multiplies less often.
template <typename T>
class WeightedSum {
 public:
  using Config = typename T::config;

  GRIDSAMPLE_DEVICE explicit WeightedSum(T& taps) : taps_(taps) {}

  /// Adds to sum, a number or several, which is 0 before; load(offset, pixel) reads as much.
  template <typename Load, typename Sum>
  GRIDSAMPLE_DEVICE void operator()(const Load& load, Sum& sum) const {
    if constexpr (kNested && Config::kDims == 3) {
      for_each_plane(taps_, [&](int z) {
        Sum plane = {};
        add_plane(z, load, plane);
        add_product(sum, taps_.weight_at(2, z), plane);
      });
    } else if constexpr (kNested) {
      add_plane(0, load, sum);
    } else if constexpr (Config::kCopies) {
      if (taps_.offset[0] >= 0) load(taps_.offset[0], sum);
    } else {
      GRIDSAMPLE_UNROLL_ALL
      for (int tap = 0; tap < Config::kAllTaps; ++tap) {
        if (taps_.offset[tap] >= 0) {
          Sum pixel;
          load(taps_.offset[tap], pixel);
          add_product(sum, taps_.weight[tap], pixel);
        }
      }
    }
  }

 private:
  static constexpr bool kNested = Config::kAllTaps > 8;

  template <typename Load, typename Sum>
  GRIDSAMPLE_DEVICE void add_plane(int z, const Load& load, Sum& plane) const {
    GRIDSAMPLE_UNROLL_ALL
    for (int y = 0; y < Config::kTaps; ++y) {
      Sum row = {};
      GRIDSAMPLE_UNROLL_ALL
      for (int x = 0; x < Config::kTaps; ++x) {
        const auto offset = offset_of_tap(taps_, z, y, x);
        if (offset >= 0) {
          Sum pixel;
          load(offset, pixel);
          add_product(row, taps_.weight_at(0, x), pixel);
        }
      }
      add_product(plane, taps_.weight_at(1, y), row);
    }
  }

  std::conditional_t<kNested, T&, FlatTaps<T>> taps_;
};

/// Adds  sum over taps of  w'_a prod_(b != a) w_b  * product(z, y, x)  to gradient[a], where the
/// products are grad_output times pixel, summed over channels. The slope is left to the end.
template <typename T, typename Product, int kDims>
GRIDSAMPLE_DEVICE void contract(T& taps, const Product& product,
                                typename T::weight_t (&gradient)[kDims]) {
  using sum_t = typename T::weight_t;
  constexpr int kTaps = T::config::kTaps;
  for_each_plane(taps, [&](int z) {
    sum_t plane = {};
    sum_t along_x = {};
    sum_t along_y = {};
    GRIDSAMPLE_UNROLL_ALL
    for (int y = 0; y < kTaps; ++y) {
      sum_t row = {};
      sum_t row_along_x = {};
      GRIDSAMPLE_UNROLL_ALL
      for (int x = 0; x < kTaps; ++x) {
        const sum_t value = product(z, y, x);
        add_product(row, taps.weight_at(0, x), value);
        add_product(row_along_x, taps.derivative_at(0, x), value);
      }
      add_product(along_x, taps.weight_at(1, y), row_along_x);
      add_product(along_y, taps.derivative_at(1, y), row);
      add_product(plane, taps.weight_at(1, y), row);
    }
    if constexpr (kDims == 3) {
      add_product(gradient[0], taps.weight_at(2, z), along_x);
      add_product(gradient[1], taps.weight_at(2, z), along_y);
      add_product(gradient[2], taps.derivative_at(2, z), plane);
    } else {
      add(gradient[0], along_x);
      add(gradient[1], along_y);
    }
  });
}

/// A slope of 0 gives exactly 0, whatever the pixels are.
template <typename compute_t>
GRIDSAMPLE_DEVICE compute_t times_slope(compute_t gradient, compute_t slope) {
  return slope == compute_t(0) ? compute_t(0) : gradient * slope;
}

/// Writes grad_grid of a sample; slope(a) and gradient(a) tell its factors.
template <typename Config, typename Gradient, typename Slope>
GRIDSAMPLE_DEVICE void store_grad_grid(const View& grad_grid, const Sample& sample,
                                       const Walk& walk, const Gradient& gradient,
                                       const Slope& slope) {
  const int64_t to =
      sample.batch * grad_grid.batch_stride + offset_of<Config>(sample, grad_grid, walk);
  GRIDSAMPLE_UNROLL_ALL
  for (int a = 0; a < Config::kDims; ++a) {
    store_as(grad_grid.data, grad_grid.dtype, to + a * grad_grid.channel_stride,
             times_slope(gradient(a), slope(a)));
  }
}

}  // namespace gridsample_ext::cuda
