#pragma once

// The part of CUDA that csrc/cuda uses, on the host: kernels compiled as C++ run thread by thread.
// ../README.md says what this can show and what it cannot.

#ifndef GRIDSAMPLE_CUDA_EMULATION
#error "for tests only: compile with -DGRIDSAMPLE_CUDA_EMULATION, or use the header of CUDA"
#endif

#include <algorithm>
#include <bit>
#include <cfenv>
#include <climits>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <source_location>
#include <type_traits>

// There is no __shared__: it has no equivalent on one host thread, and must not compile.
#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __grid_constant__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __forceinline__ inline __attribute__((always_inline))
// Empty, for libstdc++ says __attribute__((__noinline__)).
#define __noinline__

// ---- Types

#define GRIDSAMPLE_VECTOR2(name, T)    \
  struct alignas(2 * sizeof(T)) name { \
    T x, y;                            \
  };                                   \
  inline name make_##name(T x, T y) { return {x, y}; }
#define GRIDSAMPLE_VECTOR3(name, T) \
  struct name {                     \
    T x, y, z;                      \
  };                                \
  inline name make_##name(T x, T y, T z) { return {x, y, z}; }
#define GRIDSAMPLE_VECTOR4(name, T)    \
  struct alignas(4 * sizeof(T)) name { \
    T x, y, z, w;                      \
  };                                   \
  inline name make_##name(T x, T y, T z, T w) { return {x, y, z, w}; }

GRIDSAMPLE_VECTOR2(ushort2, unsigned short)
GRIDSAMPLE_VECTOR2(int2, int)
GRIDSAMPLE_VECTOR2(uint2, unsigned)
GRIDSAMPLE_VECTOR2(longlong2, long long)
GRIDSAMPLE_VECTOR2(ulonglong2, unsigned long long)
GRIDSAMPLE_VECTOR2(float2, float)
GRIDSAMPLE_VECTOR2(double2, double)
GRIDSAMPLE_VECTOR3(uint3, unsigned)
GRIDSAMPLE_VECTOR3(float3, float)
GRIDSAMPLE_VECTOR4(ushort4, unsigned short)
GRIDSAMPLE_VECTOR4(int4, int)
GRIDSAMPLE_VECTOR4(uint4, unsigned)
GRIDSAMPLE_VECTOR4(float4, float)

#undef GRIDSAMPLE_VECTOR2
#undef GRIDSAMPLE_VECTOR3
#undef GRIDSAMPLE_VECTOR4

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// ---- The running thread

// constinit spares each access the check whether the variable has been constructed.
extern constinit thread_local uint3 threadIdx;
extern constinit thread_local uint3 blockIdx;
extern constinit thread_local dim3 blockDim;
extern constinit thread_local dim3 gridDim;
inline constexpr int warpSize = 32;

namespace gridsample_emulation {

enum WarpOperation { kSync, kShuffle, kUp, kDown, kXor, kBallot, kAny, kAll, kMatch };

/// Hands in a value and waits until all lanes of the mask have come to the same operation. Returns
/// what `operand` asks for: of a shuffle the bits of the other lane, of a vote the lanes with a
/// value other than 0, of a match the lanes with the same value.
uint64_t warp_operation(WarpOperation operation, unsigned mask, uint64_t value, size_t bytes,
                        int operand = 0, int width = warpSize);

void check_alignment(const volatile void* address, size_t alignment);
/// The hardware adds vectors in global memory only.
void check_global(const volatile void* address);

/// What `extern __shared__` declares in CUDA.
void* dynamic_shared_memory();

template <typename T, typename... Ts>
concept OneOf = (std::same_as<T, Ts> || ...);
template <typename T>
concept Word =
    OneOf<T, int, unsigned, long, unsigned long, long long, unsigned long long, float, double>;

template <Word T>
T shuffle(WarpOperation operation, unsigned mask, T value, int operand, int width) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = warp_operation(operation, mask, bits, sizeof(T), operand, width);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

template <typename T, typename Update>
T atomic(T* address, Update update) {
  check_alignment(address, alignof(T));
  const T old = *address;
  *address = update(old);
  return old;
}

}  // namespace gridsample_emulation

// ---- Barriers and warp operations

void __syncthreads(std::source_location where = std::source_location::current());

inline void __syncwarp(unsigned mask = 0xffffffff) {
  gridsample_emulation::warp_operation(gridsample_emulation::kSync, mask, 0, 0);
}

template <gridsample_emulation::Word T>
T __shfl_sync(unsigned mask, T value, int lane, int width = warpSize) {
  return gridsample_emulation::shuffle(gridsample_emulation::kShuffle, mask, value, lane, width);
}

template <gridsample_emulation::Word T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize) {
  return gridsample_emulation::shuffle(gridsample_emulation::kUp, mask, value,
                                       static_cast<int>(delta), width);
}

template <gridsample_emulation::Word T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize) {
  return gridsample_emulation::shuffle(gridsample_emulation::kDown, mask, value,
                                       static_cast<int>(delta), width);
}

template <gridsample_emulation::Word T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize) {
  return gridsample_emulation::shuffle(gridsample_emulation::kXor, mask, value, lane_mask, width);
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return static_cast<unsigned>(gridsample_emulation::warp_operation(
      gridsample_emulation::kBallot, mask, predicate != 0, sizeof(int)));
}

inline int __any_sync(unsigned mask, int predicate) {
  return gridsample_emulation::warp_operation(gridsample_emulation::kAny, mask, predicate != 0,
                                              sizeof(int)) != 0;
}

inline int __all_sync(unsigned mask, int predicate) {
  return gridsample_emulation::warp_operation(gridsample_emulation::kAll, mask, predicate != 0,
                                              sizeof(int)) == mask;
}

template <gridsample_emulation::Word T>
unsigned __match_any_sync(unsigned mask, T value) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return static_cast<unsigned>(
      gridsample_emulation::warp_operation(gridsample_emulation::kMatch, mask, bits, sizeof(T)));
}

// ---- Bits and memory

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }

inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }

/// The sum, rounded down.
inline float __fadd_rd(float x, float y) {
  const int mode = std::fegetround();
  std::fesetround(FE_DOWNWARD);
  // Volatile, or the addition may move to where rounding is another.
  volatile float term = x;
  volatile float sum = term + y;
  std::fesetround(mode);
  return sum;
}

template <typename T>
T __ldg(const T* address) {
  gridsample_emulation::check_alignment(address, alignof(T));
  return *address;
}

// Hints for caches.
template <typename T>
T __ldcs(const T* address) {
  return __ldg(address);
}
template <typename T>
void __stcs(T* address, T value) {
  gridsample_emulation::check_alignment(address, alignof(T));
  *address = value;
}

// ---- Atomics: each runs to its end before another thread does

// Through unsigned, where overflow is defined.
inline int atomicAdd(int* address, int value) {
  return gridsample_emulation::atomic(address, [=](int old) {
    return static_cast<int>(static_cast<unsigned>(old) + static_cast<unsigned>(value));
  });
}

template <gridsample_emulation::OneOf<unsigned, unsigned long long, float, double> T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  return gridsample_emulation::atomic(address, [=](T old) { return old + value; });
}

inline float2 atomicAdd(float2* address, float2 value) {
  gridsample_emulation::check_global(address);
  return gridsample_emulation::atomic(
      address, [=](float2 old) { return float2{old.x + value.x, old.y + value.y}; });
}

inline float4 atomicAdd(float4* address, float4 value) {
  gridsample_emulation::check_global(address);
  return gridsample_emulation::atomic(address, [=](float4 old) {
    return float4{old.x + value.x, old.y + value.y, old.z + value.z, old.w + value.w};
  });
}

template <gridsample_emulation::OneOf<int, unsigned, unsigned long long> T>
T atomicMax(T* address, std::type_identity_t<T> value) {
  return gridsample_emulation::atomic(address, [=](T old) { return std::max(old, value); });
}

template <gridsample_emulation::OneOf<unsigned, unsigned long long> T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  return gridsample_emulation::atomic(address, [=](T old) { return old | value; });
}

// ---- min and max, for the pairs of types that CUDA has

#define GRIDSAMPLE_MIN_MAX(R, A, B)                                                 \
  inline R min(A a, B b) { return std::min(static_cast<R>(a), static_cast<R>(b)); } \
  inline R max(A a, B b) { return std::max(static_cast<R>(a), static_cast<R>(b)); }
#define GRIDSAMPLE_MIN_MAX_SIGNED_OR_NOT(S, U) \
  GRIDSAMPLE_MIN_MAX(S, S, S)                  \
  GRIDSAMPLE_MIN_MAX(U, U, U)                  \
  GRIDSAMPLE_MIN_MAX(U, S, U)                  \
  GRIDSAMPLE_MIN_MAX(U, U, S)

GRIDSAMPLE_MIN_MAX_SIGNED_OR_NOT(int, unsigned)
GRIDSAMPLE_MIN_MAX_SIGNED_OR_NOT(long, unsigned long)
GRIDSAMPLE_MIN_MAX_SIGNED_OR_NOT(long long, unsigned long long)

#undef GRIDSAMPLE_MIN_MAX
#undef GRIDSAMPLE_MIN_MAX_SIGNED_OR_NOT

// A NaN beside a number is passed over.
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }
inline double min(float a, double b) { return std::fmin(a, b); }
inline double max(float a, double b) { return std::fmax(a, b); }
inline double min(double a, float b) { return std::fmin(a, b); }
inline double max(double a, float b) { return std::fmax(a, b); }

// ---- The host's side

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidDevice = 101,
};

enum cudaDeviceAttr {
  cudaDevAttrMaxSharedMemoryPerBlock = 8,
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
};

using cudaStream_t = struct CUstream_st*;

cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaMemsetAsync(void* address, int byte, size_t count, cudaStream_t stream = nullptr);

namespace gridsample_emulation {

cudaError_t launch(const std::function<void()>& kernel, dim3 grid, dim3 block, size_t shared_bytes);

/// Which kernels are launched, by names that those who launch them give: see register.cpp.
void note_launch(const char* name);

}  // namespace gridsample_emulation

/// Runs the kernel to its end. Throws std::runtime_error where the kernel breaks a rule of CUDA.
template <typename Parameters>
cudaError_t cudaLaunchKernel(void (*kernel)(Parameters), dim3 grid, dim3 block, void** args,
                             size_t shared_bytes = 0, cudaStream_t /*stream*/ = nullptr) {
  static_assert(std::is_trivially_copyable_v<Parameters> && sizeof(Parameters) <= 4096,
                "CUDA copies the parameters byte by byte into 4 KiB");
  const auto* parameters = static_cast<const Parameters*>(args[0]);
  return gridsample_emulation::launch([=] { kernel(*parameters); }, grid, block, shared_bytes);
}
