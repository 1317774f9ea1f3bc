#pragma once

// Work items run on the threads of PyTorch's pool.

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "cpu/threads/flush.h"
#include "cpu/threads/fork.h"
#include "cpu/threads/stack.h"

namespace gridsample_ext {

/// Asked for here alone.
inline int64_t most_threads() { return is_forked() ? 1 : torch::stable::get_num_threads(); }

/// Runs f(worker, begin, end) over [0, items) on at most `workers` threads of PyTorch's pool, each
/// a worker of its own. They take turns at the next few items: a thread that the machine holds up
/// does not hold up the others. They have stack enough for a kernel, and treat subnormal numbers as
/// the caller does.
template <typename F>
void run_items(int64_t items, int64_t workers, const F& f) {
  workers = std::min(workers, items);
  if (workers <= 1) {
    if (items > 0) with_kernel_stack([&] { f(int64_t(0), int64_t(0), items); });
    return;
  }
  const uint64_t flush = flush_bits();
  const int64_t share = std::max<int64_t>(1, items / (workers * 8));
  std::atomic<int64_t> next{0};
  torch::stable::parallel_for(0, workers, 1, [&](int64_t first, int64_t last) {
    const FlushLike caller(flush);
    with_kernel_stack([&] {
      for (int64_t worker = first; worker < last; ++worker) {
        for (int64_t begin = next.fetch_add(share); begin < items; begin = next.fetch_add(share)) {
          f(worker, begin, std::min(begin + share, items));
        }
      }
    });
  });
}

}  // namespace gridsample_ext
