#pragma once

// The CUDA implementation of the ops, as registered by register.cpp.

#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>
#include <vector>

#include "params.h"

namespace gridsample_ext::cuda {

/// See csrc/register.h.
struct Ops {
  using Tensor = torch::stable::Tensor;

  static Tensor grid_sample(const Tensor& input, const Tensor& grid, const Options& options);

  static std::tuple<Tensor, Tensor> grid_sample_backward(const Tensor& grad_output,
                                                         const Tensor& input, const Tensor& grid,
                                                         const Options& options,
                                                         const std::vector<bool>& output_mask,
                                                         bool deterministic);

  static Tensor grid_sample_jvp(const Tensor& input, const Tensor& grid,
                                const std::optional<Tensor>& tangent_input,
                                const std::optional<Tensor>& tangent_grid, const Options& options);

  static std::tuple<Tensor, Tensor> grid_sample_double_backward(
      const std::optional<Tensor>& grad_grad_input, const std::optional<Tensor>& grad_grad_grid,
      const Tensor& grad_output, const Tensor& input, const Tensor& grid, const Options& options,
      const std::vector<bool>& output_mask, bool deterministic);

  static Tensor warp(const Tensor& input, const Tensor& displacement,
                     const std::optional<Tensor>& affine, const Options& options);

  static std::tuple<Tensor, Tensor, Tensor> warp_backward(
      const Tensor& grad_output, const Tensor& input, const Tensor& displacement,
      const std::optional<Tensor>& affine, const Options& options,
      const std::vector<bool>& output_mask, bool deterministic);

  static Tensor sample_labels(const Tensor& labels, const Tensor& grid,
                              const LabelOptions& options);

  static Tensor spline_filter(const Tensor& image, const SplineOptions& options);
};

}  // namespace gridsample_ext::cuda
