#pragma once

// The CPU implementation of the ops, as registered in grid_sample.cpp, and what they share.

#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>
#include <vector>

#include "cpu/work.h"

namespace gridsample_ext::cpu {

using torch::stable::Tensor;

Tensor grid_sample(const Tensor& input, const Tensor& grid, int64_t interpolation_mode,
                   int64_t padding_mode, bool align_corners);

std::tuple<Tensor, Tensor> grid_sample_backward(const Tensor& grad_output, const Tensor& input,
                                                const Tensor& grid, int64_t interpolation_mode,
                                                int64_t padding_mode, bool align_corners,
                                                const std::vector<bool>& output_mask,
                                                bool deterministic);

Tensor grid_sample_jvp(const Tensor& input, const Tensor& grid,
                       const std::optional<Tensor>& tangent_input,
                       const std::optional<Tensor>& tangent_grid, int64_t interpolation_mode,
                       int64_t padding_mode, bool align_corners);

std::tuple<Tensor, Tensor> grid_sample_double_backward(
    const std::optional<Tensor>& grad_grad_input, const std::optional<Tensor>& grad_grad_grid,
    const Tensor& grad_output, const Tensor& input, const Tensor& grid, int64_t interpolation_mode,
    int64_t padding_mode, bool align_corners, const std::vector<bool>& output_mask,
    bool deterministic);

/// Calls of few samples on images of any type and layout (plain.cpp); the geometry's compute type
/// need not be the image's. With tangent_grid they are of second order.
PlainParams plain_params(const Geometry& geometry, const Tensor& grid,
                         const std::optional<Tensor>& tangent_grid);
void plain_output(PlainParams params, const Tensor& input,
                  const std::optional<Tensor>& tangent_input, const Tensor& output);
void plain_grad_grid(PlainParams params, const Tensor& grad_output, const Tensor& input,
                     const std::optional<Tensor>& tangent_input, const Tensor& grad_grid);
/// Takes memory for the taps of all samples, not for the image. False if there is none; then
/// nothing has been written.
bool plain_grad_input(PlainParams params, const Tensor& grad_output, Tensor grad_input);
/// grad_input, of the compute type, of any number of samples; takes no memory.
void plain_scatter(PlainParams params, const Tensor& grad_output, const Tensor& grad_input);

/// Cuts grad_input into blocks of channels and slabs for `threads`; all of `params` but that has to
/// be filled in. `ranges` has to outlive them.
void divide_grad_input(GradInputParams& params, int64_t threads, std::vector<TapRange>& ranges);

}  // namespace gridsample_ext::cpu
