#pragma once

// Coordinates without a grid: an affine map of the places of the output's pixels, and a
// displacement added to it. docs/semantics.md, "Warp".

#include "math/macros.h"
#include "params.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Where the pixels of the output lie along an axis, in the units of coordinates, if nothing moves
/// them: pixel i at (i * step + shift) * factor / divisor + origin.
template <typename T>
struct Places {
  T step;
  T shift;
  T factor;
  T divisor;
  T origin;
  bool is_identity;  // pixel i at i

  GRIDSAMPLE_INLINE T at(T i) const { return (i * step + shift) * factor / divisor + origin; }
};

template <typename T>
GRIDSAMPLE_INLINE Places<T> make_places(const Geometry& geometry, int a) {
  const int64_t count = geometry.output_size[a];
  const int64_t size = geometry.input_size[a];
  const auto spaces = static_cast<T>(count - 1);
  if (!geometry.pixel_coordinates) {
    if (!geometry.align_corners) return {T(2), T(1), T(1), static_cast<T>(count), T(-1), false};
    if (count == 1) return {T(1), T(0), T(1), T(1), T(0), true};
    return {T(2), T(0), T(1), spaces, T(-1), false};
  }
  if (count == size) return {T(1), T(0), T(1), T(1), T(0), true};
  if (!geometry.align_corners) {
    return {T(1), T(0.5), static_cast<T>(size), static_cast<T>(count), T(-0.5), false};
  }
  const auto extent = static_cast<T>(size - 1);
  if (count == 1) return {T(1), T(0), T(1), T(1), extent / T(2), false};
  return {T(1), T(0), extent, spaces, T(0), false};
}

/// Coordinate a of an affine map, `rows` of dims + 1 numbers, of a place: what x adds, then the
/// rest.
template <typename T>
GRIDSAMPLE_INLINE T mapped(const T* rows, int dims, int a, const T* place) {
  const T* row = rows + a * (dims + 1);
  T sum = row[0] * place[0];
  for (int b = 1; b < dims; ++b) sum = sum + row[b] * place[b];
  return sum + row[dims];
}

/// values += where a warp takes the pixel of the output that `pixel` counts along each axis.
/// `affine`: of the sample's image, or null.
template <typename T>
GRIDSAMPLE_INLINE void add_warped_place(const Places<T>* places, const T* affine, int dims,
                                        const int64_t* pixel, T* values) {
  T place[kMaxDims] = {};
  for (int a = 0; a < dims; ++a) {
    const auto number = static_cast<T>(pixel[a]);
    place[a] = places[a].is_identity ? number : places[a].at(number);
  }
  for (int a = 0; a < dims; ++a) {
    values[a] = (affine == nullptr ? place[a] : mapped(affine, dims, a, place)) + values[a];
  }
}

GRIDSAMPLE_NAMESPACE_END
