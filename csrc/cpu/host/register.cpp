// The ops' kernels for CPU tensors.

#include <torch/csrc/stable/library.h>

#include "cpu/host/ops.h"

STABLE_TORCH_LIBRARY_IMPL(gridsample_ext, CPU, m) {
  m.impl("grid_sample", TORCH_BOX(&gridsample_ext::cpu::grid_sample));
  m.impl("grid_sample_backward", TORCH_BOX(&gridsample_ext::cpu::grid_sample_backward));
  m.impl("grid_sample_jvp", TORCH_BOX(&gridsample_ext::cpu::grid_sample_jvp));
  m.impl("grid_sample_double_backward",
         TORCH_BOX(&gridsample_ext::cpu::grid_sample_double_backward));
}
