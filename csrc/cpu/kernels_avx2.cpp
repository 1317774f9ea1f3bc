#include "isa_begin.h"

#if GRIDSAMPLE_X86_LEVELS
#define GRIDSAMPLE_ISA avx2
#define GRIDSAMPLE_HAS_FMA
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#include "kernel_table.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif  // GRIDSAMPLE_X86_LEVELS
