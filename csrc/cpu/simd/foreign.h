#pragma once

// Included first by each file that compiles the kernels for one instruction set: every header that
// is not ours, and what the kernels share with the host, before the target changes, so that none of
// their functions is compiled for the new target and left to the linker to share.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "cpu/work.h"
