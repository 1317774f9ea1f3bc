#pragma once

// The ops' schemas. docs/semantics.md says what their arguments mean.
//
// interpolation_mode: 0 bilinear, 1 nearest, 2 bicubic, 3 bspline. padding_mode: 0 zeros, 1 border,
// 2 reflection, 3 circular, for all axes; or a padding for each, 65536 + x + 16 y + 256 z.
// What output_mask does not ask for comes back undefined (None in Python). deterministic:
// grad_input bitwise repeatable, which on the CPU it always is.
//
// Arguments with defaults come last, so that programs exported before there were any still run.
//
// grid_sample_jvp: the directional derivative of the output along (tangent_input, tangent_grid);
// one that is None is zero, and one has to be given.
//
// grid_sample_double_backward: with grad_grad_input = U and grad_grad_grid = V (None is zero; one
// has to be given), the gradients by input and by grid of
//
//   <U, grad_input> + <V, grad_grid>,  (grad_input, grad_grid) = grid_sample_backward(grad_output,
//   ...)
//
// Its gradient by grad_output is grid_sample_jvp along (U, V). Because second derivatives are
// symmetric, it is also the directional derivative of (grad_input, grad_grid) along (U, V), with
// grad_output held fixed.
//
// warp: grid_sample at displacement + affine * place, the places being those of the output's pixels
// and affine the identity if it is None. displacement has the sizes of a grid, and both are in its
// units; affine is (N or 1, dims, dims + 1). Where there is no displacement, one zero expanded
// to its sizes stands for it.
//
// spline_filter: the coefficients of cubic B-splines that interpolate image's pixels, along all its
// axes; transposed: the filter's adjoint.
//
// sample_labels: for each sample the label whose taps' weights add up to most. labels: integers of
// any type, or bools. fill_value and outside_value are labels, of uint64 as the int64 of their
// bits.

#define GRIDSAMPLE_LATER_OPTIONS                                                    \
  "bool pixel_coordinates=False, float fill_value=0.0, float? outside_value=None, " \
  "float cubic_coefficient=-0.75"

namespace gridsample_ext {

inline constexpr const char* kSchemas[] = {
    "grid_sample(Tensor input, Tensor grid, int interpolation_mode, int padding_mode, "
    "bool align_corners, " GRIDSAMPLE_LATER_OPTIONS ") -> Tensor",
    "grid_sample_backward(Tensor grad_output, Tensor input, Tensor grid, "
    "int interpolation_mode, int padding_mode, bool align_corners, bool[2] output_mask, "
    "bool deterministic=False, " GRIDSAMPLE_LATER_OPTIONS ") -> (Tensor, Tensor)",
    "grid_sample_jvp(Tensor input, Tensor grid, Tensor? tangent_input, Tensor? tangent_grid, "
    "int interpolation_mode, int padding_mode, bool align_corners, " GRIDSAMPLE_LATER_OPTIONS
    ") -> Tensor",
    "grid_sample_double_backward(Tensor? grad_grad_input, Tensor? grad_grad_grid, "
    "Tensor grad_output, Tensor input, Tensor grid, int interpolation_mode, int padding_mode, "
    "bool align_corners, bool[2] output_mask, bool deterministic=False, " GRIDSAMPLE_LATER_OPTIONS
    ") -> (Tensor, Tensor)",
    "warp(Tensor input, Tensor displacement, Tensor? affine, int interpolation_mode, "
    "int padding_mode, bool align_corners, " GRIDSAMPLE_LATER_OPTIONS ") -> Tensor",
    "warp_backward(Tensor grad_output, Tensor input, Tensor displacement, Tensor? affine, "
    "int interpolation_mode, int padding_mode, bool align_corners, bool[3] output_mask, "
    "bool deterministic=False, " GRIDSAMPLE_LATER_OPTIONS ") -> (Tensor, Tensor, Tensor)",
    "sample_labels(Tensor labels, Tensor grid, int interpolation_mode, int padding_mode, "
    "bool align_corners, bool pixel_coordinates=False, int? fill_value=None, "
    "int? outside_value=None, float cubic_coefficient=-0.75) -> Tensor",
    ("spline_filter(Tensor image, int padding_mode, bool align_corners, bool transposed=False) "
     "-> Tensor"),  // in parentheses, else Clang suspects a forgotten comma
};

#undef GRIDSAMPLE_LATER_OPTIONS

}  // namespace gridsample_ext
