// Loading this library gives the ops their CUDA kernels; and whether a device can run them.

#include <torch/csrc/stable/library.h>

#include <string>

#include "cuda/host/grid_sample.h"
#include "cuda/host/probe.h"
#include "register.h"

STABLE_TORCH_LIBRARY_IMPL(gridsample_ext, CUDA, m) {
  gridsample_ext::register_ops<gridsample_ext::cuda::Ops>(m);
}

namespace gridsample_ext::cuda {
namespace {

std::string problem() {
  int driver = 0;
  int runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  // Minor versions of one major version are compatible with each other.
  if (driver / 1000 < runtime / 1000) {
    return "the kernels were built with CUDA " + std::to_string(runtime / 1000) +
           ", but the driver is for CUDA " + std::to_string(driver / 1000) +
           "; rebuild with an older nvcc or update the driver";
  }
  const cudaError_t error = find_kernels();
  if (error == cudaSuccess) return "";
  static_cast<void>(cudaGetLastError());
  return std::string("the kernels cannot run on this device: ") + cudaGetErrorString(error) +
         "; rebuild with its compute capability in TORCH_CUDA_ARCH_LIST";
}

}  // namespace
}  // namespace gridsample_ext::cuda

/// Why the kernels cannot run on the current device, or null; valid until the thread asks again.
extern "C" __attribute__((visibility("default"))) const char* gridsample_ext_cuda_problem() {
  thread_local std::string text;
  text = gridsample_ext::cuda::problem();
  return text.empty() ? nullptr : text.c_str();
}
