// The ops' schemas. interpolation_mode: 0 bilinear, 1 nearest, 2 bicubic; padding_mode: 0 zeros,
// 1 border, 2 reflection. What output_mask does not ask for comes back undefined (None in Python).

#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(gridsample_ext, m) {
  m.def(
      "grid_sample(Tensor input, Tensor grid, int interpolation_mode, int padding_mode, "
      "bool align_corners) -> Tensor");
  m.def(
      "grid_sample_backward(Tensor grad_output, Tensor input, Tensor grid, "
      "int interpolation_mode, int padding_mode, bool align_corners, bool[2] output_mask) "
      "-> (Tensor, Tensor)");
}
