#pragma once

// Included after foreign.h, and followed by the kernels and end.h.
//
// GRIDSAMPLE_EMULATE_AVX512: vectors as wide as AVX-512's, each of two of AVX2, so that a CPU
// without AVX-512 can test what depends on their width. Not for use: it is slower than AVX2.

#define GRIDSAMPLE_ISA avx512
#define GRIDSAMPLE_HAS_FMA
#define GRIDSAMPLE_HAS_F16C
#define GRIDSAMPLE_VECTOR_BYTES 64
#if defined(GRIDSAMPLE_EMULATE_AVX512)
#if defined(__clang__)
#define GRIDSAMPLE_TARGET_PUSHED
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
#else
#define GRIDSAMPLE_HAS_AVX512
#if defined(__clang__)
#define GRIDSAMPLE_TARGET_PUSHED
#pragma clang attribute push(                                                    \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"))), \
    apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")
#endif
#endif
