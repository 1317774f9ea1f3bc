#pragma once

// AVX-512 with its extensions BW, DQ and VL. baseline.h says what such a header gives.
//
// GRIDSAMPLE_EMULATE_AVX512: vectors as wide as AVX-512's, each of two of AVX2, so that a CPU
// without AVX-512 can test what depends on their width. Not for use: it is slower than AVX2.

#define GRIDSAMPLE_ISA avx512
#define GRIDSAMPLE_VECTOR_BYTES 64
#if defined(__clang__)
#define GRIDSAMPLE_TARGET_PUSHED
#endif
#if defined(GRIDSAMPLE_EMULATE_AVX512)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
#else
#if defined(__clang__)
#pragma clang attribute push(                                                    \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl"))), \
    apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl")
#endif
#endif

#include "cpu/simd/avx2_registers.h"

GRIDSAMPLE_NAMESPACE_BEGIN

#if defined(GRIDSAMPLE_EMULATE_AVX512)

constexpr size_t kRegisterBytes = 32;

template <typename T, int kLanes>
constexpr bool kRounds = false;
template <typename T, int kLanes>
constexpr bool kTests = false;
template <typename T, int kLanes>
constexpr bool kCompresses = false;
template <typename T>
constexpr bool kGathersPairs = false;

#else

constexpr size_t kRegisterBytes = 64;

GRIDSAMPLE_INLINE Vector<float, 16> multiply_add(Vector<float, 16> a, Vector<float, 16> b,
                                                 Vector<float, 16> c) {
  return (Vector<float, 16>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
GRIDSAMPLE_INLINE Vector<double, 8> multiply_add(Vector<double, 8> a, Vector<double, 8> b,
                                                 Vector<double, 8> c) {
  return (Vector<double, 8>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}

/// Without a mask GCC 12 warns of what its own headers leave uninitialised. This one costs nothing.
constexpr __mmask16 kAllLanes = 0xffff;

GRIDSAMPLE_INLINE Vector<float, 16> from_half(const Vector<uint16_t, 16>& halves) {
  return (Vector<float, 16>)_mm512_maskz_cvtph_ps(kAllLanes, (__m256i)halves);
}
GRIDSAMPLE_INLINE Vector<uint16_t, 16> to_half(const Vector<float, 16>& values) {
  return (Vector<uint16_t, 16>)_mm512_maskz_cvtps_ph(kAllLanes, (__m512)without_payload(values),
                                                     kToNearest);
}

GRIDSAMPLE_INLINE Vector<float, 16> permute(const Vector<float, 16>& v,
                                            const Vector<int32_t, 16>& index) {
  return (Vector<float, 16>)_mm512_maskz_permutexvar_ps(kAllLanes, (__m512i)index, (__m512)v);
}

template <typename T, int kLanes>
constexpr bool kRounds = sizeof(T) == 4 && kLanes == 16;
GRIDSAMPLE_INLINE Vector<float, 16> round_half_even(const Vector<float, 16>& v) {
  return (Vector<float, 16>)_mm512_maskz_roundscale_ps(kAllLanes, (__m512)v, kToNearest);
}
GRIDSAMPLE_INLINE Vector<float, 16> round_down(const Vector<float, 16>& v) {
  return (Vector<float, 16>)_mm512_maskz_roundscale_ps(kAllLanes, (__m512)v,
                                                       _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

template <typename T, int kLanes>
constexpr bool kTests = sizeof(T) == 4 && kLanes == 16;
GRIDSAMPLE_INLINE bool any(const Vector<int32_t, 16>& condition) {
  return _mm512_movepi32_mask((__m512i)condition) != 0;
}

template <typename T, int kLanes>
constexpr bool kCompresses = kLanes == 16 && sizeof(T) == 4;

template <int kLanes, typename T, int kVectors>
GRIDSAMPLE_INLINE int compress(const std::type_identity_t<Vector<T, kLanes> >& keep,
                               const std::type_identity_t<Vector<T, kLanes> > (&v)[kVectors],
                               T* const (&to)[kVectors]) {
  const __mmask16 mask = _mm512_test_epi32_mask((__m512i)keep, (__m512i)keep);
  GRIDSAMPLE_UNROLL
  for (int n = 0; n < kVectors; ++n) {
    _mm512_storeu_si512(to[n], _mm512_maskz_compress_epi32(mask, (__m512i)v[n]));
  }
  return __builtin_popcount(mask);
}

GRIDSAMPLE_INLINE Vector<float, 16> gather(const float* base, const Vector<int32_t, 16>& offsets) {
  const auto inside = offsets >= 0;
  return (Vector<float, 16>)_mm512_mask_i32gather_ps(
      _mm512_setzero_ps(), _mm512_movepi32_mask((__m512i)inside), (__m512i)offsets, base, 4);
}

template <typename T>
constexpr bool kGathersPairs = kGathers<T>;

GRIDSAMPLE_INLINE void gather_pairs(const float* base, const int32_t* offset,
                                    Vector<float, 16> (&v)[2]) {
  GRIDSAMPLE_UNROLL
  for (int half = 0; half < 2; ++half) {
    const auto at = load_vector<int32_t, 8>(offset + half * 8);
    v[half] = (Vector<float, 16>)_mm512_mask_i32gather_pd(_mm512_setzero_pd(), 0xff, (__m256i)at,
                                                          base, 4);
  }
  take_apart<float, 16>(v);
}

#endif

GRIDSAMPLE_NAMESPACE_END
