#pragma once

// Both gradients, as the backward pass and the double backward pass want them; host code.

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
/// All arguments have been checked, in whatever types and layouts they are.
std::tuple<Tensor, Tensor> gradients(const Tensor& grad_output, const Tensor& input,
                                     const Tensor& grid, const Direction& direction,
                                     const Geometry& geometry, bool wants_input, bool wants_grid,
                                     bool deterministic, const Queue& queue);

/// Computes the samples again that read values outside the image other than 0, if the call has such
/// values: of the output, or of its derivative along a direction.
void finish_output(const Tensor& output, const Tensor& input, const Tensor& grid,
                   const Direction& direction, const Geometry& geometry, const Queue& queue);

}  // namespace gridsample_ext::cuda
