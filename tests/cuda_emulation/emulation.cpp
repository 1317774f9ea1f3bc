// Each CUDA thread of a block is a fiber of the calling host thread. It runs until it ends or waits
// for others; blocks run one after another.

#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fibers.h"

constinit thread_local uint3 threadIdx{};
constinit thread_local uint3 blockIdx{};
constinit thread_local dim3 blockDim;
constinit thread_local dim3 gridDim;

namespace gridsample_emulation {
namespace {

using std::to_string;

enum class State { kReady, kAtBarrier, kAtWarpOperation, kEnded };

struct Thread {
  uint3 index{};
  State state = State::kReady;
  std::unique_ptr<Fiber> fiber;  // from its first step to its end
  // What it brought to a warp operation, and got.
  WarpOperation operation{};
  unsigned mask = 0;
  size_t bytes = 0;
  uint64_t value = 0;
  unsigned source = 0;
  uint64_t result = 0;
};

struct Launch {
  Launch(const std::function<void()>& kernel, size_t threads, size_t shared_bytes)
      : kernel(kernel), threads(threads), shared_bytes(shared_bytes) {}

  const std::function<void()>& kernel;
  std::vector<Thread> threads;
  size_t shared_bytes;
  std::unique_ptr<std::byte[]> shared;
  Thread* running = nullptr;
  size_t at_barrier = 0;
  std::source_location barrier;  // where the first of them waits
  std::exception_ptr failure;
};

thread_local Launch* current = nullptr;
thread_local cudaError_t last_error = cudaSuccess;
// Both outlive launches: fibers are used again, and come back to the scheduler they know.
thread_local Context scheduler;
thread_local std::vector<std::unique_ptr<Fiber>> idle_fibers;

cudaError_t record(cudaError_t error) {
  if (error != cudaSuccess) last_error = error;
  return error;
}

[[noreturn]] void fail(const std::string& message) { throw std::runtime_error(message); }

Launch& launch_of(const char* name) {
  if (current == nullptr) fail(std::string(name) + " outside a kernel");
  return *current;
}

// ---- Messages

template <typename Index>
std::string named(const char* name, Index i) {
  return std::string(name) + " (" + to_string(i.x) + ", " + to_string(i.y) + ", " + to_string(i.z) +
         ")";
}

std::string hexadecimal(unsigned long long x) {
  char text[19];
  std::snprintf(text, sizeof text, "0x%08llx", x);
  return text;
}

const char* name_of(WarpOperation operation) {
  static constexpr const char* kNames[] = {
      "__syncwarp",    "__shfl_sync", "__shfl_up_sync", "__shfl_down_sync", "__shfl_xor_sync",
      "__ballot_sync", "__any_sync",  "__all_sync",     "__match_any_sync"};
  return kNames[operation];
}

std::string place(const std::source_location& where) {
  const std::string_view file = where.file_name();
  return std::string(file.substr(file.rfind('/') + 1)) + ":" + to_string(where.line());
}

/// The thread and what it does.
std::string account(const Thread& thread) {
  std::string text = named("thread", thread.index);
  if (thread.state == State::kReady) text += " runs";
  if (thread.state == State::kEnded) text += " has ended";
  if (thread.state == State::kAtBarrier)
    text += " waits at __syncthreads (" + place(current->barrier) + ")";
  if (thread.state == State::kAtWarpOperation) {
    text += std::string(" waits at ") + name_of(thread.operation) + " of " +
            to_string(thread.bytes) + " bytes with mask " + hexadecimal(thread.mask);
  }
  return text;
}

[[noreturn]] void fail_for(const Thread& thread, const std::string& message) {
  fail("CUDA emulation: " + named("block", blockIdx) + ", " + named("thread", thread.index) + ": " +
       message);
}

bool same_operation(const Thread& a, const Thread& b) {
  return a.state == b.state && a.operation == b.operation && a.mask == b.mask && a.bytes == b.bytes;
}

/// Names a thread that waits and one that it waits for.
[[noreturn]] void fail_deadlocked(const std::vector<Thread>& threads) {
  size_t i = 0;
  while (threads[i].state == State::kEnded) ++i;
  const Thread& waits = threads[i];
  const bool for_warp = waits.state == State::kAtWarpOperation;
  std::string missing;
  for (size_t j = 0; j < threads.size() && missing.empty(); ++j) {
    const bool waited_for =
        !for_warp || (j / warpSize == i / warpSize && (waits.mask >> (j % warpSize) & 1) != 0);
    const bool there =
        for_warp ? same_operation(waits, threads[j]) : threads[j].state == waits.state;
    if (waited_for && !there) missing = account(threads[j]);
  }
  if (missing.empty()) missing = "the mask names lanes beyond the end of the block";
  fail_for(waits, "deadlock: " + account(waits) + ", but " + missing);
}

// ---- Running threads

/// What a fiber does: one CUDA thread after another.
void run_threads() {
  arrive(current->running->fiber->context, scheduler);
  for (;;) {
    try {
      current->kernel();
    } catch (...) {
      current->failure = std::current_exception();
    }
    current->running->state = State::kEnded;
    switch_context(current->running->fiber->context, scheduler);
  }
}

void wait() { switch_context(current->running->fiber->context, scheduler); }

void resume(Launch& launch, Thread& thread) {
  if (thread.fiber == nullptr) {
    if (idle_fibers.empty()) idle_fibers.push_back(std::make_unique<Fiber>(run_threads));
    thread.fiber = std::move(idle_fibers.back());
    idle_fibers.pop_back();
  }
  launch.running = &thread;
  threadIdx = thread.index;
  switch_context(scheduler, thread.fiber->context);
  if (launch.failure) {
    try {
      std::rethrow_exception(launch.failure);
    } catch (const std::exception& error) {
      fail_for(thread, error.what());
    } catch (...) {
      fail_for(thread, "an exception that is no std::exception");
    }
  }
  if (thread.state == State::kEnded) idle_fibers.push_back(std::move(thread.fiber));
}

/// Orders from splitmix64, the same with every standard library.
class Shuffler {
 public:
  explicit Shuffler(uint64_t seed) : state_(seed) {}
  uint64_t random() {
    uint64_t x = state_ += 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    return x ^ (x >> 31);
  }
  template <typename T>
  void shuffle(std::vector<T>& items) {
    for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random() % i]);
  }

 private:
  uint64_t state_;
};

void run_block(Launch& launch, std::vector<unsigned>& order, Shuffler* shuffler) {
  // New for each block, and not a byte longer, so that AddressSanitizer knows its bounds.
  launch.shared.reset(new std::byte[launch.shared_bytes]);
  std::memset(launch.shared.get(), 0xff, launch.shared_bytes);
  for (Thread& thread : launch.threads) thread.state = State::kReady;
  for (size_t ended = 0; ended < launch.threads.size();) {
    if (shuffler != nullptr) shuffler->shuffle(order);
    bool progress = false;
    for (unsigned i : order) {
      Thread& thread = launch.threads[i];
      if (thread.state != State::kReady) continue;
      resume(launch, thread);
      progress = true;
      ended += thread.state == State::kEnded;
    }
    if (!progress) fail_deadlocked(launch.threads);
  }
}

// ---- Warp operations

/// As PTX has it: five bits of the operand count, and who would leave the segment keeps its own
/// value; only xor reaches back into earlier segments.
unsigned source_lane(WarpOperation operation, int lane, int operand, int width) {
  const int begin = lane & -width;
  const int distance = operand & (warpSize - 1);
  int source = lane;
  if (operation == kShuffle) source = begin + (operand & (width - 1));
  if (operation == kUp) source = lane - distance < begin ? lane : lane - distance;
  if (operation == kDown) source = lane + distance;
  if (operation == kXor) source = lane ^ distance;
  return static_cast<unsigned>(source < begin + width ? source : lane);
}

uint64_t result_of(const Thread& thread, const Thread* warp) {
  // A lane outside the mask has no defined value: NaN, or -1.
  if (thread.operation < kBallot)
    return (thread.mask >> thread.source & 1) != 0 ? warp[thread.source].value : ~uint64_t{0};
  const uint64_t wanted = thread.operation == kMatch ? thread.value : 1;
  uint64_t lanes = 0;
  for (unsigned left = thread.mask; left != 0; left &= left - 1) {
    const int lane = std::countr_zero(left);
    lanes |= uint64_t{warp[lane].value == wanted} << lane;
  }
  return lanes;
}

}  // namespace

uint64_t warp_operation(WarpOperation operation, unsigned mask, uint64_t value, size_t bytes,
                        int operand, int width) {
  Launch& launch = launch_of(name_of(operation));
  Thread& self = *launch.running;
  const auto lane = static_cast<unsigned>(&self - launch.threads.data()) % warpSize;
  Thread* warp = &self - lane;
  const auto lanes = static_cast<size_t>(launch.threads.data() + launch.threads.size() - warp);
  const auto of_mask = [mask](auto use) {
    for (unsigned left = mask; left != 0; left &= left - 1) use(std::countr_zero(left));
  };
  if ((mask >> lane & 1) == 0) {
    fail(std::string(name_of(operation)) + " by lane " + to_string(lane) +
         ", which is not in its mask " + hexadecimal(mask));
  }
  if (width < 1 || width > warpSize || !std::has_single_bit(static_cast<unsigned>(width)))
    fail(std::string(name_of(operation)) + " with width " + to_string(width));

  self.state = State::kAtWarpOperation;
  self.operation = operation;
  self.mask = mask;
  self.bytes = bytes;
  self.value = value;
  self.source = source_lane(operation, static_cast<int>(lane), operand, width);

  bool complete = true;
  of_mask([&](unsigned i) {
    if (i < lanes && same_operation(self, warp[i])) return;
    complete = false;
    // Each waits for the other, at something else. One that does not wait for this lane may still
    // come here.
    if (i < lanes && warp[i].state == State::kAtWarpOperation && (warp[i].mask >> lane & 1) != 0)
      fail(account(self) + ", but " + account(warp[i]));
  });
  if (complete) {
    // All results are formed before any lane goes on, so that what it brings to its next operation
    // cannot be taken for this one's.
    of_mask([&](unsigned i) { warp[i].result = result_of(warp[i], warp); });
    of_mask([&](unsigned i) { warp[i].state = State::kReady; });
  }
  wait();
  return self.result;
}

// ---- What else kernels call

void check_alignment(const volatile void* address, size_t alignment) {
  if (reinterpret_cast<uintptr_t>(address) % alignment != 0) {
    fail("misaligned access: " + hexadecimal(reinterpret_cast<uintptr_t>(address)) +
         " is no multiple of " + to_string(alignment));
  }
}

void check_global(const volatile void* address) {
  const Launch& launch = launch_of("atomicAdd");
  const auto begin = reinterpret_cast<uintptr_t>(launch.shared.get());
  if (reinterpret_cast<uintptr_t>(address) - begin < launch.shared_bytes)
    fail("atomicAdd of a vector in shared memory");
}

void* dynamic_shared_memory() { return launch_of("dynamic_shared_memory").shared.get(); }

// ---- Launches

cudaError_t launch(const std::function<void()>& kernel, dim3 grid, dim3 block,
                   size_t shared_bytes) {
  if (current != nullptr) fail("a launch inside a kernel");
  const auto volume = [](dim3 size) { return uint64_t{size.x} * size.y * size.z; };
  if (volume(grid) == 0 || grid.x > INT_MAX || grid.y > 65535 || grid.z > 65535 || block.x > 1024 ||
      block.y > 1024 || block.z > 64 || volume(block) == 0 || volume(block) > 1024)
    return record(cudaErrorInvalidConfiguration);
  if (shared_bytes > 49152) return record(cudaErrorInvalidValue);

  Launch launch(kernel, volume(block), shared_bytes);
  std::vector<unsigned> order(volume(block));
  std::iota(order.begin(), order.end(), 0u);
  for (unsigned i : order)
    launch.threads[i].index = {i % block.x, i / block.x % block.y, i / block.x / block.y};

  static thread_local uint64_t launches = 0;
  const char* seed = std::getenv("GRIDSAMPLE_EMULATION_SHUFFLE");
  const bool shuffled = seed != nullptr && *seed != '\0';
  Shuffler shuffler(shuffled ? std::strtoull(seed, nullptr, 0) : 0);
  shuffler = Shuffler(shuffler.random() + launches++);
  std::vector<uint64_t> blocks;
  if (shuffled) {
    blocks.resize(volume(grid));
    std::iota(blocks.begin(), blocks.end(), uint64_t{0});
    shuffler.shuffle(blocks);
  }

  struct Scope {
    explicit Scope(Launch* launch) { current = launch; }
    ~Scope() { current = nullptr; }
  } scope(&launch);
  gridDim = grid;
  blockDim = block;
  for (uint64_t i = 0; i < volume(grid); ++i) {
    const uint64_t b = shuffled ? blocks[i] : i;
    const uint64_t row = b / grid.x;
    blockIdx = {static_cast<unsigned>(b % grid.x), static_cast<unsigned>(row % grid.y),
                static_cast<unsigned>(row / grid.y)};
    run_block(launch, order, shuffled ? &shuffler : nullptr);
  }
  return cudaSuccess;
}

}  // namespace gridsample_emulation

using gridsample_emulation::record;

void __syncthreads(std::source_location where) {
  using namespace gridsample_emulation;
  Launch& launch = launch_of("__syncthreads");
  if (launch.at_barrier == 0) launch.barrier = where;
  if (where.line() != launch.barrier.line() ||
      std::string_view(where.file_name()) != launch.barrier.file_name())
    fail("__syncthreads at " + place(where) + " while others wait at " + place(launch.barrier));
  launch.running->state = State::kAtBarrier;
  if (++launch.at_barrier == launch.threads.size()) {
    launch.at_barrier = 0;
    for (Thread& thread : launch.threads) thread.state = State::kReady;
  }
  wait();
}

cudaError_t cudaGetLastError() {
  return std::exchange(gridsample_emulation::last_error, cudaSuccess);
}

cudaError_t cudaPeekAtLastError() { return gridsample_emulation::last_error; }

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
  }
  return "unrecognized error code";
}

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return record(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = 49152;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount: {
      const char* count = std::getenv("GRIDSAMPLE_EMULATED_MULTIPROCESSORS");
      *value = count != nullptr ? std::atoi(count) : 4;
      return cudaSuccess;
    }
    case cudaDevAttrComputeCapabilityMajor: {
      const char* major = std::getenv("GRIDSAMPLE_EMULATED_CAPABILITY");
      *value = major != nullptr ? std::atoi(major) : 9;
      return cudaSuccess;
    }
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
      return cudaSuccess;
  }
  return record(cudaErrorInvalidValue);
}

cudaError_t cudaMemsetAsync(void* address, int byte, size_t count, cudaStream_t) {
  std::memset(address, byte, count);
  return cudaSuccess;
}
