#pragma once

// The taps of a sample whose coordinates move along V, a direction for the grid.
//
// Each coordinate moves by c_a = slope_a V_a and carries weights and derivatives along:
//
//   weight_dot           dw_a          = c_a w'_a
//   derivative_dot       dw'_a         = c_a w''_a, 0 where weights are linear
//   weight_dot_of_tap    d prod_a w_a  = sum over a of  dw_a prod_(b != a) w_b
//
// By the product rule nested sums over the taps carry their derivatives along, too (Moving).

#include "cuda/device/grid_gradient.cuh"
#include "cuda/device/taps.cuh"

namespace gridsample_ext::cuda {

template <typename Config>
struct MovingTaps : Taps<Config> {
  using compute_t = typename Config::compute_t;
  compute_t weight_dot[Config::kDims][Config::kTaps];
  compute_t derivative_dot[Config::kDims][Config::kTaps];
  /// Whether some slope is not 0 and some tap inside the image. Where not, all that depends on the
  /// motion is exactly 0, whatever pixels and directions are.
  bool moves;
};

/// direction: V, as the grid is laid out. The rest as in compute_taps.
template <typename Config>
GRIDSAMPLE_DEVICE void compute_moving_taps(MovingTaps<Config>& taps, const Sample& sample,
                                           const Sampling<typename Config::compute_t>& sampling,
                                           const View& view, const View& direction) {
  using compute_t = typename Config::compute_t;
  compute_taps(taps, sample, sampling, view);
  const View& grid = sampling.grid;
  const auto component = [&](const View& of, int a) {
    const int64_t first =
        sample.batch * of.batch_stride + offset_of<Config>(sample, of, sampling.walk);
    return load_as<compute_t>(of.data, of.dtype, first + a * of.channel_stride);
  };
  bool inside = true;
  bool slopes = false;
  GRIDSAMPLE_UNROLL_ALL
  for (int a = 0; a < Config::kDims; ++a) {
    bool inside_axis = false;
    GRIDSAMPLE_UNROLL_ALL
    for (int k = 0; k < Config::kTaps; ++k) inside_axis = inside_axis || taps.offset[a][k] >= 0;
    inside = inside && inside_axis;
    slopes = slopes || taps.slope[a] != compute_t(0);
  }
  taps.moves = inside && slopes;
  GRIDSAMPLE_UNROLL_ALL
  for (int a = 0; a < Config::kDims; ++a) {
    const compute_t step =
        times_slope(component(direction, a), taps.moves ? taps.slope[a] : compute_t(0));
    compute_t second[Config::kTaps];
    portable::second_derivatives<Config::kMode>(component(grid, a), sampling.axis[a], second);
    GRIDSAMPLE_UNROLL_ALL
    for (int k = 0; k < Config::kTaps; ++k) {
      taps.weight_dot[a][k] = step * taps.derivative[a][k];
      taps.derivative_dot[a][k] = step * second[k];
    }
  }
}

template <typename Config>
GRIDSAMPLE_DEVICE typename Config::compute_t weight_dot_of_tap(const MovingTaps<Config>& taps,
                                                               int z, int y, int x) {
  const auto row = taps.weight[1][y] * taps.weight[0][x];
  const auto row_dot = multiply_add(taps.weight[1][y], taps.weight_dot[0][x],
                                    taps.weight_dot[1][y] * taps.weight[0][x]);
  if constexpr (Config::kDims == 3) {
    return multiply_add(taps.weight[2][z], row_dot, taps.weight_dot[2][z] * row);
  }
  return row_dot;
}

/// A value and its derivative along the direction.
template <typename T>
struct Moving {
  T value;
  T dot;
};

/// sum + factor * term, and its derivative.
template <typename T>
GRIDSAMPLE_DEVICE void add_product(Moving<T>& sum, T factor, T factor_dot, const Moving<T>& term) {
  sum.value = multiply_add(factor, term.value, sum.value);
  sum.dot = multiply_add(factor, term.dot, sum.dot);
  sum.dot = multiply_add(factor_dot, term.value, sum.dot);
}

/// The same where the factor stands still.
template <typename T>
GRIDSAMPLE_DEVICE void add_product(Moving<T>& sum, T factor, const Moving<T>& term) {
  sum.value = multiply_add(factor, term.value, sum.value);
  sum.dot = multiply_add(factor, term.dot, sum.dot);
}

template <typename T>
GRIDSAMPLE_DEVICE void rotate(T (&values)[4]) {
  const T first = values[0];
  GRIDSAMPLE_UNROLL_ALL
  for (int k = 0; k < 3; ++k) values[k] = values[k + 1];
  values[3] = first;
}

/// Calls visit(z) for every plane of taps. Of 64 taps a loop remains, since unrolled they take long
/// to compile and fill the instruction cache; z is 0 then, and the taps along z move up, which
/// keeps them in registers. In the end they are where they were.
template <typename Config, typename Visit>
GRIDSAMPLE_DEVICE void for_each_plane(MovingTaps<Config>& taps, const Visit& visit) {
  if constexpr (Config::kTapsZ == 4) {
    GRIDSAMPLE_UNROLL_NONE
    for (int turn = 0; turn < 4; ++turn) {
      visit(0);
      rotate(taps.offset[2]);
      rotate(taps.weight[2]);
      rotate(taps.weight_dot[2]);
      rotate(taps.derivative[2]);
      rotate(taps.derivative_dot[2]);
    }
  } else {
    GRIDSAMPLE_UNROLL_ALL
    for (int z = 0; z < Config::kTapsZ; ++z) visit(z);
  }
}

/// Calls visit(z, y, x) for every tap.
template <typename Config, typename Visit>
GRIDSAMPLE_DEVICE void for_each_moving_tap(MovingTaps<Config>& taps, const Visit& visit) {
  for_each_plane(taps, [&](int z) {
    GRIDSAMPLE_UNROLL_ALL
    for (int y = 0; y < Config::kTaps; ++y) {
      GRIDSAMPLE_UNROLL_ALL
      for (int x = 0; x < Config::kTaps; ++x) visit(z, y, x);
    }
  });
}

/// The derivative along the direction of  sum over taps of  prod_a w_a * pixel(z, y, x), where
/// pixels move, too.
template <typename Config, typename Pixel>
GRIDSAMPLE_DEVICE typename Config::compute_t moving_sum(MovingTaps<Config>& taps,
                                                        const Pixel& pixel) {
  using moving_t = Moving<typename Config::compute_t>;
  moving_t sum = {};
  for_each_plane(taps, [&](int z) {
    moving_t plane = {};
    GRIDSAMPLE_UNROLL_ALL
    for (int y = 0; y < Config::kTaps; ++y) {
      moving_t row = {};
      GRIDSAMPLE_UNROLL_ALL
      for (int x = 0; x < Config::kTaps; ++x) {
        add_product(row, taps.weight[0][x], taps.weight_dot[0][x], pixel(z, y, x));
      }
      add_product(plane, taps.weight[1][y], taps.weight_dot[1][y], row);
    }
    if constexpr (Config::kDims == 3) {
      add_product(sum, taps.weight[2][z], taps.weight_dot[2][z], plane);
    } else {
      sum = plane;
    }
  });
  return sum.dot;
}

/// Adds to gradient_dot[a] the derivative along the direction of what contract adds to gradient[a],
/// where products move, too. The slope is left to the end.
template <typename Config, typename Product>
GRIDSAMPLE_DEVICE void moving_contract(MovingTaps<Config>& taps, const Product& product,
                                       typename Config::compute_t (&gradient_dot)[Config::kDims]) {
  using moving_t = Moving<typename Config::compute_t>;
  const auto add_derivative = [&](moving_t& sum, int a, int k, const moving_t& term) {
    if constexpr (Config::kTaps == 4) {
      add_product(sum, taps.derivative[a][k], taps.derivative_dot[a][k], term);
    } else {
      add_product(sum, taps.derivative[a][k], term);
    }
  };
  const auto add_weight = [&](moving_t& sum, int a, int k, const moving_t& term) {
    add_product(sum, taps.weight[a][k], taps.weight_dot[a][k], term);
  };
  moving_t gradient[Config::kDims] = {};
  for_each_plane(taps, [&](int z) {
    moving_t plane = {};
    moving_t along_x = {};
    moving_t along_y = {};
    GRIDSAMPLE_UNROLL_ALL
    for (int y = 0; y < Config::kTaps; ++y) {
      moving_t row = {};
      moving_t row_along_x = {};
      GRIDSAMPLE_UNROLL_ALL
      for (int x = 0; x < Config::kTaps; ++x) {
        const moving_t term = product(z, y, x);
        add_weight(row, 0, x, term);
        add_derivative(row_along_x, 0, x, term);
      }
      add_weight(along_x, 1, y, row_along_x);
      add_derivative(along_y, 1, y, row);
      add_weight(plane, 1, y, row);
    }
    if constexpr (Config::kDims == 3) {
      add_weight(gradient[0], 2, z, along_x);
      add_weight(gradient[1], 2, z, along_y);
      add_derivative(gradient[2], 2, z, plane);
    } else {
      gradient[0] = along_x;
      gradient[1] = along_y;
    }
  });
  GRIDSAMPLE_UNROLL_ALL
  for (int a = 0; a < Config::kDims; ++a) gradient_dot[a] += gradient[a].dot;
}

}  // namespace gridsample_ext::cuda
