#pragma once

// Kernels keep the plan of a tile, sums and transposed tiles on the stack. If the calling thread
// has less stack left than a kernel may need, the kernel runs on a thread of its own.

#include <cstddef>
#include <cstdint>

namespace gridsample_ext {

/// What a kernel, with all that it calls, may use of the stack. docs/benchmarks.md, "Stack", says
/// what was measured; tests/test_stacks.py measures it again. Frames are larger without
/// optimisation and under AddressSanitizer.
#if defined(__has_feature)
#define GRIDSAMPLE_HAS_FEATURE(name) __has_feature(name)  // Clang
#else
#define GRIDSAMPLE_HAS_FEATURE(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || GRIDSAMPLE_HAS_FEATURE(address_sanitizer) || \
    !defined(__OPTIMIZE__)
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

/// Asks the operating system for stack_limits. Where it has no answer, the stack counts as endless.
/// The limits of a fiber's stack cannot be looked up; it counts as too small.
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
