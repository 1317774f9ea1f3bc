#pragma once

// Gives the ops their kernels for one device: from the arguments of schemas.h, one by one, to
// functions that take Options.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>
#include <vector>

#include "params.h"

namespace gridsample_ext {

/// `Ops` has functions of the ops' names.
template <typename Ops>
struct Unpacked {
  using Tensor = torch::stable::Tensor;
  using OptionalTensor = std::optional<Tensor>;
  using Gradients = std::tuple<Tensor, Tensor>;

  static Tensor grid_sample(const Tensor& input, const Tensor& grid, int64_t interpolation_mode,
                            int64_t padding_mode, bool align_corners, bool pixel_coordinates,
                            double fill_value, std::optional<double> outside_value,
                            double cubic_coefficient) {
    return Ops::grid_sample(input, grid,
                            {interpolation_mode, padding_mode, align_corners, pixel_coordinates,
                             fill_value, outside_value, cubic_coefficient});
  }

  static Gradients grid_sample_backward(const Tensor& grad_output, const Tensor& input,
                                        const Tensor& grid, int64_t interpolation_mode,
                                        int64_t padding_mode, bool align_corners,
                                        const std::vector<bool>& output_mask, bool deterministic,
                                        bool pixel_coordinates, double fill_value,
                                        std::optional<double> outside_value,
                                        double cubic_coefficient) {
    return Ops::grid_sample_backward(
        grad_output, input, grid,
        {interpolation_mode, padding_mode, align_corners, pixel_coordinates, fill_value,
         outside_value, cubic_coefficient},
        output_mask, deterministic);
  }

  static Tensor grid_sample_jvp(const Tensor& input, const Tensor& grid,
                                const OptionalTensor& tangent_input,
                                const OptionalTensor& tangent_grid, int64_t interpolation_mode,
                                int64_t padding_mode, bool align_corners, bool pixel_coordinates,
                                double fill_value, std::optional<double> outside_value,
                                double cubic_coefficient) {
    return Ops::grid_sample_jvp(input, grid, tangent_input, tangent_grid,
                                {interpolation_mode, padding_mode, align_corners, pixel_coordinates,
                                 fill_value, outside_value, cubic_coefficient});
  }

  static Gradients grid_sample_double_backward(
      const OptionalTensor& grad_grad_input, const OptionalTensor& grad_grad_grid,
      const Tensor& grad_output, const Tensor& input, const Tensor& grid,
      int64_t interpolation_mode, int64_t padding_mode, bool align_corners,
      const std::vector<bool>& output_mask, bool deterministic, bool pixel_coordinates,
      double fill_value, std::optional<double> outside_value, double cubic_coefficient) {
    return Ops::grid_sample_double_backward(
        grad_grad_input, grad_grad_grid, grad_output, input, grid,
        {interpolation_mode, padding_mode, align_corners, pixel_coordinates, fill_value,
         outside_value, cubic_coefficient},
        output_mask, deterministic);
  }

  static Tensor warp(const Tensor& input, const Tensor& displacement, const OptionalTensor& affine,
                     int64_t interpolation_mode, int64_t padding_mode, bool align_corners,
                     bool pixel_coordinates, double fill_value, std::optional<double> outside_value,
                     double cubic_coefficient) {
    return Ops::warp(input, displacement, affine,
                     {interpolation_mode, padding_mode, align_corners, pixel_coordinates,
                      fill_value, outside_value, cubic_coefficient});
  }

  static std::tuple<Tensor, Tensor, Tensor> warp_backward(
      const Tensor& grad_output, const Tensor& input, const Tensor& displacement,
      const OptionalTensor& affine, int64_t interpolation_mode, int64_t padding_mode,
      bool align_corners, const std::vector<bool>& output_mask, bool deterministic,
      bool pixel_coordinates, double fill_value, std::optional<double> outside_value,
      double cubic_coefficient) {
    return Ops::warp_backward(grad_output, input, displacement, affine,
                              {interpolation_mode, padding_mode, align_corners, pixel_coordinates,
                               fill_value, outside_value, cubic_coefficient},
                              output_mask, deterministic);
  }

  static Tensor sample_labels(const Tensor& labels, const Tensor& grid, int64_t interpolation_mode,
                              int64_t padding_mode, bool align_corners, bool pixel_coordinates,
                              std::optional<int64_t> fill_value,
                              std::optional<int64_t> outside_value, double cubic_coefficient) {
    const Options options{interpolation_mode, padding_mode, align_corners,
                          pixel_coordinates,  0.0,          std::nullopt,
                          cubic_coefficient};
    return Ops::sample_labels(labels, grid, {options, fill_value, outside_value});
  }

  static Tensor spline_filter(const Tensor& image, int64_t padding_mode, bool align_corners,
                              bool transposed) {
    return Ops::spline_filter(image, {padding_mode, align_corners, transposed});
  }
};

template <typename Ops>
void register_ops(torch::stable::detail::StableLibrary& library) {
  using Functions = Unpacked<Ops>;
  library.impl("grid_sample", TORCH_BOX(&Functions::grid_sample));
  library.impl("grid_sample_backward", TORCH_BOX(&Functions::grid_sample_backward));
  library.impl("grid_sample_jvp", TORCH_BOX(&Functions::grid_sample_jvp));
  library.impl("grid_sample_double_backward", TORCH_BOX(&Functions::grid_sample_double_backward));
  library.impl("warp", TORCH_BOX(&Functions::warp));
  library.impl("warp_backward", TORCH_BOX(&Functions::warp_backward));
  library.impl("sample_labels", TORCH_BOX(&Functions::sample_labels));
  library.impl("spline_filter", TORCH_BOX(&Functions::spline_filter));
}

}  // namespace gridsample_ext
