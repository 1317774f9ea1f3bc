#pragma once

// Both gradients, as the backward pass and the double backward pass want them; host code.

#include <optional>
#include <tuple>

#include "tensors.h"
#include "cuda/device/launch.cuh"

namespace gridsample_ext::cuda {

/// A direction for input and grid along which the gradients are differentiated. Undefined is zero;
/// one for input comes with one for grid, or the gradients are linear in it.
struct Direction {
  Tensor input;
  Tensor grid;
};

/// grad_input and grad_grid, or, with a direction, their derivatives; undefined where not wanted.
/// All arguments have been checked, in whatever types and layouts they are. grad_grid is of
/// grid_type, by default the grid's.
std::tuple<Tensor, Tensor> gradients(const Tensor& grad_output, const Tensor& input,
                                     const GridSource& grid, const Direction& direction,
                                     const Geometry& geometry, bool wants_input, bool wants_grid,
                                     bool deterministic, const Queue& queue,
                                     std::optional<ScalarType> grid_type = std::nullopt);

/// The gradient of a warp's affine map, of that by coordinates, which is of the compute type.
Tensor sum_affine(const Tensor& grad_grid, const Tensor& affine, const Geometry& geometry,
                  const Queue& queue);

/// Computes the samples again that read values outside the image other than 0, if the call has such
/// values: of the output, or of its derivative along a direction.
void finish_output(const Tensor& output, const Tensor& input, const GridSource& grid,
                   const Direction& direction, const Geometry& geometry, const Queue& queue);

}  // namespace gridsample_ext::cuda
