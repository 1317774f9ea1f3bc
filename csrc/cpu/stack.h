#pragma once

// Kernels keep the plan of a tile, sums and transposed tiles on the stack. A thread that has less
// of it left than they may need has them run on another.

#include <cstddef>
#include <cstdint>

namespace gridsample_ext {

/// What a kernel, with all that it calls, may use of the stack. docs/architecture.md, "Memory",
/// says what was measured; tests/test_processes.py measures it again. Frames are larger without
/// optimisation and under AddressSanitizer.
#if defined(__SANITIZE_ADDRESS__) || !defined(__OPTIMIZE__)
constexpr size_t kKernelStack = size_t(4) << 20;
#else
constexpr size_t kKernelStack = size_t(1) << 20;
#endif

/// The calling thread's stack, as far as it is known.
struct StackLimits {
  uintptr_t lowest = UINTPTR_MAX;
  uintptr_t end = 0;
  bool leaves(uintptr_t address, size_t size) const {
    return address < end && address >= lowest && address - lowest >= size;
  }
};
extern constinit thread_local StackLimits stack_limits;

/// Asks the operating system for stack_limits. Where it has no answer they are taken to be those
/// of an endless stack. A stack of another kind, a fiber's, is known to nobody: nothing is left.
bool find_stack_leaves(uintptr_t address, size_t size);

inline bool has_kernel_stack() {
  const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  return stack_limits.leaves(here, kKernelStack) || find_stack_leaves(here, kKernelStack);
}

/// Calls function(context) on a thread of its own that has stack enough, and waits for it. What it
/// throws is thrown here.
void run_on_kernel_stack(void (*function)(void*), void* context);

/// Calls f(), on another thread if this one has too little stack left for a kernel.
template <typename F>
void with_kernel_stack(const F& f) {
  if (has_kernel_stack()) return f();
  run_on_kernel_stack([](void* context) { (*static_cast<const F*>(context))(); },
                      const_cast<F*>(&f));
}

}  // namespace gridsample_ext
