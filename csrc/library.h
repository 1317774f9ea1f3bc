#pragma once

// What gridsample_ext_cpu.so offers by name, to the Python module _C. All else it offers are its
// ops, which PyTorch's dispatcher finds.

#include <cstddef>
#include <string>
#include <vector>

#include "math/macros.h"

namespace gridsample_ext {

struct BuildInfo {
  std::string compiler;
  long cxx_standard;
  std::string torch_built_with;
  std::string isa;
  std::string isa_forced;  // empty: GRIDSAMPLE_EXT_ISA is not set
  std::vector<std::string> isa_supported;
  bool fast_gathers;
  size_t kernel_stack;  // bytes
};

/// How the kernels were compiled and which instruction set they use. Throws std::runtime_error when
/// GRIDSAMPLE_EXT_ISA or GRIDSAMPLE_EXT_GATHERS cannot be followed, as the ops do.
GRIDSAMPLE_EXPORT BuildInfo build_info();

}  // namespace gridsample_ext
