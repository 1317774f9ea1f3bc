#pragma once

// Lanes in another order: of one vector, or of several together.

#include <cstddef>
#include <utility>

#include "cpu/simd/vectors.h"

GRIDSAMPLE_NAMESPACE_BEGIN

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

/// Of each block of kBlock lanes, the even lanes of `low` and then those of `high`; the odd ones.
template <int kBlock, typename V, size_t... I>
GRIDSAMPLE_INLINE void unzip(V low, V high, V& even, V& odd, std::index_sequence<I...>) {
  constexpr int kLanes = static_cast<int>(sizeof...(I));
  const auto source = [](int lane) {
    const int twice = lane % kBlock * 2;
    return lane / kBlock * kBlock + twice % kBlock + twice / kBlock * kLanes;
  };
  even = __builtin_shufflevector(low, high, source(static_cast<int>(I))...);
  odd = __builtin_shufflevector(low, high, (source(static_cast<int>(I)) + 1)...);
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

/// The first kCount lanes of each group of kGroup, side by side; the lanes beyond them are any.
template <int kGroup, int kCount, typename V, size_t... I>
GRIDSAMPLE_INLINE V first_of_groups(V v, std::index_sequence<I...>) {
  constexpr int kLanes = static_cast<int>(sizeof...(I));
  return __builtin_shufflevector(
      v, v, (static_cast<int>(I) / kCount * kGroup + static_cast<int>(I) % kCount) % kLanes...);
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

/// kBlock < kLanes: of vectors that are blocks, each block by itself.
template <typename T, int kLanes, int kBlock = kLanes, int kRows>
GRIDSAMPLE_INLINE void deinterleave(Vector<T, kLanes> (&v)[kRows]) {
  static_assert(kRows <= kBlock);
  Vector<T, kLanes> next[kRows];
  GRIDSAMPLE_UNROLL_16
  for (int round = 1; round < kRows; round *= 2) {
    GRIDSAMPLE_UNROLL_16
    for (int r = 0; r < kRows / 2; ++r) {
      unzip<kBlock>(v[2 * r], v[2 * r + 1], next[r], next[r + kRows / 2],
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
    unzip<kLanes>(v[0], v[1], even, odd, kAll);
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

/// v[index[l]] in lane l. Instruction sets that have it by instruction overload it.
template <typename V, typename Index>
GRIDSAMPLE_INLINE V permute(const V& v, const Index& index) {
  V permuted = v;
  for (size_t l = 0; l < sizeof(V) / sizeof(v[0]); ++l) permuted[l] = v[index[l]];
  return permuted;
}

GRIDSAMPLE_NAMESPACE_END
