#pragma once

// What the kernels use of CUDA comes in here, and all that differs under the host emulation of
// tests/cuda_emulation, which compiles the same sources with the C++ compiler.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define GRIDSAMPLE_DEVICE __device__ __forceinline__

// Arrays live in registers only where all indices are known when compiling: loops over taps, axes
// and channels of a vector must vanish. For the host compilers it does not matter.
#if defined(__CUDA_ARCH__)
#define GRIDSAMPLE_UNROLL_ALL _Pragma("unroll")
#define GRIDSAMPLE_UNROLL_NONE _Pragma("unroll 1")
#else
#define GRIDSAMPLE_UNROLL_ALL
#define GRIDSAMPLE_UNROLL_NONE
#endif

namespace gridsample_ext::cuda {

constexpr int kWarpSize = 32;
constexpr unsigned kWholeWarp = 0xffffffffu;

/// The block's dynamic shared memory, aligned to 16 bytes.
GRIDSAMPLE_DEVICE void* shared_memory() {
#if defined(GRIDSAMPLE_CUDA_EMULATION)
  return gridsample_emulation::dynamic_shared_memory();
#else
  extern __shared__ __align__(16) unsigned char bytes[];
  return bytes;
#endif
}

/// `number`, of which compilers know nothing from here on: neither that it does not change from one
/// turn of a loop to the next nor what it is a product of. They would keep more addresses in
/// registers than there are, or compute each of them in 64 bits.
GRIDSAMPLE_DEVICE uint32_t opaque(uint32_t number) {
#if defined(__CUDA_ARCH__)
  asm volatile("" : "+r"(number));
#endif
  return number;
}
GRIDSAMPLE_DEVICE int64_t opaque(int64_t number) {
#if defined(__CUDA_ARCH__)
  asm volatile("" : "+l"(number));
#endif
  return number;
}

}  // namespace gridsample_ext::cuda
