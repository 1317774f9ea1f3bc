#pragma once

// The CPU implementation of the ops, as registered in register.cpp, and what they share.

#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>
#include <vector>

#include "tensors.h"
#include "cpu/host/copies.h"
#include "cpu/plan/plan.h"

namespace gridsample_ext::cpu {

using torch::stable::Tensor;

/// As registered in register.cpp: see csrc/register.h.
struct Ops {
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

/// The first two of checked arguments. `geometry` says what to compute in.
Tensor forward(const Tensor& input, const GridSource& grid, const Geometry& geometry);

/// Which gradients a caller wants; of an affine map that of the one given.
struct Wanted {
  bool input;
  bool grid;
  std::optional<Tensor> affine;
};
/// Undefined where they are not wanted.
struct Gradients {
  Tensor input;
  Tensor grid;
  Tensor affine;
};
Gradients backward(const Tensor& grad_output, const Tensor& input, const GridSource& grid,
                   const Geometry& geometry, const Wanted& wanted);

/// A tensor as plans see it.
inline Image plan_image(const Tensor& image, const Geometry& geometry) {
  return {image_view(image, geometry), image.size(0), prefers_channels_last(image)};
}

inline Tensor in_compute_type(const Tensor& image, const Geometry& geometry) {
  const Tensor copied = empty_image(image, sizes_vector(image), sum_type(geometry));
  copy(copied, image);
  return copied;
}

/// A copy for kernels to read: of an image that is repeated over the batch one image is copied,
/// whose view repeats it.
inline Tensor read_in_compute_type(Tensor image, const Geometry& geometry) {
  const bool repeated = image.size(0) > 1 && image.stride(0) == 0;
  return in_compute_type(repeated ? torch::stable::narrow(image, 0, 0, 1) : image, geometry);
}

/// Whether samples that follow each other lie far apart in the image, as a few runs of them show.
/// Asked where asks_whether_scattered says so.
bool is_scattered(const Geometry& geometry, const GridView& grid);

/// What a plan says of grad_input, for kernels: blocks of channels, and slabs, whose `ranges` are
/// filled in.
void divide_grad_input(GradInputParams& params, const GradInputSplit& split, void* ranges,
                       int64_t threads);

/// Images of any type and layout, sample by sample (plain.cpp); the geometry's compute type need
/// not be the image's. With tangent_grid the ops are of second order.
PlainParams plain_params(const Geometry& geometry, const GridSource& grid,
                         const std::optional<Tensor>& tangent_grid);
void plain_output(PlainParams params, const Tensor& input,
                  const std::optional<Tensor>& tangent_input, const Tensor& output,
                  int64_t threads);
void plain_grad_grid(PlainParams params, const Tensor& grad_output, const Tensor& input,
                     const std::optional<Tensor>& tangent_input, const Tensor& grad_grid,
                     int64_t threads);
/// Computes the samples again that read values outside the image other than 0, if the call has such
/// values. The kernels before have read 0 there.
void finish_output(const Geometry& geometry, const Tensor& input, const GridSource& grid,
                   const std::optional<Tensor>& tangent_input,
                   const std::optional<Tensor>& tangent_grid, const Tensor& output,
                   int64_t threads);
void finish_grad_grid(const Geometry& geometry, const Tensor& grad_output, const Tensor& input,
                      const GridSource& grid, const std::optional<Tensor>& tangent_input,
                      const std::optional<Tensor>& tangent_grid, const Tensor& grad_grid,
                      int64_t threads);
/// By a list of the taps of all samples, for which `taps` has room.
void plain_grad_input(PlainParams params, const Tensor& grad_output, const Tensor& grad_input,
                      void* taps, int64_t threads);
/// grad_input, of the compute type, of any number of samples; takes no memory.
void plain_scatter(PlainParams params, const Tensor& grad_output, const Tensor& grad_input,
                   int64_t threads);

}  // namespace gridsample_ext::cpu
