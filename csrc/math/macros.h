#pragma once

// Everything under math/ and cpu/ that is compiled more than once, per instruction set and compute
// type, lives in a namespace of its own. Without it the linker would keep one copy of each inline
// function for all instruction sets, and a baseline machine could run an AVX-512 one.

#if defined(GRIDSAMPLE_ISA)
#define GRIDSAMPLE_JOIN_(a, b) a##b
#define GRIDSAMPLE_JOIN(a, b) GRIDSAMPLE_JOIN_(a, b)
#define GRIDSAMPLE_NAMESPACE_BEGIN \
  namespace gridsample_ext {       \
  namespace GRIDSAMPLE_ISA {       \
  namespace GRIDSAMPLE_JOIN(of_, GRIDSAMPLE_COMPUTE_TYPE) {
#define GRIDSAMPLE_NAMESPACE_END \
  }                              \
  }                              \
  }
#else
#define GRIDSAMPLE_NAMESPACE_BEGIN \
  namespace gridsample_ext {       \
  namespace portable {
#define GRIDSAMPLE_NAMESPACE_END \
  }                              \
  }
#endif

// GRIDSAMPLE_SELDOM: functions that GPUs call, so that kernels hold no copies of them.
#if defined(__CUDACC__)
#define GRIDSAMPLE_INLINE __host__ __device__ __forceinline__
#define GRIDSAMPLE_SELDOM __host__ __device__ __noinline__
#else
#define GRIDSAMPLE_INLINE inline __attribute__((always_inline))
#define GRIDSAMPLE_SELDOM GRIDSAMPLE_INLINE
#endif

// Lambdas that are called from several places and inlined into each.
#define GRIDSAMPLE_INLINE_LAMBDA __attribute__((always_inline))

// Functions that run once for a tile: compiled once for all kernels that call them, not into each.
#define GRIDSAMPLE_NOINLINE __attribute__((noinline))

// Functions that are called from another library: all others are hidden.
#define GRIDSAMPLE_EXPORT __attribute__((visibility("default")))

// Short loops over taps or axes must vanish before vectorisation.
#if defined(__CUDA_ARCH__) || defined(__clang__)
#define GRIDSAMPLE_UNROLL _Pragma("unroll")
#define GRIDSAMPLE_UNROLL_16 _Pragma("unroll")
#elif defined(__GNUC__) && !defined(__CUDACC__)
#define GRIDSAMPLE_UNROLL _Pragma("GCC unroll 4")
#define GRIDSAMPLE_UNROLL_16 _Pragma("GCC unroll 16")
#else
#define GRIDSAMPLE_UNROLL
#define GRIDSAMPLE_UNROLL_16
#endif

// Loops over the lanes of a few vectors, in kernels whose optimisation level does not vectorise
// them by itself.
#if defined(GRIDSAMPLE_ISA)
#define GRIDSAMPLE_SIMD _Pragma("omp simd")
#else
#define GRIDSAMPLE_SIMD
#endif

// Loops that stay loops, to keep the binary and its compilation small: those that are run seldom,
// and those around enough work.
#if defined(__GNUC__) && !defined(__clang__) && !defined(__CUDACC__)
#define GRIDSAMPLE_KEEP_LOOP _Pragma("GCC unroll 1")
#elif defined(__clang__) && !defined(__CUDACC__)
#define GRIDSAMPLE_KEEP_LOOP _Pragma("nounroll")
#else
#define GRIDSAMPLE_KEEP_LOOP
#endif

// The compiler takes the array from memory from here on, not from the registers that were stored to
// it: it would take a vector's lanes out one by one.
#if defined(__GNUC__) && !defined(__CUDACC__)
#define GRIDSAMPLE_TO_MEMORY(array) asm volatile("" : "+m"(array))
#else
#define GRIDSAMPLE_TO_MEMORY(array)
#endif

// A hint; an address past the end of an array does no harm. FAR: into the second-level cache. That
// one may be all that a function does; GCC leaves out calls of such functions unless something in
// them is volatile.
#if defined(__GNUC__) || defined(__clang__)
#define GRIDSAMPLE_PREFETCH(address) __builtin_prefetch(address)
#define GRIDSAMPLE_PREFETCH_FAR(address) \
  do {                                   \
    __builtin_prefetch(address, 0, 2);   \
    __asm__ volatile("");                \
  } while (false)
#define GRIDSAMPLE_PREFETCH_TO_WRITE(address) __builtin_prefetch(address, 1)
#else
#define GRIDSAMPLE_PREFETCH(address) ((void)0)
#define GRIDSAMPLE_PREFETCH_FAR(address) ((void)0)
#define GRIDSAMPLE_PREFETCH_TO_WRITE(address) ((void)0)
#endif
