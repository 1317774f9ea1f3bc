#pragma once

// The primitives for vectors of 16 and 32 bytes, with AVX2 and beyond.

#include "cpu/simd/scalars.h"
#include "cpu/simd/shuffles.h"

GRIDSAMPLE_NAMESPACE_BEGIN

GRIDSAMPLE_INLINE float multiply_add(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
GRIDSAMPLE_INLINE double multiply_add(double a, double b, double c) {
  return __builtin_fma(a, b, c);
}
GRIDSAMPLE_INLINE Vector<float, 4> multiply_add(Vector<float, 4> a, Vector<float, 4> b,
                                                Vector<float, 4> c) {
  return (Vector<float, 4>)_mm_fmadd_ps((__m128)a, (__m128)b, (__m128)c);
}
GRIDSAMPLE_INLINE Vector<double, 2> multiply_add(Vector<double, 2> a, Vector<double, 2> b,
                                                 Vector<double, 2> c) {
  return (Vector<double, 2>)_mm_fmadd_pd((__m128d)a, (__m128d)b, (__m128d)c);
}
GRIDSAMPLE_INLINE Vector<float, 8> multiply_add(Vector<float, 8> a, Vector<float, 8> b,
                                                Vector<float, 8> c) {
  return (Vector<float, 8>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
GRIDSAMPLE_INLINE Vector<double, 4> multiply_add(Vector<double, 4> a, Vector<double, 4> b,
                                                 Vector<double, 4> c) {
  return (Vector<double, 4>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}

GRIDSAMPLE_INLINE Vector<float, 4> from_half(const Vector<uint16_t, 4>& halves) {
  return (Vector<float, 4>)_mm_cvtph_ps(_mm_loadl_epi64((const __m128i*)&halves));
}
GRIDSAMPLE_INLINE Vector<float, 8> from_half(const Vector<uint16_t, 8>& halves) {
  return (Vector<float, 8>)_mm256_cvtph_ps((__m128i)halves);
}

constexpr int kToNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

GRIDSAMPLE_INLINE Vector<uint16_t, 4> to_half(const Vector<float, 4>& values) {
  Vector<uint16_t, 4> halves;
  _mm_storel_epi64((__m128i*)&halves, _mm_cvtps_ph((__m128)without_payload(values), kToNearest));
  return halves;
}
GRIDSAMPLE_INLINE Vector<uint16_t, 8> to_half(const Vector<float, 8>& values) {
  return (Vector<uint16_t, 8>)_mm256_cvtps_ph((__m256)without_payload(values), kToNearest);
}

GRIDSAMPLE_INLINE Vector<float, 8> permute(const Vector<float, 8>& v,
                                           const Vector<int32_t, 8>& index) {
  return (Vector<float, 8>)_mm256_permutevar8x32_ps((__m256)v, (__m256i)index);
}

template <typename T>
constexpr bool kGathers = std::is_same_v<T, float>;

GRIDSAMPLE_INLINE Vector<float, 8> gather(const float* base, const Vector<int32_t, 8>& offsets) {
  const auto inside = offsets >= 0;
  return (Vector<float, 8>)_mm256_mask_i32gather_ps(_mm256_setzero_ps(), base, (__m256i)offsets,
                                                    (__m256)inside, 4);
}

GRIDSAMPLE_NAMESPACE_END
