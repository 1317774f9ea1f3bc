#pragma once

// The CUDA implementation of the ops, as registered by register.cpp.

#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>
#include <vector>

namespace gridsample_ext::cuda {

torch::stable::Tensor grid_sample(const torch::stable::Tensor& input,
                                  const torch::stable::Tensor& grid, int64_t interpolation_mode,
                                  int64_t padding_mode, bool align_corners);

std::tuple<torch::stable::Tensor, torch::stable::Tensor> grid_sample_backward(
    const torch::stable::Tensor& grad_output, const torch::stable::Tensor& input,
    const torch::stable::Tensor& grid, int64_t interpolation_mode, int64_t padding_mode,
    bool align_corners, const std::vector<bool>& output_mask, bool deterministic);

torch::stable::Tensor grid_sample_jvp(const torch::stable::Tensor& input,
                                      const torch::stable::Tensor& grid,
                                      const std::optional<torch::stable::Tensor>& tangent_input,
                                      const std::optional<torch::stable::Tensor>& tangent_grid,
                                      int64_t interpolation_mode, int64_t padding_mode,
                                      bool align_corners);

std::tuple<torch::stable::Tensor, torch::stable::Tensor> grid_sample_double_backward(
    const std::optional<torch::stable::Tensor>& grad_grad_input,
    const std::optional<torch::stable::Tensor>& grad_grad_grid,
    const torch::stable::Tensor& grad_output, const torch::stable::Tensor& input,
    const torch::stable::Tensor& grid, int64_t interpolation_mode, int64_t padding_mode,
    bool align_corners, const std::vector<bool>& output_mask, bool deterministic);

}  // namespace gridsample_ext::cuda
