#include "cpu/threads/stack.h"

#include <pthread.h>

#include <exception>
#include <stdexcept>
#include <string>

#include "cpu/threads/flush.h"

namespace gridsample_ext {

constinit thread_local StackLimits stack_limits;

namespace {

StackLimits limits_of_this_thread() {
  constexpr StackLimits kEndless{0, UINTPTR_MAX};
#if defined(__linux__)
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) != 0) return kEndless;
  void* lowest = nullptr;
  size_t size = 0;
  const bool known = pthread_attr_getstack(&attributes, &lowest, &size) == 0;
  pthread_attr_destroy(&attributes);
  const auto begin = reinterpret_cast<uintptr_t>(lowest);
  return known ? StackLimits{begin, begin + size} : kEndless;
#elif defined(__APPLE__)
  const auto end = reinterpret_cast<uintptr_t>(pthread_get_stackaddr_np(pthread_self()));
  return {end - pthread_get_stacksize_np(pthread_self()), end};
#else
  return kEndless;
#endif
}

struct Job {
  void (*function)(void*);
  void* context;
  uint64_t flush;
  std::exception_ptr error;
};

void* run_job(void* pointer) {
  auto& job = *static_cast<Job*>(pointer);
  const FlushLike caller(job.flush);
  try {
    job.function(job.context);
  } catch (...) {
    job.error = std::current_exception();
  }
  return nullptr;
}

}  // namespace

bool find_stack_leaves(uintptr_t address, size_t size) {
  stack_limits = limits_of_this_thread();
  return stack_limits.leaves(address, size);
}

void run_on_kernel_stack(void (*function)(void*), void* context) {
  // The C library takes its own share, thread-local variables among it.
  constexpr size_t kSize = 2 * kKernelStack;
  Job job{function, context, flush_bits(), nullptr};
  pthread_attr_t attributes;
  pthread_t thread;
  bool begun = pthread_attr_init(&attributes) == 0;
  if (begun) {
    begun = pthread_attr_setstacksize(&attributes, kSize) == 0 &&
            pthread_create(&thread, &attributes, &run_job, &job) == 0;
    pthread_attr_destroy(&attributes);
  }
  if (!begun) {
    throw std::runtime_error("gridsample_ext: could not allocate a stack of " +
                             std::to_string(kSize) + " bytes for a thread");
  }
  pthread_join(thread, nullptr);
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace gridsample_ext
