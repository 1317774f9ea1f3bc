#pragma once

// Vectors of the compute type, made of the primitives that the header of the instruction set (its
// list is in baseline.h) gives for vectors of up to kRegisterBytes.

#include "cpu/simd/scalars.h"
#include "cpu/simd/shuffles.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// Whether the primitives take vectors of this many bytes; wider ones are handled by halves.
constexpr bool fits_register(size_t bytes) { return bytes <= kRegisterBytes; }

/// a * b + c, in one rounding where the instruction set has it, like multiply_add.
template <typename T, int kLanes>
GRIDSAMPLE_INLINE Vector<T, kLanes> multiply_add_vector(Vector<T, kLanes> a, Vector<T, kLanes> b,
                                                        Vector<T, kLanes> c) {
  if constexpr (fits_register(kLanes * sizeof(T))) {
    return multiply_add(a, b, c);
  } else {
    using Half = Vector<T, kLanes / 2>;
    Half x[2], y[2], z[2];
    std::memcpy(x, &a, sizeof(a));
    std::memcpy(y, &b, sizeof(b));
    std::memcpy(z, &c, sizeof(c));
    for (int h = 0; h < 2; ++h) z[h] = multiply_add_vector<T, kLanes / 2>(x[h], y[h], z[h]);
    std::memcpy(&c, z, sizeof(c));
    return c;
  }
}

/// The nearest whole numbers, halfway the even ones; the largest not above. As those of numbers in
/// math/coordinates.h.
template <typename T, int kLanes>
GRIDSAMPLE_INLINE Vector<T, kLanes> round_lanes_half_even(const Vector<T, kLanes>& v) {
  if constexpr (kRounds<T, kLanes>) {
    return round_half_even(v);
  } else {
    constexpr T kWhole = T(int64_t(1) << (std::numeric_limits<T>::digits - 1));
    using Bits = Vector<std::conditional_t<sizeof(T) == 4, int32_t, int64_t>, kLanes>;
    const auto sign = (Bits)v & (Bits)broadcast<T, kLanes>(T(-0.0));
    const auto magnitude = (Vector<T, kLanes>)((Bits)v ^ sign);
    const auto rounded = (Bits)((magnitude + kWhole) - kWhole) | sign;
    return magnitude < kWhole ? (Vector<T, kLanes>)rounded : v;
  }
}
template <typename T, int kLanes>
GRIDSAMPLE_INLINE Vector<T, kLanes> round_lanes_down(const Vector<T, kLanes>& v) {
  if constexpr (kRounds<T, kLanes>) {
    return round_down(v);
  } else {
    const auto nearest = round_lanes_half_even<T, kLanes>(v);
    return nearest > v ? nearest - T(1) : nearest;
  }
}

/// Whether any lane of a condition, all ones or 0, holds.
template <typename T, int kLanes>
GRIDSAMPLE_INLINE bool any_lane(const Vector<T, kLanes>& condition) {
  if constexpr (kTests<T, kLanes>) {
    return any(condition);
  } else {
    T any = 0;
    for (int l = 0; l < kLanes; ++l) any |= condition[l];
    return any != 0;
  }
}

/// sum += factors * values, the factors from memory.
template <int kLanes, typename T>
GRIDSAMPLE_INLINE void add_product(const T* factors, const Vector<T, kLanes>& values,
                                   Vector<T, kLanes>& sum) {
  sum = multiply_add_vector<T, kLanes>(load_vector<T, kLanes>(factors), values, sum);
}

/// kTimes copies of each of the lanes from `first` on, side by side, as many as fit.
template <int kTimes, typename T, int kLanes>
GRIDSAMPLE_INLINE Vector<T, kLanes> repeat_lanes(const Vector<T, kLanes>& v, int first) {
  using Index = Vector<std::conditional_t<sizeof(T) == 4, int32_t, int64_t>, kLanes>;
  Index index;
  for (int l = 0; l < kLanes; ++l) index[l] = l / kTimes;
  return permute(v, index + first);
}

/// float16 to float32, exactly.
template <int kLanes>
GRIDSAMPLE_INLINE Vector<float, kLanes> halves_to_floats(const Vector<uint16_t, kLanes>& halves) {
  if constexpr (fits_register(kLanes * sizeof(float))) {
    return from_half(halves);
  } else {
    return by_halves<Vector<float, kLanes>, kLanes>(halves,
                                                    [](const Vector<uint16_t, kLanes / 2>& part) {
                                                      return halves_to_floats<kLanes / 2>(part);
                                                    });
  }
}

/// float32 to float16, as Scalar<DType::kHalf>::store does it.
template <int kLanes>
GRIDSAMPLE_INLINE Vector<uint16_t, kLanes> floats_to_halves(const Vector<float, kLanes>& values) {
  if constexpr (fits_register(kLanes * sizeof(float))) {
    return to_half(values);
  } else {
    return by_halves<Vector<uint16_t, kLanes>, kLanes>(
        values,
        [](const Vector<float, kLanes / 2>& part) { return floats_to_halves<kLanes / 2>(part); });
  }
}

/// base[offset[l]], or 0 where the offset is negative, where kGathers says so.
template <int kLanes = kFullLanes<float>>
GRIDSAMPLE_INLINE Vector<float, kLanes> gather_lanes(const float* base, const int32_t* offset) {
  if constexpr (fits_register(kLanes * sizeof(float))) {
    return gather(base, load_vector<int32_t, kLanes>(offset));
  } else {
    return join(gather_lanes<kLanes / 2>(base, offset),
                gather_lanes<kLanes / 2>(base, offset + kLanes / 2));
  }
}

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
      value = halves_to_floats<kLanes>(stored);
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
  } else if constexpr (std::is_same_v<scalar, Scalar<DType::kHalf>>) {
    store_vector<storage_t, kLanes>(
        to, floats_to_halves<kLanes>(__builtin_convertvector(values, Vector<float, kLanes>)));
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

/// The first kLeft of four lanes, 1 to 3; the others read as 0, and are not written.
template <int kLeft, typename T>
GRIDSAMPLE_INLINE Vector<T, 4> load_first(const T* from) {
  if constexpr (kLeft >= 2 && kPairLanes<T> == 4) {
    Vector<T, 4> lanes = load_pair(from);
    if constexpr (kLeft == 3) lanes[2] = from[2];
    return lanes;
  } else if constexpr (kLeft == 3) {
    return Vector<T, 4>{from[0], from[1], from[2], T(0)};
  } else if constexpr (kLeft == 2) {
    return Vector<T, 4>{from[0], from[1], T(0), T(0)};
  } else {
    return Vector<T, 4>{from[0], T(0), T(0), T(0)};
  }
}
template <typename scalar, typename compute_t, int kLeft>
GRIDSAMPLE_INLINE Vector<compute_t, 4> load_first_lanes(const typename scalar::storage_t* from) {
  return convert_lanes<scalar, compute_t, 4>(load_first<kLeft>(from));
}
template <typename scalar, typename compute_t, int kLeft>
GRIDSAMPLE_INLINE void store_first_lanes(typename scalar::storage_t* to,
                                         const Vector<compute_t, 4>& values) {
  if constexpr (kLeft >= 2 && std::is_same_v<typename scalar::storage_t, float>) {
    store_pair(to, values);
  } else {
    to[0] = scalar::store(values[0]);
    if constexpr (kLeft > 1) to[1] = scalar::store(values[1]);
  }
  if constexpr (kLeft > 2) to[2] = scalar::store(values[2]);
}

/// Calls function.template operator()<kLeft>() for 1 to 3, nothing for 0.
template <typename F>
GRIDSAMPLE_INLINE void dispatch_left(int64_t left, const F& function) {
  if (left == 3) {
    function.template operator()<3>();
  } else if (left == 2) {
    function.template operator()<2>();
  } else if (left == 1) {
    function.template operator()<1>();
  }
}

/// Writes the lanes of each vector v[n] where `keep` is all ones, not 0, side by side to to[n], and
/// returns how many they are; the rest of a whole vector may be written as well.
template <int kLanes, typename T, int kVectors>
GRIDSAMPLE_INLINE int compress_lanes(const std::type_identity_t<Vector<T, kLanes>>& keep,
                                     const std::type_identity_t<Vector<T, kLanes>> (&v)[kVectors],
                                     T* const (&to)[kVectors]) {
  if constexpr (kCompresses<T, kLanes>) {
    return compress<kLanes>(keep, v, to);
  } else {
    int count = 0;
    for (int l = 0; l < kLanes; ++l) {
      for (int n = 0; n < kVectors; ++n) to[n][count] = v[n][l];
      count += keep[l] != 0;
    }
    return count;
  }
}

GRIDSAMPLE_NAMESPACE_END
