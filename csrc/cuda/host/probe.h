#pragma once

#include <cuda_runtime.h>

namespace gridsample_ext::cuda {

/// An error where the device cannot run the kernels of this library.
cudaError_t find_kernels();

}  // namespace gridsample_ext::cuda
