#pragma once

// What every CPU of its kind has. Included after foreign.h, and followed by the kernels and end.h,
// like the header of any instruction set. Such a header
//
//   defines GRIDSAMPLE_ISA, the namespace of its kernels, and GRIDSAMPLE_VECTOR_BYTES
//   sets the target, which end.h ends
//   defines GRIDSAMPLE_ROUNDS_BY_ADDING if no instruction rounds to whole numbers
//   and gives, for vectors of up to kRegisterBytes:
//     multiply_add(a, b, c)    a * b + c, in one rounding if there is an instruction; numbers, too
//     from_half(halves)        float16 to float32, exactly, also where the CPU flushes subnormals
//     to_half(values)          and back, as Scalar<DType::kHalf>::store does it
//     kRounds<T, kLanes>       whether there are round_half_even(v) and round_down(v)
//     kTests<T, kLanes>        whether there is any(condition), which does what any_lane says
//     permute(v, index)        if there is an instruction: see shuffles.h
//     kCompresses<T, kLanes>   whether there is compress, which does what compress_lanes says
//     kGathers<T>              whether there is gather(base, offsets): base[offsets[l]], or 0 where
//                              the offset is negative
//     kGathersPairs<T>         whether there is gather_pairs(base, offset, v): v[k] gets
//                              base[offset[l] + k]

#define GRIDSAMPLE_ISA baseline
#define GRIDSAMPLE_VECTOR_BYTES 16
#define GRIDSAMPLE_ROUNDS_BY_ADDING

#include "cpu/simd/scalars.h"
#include "cpu/simd/shuffles.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Any vector: the compiler cuts up what is wider than the CPU's.
constexpr size_t kRegisterBytes = std::numeric_limits<size_t>::max();

template <typename V>
GRIDSAMPLE_INLINE V multiply_add(V a, V b, V c) {
  return a * b + c;
}

/// See Scalar<DType::kHalf>::load.
template <typename Halves>
GRIDSAMPLE_INLINE auto from_half(const Halves& halves) {
  using Half = Scalar<DType::kHalf>;
  constexpr int kLanes = sizeof(Halves) / sizeof(uint16_t);
  using Bits = Vector<uint32_t, kLanes>;
  using Floats = Vector<float, kLanes>;
  const Bits wide = __builtin_convertvector(halves, Bits);
  const Bits sign = (wide & 0x8000u) << 16;
  const Bits magnitude = (wide & 0x7fffu) << 13;
  const Floats x = (Floats)(magnitude + Half::kExponent) * Half::kScale;
  const Floats subnormal = x + x - Half::kLeastNormal;
#if defined(__SSE2__)
  if constexpr (kLanes == 4) {
    return (Floats)(sign | (Bits)_mm_min_ps((__m128)x, (__m128)subnormal));
  }
#endif
  const Bits is_normal = (Bits)(x < subnormal);
  return (Floats)(sign | (is_normal & (Bits)x) | (~is_normal & (Bits)subnormal));
}

template <typename Floats>
GRIDSAMPLE_INLINE auto to_half(const Floats& values) {
  constexpr int kLanes = sizeof(Floats) / sizeof(float);
  alignas(64) float lanes[kLanes];
  alignas(64) uint16_t halves[kLanes];
  store_vector<float, kLanes>(lanes, values);
#pragma omp simd
  for (int l = 0; l < kLanes; ++l) halves[l] = Scalar<DType::kHalf>::store(lanes[l]);
  return load_vector<uint16_t, kLanes>(halves);
}

template <typename T, int kLanes>
constexpr bool kRounds = false;
template <typename T, int kLanes>
constexpr bool kTests = false;
template <typename T, int kLanes>
constexpr bool kCompresses = false;
template <typename T>
constexpr bool kGathers = false;
template <typename T>
constexpr bool kGathersPairs = false;

GRIDSAMPLE_NAMESPACE_END
