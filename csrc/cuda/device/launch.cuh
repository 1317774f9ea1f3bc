#pragma once

// Launching kernels: on which device and stream, how many blocks, and what went wrong.

#include <algorithm>
#include <stdexcept>
#include <string>

#include "params.h"
#include "cuda/device/platform.cuh"

namespace gridsample_ext::cuda {

constexpr int kThreads = 256;

/// An error that is reported here is not left for the next call to find.
inline void check_cuda(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  static_cast<void>(cudaGetLastError());
  throw std::runtime_error("gridsample_ext: " + std::string(what) + ": " +
                           cudaGetErrorString(error));
}

/// Where a call's kernels run: the current stream of the tensors' device.
struct Queue {
  cudaStream_t stream;
  int multiprocessors;
  bool adds_vectors;  // four floats of global memory in one atomic addition

  /// Four blocks per multiprocessor, of eight warps each, fill half of it.
  int64_t wanted_blocks() const { return 4 * int64_t(multiprocessors); }
};

constexpr int64_t kMostTiles = 0x7fffffff;
constexpr int64_t kMostChunks = 65535;  // and images

/// How a kernel is spread: blocks beyond what a grid may have are walked over by those there are.
struct Spread {
  int64_t tiles;       // blockIdx.x strides over them
  int64_t chunks = 1;  // blockIdx.y over these
  int64_t images = 1;  // blockIdx.z is one of them: no more than kMostChunks
  dim3 threads = dim3(kThreads);
  size_t shared_bytes = 0;

  /// Channels, of which there are so many parts, go to different blocks as far as tiles alone do
  /// not keep the device busy.
  void share_channels(int64_t parts, const Queue& queue) {
    chunks = std::min(parts, ceil_div(queue.wanted_blocks(), tiles));
  }
};

/// The name is for errors, and for tests of which kernels a call takes.
template <typename Params>
void launch(const char* name, void (*kernel)(Params), const Spread& spread, Params params,
            const Queue& queue) {
  const dim3 blocks(static_cast<unsigned>(std::min(spread.tiles, kMostTiles)),
                    static_cast<unsigned>(std::min(spread.chunks, kMostChunks)),
                    static_cast<unsigned>(spread.images));
  void* arguments[] = {&params};
#if defined(GRIDSAMPLE_CUDA_EMULATION)
  gridsample_emulation::note_launch(name);
#endif
  const cudaError_t error = cudaLaunchKernel(kernel, blocks, spread.threads, arguments,
                                             spread.shared_bytes, queue.stream);
  if (error != cudaSuccess) {
    check_cuda(error, ("kernel " + std::string(name) + " could not be launched").c_str());
  }
}

}  // namespace gridsample_ext::cuda
