// Kernels for tests/test_cuda_emulation.py, each launched by its name.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdio>
#include <map>
#include <stdexcept>
#include <string>

static_assert(alignof(float2) == 8 && alignof(float3) == 4 && alignof(float4) == 16);
static_assert(alignof(int2) == 8 && alignof(int4) == 16 && alignof(double2) == 16);
static_assert(alignof(uint2) == 8 && alignof(uint3) == 4 && alignof(uint4) == 16);
static_assert(alignof(ushort2) == 4 && alignof(ushort4) == 8);
static_assert(alignof(longlong2) == 16 && alignof(ulonglong2) == 16);
static_assert(sizeof(float3) == 12 && sizeof(__half) == 2 && sizeof(__nv_bfloat16) == 2);
static_assert(std::is_same_v<decltype(min(-1, 2u)), unsigned>);
static_assert(std::is_same_v<decltype(max(int64_t{1}, int64_t{2})), int64_t>);
static_assert(std::is_same_v<decltype(max(1.0f, 2.0)), double>);

namespace {

struct Arguments {
  const void* in[5];
  void* out;
  int n;
  int mode;
};

template <typename T>
const T* input(const Arguments& a, int i = 0) {
  return static_cast<const T*>(a.in[i]);
}

template <typename T>
T* output(const Arguments& a) {
  return static_cast<T*>(a.out);
}

template <typename T>
T* shared() {
  return static_cast<T*>(gridsample_emulation::dynamic_shared_memory());
}

unsigned thread_of_block() {
  return (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
}

unsigned thread_of_grid() {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  return block * blockDim.x * blockDim.y * blockDim.z + thread_of_block();
}

// ---- Threads, barriers, shared memory

__global__ void indices(const Arguments a) {
  const unsigned all[] = {threadIdx.x, threadIdx.y, threadIdx.z, blockIdx.x, blockIdx.y, blockIdx.z,
                          blockDim.x,  blockDim.y,  blockDim.z,  gridDim.x,  gridDim.y,  gridDim.z};
  std::memcpy(output<unsigned>(a) + thread_of_grid() * 12, all, sizeof all);
}

__global__ void __launch_bounds__(1024) sums(const Arguments a) {
  auto* terms = shared<long long>();
  const unsigned t = threadIdx.x;
  terms[t] = input<long long>(a)[thread_of_grid()];
  for (unsigned n = blockDim.x / 2; n > 0; n /= 2) {
    __syncthreads();
    if (t < n) terms[t] += terms[t + n];
  }
  if (t == 0) output<long long>(a)[blockIdx.x] = terms[0];
}

__global__ void reverse(const Arguments a) {
  auto* values = shared<int>();
  values[threadIdx.x] = input<int>(a)[thread_of_grid()];
  __syncthreads();
  output<int>(a)[thread_of_grid()] = values[blockDim.x - 1 - threadIdx.x];
}

__global__ void reverse_without_barrier(const Arguments a) {
  auto* values = shared<int>();
  values[threadIdx.x] = input<int>(a)[thread_of_grid()];
  output<int>(a)[thread_of_grid()] = values[blockDim.x - 1 - threadIdx.x];
}

__global__ void fresh_shared_memory(const Arguments a) {
  auto* byte = shared<unsigned char>() + threadIdx.x;
  output<unsigned char>(a)[thread_of_grid()] = *byte;
  *byte = 0;
}

/// Each thread takes a number: the order in which they run.
__global__ void tickets(const Arguments a) {
  int* out = output<int>(a);
  const int ticket = atomicAdd(out, 1);
  out[1 + ticket] = static_cast<int>(thread_of_grid());
}

// ---- Warp operations

/// n steps. In each a lane has an operation, a mask (0: it sits out), an operand and a width.
template <typename T>
__global__ void warp_steps(const Arguments a) {
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  for (int step = 0; step < a.n; ++step) {
    const unsigned i = static_cast<unsigned>(step) * threads + thread_of_block();
    const unsigned mask = input<unsigned>(a, 1)[i];
    const int operand = input<int>(a, 2)[i];
    const int width = input<int>(a, 3)[i];
    const T value = input<T>(a, 4)[i];
    if (mask == 0) continue;
    const auto store = [&](auto result) {
      std::memcpy(output<uint64_t>(a) + i, &result, sizeof result);
    };
    switch (input<int>(a)[i]) {
      case 0:
        store(__shfl_sync(mask, value, operand, width));
        break;
      case 1:
        store(__shfl_up_sync(mask, value, static_cast<unsigned>(operand), width));
        break;
      case 2:
        store(__shfl_down_sync(mask, value, static_cast<unsigned>(operand), width));
        break;
      case 3:
        store(__shfl_xor_sync(mask, value, operand, width));
        break;
      case 4:
        store(__ballot_sync(mask, operand));
        break;
      case 5:
        store(__any_sync(mask, operand));
        break;
      case 6:
        store(__all_sync(mask, operand));
        break;
      case 7:
        store(__match_any_sync(mask, value));
        break;
      default:
        __syncwarp(mask);
    }
  }
}

// ---- Atomics and bits

template <typename T>
__global__ void add(const Arguments a) {
  atomicAdd(output<T>(a), input<T>(a)[thread_of_grid()]);
}

template <typename T>
__global__ void greatest(const Arguments a) {
  atomicMax(output<T>(a), input<T>(a)[thread_of_grid()]);
}

template <typename T>
__global__ void bitwise_or(const Arguments a) {
  atomicOr(output<T>(a), input<T>(a)[thread_of_grid()]);
}

__global__ void bits(const Arguments a) {
  const unsigned long long x = __ldg(input<unsigned long long>(a) + thread_of_grid());
  const auto low = static_cast<unsigned>(x);
  const int all[] = {__popc(low),
                     __popcll(x),
                     __ffs(static_cast<int>(low)),
                     __ffsll(static_cast<long long>(x)),
                     __clz(static_cast<int>(low)),
                     __clzll(static_cast<long long>(x)),
                     __float_as_int(__uint_as_float(low)) == static_cast<int>(low),
                     __float_as_uint(__int_as_float(static_cast<int>(low))) == low,
                     __double_as_longlong(__longlong_as_double(static_cast<long long>(x))) ==
                         static_cast<long long>(x)};
  std::memcpy(output<int>(a) + thread_of_grid() * 9, all, sizeof all);
}

__global__ void extrema(const Arguments a) {
  const double all[] = {static_cast<double>(min(-1, 3)),     static_cast<double>(max(-1, 3)),
                        static_cast<double>(min(-1, 3u)),  // as unsigned
                        static_cast<double>(max(-1LL, 3LL)), min(NAN, 2.0f),
                        max(1.0, static_cast<double>(NAN)),  min(1.5f, 1.25)};
  std::memcpy(a.out, all, sizeof all);
}

__global__ void add_rounding_down(const Arguments a) {
  const unsigned i = thread_of_grid();
  output<float>(a)[i] = __fadd_rd(input<float>(a, 0)[i], input<float>(a, 1)[i]);
}

__global__ void stream(const Arguments a) {
  const unsigned i = thread_of_grid();
  __stcs(output<int>(a) + i, __ldcs(input<int>(a) + i));
}

// ---- 16-bit floating point

__global__ void half_to_float(const Arguments a) {
  const unsigned i = thread_of_grid();
  output<float>(a)[i] = __half2float(__ushort_as_half(input<unsigned short>(a)[i]));
}

__global__ void float_to_half(const Arguments a) {
  const unsigned i = thread_of_grid();
  output<unsigned short>(a)[i] = __half_as_ushort(__float2half_rn(input<float>(a)[i]));
}

__global__ void bfloat16_to_float(const Arguments a) {
  const unsigned i = thread_of_grid();
  output<float>(a)[i] = __bfloat162float(__ushort_as_bfloat16(input<unsigned short>(a)[i]));
}

__global__ void float_to_bfloat16(const Arguments a) {
  const unsigned i = thread_of_grid();
  output<unsigned short>(a)[i] = __bfloat16_as_ushort(__float2bfloat16_rn(input<float>(a)[i]));
}

// ---- Mistakes, in the second of two blocks of 64 threads

#define MISTAKE(name)                                                      \
  void name##_in_block_1([[maybe_unused]] const Arguments& a, unsigned t); \
  __global__ void name(const Arguments a) {                                \
    if (blockIdx.x == 1) name##_in_block_1(a, threadIdx.x);                \
  }                                                                        \
  void name##_in_block_1([[maybe_unused]] const Arguments& a, [[maybe_unused]] unsigned t)

constexpr unsigned kAll = 0xffffffff;

MISTAKE(barrier_after_end) {
  if (t != 5) __syncthreads();
}

MISTAKE(barrier_for_half) {
  if (t < 32)
    __syncthreads();
  else
    __syncwarp();
}

MISTAKE(two_barriers) {
  if (t < 7)
    __syncthreads();
  else
    __syncthreads();
}

MISTAKE(barrier_against_shuffle) {
  if (t == 3)
    __syncthreads();
  else
    __shfl_sync(kAll, 1, 0);
}

MISTAKE(lane_has_ended) {
  if (t != 9) __shfl_sync(kAll, 1.0f, 0);
}

MISTAKE(caller_not_in_mask) { __ballot_sync(0xfffffffe, static_cast<int>(t)); }

MISTAKE(different_masks) { __any_sync(t % 32 < 16 ? kAll : 0xffff0001, 1); }

MISTAKE(different_operations) {
  if (t % 2 == 0)
    __shfl_xor_sync(kAll, 1, 1);
  else
    __shfl_down_sync(kAll, 1, 1);
}

MISTAKE(different_types) {
  if (t % 2 == 0)
    __shfl_sync(kAll, 1, 1);
  else
    __shfl_sync(kAll, 1.0, 1);
}

MISTAKE(bad_width) { __shfl_sync(kAll, 1, 1, 12); }

MISTAKE(mask_beyond_block) {
  if (t >= 32) __syncwarp();
}

MISTAKE(misaligned_load) { __ldg(reinterpret_cast<const float4*>(output<float>(a) + 2)); }

MISTAKE(misaligned_float) { __ldg(reinterpret_cast<const float*>(output<char>(a) + 2)); }

MISTAKE(misaligned_float2_atomic) {
  atomicAdd(reinterpret_cast<float2*>(output<float>(a) + 1), make_float2(1, 1));
}

MISTAKE(misaligned_float4_atomic) {
  atomicAdd(reinterpret_cast<float4*>(output<float>(a) + 2), make_float4(1, 1, 1, 1));
}

MISTAKE(vector_atomic_in_shared_memory) { atomicAdd(shared<float4>(), make_float4(1, 1, 1, 1)); }

MISTAKE(exception) {
  struct Unwound {
    int* count;
    ~Unwound() { ++*count; }
  } unwound{output<int>(a)};
  if (t == 40) throw std::domain_error("thrown by a kernel");
  __syncthreads();
}

MISTAKE(exception_of_no_class) { throw 7; }

MISTAKE(launch_in_kernel) {
  Arguments copy = a;
  void* args[] = {&copy};
  cudaLaunchKernel(reverse, dim3(1), dim3(1), args);
}

#define NAMED(kernel) {#kernel, kernel}

const std::map<std::string, void (*)(Arguments)> kKernels = {NAMED(indices),
                                                             NAMED(sums),
                                                             NAMED(reverse),
                                                             NAMED(reverse_without_barrier),
                                                             NAMED(fresh_shared_memory),
                                                             NAMED(tickets),
                                                             NAMED(warp_steps<int>),
                                                             NAMED(warp_steps<unsigned>),
                                                             NAMED(warp_steps<long>),
                                                             NAMED(warp_steps<unsigned long>),
                                                             NAMED(warp_steps<long long>),
                                                             NAMED(warp_steps<unsigned long long>),
                                                             NAMED(warp_steps<float>),
                                                             NAMED(warp_steps<double>),
                                                             NAMED(add<int>),
                                                             NAMED(add<unsigned>),
                                                             NAMED(add<unsigned long long>),
                                                             NAMED(add<float>),
                                                             NAMED(add<double>),
                                                             NAMED(add<float2>),
                                                             NAMED(add<float4>),
                                                             NAMED(greatest<int>),
                                                             NAMED(greatest<unsigned>),
                                                             NAMED(greatest<unsigned long long>),
                                                             NAMED(bitwise_or<unsigned>),
                                                             NAMED(bitwise_or<unsigned long long>),
                                                             NAMED(bits),
                                                             NAMED(extrema),
                                                             NAMED(add_rounding_down),
                                                             NAMED(stream),
                                                             NAMED(half_to_float),
                                                             NAMED(float_to_half),
                                                             NAMED(bfloat16_to_float),
                                                             NAMED(float_to_bfloat16),
                                                             NAMED(barrier_after_end),
                                                             NAMED(barrier_for_half),
                                                             NAMED(two_barriers),
                                                             NAMED(barrier_against_shuffle),
                                                             NAMED(lane_has_ended),
                                                             NAMED(caller_not_in_mask),
                                                             NAMED(different_masks),
                                                             NAMED(different_operations),
                                                             NAMED(different_types),
                                                             NAMED(bad_width),
                                                             NAMED(mask_beyond_block),
                                                             NAMED(misaligned_load),
                                                             NAMED(misaligned_float),
                                                             NAMED(misaligned_float2_atomic),
                                                             NAMED(misaligned_float4_atomic),
                                                             NAMED(vector_atomic_in_shared_memory),
                                                             NAMED(exception),
                                                             NAMED(exception_of_no_class),
                                                             NAMED(launch_in_kernel)};

}  // namespace

extern "C" {

/// The launch's error code, or -1 and the message of what it threw.
int launch(const char* name, const unsigned* grid, const unsigned* block, size_t shared_bytes,
           Arguments arguments, char* message, size_t message_bytes) {
  try {
    void* args[] = {&arguments};
    return cudaLaunchKernel(kKernels.at(name), dim3(grid[0], grid[1], grid[2]),
                            dim3(block[0], block[1], block[2]), args, shared_bytes, nullptr);
  } catch (const std::runtime_error& error) {
    std::snprintf(message, message_bytes, "%s", error.what());
    return -1;
  }
}

int get_last_error() { return cudaGetLastError(); }
int peek_at_last_error() { return cudaPeekAtLastError(); }
const char* error_string(int error) { return cudaGetErrorString(static_cast<cudaError_t>(error)); }

int attribute(int which) {
  int device = -1, value = -1;
  cudaGetDevice(&device);
  const auto error = cudaDeviceGetAttribute(&value, static_cast<cudaDeviceAttr>(which), device);
  return error == cudaSuccess ? value : -error;
}

int set_bytes(void* address, int byte, size_t count) {
  return cudaMemsetAsync(address, byte, count, nullptr);
}

}  // extern "C"
