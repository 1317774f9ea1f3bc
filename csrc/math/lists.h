#pragma once

// The modes of interpolation and the paddings, each stated once: X(enumerator, name), in the order
// of the numbers that the ops take. Names and numbers are PyTorch's as far as PyTorch has them.
// What each one does stands in modes.h and paddings.h.
//
// Behind the modes the ops take "bspline", which is bicubic with another kernel: other numbers in
// CubicKernel (coordinates.h), and no code of its own.

#include <cstdint>
#include <iterator>

#define GRIDSAMPLE_MODES(X) \
  X(kBilinear, "bilinear")  \
  X(kNearest, "nearest")    \
  X(kBicubic, "bicubic")

#define GRIDSAMPLE_PADDINGS(X) \
  X(kZeros, "zeros")           \
  X(kBorder, "border")         \
  X(kReflection, "reflection") \
  X(kCircular, "circular")

namespace gridsample_ext {

#define GRIDSAMPLE_ENUMERATOR(enumerator, name) enumerator,
enum class Mode : int64_t { GRIDSAMPLE_MODES(GRIDSAMPLE_ENUMERATOR) };
enum class Padding : int64_t { GRIDSAMPLE_PADDINGS(GRIDSAMPLE_ENUMERATOR) };
#undef GRIDSAMPLE_ENUMERATOR

#define GRIDSAMPLE_NAME(enumerator, name) name,
inline constexpr const char* kModeNames[] = {GRIDSAMPLE_MODES(GRIDSAMPLE_NAME) "bspline"};
inline constexpr const char* kPaddingNames[] = {GRIDSAMPLE_PADDINGS(GRIDSAMPLE_NAME)};
#undef GRIDSAMPLE_NAME

inline constexpr int64_t kBspline = std::size(kModeNames) - 1;

}  // namespace gridsample_ext
