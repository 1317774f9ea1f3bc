#pragma once

// Where a call's kernels run: on the device of its tensors, in the current stream there.

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/tensor.h>

#include "cuda/device/launch.cuh"

namespace gridsample_ext::cuda {

/// What kernels are spread and chosen by.
inline void ask_device(Queue& queue, int device) {
  const auto attribute = [&](cudaDeviceAttr which) {
    int value = 0;
    check_cuda(cudaDeviceGetAttribute(&value, which, device),
               "the device could not be asked for its properties");
    return value;
  };
  queue.multiprocessors = attribute(cudaDevAttrMultiProcessorCount);
  queue.adds_vectors = attribute(cudaDevAttrComputeCapabilityMajor) >= 9;
}

#if defined(GRIDSAMPLE_CUDA_EMULATION)

/// Kernels run on the host at once, there is nothing to choose.
class CurrentQueue : public Queue {
 public:
  explicit CurrentQueue(const torch::stable::Tensor&) {
    stream = nullptr;
    ask_device(*this, 0);
  }
};

#else

/// While it lives, the tensor's device is the current one.
class CurrentQueue : public Queue {
 public:
  explicit CurrentQueue(const torch::stable::Tensor& tensor) : guard_(tensor.get_device_index()) {
    const int32_t device = tensor.get_device_index();
    void* current = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &current));
    stream = static_cast<cudaStream_t>(current);
    ask_device(*this, device);
  }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
};

#endif

}  // namespace gridsample_ext::cuda
