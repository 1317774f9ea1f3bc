#pragma once

// Short vectors: the compiler's own vector types (GCC and Clang), as wide as the instruction set.

#include "cpu/simd/scalars.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Bytes of the widest vector.
constexpr int kVectorBytes = GRIDSAMPLE_VECTOR_BYTES;

template <typename T, int kLanes>
struct VectorType {
  typedef T type __attribute__((vector_size(kLanes * sizeof(T))));
};
template <typename T, int kLanes>
using Vector = typename VectorType<T, kLanes>::type;

/// Lanes of the widest vector.
template <typename T>
constexpr int kFullLanes = kVectorBytes / static_cast<int>(sizeof(T));

/// Lanes of any type, from and to memory of any alignment.
template <typename T, int kLanes>
GRIDSAMPLE_INLINE Vector<T, kLanes> load_vector(const T* from) {
  Vector<T, kLanes> vector;
  std::memcpy(&vector, from, sizeof(vector));
  return vector;
}
template <typename T, int kLanes, typename V>
GRIDSAMPLE_INLINE void store_vector(T* to, const V& vector) {
  static_assert(sizeof(V) == kLanes * sizeof(T));
  std::memcpy(to, &vector, sizeof(vector));
}

/// The same value in every lane.
template <typename T, int kLanes>
GRIDSAMPLE_INLINE Vector<T, kLanes> broadcast(T value) {
  return value - Vector<T, kLanes>{};  // x - 0 is x, so nothing is computed; -0 + 0 is not -0
}

/// a * b + c, in one rounding where the instruction set has it, like multiply_add.
template <typename T, int kLanes>
GRIDSAMPLE_INLINE Vector<T, kLanes> multiply_add_vector(Vector<T, kLanes> a, Vector<T, kLanes> b,
                                                        Vector<T, kLanes> c) {
#if defined(GRIDSAMPLE_HAS_FMA)
  constexpr int kBytes = kLanes * static_cast<int>(sizeof(T));
#if !defined(GRIDSAMPLE_HAS_AVX512)
  if constexpr (kBytes == 64) {
    using Half = Vector<T, kLanes / 2>;
    Half x[2], y[2], z[2];
    std::memcpy(x, &a, sizeof(a));
    std::memcpy(y, &b, sizeof(b));
    std::memcpy(z, &c, sizeof(c));
    for (int h = 0; h < 2; ++h) z[h] = multiply_add_vector<T, kLanes / 2>(x[h], y[h], z[h]);
    std::memcpy(&c, z, sizeof(c));
    return c;
  }
#endif
  if constexpr (sizeof(T) == sizeof(float)) {
#if defined(GRIDSAMPLE_HAS_AVX512)
    if constexpr (kBytes == 64) return (Vector<T, kLanes>)_mm512_fmadd_ps(a, b, c);
#endif
    if constexpr (kBytes == 32) return (Vector<T, kLanes>)_mm256_fmadd_ps(a, b, c);
    if constexpr (kBytes == 16) return (Vector<T, kLanes>)_mm_fmadd_ps(a, b, c);
  } else {
#if defined(GRIDSAMPLE_HAS_AVX512)
    if constexpr (kBytes == 64) return (Vector<T, kLanes>)_mm512_fmadd_pd(a, b, c);
#endif
    if constexpr (kBytes == 32) return (Vector<T, kLanes>)_mm256_fmadd_pd(a, b, c);
    if constexpr (kBytes == 16) return (Vector<T, kLanes>)_mm_fmadd_pd(a, b, c);
  }
  Vector<T, kLanes> sum{};
  for (int l = 0; l < kLanes; ++l) sum[l] = multiply_add(a[l], b[l], c[l]);
  return sum;
#else
  return a * b + c;
#endif
}

/// sum += factors * values, the factors from memory.
template <int kLanes, typename T>
GRIDSAMPLE_INLINE void add_product(const T* factors, const Vector<T, kLanes>& values,
                                   Vector<T, kLanes>& sum) {
  sum = multiply_add_vector<T, kLanes>(load_vector<T, kLanes>(factors), values, sum);
}

/// Calls function(half of the lanes) for both halves of a vector, and joins the results.
template <typename Result, int kLanes, typename V, typename F>
GRIDSAMPLE_INLINE Result by_halves(const V& vector, const F& function) {
  using Part = Vector<std::remove_cvref_t<decltype(vector[0])>, kLanes / 2>;
  Part parts[2];
  std::memcpy(parts, &vector, sizeof(vector));
  const auto low = function(parts[0]);
  const auto high = function(parts[1]);
  Result result;
  static_assert(sizeof(result) == 2 * sizeof(low));
  std::memcpy(&result, &low, sizeof(low));
  std::memcpy(reinterpret_cast<char*>(&result) + sizeof(low), &high, sizeof(high));
  return result;
}

#if defined(GRIDSAMPLE_HAS_AVX512)
/// Without a mask GCC 12 warns of what its own headers leave uninitialised. This one costs nothing.
constexpr __mmask16 kAllLanes = 0xffff;
#endif

/// float16 to float32, exactly. The instructions, where there are any, know no flushing of
/// subnormal halves.
template <int kLanes>
GRIDSAMPLE_INLINE Vector<float, kLanes> from_half(const Vector<uint16_t, kLanes>& stored) {
#if defined(GRIDSAMPLE_HAS_AVX512)
  if constexpr (kLanes == 16) {
    return (Vector<float, 16>)_mm512_maskz_cvtph_ps(kAllLanes, (__m256i)stored);
  }
#endif
#if defined(GRIDSAMPLE_HAS_F16C)
  if constexpr (kLanes == 8) return (Vector<float, 8>)_mm256_cvtph_ps((__m128i)stored);
  if constexpr (kLanes == 4) {
    return (Vector<float, 4>)_mm_cvtph_ps(_mm_loadl_epi64((const __m128i*)&stored));
  }
  if constexpr (kLanes >= 16) {
    return by_halves<Vector<float, kLanes>, kLanes>(
        stored,
        [](const Vector<uint16_t, kLanes / 2>& part) { return from_half<kLanes / 2>(part); });
  }
#endif
  // See Scalar<DType::kHalf>::load.
  using Half = Scalar<DType::kHalf>;
  using Bits = Vector<uint32_t, kLanes>;
  using Floats = Vector<float, kLanes>;
  const Bits wide = __builtin_convertvector(stored, Bits);
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

#if defined(GRIDSAMPLE_HAS_F16C)
/// float32 to float16, as Scalar<DType::kHalf>::store does it: of a NaN the sign alone is kept.
template <int kLanes>
GRIDSAMPLE_INLINE Vector<uint16_t, kLanes> to_half(const Vector<float, kLanes>& values) {
#if defined(GRIDSAMPLE_HAS_AVX512)
  constexpr int kMostLanes = 16;
#else
  constexpr int kMostLanes = 8;
#endif
  if constexpr (kLanes > kMostLanes) {
    return by_halves<Vector<uint16_t, kLanes>, kLanes>(
        values, [](const Vector<float, kLanes / 2>& part) { return to_half<kLanes / 2>(part); });
  } else {
    using Bits = Vector<uint32_t, kLanes>;
    const Bits is_nan = (Bits)(values != values);
    const Bits nan = ((Bits)values & 0x80000000u) | 0x7fc00000u;
    const Bits clean = (is_nan & nan) | (~is_nan & (Bits)values);
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
#if defined(GRIDSAMPLE_HAS_AVX512)
    if constexpr (kLanes == 16) {
      return (Vector<uint16_t, 16>)_mm512_maskz_cvtps_ph(kAllLanes, (__m512)clean, kNearest);
    }
#endif
    if constexpr (kLanes == 8) {
      return (Vector<uint16_t, 8>)_mm256_cvtps_ph((__m256)clean, kNearest);
    }
    if constexpr (kLanes == 4) {
      Vector<uint16_t, 4> halves;
      _mm_storel_epi64((__m128i*)&halves, _mm_cvtps_ph((__m128)clean, kNearest));
      return halves;
    }
  }
}
#endif

/// Elements as the compute type.
template <typename scalar, typename compute_t, int kLanes>
GRIDSAMPLE_INLINE Vector<compute_t, kLanes> convert_lanes(
    const Vector<typename scalar::storage_t, kLanes>& stored) {
  using storage_t = typename scalar::storage_t;
  if constexpr (std::is_same_v<storage_t, compute_t>) {
    return stored;
  } else if constexpr (std::is_floating_point_v<storage_t>) {  // not 16 bits
    return __builtin_convertvector(stored, Vector<compute_t, kLanes>);
  } else {
    Vector<float, kLanes> value;
    if constexpr (std::is_same_v<scalar, Scalar<DType::kBFloat16>>) {
      using Bits = Vector<uint32_t, kLanes>;
      value = (Vector<float, kLanes>)(__builtin_convertvector(stored, Bits) << 16);
    } else {
      value = from_half<kLanes>(stored);
    }
    if constexpr (std::is_same_v<compute_t, float>) {
      return value;
    } else {
      return __builtin_convertvector(value, Vector<compute_t, kLanes>);
    }
  }
}

/// kLanes elements as the compute type.
template <typename scalar, typename compute_t, int kLanes>
GRIDSAMPLE_INLINE Vector<compute_t, kLanes> load_lanes(const typename scalar::storage_t* from) {
  return convert_lanes<scalar, compute_t, kLanes>(
      load_vector<typename scalar::storage_t, kLanes>(from));
}

/// kLanes values of the compute type as elements.
template <typename scalar, typename compute_t, int kLanes>
GRIDSAMPLE_INLINE void store_lanes(typename scalar::storage_t* to,
                                   const Vector<compute_t, kLanes>& values) {
  using storage_t = typename scalar::storage_t;
  if constexpr (std::is_same_v<storage_t, compute_t>) {
    store_vector<storage_t, kLanes>(to, values);
  } else if constexpr (std::is_same_v<storage_t, float>) {
    store_vector<float, kLanes>(to, __builtin_convertvector(values, Vector<float, kLanes>));
#if defined(GRIDSAMPLE_HAS_F16C)
  } else if constexpr (std::is_same_v<scalar, Scalar<DType::kHalf>> && kLanes >= 4) {
    store_vector<storage_t, kLanes>(
        to, to_half<kLanes>(__builtin_convertvector(values, Vector<float, kLanes>)));
#endif
  } else {
    alignas(64) compute_t lanes[kLanes];
    store_vector<compute_t, kLanes>(lanes, values);
#pragma omp simd
    for (int l = 0; l < kLanes; ++l) to[l] = scalar::store(lanes[l]);
  }
}

/// Two numbers side by side, in a vector of 16 bytes of which the rest is 0 or not written.
template <typename T>
constexpr int kPairLanes = 16 / static_cast<int>(sizeof(T));
template <typename T>
GRIDSAMPLE_INLINE Vector<T, kPairLanes<T>> load_pair(const T* from) {
  if constexpr (kPairLanes<T> == 2) {
    return load_vector<T, 2>(from);
  } else {
    double both;
    std::memcpy(&both, from, sizeof(both));
    return (Vector<T, 4>)Vector<double, 2>{both, 0};
  }
}
template <typename T>
GRIDSAMPLE_INLINE void store_pair(T* to, const Vector<T, kPairLanes<T>>& pair) {
  if constexpr (kPairLanes<T> == 2) {
    store_vector<T, 2>(to, pair);
  } else {
    const double both = ((Vector<double, 2>)pair)[0];
    std::memcpy(to, &both, sizeof(both));
  }
}

/// The first kPart of four lanes, 1 to 3; the others read as 0, and are not written.
template <int kPart, typename T>
GRIDSAMPLE_INLINE Vector<T, 4> load_first(const T* from) {
  if constexpr (kPart >= 2 && kPairLanes<T> == 4) {
    Vector<T, 4> lanes = load_pair(from);
    if constexpr (kPart == 3) lanes[2] = from[2];
    return lanes;
  } else if constexpr (kPart == 3) {
    return Vector<T, 4>{from[0], from[1], from[2], T(0)};
  } else if constexpr (kPart == 2) {
    return Vector<T, 4>{from[0], from[1], T(0), T(0)};
  } else {
    return Vector<T, 4>{from[0], T(0), T(0), T(0)};
  }
}
template <typename scalar, typename compute_t, int kPart>
GRIDSAMPLE_INLINE Vector<compute_t, 4> load_first_lanes(const typename scalar::storage_t* from) {
  return convert_lanes<scalar, compute_t, 4>(load_first<kPart>(from));
}
template <typename scalar, typename compute_t, int kPart>
GRIDSAMPLE_INLINE void store_first_lanes(typename scalar::storage_t* to,
                                         const Vector<compute_t, 4>& values) {
  if constexpr (kPart >= 2 && std::is_same_v<typename scalar::storage_t, float>) {
    store_pair(to, values);
  } else {
    to[0] = scalar::store(values[0]);
    if constexpr (kPart > 1) to[1] = scalar::store(values[1]);
  }
  if constexpr (kPart > 2) to[2] = scalar::store(values[2]);
}

/// Calls function.template operator()<kPart>() for 1 to 3, nothing for 0.
template <typename F>
GRIDSAMPLE_INLINE void dispatch_part(int64_t part, const F& function) {
  if (part == 3) {
    function.template operator()<3>();
  } else if (part == 2) {
    function.template operator()<2>();
  } else if (part == 1) {
    function.template operator()<1>();
  }
}

#if defined(GRIDSAMPLE_HAS_FMA)
/// For each set of eight lanes, the numbers of those that are in it, a byte each.
struct LanesOfSet {
  uint64_t lanes[256] = {};
  constexpr LanesOfSet() {
    for (int set = 0; set < 256; ++set) {
      int count = 0;
      for (int l = 0; l < 8; ++l) {
        if (set >> l & 1) lanes[set] |= uint64_t(l) << (8 * count++);
      }
    }
  }
};
#endif

/// Writes the lanes of each vector v[n] where `keep` is all ones, not 0, side by side to to[n], and
/// returns how many they are; the rest of a whole vector may be written as well.
template <int kLanes, typename T, int kVectors>
GRIDSAMPLE_INLINE int compress_lanes(const std::type_identity_t<Vector<T, kLanes>>& keep,
                                     const std::type_identity_t<Vector<T, kLanes>> (&v)[kVectors],
                                     T* const (&to)[kVectors]) {
#if defined(GRIDSAMPLE_HAS_AVX512)
  if constexpr (kLanes == 16 && sizeof(T) == 4) {
    const __mmask16 mask = _mm512_test_epi32_mask((__m512i)keep, (__m512i)keep);
    GRIDSAMPLE_UNROLL
    for (int n = 0; n < kVectors; ++n) {
      _mm512_storeu_si512(to[n], _mm512_maskz_compress_epi32(mask, (__m512i)v[n]));
    }
    return __builtin_popcount(mask);
  }
#endif
#if defined(GRIDSAMPLE_HAS_FMA)
  if constexpr (kLanes == 8 && sizeof(T) == 4) {
    static constexpr LanesOfSet kLanesOf;
    const int set = _mm256_movemask_ps((__m256)keep);
    const __m256i lanes =
        _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)&kLanesOf.lanes[set]));
    GRIDSAMPLE_UNROLL
    for (int n = 0; n < kVectors; ++n) {
      store_vector<T, kLanes>(to[n], _mm256_permutevar8x32_epi32((__m256i)v[n], lanes));
    }
    return __builtin_popcount(static_cast<unsigned>(set));
  }
#endif
  int count = 0;
  for (int l = 0; l < kLanes; ++l) {
    for (int n = 0; n < kVectors; ++n) to[n][count] = v[n][l];
    count += keep[l] != 0;
  }
  return count;
}

GRIDSAMPLE_NAMESPACE_END
