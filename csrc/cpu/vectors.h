#pragma once

// Short vectors: the compiler's own vector types (GCC and Clang), as wide as the instruction set.

#include "scalars.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Bytes of the widest vector.
constexpr int kVectorBytes =
#if defined(GRIDSAMPLE_HAS_AVX512)
    64;
#elif defined(GRIDSAMPLE_HAS_FMA)
    32;
#else
    16;
#endif

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

/// Elements as the compute type.
template <typename scalar, typename compute_t, int kLanes>
GRIDSAMPLE_INLINE Vector<compute_t, kLanes> convert_lanes(
    const Vector<typename scalar::storage_t, kLanes>& stored) {
  using storage_t = typename scalar::storage_t;
  if constexpr (std::is_same_v<storage_t, compute_t>) {
    return stored;
  } else if constexpr (std::is_same_v<storage_t, float>) {
    return __builtin_convertvector(stored, Vector<compute_t, kLanes>);
  } else {
    using Bits = Vector<uint32_t, kLanes>;
    const Bits wide = __builtin_convertvector(stored, Bits);
    Vector<float, kLanes> value;
    if constexpr (std::is_same_v<scalar, Scalar<DType::kBFloat16>>) {
      value = (Vector<float, kLanes>)(wide << 16);
    } else {
      // See Scalar<DType::kHalf>::load.
      const Bits sign = (wide & 0x8000u) << 16;
      const Bits magnitude = (wide & 0x7fffu) << 13;
      const Bits finite = (Bits)((Vector<float, kLanes>)magnitude * 0x1p112f);
      const Bits special = (Bits)(magnitude >= 0x0f800000u);
      value = (Vector<float, kLanes>)(sign | (finite & ~special) |
                                      ((magnitude | 0x7f800000u) & special));
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
  if constexpr (kPart >= 2 && std::is_same_v<typename scalar::storage_t, float> &&
                std::is_same_v<compute_t, float>) {
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

/// Writes the lanes of each vector where `keep` is not 0 side by side and returns how many they
/// are; the rest of a whole vector may be written as well.
template <int kLanes, typename T>
GRIDSAMPLE_INLINE int compress_lanes(const Vector<T, kLanes>& keep, const Vector<T, kLanes>& a,
                                     const Vector<T, kLanes>& b, T* to_a, T* to_b) {
#if defined(GRIDSAMPLE_HAS_AVX512)
  if constexpr (kLanes == 16 && sizeof(T) == 4) {
    const __mmask16 mask = _mm512_test_epi32_mask((__m512i)keep, (__m512i)keep);
    _mm512_storeu_si512(to_a, _mm512_maskz_compress_epi32(mask, (__m512i)a));
    _mm512_storeu_si512(to_b, _mm512_maskz_compress_epi32(mask, (__m512i)b));
    return __builtin_popcount(mask);
  }
#endif
  int count = 0;
  for (int l = 0; l < kLanes; ++l) {
    to_a[count] = a[l];
    to_b[count] = b[l];
    count += keep[l] != 0;
  }
  return count;
}

// Transposing. kRows vectors of N lanes, a power of two of each and kRows <= N, hold kRows planes
// of N pixels; after interleaving they hold the same numbers as rows, the kRows values of one
// pixel side by side, pixel after pixel. Each round merges vectors r and r + kRows / 2 lane by
// lane; log2(kRows) rounds do it, and splitting into even and odd lanes goes back.

template <typename V, size_t... I>
GRIDSAMPLE_INLINE void zip(V a, V b, V& low, V& high, std::index_sequence<I...>) {
  constexpr int kLanes = static_cast<int>(sizeof...(I));
  low = __builtin_shufflevector(a, b, static_cast<int>(I / 2 + I % 2 * kLanes)...);
  high = __builtin_shufflevector(a, b, static_cast<int>((I + kLanes) / 2 + I % 2 * kLanes)...);
}

template <typename V, size_t... I>
GRIDSAMPLE_INLINE void unzip(V low, V high, V& even, V& odd, std::index_sequence<I...>) {
  even = __builtin_shufflevector(low, high, static_cast<int>(2 * I)...);
  odd = __builtin_shufflevector(low, high, static_cast<int>(2 * I + 1)...);
}

/// Of vectors that are blocks of kBlock lanes, each made of groups of kGroup: where a and b have
/// the groups a0 a1 ..., b0 b1 ... in a block, the sums of their halves, in turn: a0 + ah, b0 + bh,
/// ...
template <int kBlock, int kGroup, typename V, size_t... I>
GRIDSAMPLE_INLINE V add_halves(V a, V b, std::index_sequence<I...>) {
  constexpr int kLanes = static_cast<int>(sizeof...(I));
  const auto source = [](int lane, int half) {
    const int block = lane / kBlock * kBlock;
    const int group = lane % kBlock / kGroup;
    const int from = half * (kBlock / 2) + group / 2 * kGroup + lane % kGroup;
    return block + from + group % 2 * kLanes;
  };
  return __builtin_shufflevector(a, b, source(static_cast<int>(I), 0)...) +
         __builtin_shufflevector(a, b, source(static_cast<int>(I), 1)...);
}

/// The even blocks of a and then b, plus the odd ones.
template <int kBlock, typename V, size_t... I>
GRIDSAMPLE_INLINE V add_blocks(V a, V b, std::index_sequence<I...>) {
  const auto source = [](int lane, int odd) {
    return (lane / kBlock * 2 + odd) * kBlock + lane % kBlock;
  };
  return __builtin_shufflevector(a, b, source(static_cast<int>(I), 0)...) +
         __builtin_shufflevector(a, b, source(static_cast<int>(I), 1)...);
}

/// kTimes copies of each of the lanes from `first` on, side by side, as many as fit.
template <int kTimes, typename T, int kLanes>
GRIDSAMPLE_INLINE Vector<T, kLanes> repeat_lanes(const Vector<T, kLanes>& v, int first) {
  using Index = Vector<std::conditional_t<sizeof(T) == 4, int32_t, int64_t>, kLanes>;
  Index index;
  for (int l = 0; l < kLanes; ++l) index[l] = l / kTimes;
  return __builtin_shuffle(v, index + first);
}

/// One vector of twice the lanes.
template <typename V, size_t... I>
GRIDSAMPLE_INLINE auto join(V low, V high, std::index_sequence<I...>) {
  return __builtin_shufflevector(low, high, static_cast<int>(I)...);
}
template <typename V>
GRIDSAMPLE_INLINE auto join(V low, V high) {
  return join(low, high, std::make_index_sequence<2 * sizeof(V) / sizeof(low[0])>{});
}

template <typename T, int kLanes, int kRows>
GRIDSAMPLE_INLINE void interleave(Vector<T, kLanes> (&v)[kRows]) {
  Vector<T, kLanes> next[kRows];
  GRIDSAMPLE_UNROLL_16
  for (int round = 1; round < kRows; round *= 2) {
    GRIDSAMPLE_UNROLL_16
    for (int r = 0; r < kRows / 2; ++r) {
      zip(v[r], v[r + kRows / 2], next[2 * r], next[2 * r + 1], std::make_index_sequence<kLanes>{});
    }
    GRIDSAMPLE_UNROLL_16
    for (int r = 0; r < kRows; ++r) v[r] = next[r];
  }
}

template <typename T, int kLanes, int kRows>
GRIDSAMPLE_INLINE void deinterleave(Vector<T, kLanes> (&v)[kRows]) {
  Vector<T, kLanes> next[kRows];
  GRIDSAMPLE_UNROLL_16
  for (int round = 1; round < kRows; round *= 2) {
    GRIDSAMPLE_UNROLL_16
    for (int r = 0; r < kRows / 2; ++r) {
      unzip(v[2 * r], v[2 * r + 1], next[r], next[r + kRows / 2],
            std::make_index_sequence<kLanes>{});
    }
    GRIDSAMPLE_UNROLL_16
    for (int r = 0; r < kRows; ++r) v[r] = next[r];
  }
}

// Three numbers side by side, lane after lane, and as three vectors. Element 3 l + a of three
// vectors one after the other is in the first two, or in the third.

template <int a, typename V, size_t... I>
GRIDSAMPLE_INLINE V every_third(const V (&v)[3], std::index_sequence<I...>) {
  constexpr int kLanes = static_cast<int>(sizeof...(I));
  const auto at = [](int l) { return 3 * l + a; };
  const V early =
      __builtin_shufflevector(v[0], v[1], (at(I) < 2 * kLanes ? at(I) : static_cast<int>(I))...);
  return __builtin_shufflevector(early, v[2],
                                 (at(I) < 2 * kLanes ? static_cast<int>(I) : at(I) - kLanes)...);
}

template <int part, typename V, size_t... I>
GRIDSAMPLE_INLINE V merge_thirds(const V (&v)[3], std::index_sequence<I...>) {
  constexpr int kLanes = static_cast<int>(sizeof...(I));
  const auto axis = [](int l) { return (part * kLanes + l) % 3; };
  const auto lane = [](int l) { return (part * kLanes + l) / 3; };
  const V two = __builtin_shufflevector(v[0], v[1],
                                        (axis(I) == 0   ? lane(I)
                                         : axis(I) == 1 ? kLanes + lane(I)
                                                        : 0)...);
  return __builtin_shufflevector(two, v[2],
                                 (axis(I) < 2 ? static_cast<int>(I) : kLanes + lane(I))...);
}

/// kSides numbers side by side, lane after lane, become kSides vectors.
template <typename T, int kLanes, int kSides>
GRIDSAMPLE_INLINE void take_apart(Vector<T, kLanes> (&v)[kSides]) {
  constexpr std::make_index_sequence<kLanes> kAll{};
  if constexpr (kSides == 2) {
    Vector<T, kLanes> even, odd;
    unzip(v[0], v[1], even, odd, kAll);
    v[0] = even;
    v[1] = odd;
  } else {
    const Vector<T, kLanes> all[3] = {every_third<0>(v, kAll), every_third<1>(v, kAll),
                                      every_third<2>(v, kAll)};
    for (int a = 0; a < 3; ++a) v[a] = all[a];
  }
}

/// And back.
template <typename T, int kLanes, int kSides>
GRIDSAMPLE_INLINE void put_together(Vector<T, kLanes> (&v)[kSides]) {
  constexpr std::make_index_sequence<kLanes> kAll{};
  if constexpr (kSides == 2) {
    Vector<T, kLanes> low, high;
    zip(v[0], v[1], low, high, kAll);
    v[0] = low;
    v[1] = high;
  } else {
    const Vector<T, kLanes> all[3] = {merge_thirds<0>(v, kAll), merge_thirds<1>(v, kAll),
                                      merge_thirds<2>(v, kAll)};
    for (int a = 0; a < 3; ++a) v[a] = all[a];
  }
}

/// rows[p * row_stride + c] = planes[c * plane_stride + p] for kRows channels c and N pixels p.
template <typename scalar, typename compute_t, int kRows>
GRIDSAMPLE_INLINE void planes_to_rows(const typename scalar::storage_t* planes,
                                      int64_t plane_stride, compute_t* rows, int64_t row_stride) {
  constexpr int kLanes = kFullLanes<compute_t>;
  Vector<compute_t, kLanes> v[kRows];
  GRIDSAMPLE_UNROLL_16
  for (int c = 0; c < kRows; ++c) {
    const auto* plane = planes + c * plane_stride;
    GRIDSAMPLE_PREFETCH(plane + 2 * kLanes);  // too many streams for the hardware to follow
    v[c] = load_lanes<scalar, compute_t, kLanes>(plane);
  }
  interleave<compute_t, kLanes>(v);
  GRIDSAMPLE_UNROLL_16
  for (int r = 0; r < kRows; ++r) {
    constexpr int kPixels = kLanes / kRows;
    if (kPixels == 1 || row_stride == kRows) {
      store_vector<compute_t, kLanes>(rows + r * kPixels * row_stride, v[r]);
    } else {
      alignas(64) compute_t lanes[kLanes];
      store_vector<compute_t, kLanes>(lanes, v[r]);
      for (int p = 0; p < kPixels; ++p) {
        std::memcpy(rows + (r * kPixels + p) * row_stride, lanes + p * kRows,
                    kRows * sizeof(compute_t));
      }
    }
  }
}

/// planes[c * plane_stride + p] = rows[p * row_stride + c] for kRows channels c and N pixels p.
template <typename scalar, typename compute_t, int kRows>
GRIDSAMPLE_INLINE void rows_to_planes(const compute_t* rows, int64_t row_stride,
                                      typename scalar::storage_t* planes, int64_t plane_stride) {
  constexpr int kLanes = kFullLanes<compute_t>;
  Vector<compute_t, kLanes> v[kRows];
  GRIDSAMPLE_UNROLL_16
  for (int r = 0; r < kRows; ++r) {
    constexpr int kPixels = kLanes / kRows;
    if (kPixels == 1 || row_stride == kRows) {
      v[r] = load_vector<compute_t, kLanes>(rows + r * kPixels * row_stride);
    } else {
      alignas(64) compute_t lanes[kLanes];
      for (int p = 0; p < kPixels; ++p) {
        std::memcpy(lanes + p * kRows, rows + (r * kPixels + p) * row_stride,
                    kRows * sizeof(compute_t));
      }
      v[r] = load_vector<compute_t, kLanes>(lanes);
    }
  }
  deinterleave<compute_t, kLanes>(v);
  GRIDSAMPLE_UNROLL_16
  for (int c = 0; c < kRows; ++c) {
    store_lanes<scalar, compute_t, kLanes>(planes + c * plane_stride, v[c]);
  }
}

/// Calls block.template operator()<kRows>(c, p) for blocks of kRows channels by N pixels, and
/// single(c, p) for what is left of `channels` by `pixels`. A few hundred pixels of some channels
/// after the other: planes a power of two apart would push each other out of the cache.
template <typename compute_t, typename Block, typename Single>
GRIDSAMPLE_INLINE void for_blocks(int channels, int64_t pixels, const Block& block,
                                  const Single& single) {
  constexpr int kLanes = kFullLanes<compute_t>;
  constexpr int64_t kRun = 256;
  const int64_t whole = pixels - pixels % kLanes;
  for (int64_t first = 0; first < whole; first += kRun) {
    const int64_t last = std::min(first + kRun, whole);
    int c = 0;
    const auto blocks = [&]<int kRows>() {
      for (int64_t p = first; p < last; p += kLanes) block.template operator()<kRows>(c, p);
      c += kRows;
    };
    while (c + kLanes <= channels) blocks.template operator()<kLanes>();
    if constexpr (kLanes > 8) {
      if (c + 8 <= channels) blocks.template operator()<8>();
    }
    if constexpr (kLanes > 4) {
      if (c + 4 <= channels) blocks.template operator()<4>();
    }
    for (; c < channels; ++c) {
      for (int64_t p = first; p < last; ++p) single(c, p);
    }
  }
  for (int64_t p = whole; p < pixels; ++p) {
    for (int c = 0; c < channels; ++c) single(c, p);
  }
}

/// rows[p * row_stride + c] = planes[c * plane_stride + p].
template <typename scalar, typename compute_t>
void transpose_to_rows(const typename scalar::storage_t* planes, int64_t plane_stride, int channels,
                       int64_t pixels, compute_t* rows, int64_t row_stride) {
  for_blocks<compute_t>(
      channels, pixels,
      [&]<int kRows>(int c, int64_t p) {
        planes_to_rows<scalar, compute_t, kRows>(planes + c * plane_stride + p, plane_stride,
                                                 rows + p * row_stride + c, row_stride);
      },
      [&](int c, int64_t p) {
        rows[p * row_stride + c] = scalar::template load<compute_t>(planes[c * plane_stride + p]);
      });
}

/// planes[c * plane_stride + p] = rows[p * row_stride + c].
template <typename scalar, typename compute_t>
void transpose_to_planes(const compute_t* rows, int64_t row_stride, int channels, int64_t pixels,
                         typename scalar::storage_t* planes, int64_t plane_stride) {
  for_blocks<compute_t>(
      channels, pixels,
      [&]<int kRows>(int c, int64_t p) {
        rows_to_planes<scalar, compute_t, kRows>(rows + p * row_stride + c, row_stride,
                                                 planes + c * plane_stride + p, plane_stride);
      },
      [&](int c, int64_t p) {
        planes[c * plane_stride + p] = scalar::store(rows[p * row_stride + c]);
      });
}

GRIDSAMPLE_NAMESPACE_END
