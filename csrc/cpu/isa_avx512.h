#pragma once

// Included after isa_begin.h, and followed by the kernels and isa_end.h.

#define GRIDSAMPLE_ISA avx512
#define GRIDSAMPLE_HAS_FMA
#define GRIDSAMPLE_HAS_AVX512
#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")
#endif
