#pragma once

// Stacks to switch between on one host thread; for emulation.cpp alone.

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define GRIDSAMPLE_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GRIDSAMPLE_ASAN
#endif
#endif
#if defined(GRIDSAMPLE_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__) || defined(GRIDSAMPLE_EMULATION_UCONTEXT)
#define GRIDSAMPLE_UCONTEXT
#include <ucontext.h>
#else
// swapcontext asks the system for the signal mask at each switch. This saves what a function must
// preserve, on the old stack, and takes it from the new one.
extern "C" void gridsample_emulation_switch(void** old_top, void* new_top);
asm(R"(
.text
.globl gridsample_emulation_switch
.hidden gridsample_emulation_switch
.type gridsample_emulation_switch, @function
gridsample_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size gridsample_emulation_switch, . - gridsample_emulation_switch
)");
#endif

namespace gridsample_emulation {

/// Where execution rests, with what AddressSanitizer must know of the stack.
struct Context {
#if defined(GRIDSAMPLE_UCONTEXT)
  ucontext_t registers;
#else
  void* top = nullptr;
#endif
  const void* stack = nullptr;
  size_t bytes = 0;
  void* fake_stack = nullptr;
};

/// Ends a switch, on the new stack. A fiber's first is how the stack it comes from becomes known.
inline void arrive([[maybe_unused]] Context& here, [[maybe_unused]] Context& from) {
#if defined(GRIDSAMPLE_ASAN)
  __sanitizer_finish_switch_fiber(here.fake_stack, &from.stack, &from.bytes);
#endif
}

inline void switch_context(Context& from, Context& to) {
#if defined(GRIDSAMPLE_ASAN)
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.bytes);
#endif
#if defined(GRIDSAMPLE_UCONTEXT)
  swapcontext(&from.registers, &to.registers);
#else
  gridsample_emulation_switch(&from.top, to.top);
#endif
  arrive(from, to);
}

/// A stack on which the first switch to `context` calls `run`, which has to begin with `arrive` and
/// must never return.
class Fiber {
 public:
  explicit Fiber(void (*run)()) {
#if defined(GRIDSAMPLE_ASAN)
    context.bytes = 256 << 10;
#else
    context.bytes = 64 << 10;
#endif
    memory_ = mmap(nullptr, kGuard + context.bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory_ == MAP_FAILED) throw std::bad_alloc();
    // Stacks grow down, and one that overflows faults.
    mprotect(memory_, kGuard, PROT_NONE);
    char* stack = static_cast<char*>(memory_) + kGuard;
    context.stack = stack;
#if defined(GRIDSAMPLE_UCONTEXT)
    getcontext(&context.registers);
    context.registers.uc_stack.ss_sp = stack;
    context.registers.uc_stack.ss_size = context.bytes;
    context.registers.uc_link = nullptr;
    makecontext(&context.registers, run, 0);
#else
    // What the switch takes: six registers and where to return. The word after them is where `run`
    // would return to, 0, which ends backtraces.
    void** top = reinterpret_cast<void**>(stack + context.bytes) - 8;
    top[6] = reinterpret_cast<void*>(run);
    context.top = top;
#endif
  }
  ~Fiber() {
#if defined(GRIDSAMPLE_ASAN)
    // Of frames that were left without returning.
    __asan_unpoison_memory_region(context.stack, context.bytes);
#endif
    munmap(memory_, kGuard + context.bytes);
  }
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  Context context;

 private:
  static constexpr size_t kGuard = 64 << 10;  // whole pages, whatever their size
  void* memory_;
};

}  // namespace gridsample_emulation
