// The kernels of csrc/cuda/ as ops of their own, for CPU tensors.

#include <torch/csrc/stable/library.h>

#include "cuda/host/grid_sample.h"
#include "schemas.h"

STABLE_TORCH_LIBRARY(gridsample_ext_emulated, m) {
  for (const char* schema : gridsample_ext::kSchemas) m.def(schema);
}

STABLE_TORCH_LIBRARY_IMPL(gridsample_ext_emulated, CPU, m) {
  m.impl("grid_sample", TORCH_BOX(&gridsample_ext::cuda::grid_sample));
  m.impl("grid_sample_backward", TORCH_BOX(&gridsample_ext::cuda::grid_sample_backward));
  m.impl("grid_sample_jvp", TORCH_BOX(&gridsample_ext::cuda::grid_sample_jvp));
  m.impl("grid_sample_double_backward",
         TORCH_BOX(&gridsample_ext::cuda::grid_sample_double_backward));
}
