#pragma once

// Element types: how each is stored, and how it becomes the compute type and back.
//
// The 16-bit types are handled as raw uint16_t, not as PyTorch's classes: the compiler vectorises
// conversions of integers, not of structs.

#include "cpu/work.h"
#include "math/macros.h"

GRIDSAMPLE_NAMESPACE_BEGIN

/// What kernels compute in: they are compiled for float and for double, in namespaces of their own.
using compute_t = GRIDSAMPLE_COMPUTE_TYPE;

template <typename To, typename From>
GRIDSAMPLE_INLINE To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

template <DType kDType>
struct Scalar;

/// A type of C++, stored as it is.
template <typename T>
struct Number {
  using storage_t = T;
  template <typename compute_t>
  static GRIDSAMPLE_INLINE compute_t load(T value) {
    return static_cast<compute_t>(value);
  }
  template <typename compute_t>
  static GRIDSAMPLE_INLINE T store(compute_t value) {
    return static_cast<T>(value);
  }
};

template <>
struct Scalar<DType::kFloat> : Number<float> {};
template <>
struct Scalar<DType::kDouble> : Number<double> {};

template <>
struct Scalar<DType::kHalf> {
  using storage_t = uint16_t;
  // Exponent and mantissa are moved into float's places, where the exponent lacks 112. It is given
  // 224, which makes infinity and NaN of the largest one, and 112 are taken away by a product: x.
  // With the exponent 0 that is 2^-15 + m 2^-25, where the half is m 2^-24 = 2x - 2^-14; that is
  // less than x below 2^-14, and not from there on. No float32 subnormal comes up, so the value is
  // the same where the CPU takes those for 0 (torch.set_flush_denormal).
  static constexpr uint32_t kExponent = 224u << 23;
  static constexpr float kScale = 0x1p-112f;
  static constexpr float kLeastNormal = 0x1p-14f;
  template <typename compute_t>
  static GRIDSAMPLE_INLINE compute_t load(uint16_t half) {
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
    const uint32_t magnitude = static_cast<uint32_t>(half & 0x7fffu) << 13;
    const float x = bit_cast<float>(magnitude + kExponent) * kScale;
    const float subnormal = x + x - kLeastNormal;
    const float value = x < subnormal ? x : subnormal;
    return static_cast<compute_t>(bit_cast<float>(sign | bit_cast<uint32_t>(value)));
  }
  template <typename compute_t>
  static GRIDSAMPLE_INLINE uint16_t store(compute_t value) {
    return torch::headeronly::detail::fp16_ieee_from_fp32_value(static_cast<float>(value));
  }
};

template <>
struct Scalar<DType::kBFloat16> {
  using storage_t = uint16_t;
  template <typename compute_t>
  static GRIDSAMPLE_INLINE compute_t load(uint16_t value) {
    return static_cast<compute_t>(bit_cast<float>(static_cast<uint32_t>(value) << 16));
  }
  template <typename compute_t>
  static GRIDSAMPLE_INLINE uint16_t store(compute_t value) {
    return torch::headeronly::detail::round_to_nearest_even(static_cast<float>(value));
  }
};

/// A compute type as an element type.
template <typename compute_t>
constexpr DType kDTypeOf = std::is_same_v<compute_t, double> ? DType::kDouble : DType::kFloat;
template <typename compute_t>
using ScalarOf = Scalar<kDTypeOf<compute_t>>;

/// Calls function.template operator()<Scalar<...>>() for the type named at run time.
template <typename F>
GRIDSAMPLE_INLINE void dispatch_dtype(DType dtype, const F& function) {
  switch (dtype) {
    case DType::kHalf:
      return function.template operator()<Scalar<DType::kHalf>>();
    case DType::kBFloat16:
      return function.template operator()<Scalar<DType::kBFloat16>>();
    case DType::kFloat:
      return function.template operator()<Scalar<DType::kFloat>>();
    case DType::kDouble:
      return function.template operator()<Scalar<DType::kDouble>>();
    default:
      __builtin_unreachable();  // others are copied
  }
}

GRIDSAMPLE_NAMESPACE_END
