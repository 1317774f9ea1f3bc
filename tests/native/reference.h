#pragma once

// The ops by plain loops in float64, as docs/semantics.md defines them. Coordinates alone are
// computed in the compute type T, operation by operation: a kernel has to find the pixels that they
// name.

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "params.h"

namespace native {

using gridsample_ext::Geometry;
using gridsample_ext::Mode;
using gridsample_ext::Padding;

/// The taps of one axis: those outside the image have a negative index.
struct Taps {
  int count = 0;
  int64_t index[4];
  double weight[4], first[4], second[4];  // w, w', w''
  double slope;
};

template <typename T>
struct Coordinate {
  T value;
  double slope;
};

template <typename T>
Coordinate<T> padded(Coordinate<T> u, Padding padding, T low, T extent, T last) {
  if (padding == Padding::kZeros) return u;
  if (padding == Padding::kCircular) {
    const T size = last + T(1);
    if (size == T(1)) return {T(0), 0.0};
    u.value = std::fmod(u.value, size);
    if (u.value < T(0)) u.value += size;
    if (u.value >= size) u.value = T(0);
    return u;
  }
  if (padding == Padding::kReflection) {
    if (extent == T(0)) return {T(0), 0.0};
    const bool below = u.value < low;
    const T turns = std::fmod(std::fabs(u.value - low), T(2) * extent);
    const bool back = turns >= extent;
    const T rest = back ? turns - extent : turns;
    u.value = low + (back ? extent - rest : rest);
    if (below != back) u.slope = -u.slope;
  }
  if (!(u.value > T(0) && u.value < last)) u.slope = 0;
  u.value = std::fmin(std::fmax(u.value, T(0)), last);
  return u;
}

template <typename T>
Taps taps_of(T x, int a, const Geometry& geometry) {
  constexpr T kMost = std::numeric_limits<T>::max();
  const int64_t size = geometry.input_size[a];
  const Padding padding = geometry.padding[a];
  const bool circular = padding == Padding::kCircular;
  const T extent = T(geometry.align_corners ? size - 1 : size);
  const T shift = T(geometry.align_corners ? 0 : 1);
  const T low = -shift / T(2);
  const T last = T(size - 1);
  Coordinate<T> u;
  if (geometry.pixel_coordinates) {
    u.slope = std::isfinite(x) ? 1 : 0;
    u.value = std::isnan(x) ? low : x;
  } else {
    u.slope = std::isfinite(x) ? double(extent) / 2 : 0;
    if (std::isnan(x)) x = T(-1);
    const T scaled = std::isinf(x) && extent == T(0) ? T(0) : (x + T(1)) * extent;
    u.value = (scaled - shift) / T(2);
  }
  u.value = std::fmin(std::fmax(u.value, -kMost), kMost);
  const auto index_of = [&](T position) {
    return position >= T(0) && position <= last ? static_cast<int64_t>(position) : int64_t(-1);
  };

  Taps taps;
  if (geometry.mode == Mode::kBicubic) {
    if (circular) u = padded(u, padding, low, extent, last);
    const T floor = std::floor(u.value);
    const double t = u.value - floor;
    const double A = geometry.cubic_coefficient;
    taps.count = 4;
    for (int k = 0; k < 4; ++k) {
      const Coordinate<T> position{floor + T(k - 1), 0.0};
      taps.index[k] = index_of(padded(position, padding, low, extent, last).value);
      const double d = std::fabs(t + 1 - k);  // the distance to the tap
      const double side = k < 2 ? 1 : -1;     // its derivative by t
      if (geometry.bspline) {
        const bool is_near = k == 1 || k == 2;
        taps.weight[k] = is_near ? d * d * d / 2 - d * d + 2.0 / 3 : std::pow(2 - d, 3) / 6;
        taps.first[k] = side * (is_near ? 1.5 * d * d - 2 * d : -(2 - d) * (2 - d) / 2);
        taps.second[k] = is_near ? 3 * d - 2 : 2 - d;
      } else if (k == 1 || k == 2) {
        taps.weight[k] = (A + 2) * d * d * d - (A + 3) * d * d + 1;
        taps.first[k] = side * (3 * (A + 2) * d * d - 2 * (A + 3) * d);
        taps.second[k] = 6 * (A + 2) * d - 2 * (A + 3);
      } else {
        taps.weight[k] = A * (d * d * d - 5 * d * d + 8 * d - 4);
        taps.first[k] = side * A * (3 * d * d - 10 * d + 8);
        taps.second[k] = A * (6 * d - 10);
      }
    }
    taps.slope = u.slope;
    return taps;
  }
  if (geometry.mode == Mode::kNearest && circular) u.value = std::nearbyint(u.value);
  u = padded(u, padding, low, extent, last);
  taps.slope = u.slope;
  if (geometry.mode == Mode::kNearest) {
    taps.count = 1;
    taps.index[0] = index_of(std::nearbyint(u.value));
    taps.weight[0] = 1;
    taps.first[0] = taps.second[0] = 0;
    return taps;
  }
  const T floor = std::floor(u.value);
  const double t = u.value - floor;
  taps.count = 2;
  for (int k = 0; k < 2; ++k) {
    const bool goes_on = circular && floor + T(k) > last;
    taps.index[k] = goes_on ? 0 : index_of(floor + T(k));
    taps.weight[k] = k == 0 ? 1 - t : t;
    taps.first[k] = k == 0 ? -1 : 1;
    taps.second[k] = 0;
  }
  return taps;
}

/// Tensors as they are counted here: images [batch][channel][pixel], x fastest; grids
/// [batch][sample][axis].
struct Tensors {
  std::vector<double> input, tangent_input;  // images
  std::vector<double> grid, tangent_grid;    // grids
  std::vector<double> grad_output;           // [batch][channel][sample]
};

struct Results {
  std::vector<double> output, jvp;               // [batch][channel][sample]
  std::vector<double> grad_input, second_input;  // images: of the backward pass, and of its own
  std::vector<double> grad_grid, second_grid;    // grids
};

template <typename T>
Results expected(const Geometry& geometry, const Tensors& given) {
  const int dims = geometry.dims;
  int64_t pixels = 1;
  for (int a = 0; a < dims; ++a) pixels *= geometry.input_size[a];
  const int64_t images = geometry.batch * geometry.channels;
  Results results;
  for (auto* image : {&results.grad_input, &results.second_input}) image->resize(images * pixels);
  for (auto* out : {&results.output, &results.jvp}) out->resize(images * geometry.samples);
  for (auto* grid : {&results.grad_grid, &results.second_grid}) {
    grid->resize(geometry.batch * geometry.samples * dims);
  }
  for (int64_t point = 0; point < geometry.batch * geometry.samples; ++point) {
    const int64_t batch = point / geometry.samples, sample = point % geometry.samples;
    Taps axis[3];
    double along_axis[3] = {0, 0, 0};  // c_a
    for (int a = 0; a < dims; ++a) {
      axis[a] = taps_of(static_cast<T>(given.grid[point * dims + a]), a, geometry);
      along_axis[a] = axis[a].slope * given.tangent_grid[point * dims + a];
    }
    for (int a = dims; a < 3; ++a) {
      axis[a].count = 1;
      axis[a].index[0] = 0;
      axis[a].weight[0] = 1;
      axis[a].first[0] = axis[a].second[0] = axis[a].slope = 0;
    }
    for (int z = 0; z < axis[2].count; ++z) {
      for (int y = 0; y < axis[1].count; ++y) {
        for (int x = 0; x < axis[0].count; ++x) {
          const int tap[3] = {x, y, z};
          int64_t pixel = 0;
          bool inside = true;
          for (int a = 2; a >= 0; --a) {
            inside = inside && axis[a].index[tap[a]] >= 0;
            pixel = pixel * geometry.input_size[a] + axis[a].index[tap[a]];
          }
          if (!inside) continue;
          // The weight differentiated by the coordinates of axes a and b; -1: by none.
          const auto derived = [&](int by_a, int by_b) {
            double product = 1;
            for (int a = 0; a < 3; ++a) {
              const int order = (a == by_a) + (a == by_b);
              const Taps& taps = axis[a];
              product *= order == 0   ? taps.weight[tap[a]]
                         : order == 1 ? taps.first[tap[a]]
                                      : taps.second[tap[a]];
            }
            return product;
          };
          const double weight = derived(-1, -1);
          double by[3], along = 0, along_by[3] = {0, 0, 0};
          for (int a = 0; a < dims; ++a) {
            by[a] = derived(a, -1);
            along += along_axis[a] * by[a];
            for (int b = 0; b < dims; ++b) along_by[a] += along_axis[b] * derived(a, b);
          }
          for (int64_t c = 0; c < geometry.channels; ++c) {
            const int64_t image = batch * geometry.channels + c;
            const int64_t out = image * geometry.samples + sample;
            const double value = given.input[image * pixels + pixel];
            const double tangent = given.tangent_input[image * pixels + pixel];
            const double grad = given.grad_output[out];
            results.output[out] += weight * value;
            results.jvp[out] += weight * tangent + along * value;
            results.grad_input[image * pixels + pixel] += weight * grad;
            results.second_input[image * pixels + pixel] += along * grad;
            for (int a = 0; a < dims; ++a) {
              results.grad_grid[point * dims + a] += axis[a].slope * by[a] * value * grad;
              results.second_grid[point * dims + a] +=
                  axis[a].slope * (along_by[a] * value + by[a] * tangent) * grad;
            }
          }
        }
      }
    }
  }
  return results;
}

}  // namespace native
