#include "cpu/threads/fork.h"

#include <pthread.h>

#include <atomic>

namespace gridsample_ext {
namespace {

std::atomic<bool> forked{false};

[[maybe_unused]] const int registered =
    pthread_atfork(nullptr, nullptr, [] { forked.store(true, std::memory_order_relaxed); });

}  // namespace

bool is_forked() noexcept { return forked.load(std::memory_order_relaxed); }

}  // namespace gridsample_ext
