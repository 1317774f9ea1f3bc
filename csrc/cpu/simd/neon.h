#pragma once

// NEON, which every aarch64 CPU has. baseline.h says what such a header gives.

#define GRIDSAMPLE_ISA neon
#define GRIDSAMPLE_VECTOR_BYTES 16

#include "cpu/simd/scalars.h"
#include "cpu/simd/shuffles.h"

GRIDSAMPLE_NAMESPACE_BEGIN

constexpr size_t kRegisterBytes = kVectorBytes;

GRIDSAMPLE_INLINE float multiply_add(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
GRIDSAMPLE_INLINE double multiply_add(double a, double b, double c) {
  return __builtin_fma(a, b, c);
}
GRIDSAMPLE_INLINE Vector<float, 4> multiply_add(Vector<float, 4> a, Vector<float, 4> b,
                                                Vector<float, 4> c) {
  return (Vector<float, 4>)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}
GRIDSAMPLE_INLINE Vector<double, 2> multiply_add(Vector<double, 2> a, Vector<double, 2> b,
                                                 Vector<double, 2> c) {
  return (Vector<double, 2>)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b);
}

// Conversions from and to float16 flush no subnormal half: FPCR's FZ16 leaves them alone.

GRIDSAMPLE_INLINE Vector<float, 4> from_half(const Vector<uint16_t, 4>& halves) {
  return (Vector<float, 4>)vcvt_f32_f16((float16x4_t)halves);
}
GRIDSAMPLE_INLINE Vector<uint16_t, 4> to_half(const Vector<float, 4>& values) {
  return (Vector<uint16_t, 4>)vcvt_f16_f32((float32x4_t)without_payload(values));
}

// Two at a time, for float64.
GRIDSAMPLE_INLINE Vector<float, 2> from_half(const Vector<uint16_t, 2>& halves) {
  const auto floats = from_half(Vector<uint16_t, 4>{halves[0], halves[1]});
  return Vector<float, 2>{floats[0], floats[1]};
}
GRIDSAMPLE_INLINE Vector<uint16_t, 2> to_half(const Vector<float, 2>& values) {
  const auto halves = to_half(Vector<float, 4>{values[0], values[1]});
  return Vector<uint16_t, 2>{halves[0], halves[1]};
}

template <typename T, int kLanes>
constexpr bool kRounds = sizeof(T) == 4 && kLanes == 4;
GRIDSAMPLE_INLINE Vector<float, 4> round_half_even(const Vector<float, 4>& v) {
  return (Vector<float, 4>)vrndnq_f32((float32x4_t)v);
}
GRIDSAMPLE_INLINE Vector<float, 4> round_down(const Vector<float, 4>& v) {
  return (Vector<float, 4>)vrndmq_f32((float32x4_t)v);
}

template <typename T, int kLanes>
constexpr bool kTests = sizeof(T) == 4 && kLanes == 4;
GRIDSAMPLE_INLINE bool any(const Vector<int32_t, 4>& condition) {
  return vmaxvq_u32((uint32x4_t)condition) != 0;
}

template <typename T, int kLanes>
constexpr bool kCompresses = false;
template <typename T>
constexpr bool kGathers = false;
template <typename T>
constexpr bool kGathersPairs = false;

GRIDSAMPLE_NAMESPACE_END
