// The ops' kernels for CPU tensors.

#include <torch/csrc/stable/library.h>

#include "cpu/host/ops.h"
#include "register.h"

STABLE_TORCH_LIBRARY_IMPL(gridsample_ext, CPU, m) {
  gridsample_ext::register_ops<gridsample_ext::cpu::Ops>(m);
}
