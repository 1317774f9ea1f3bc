#pragma once

// What both forward kernels have in common.

#include "cuda/device/config.cuh"

namespace gridsample_ext::cuda {

/// How pixels are read and outputs written.
template <typename Config>
using OutputPixels = std::conditional_t<Config::kCopies, CopiedPixels<typename Config::pixel_t>,
                                        Pixels<typename Config::pixel_t>>;

/// Blocks of a multiprocessor that registers should leave room for: the more taps, the more are
/// read at once, and the fewer blocks it takes to keep memory busy.
template <typename Config>
constexpr int kLeastBlocks =
    Config::kAllTaps > 8                      ? (sizeof(typename Config::compute_t) == 8 ? 1 : 2)
    : sizeof(typename Config::compute_t) == 8 ? 2
    : Config::kAllTaps > 1                    ? 3
                                              : 4;

}  // namespace gridsample_ext::cuda
