#pragma once

// Element types: how they are read, computed with and written; single values and rows of channels.

#include <cstring>
#include <type_traits>

#include "params.h"
#include "cuda/device/platform.cuh"

namespace gridsample_ext::cuda {

// Raw bits: the kernels do no arithmetic in 16 bits.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};
/// Either of them: a DType tells which.
struct AnyHalf {
  uint16_t bits;
};

/// What pixels are computed in.
template <typename pixel_t>
using compute_type = std::conditional_t<std::is_same_v<pixel_t, double>, double, float>;

GRIDSAMPLE_DEVICE float widen(Half value) { return __half2float(__ushort_as_half(value.bits)); }
GRIDSAMPLE_DEVICE float widen(BFloat16 value) {
  return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
}
GRIDSAMPLE_DEVICE float widen(float value) { return value; }
GRIDSAMPLE_DEVICE double widen(double value) { return value; }

/// Rounds to the nearest.
template <typename pixel_t>
GRIDSAMPLE_DEVICE pixel_t narrow(compute_type<pixel_t> value) {
  if constexpr (std::is_same_v<pixel_t, Half>) {
    return {__half_as_ushort(__float2half_rn(value))};
  } else if constexpr (std::is_same_v<pixel_t, BFloat16>) {
    return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
  } else {
    return value;
  }
}

/// Calls visit.template operator()<T>() for an argument whose type is known at run time only, and
/// the same for all threads.
template <typename Visit>
GRIDSAMPLE_DEVICE auto with_type(DType dtype, const Visit& visit) {
  switch (dtype) {
    case DType::kHalf:
      return visit.template operator()<Half>();
    case DType::kBFloat16:
      return visit.template operator()<BFloat16>();
    case DType::kFloat:
      return visit.template operator()<float>();
    default:  // others are copied
      break;
  }
  return visit.template operator()<double>();
}

/// Several values of such an argument.
template <typename compute_t, int kCount>
GRIDSAMPLE_DEVICE void load_as(compute_t (&values)[kCount], const void* data, DType dtype,
                               int64_t offset, int64_t stride) {
  with_type(dtype, [&]<typename T>() {
    const T* from = static_cast<const T*>(data) + offset;
    GRIDSAMPLE_UNROLL_ALL
    for (int i = 0; i < kCount; ++i) values[i] = static_cast<compute_t>(widen(from[i * stride]));
  });
}

template <typename compute_t>
GRIDSAMPLE_DEVICE compute_t load_as(const void* data, DType dtype, int64_t offset) {
  compute_t value[1];
  load_as(value, data, dtype, offset, 0);
  return value[0];
}

/// Rounds to the type.
template <typename compute_t>
GRIDSAMPLE_DEVICE void store_as(void* data, DType dtype, int64_t offset, compute_t value) {
  with_type(dtype, [&]<typename T>() {
    static_cast<T*>(data)[offset] = narrow<T>(static_cast<compute_type<T>>(value));
  });
}

template <size_t kBytes>
using raw_type = std::conditional_t<
    kBytes == 2, unsigned short,
    std::conditional_t<kBytes == 4, unsigned, std::conditional_t<kBytes == 8, uint2, uint4>>>;

/// Pixels as they are. Several lie side by side in memory, aligned to their size, and are one
/// access of up to 16 bytes. Those that are loaded nobody writes meanwhile.
template <typename pixel_t>
struct CopiedPixels {
  using value_t = pixel_t;

  GRIDSAMPLE_DEVICE explicit CopiedPixels(DType) {}

  template <int kCount>
  GRIDSAMPLE_DEVICE void load(const pixel_t* from, pixel_t (&pixels)[kCount]) const {
    using raw_t = raw_type<sizeof(pixel_t) * kCount>;
    const raw_t raw = __ldg(reinterpret_cast<const raw_t*>(from));
    std::memcpy(pixels, &raw, sizeof(raw));
  }

  template <int kCount>
  GRIDSAMPLE_DEVICE void store(pixel_t* to, const pixel_t (&pixels)[kCount]) const {
    raw_type<sizeof(pixel_t) * kCount> raw;
    std::memcpy(&raw, pixels, sizeof(raw));
    *reinterpret_cast<decltype(raw)*>(to) = raw;
  }
};

/// Pixels as what they are computed in.
template <typename pixel_t>
class Pixels {
 public:
  using value_t = compute_type<pixel_t>;

  GRIDSAMPLE_DEVICE explicit Pixels(DType dtype)
      : copied_(dtype), is_half_(dtype == DType::kHalf) {}

  GRIDSAMPLE_DEVICE value_t load(const pixel_t* from) const {
    value_t value[1];
    load(from, value);
    return value[0];
  }

  template <int kCount>
  GRIDSAMPLE_DEVICE void load(const pixel_t* from, value_t (&values)[kCount]) const {
    pixel_t pixels[kCount];
    copied_.load(from, pixels);
    GRIDSAMPLE_UNROLL_ALL
    for (int i = 0; i < kCount; ++i) {
      if constexpr (std::is_same_v<pixel_t, AnyHalf>) {
        const uint16_t bits = pixels[i].bits;
        values[i] = is_half_ ? widen(Half{bits}) : widen(BFloat16{bits});
      } else {
        values[i] = widen(pixels[i]);
      }
    }
  }

  /// Rounds.
  template <int kCount>
  GRIDSAMPLE_DEVICE void store(pixel_t* to, const value_t (&values)[kCount]) const {
    pixel_t pixels[kCount];
    GRIDSAMPLE_UNROLL_ALL
    for (int i = 0; i < kCount; ++i) {
      if constexpr (std::is_same_v<pixel_t, AnyHalf>) {
        const value_t value = values[i];
        pixels[i] = {is_half_ ? narrow<Half>(value).bits : narrow<BFloat16>(value).bits};
      } else {
        pixels[i] = narrow<pixel_t>(values[i]);
      }
    }
    copied_.store(to, pixels);
  }

 private:
  CopiedPixels<pixel_t> copied_;
  bool is_half_;
};

}  // namespace gridsample_ext::cuda
