#pragma once

// Included after foreign.h, and followed by the kernels and end.h.

#define GRIDSAMPLE_ISA avx2
#define GRIDSAMPLE_HAS_FMA
#define GRIDSAMPLE_HAS_F16C
#define GRIDSAMPLE_VECTOR_BYTES 32
#if defined(__clang__)
#define GRIDSAMPLE_TARGET_PUSHED
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
