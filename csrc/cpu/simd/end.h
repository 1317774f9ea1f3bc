
// Included last by each file that compiles kernels for one instruction set.

#if defined(__clang__) && defined(GRIDSAMPLE_TARGET_PUSHED)
#pragma clang attribute pop
#endif
