// A program of its own, for AddressSanitizer: a launch that leaves its threads waiting, one within
// the bounds of shared memory and, given an argument, one that goes a float beyond them.

#include <cuda_runtime.h>

#include <cstdio>
#include <stdexcept>

namespace {

struct Arguments {
  float* out;
  unsigned shift;
};

__global__ void rotate(const Arguments a) {
  auto* values = static_cast<float*>(gridsample_emulation::dynamic_shared_memory());
  float mine[8] = {};
  mine[threadIdx.x % 8] = static_cast<float>(threadIdx.x);
  values[threadIdx.x + a.shift] = mine[threadIdx.x % 8];
  __syncthreads();
  const float next = values[(threadIdx.x + 1) % blockDim.x];
  atomicAdd(a.out, __shfl_xor_sync(0xffffffff, next, 1));
}

__global__ void deadlock(const Arguments) {
  if (threadIdx.x != 50) __syncthreads();
}

}  // namespace

int main(int argc, char**) {
  float sum = 0;
  Arguments arguments{&sum, 0};
  void* args[] = {&arguments};
  try {
    cudaLaunchKernel(deadlock, dim3(2), dim3(64), args);
    return 1;
  } catch (const std::runtime_error& error) {
    std::puts(error.what());
  }
  cudaLaunchKernel(rotate, dim3(3), dim3(64), args, 64 * sizeof(float));
  std::printf("sum %g\n", static_cast<double>(sum));
  std::fflush(stdout);  // AddressSanitizer ends a program without
  if (argc > 1) {
    arguments.shift = 1;
    cudaLaunchKernel(rotate, dim3(3), dim3(64), args, 64 * sizeof(float));
  }
  return 0;
}
