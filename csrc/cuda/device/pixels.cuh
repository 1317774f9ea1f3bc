#pragma once

// Element types: how they are read, computed with and written; single values and rows of channels.

#include <cstring>

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

template <typename pixel_t>
struct Compute {
  using type = float;
};
template <>
struct Compute<double> {
  using type = double;
};

GRIDSAMPLE_DEVICE float widen(Half value) { return __half2float(__ushort_as_half(value.bits)); }
GRIDSAMPLE_DEVICE float widen(BFloat16 value) {
  return __uint_as_float(static_cast<unsigned>(value.bits) << 16);
}
GRIDSAMPLE_DEVICE float widen(float value) { return value; }
GRIDSAMPLE_DEVICE double widen(double value) { return value; }

/// One pixel of an image that nobody writes meanwhile.
GRIDSAMPLE_DEVICE float load_pixel(const Half* from) {
  return widen(Half{__ldg(reinterpret_cast<const unsigned short*>(from))});
}
GRIDSAMPLE_DEVICE float load_pixel(const BFloat16* from) {
  return widen(BFloat16{__ldg(reinterpret_cast<const unsigned short*>(from))});
}
GRIDSAMPLE_DEVICE float load_pixel(const float* from) { return __ldg(from); }
GRIDSAMPLE_DEVICE double load_pixel(const double* from) { return __ldg(from); }

template <typename pixel_t>
struct Narrow;
template <>
struct Narrow<Half> {
  static GRIDSAMPLE_DEVICE Half from(float value) {
    return {__half_as_ushort(__float2half_rn(value))};
  }
};
template <>
struct Narrow<BFloat16> {
  static GRIDSAMPLE_DEVICE BFloat16 from(float value) {
    return {__bfloat16_as_ushort(__float2bfloat16_rn(value))};
  }
};
template <>
struct Narrow<float> {
  static GRIDSAMPLE_DEVICE float from(float value) { return value; }
};
template <>
struct Narrow<double> {
  static GRIDSAMPLE_DEVICE double from(double value) { return value; }
};

/// a * b + c in one rounding. The build forbids nvcc to contract on its own, for the sake of the
/// coordinates (math/coordinates.h); sums of products ask for it here.
GRIDSAMPLE_DEVICE float multiply_add(float a, float b, float c) { return fmaf(a, b, c); }
GRIDSAMPLE_DEVICE double multiply_add(double a, double b, double c) { return fma(a, b, c); }

/// One value of an argument whose type is known at run time only; the same for all threads.
template <typename compute_t>
GRIDSAMPLE_DEVICE compute_t load_as(const void* data, DType dtype, int64_t offset) {
  switch (dtype) {
    case DType::kHalf:
      return static_cast<compute_t>(widen(static_cast<const Half*>(data)[offset]));
    case DType::kBFloat16:
      return static_cast<compute_t>(widen(static_cast<const BFloat16*>(data)[offset]));
    case DType::kFloat:
      return static_cast<compute_t>(static_cast<const float*>(data)[offset]);
    case DType::kDouble:
      return static_cast<compute_t>(static_cast<const double*>(data)[offset]);
  }
  return compute_t(0);
}

template <typename from_t, typename compute_t, int kCount>
GRIDSAMPLE_DEVICE void load_strided(compute_t (&values)[kCount], const from_t* from,
                                    int64_t stride) {
  GRIDSAMPLE_UNROLL_ALL
  for (int i = 0; i < kCount; ++i) values[i] = static_cast<compute_t>(widen(from[i * stride]));
}

/// Several values.
template <typename compute_t, int kCount>
GRIDSAMPLE_DEVICE void load_as(compute_t (&values)[kCount], const void* data, DType dtype,
                               int64_t offset, int64_t stride) {
  switch (dtype) {
    case DType::kHalf:
      return load_strided(values, static_cast<const Half*>(data) + offset, stride);
    case DType::kBFloat16:
      return load_strided(values, static_cast<const BFloat16*>(data) + offset, stride);
    case DType::kFloat:
      return load_strided(values, static_cast<const float*>(data) + offset, stride);
    case DType::kDouble:
      return load_strided(values, static_cast<const double*>(data) + offset, stride);
  }
}

/// Its counterpart, rounding to the type.
template <typename compute_t>
GRIDSAMPLE_DEVICE void store_as(void* data, DType dtype, int64_t offset, compute_t value) {
  switch (dtype) {
    case DType::kHalf:
      static_cast<Half*>(data)[offset] = Narrow<Half>::from(static_cast<float>(value));
      return;
    case DType::kBFloat16:
      static_cast<BFloat16*>(data)[offset] = Narrow<BFloat16>::from(static_cast<float>(value));
      return;
    case DType::kFloat:
      static_cast<float*>(data)[offset] = static_cast<float>(value);
      return;
    case DType::kDouble:
      static_cast<double*>(data)[offset] = static_cast<double>(value);
      return;
  }
}

template <int kBytes>
struct RawBytes;
template <>
struct RawBytes<8> {
  using type = uint2;
};
template <>
struct RawBytes<16> {
  using type = uint4;
};

/// kCount channels side by side in memory, aligned to their size: 8 or 16 bytes in one access.
template <typename pixel_t, int kCount>
GRIDSAMPLE_DEVICE void load_row(const pixel_t* from,
                                typename Compute<pixel_t>::type (&values)[kCount]) {
  using raw_t = typename RawBytes<sizeof(pixel_t) * kCount>::type;
  const raw_t raw = __ldg(reinterpret_cast<const raw_t*>(from));
  pixel_t pixels[kCount];
  std::memcpy(pixels, &raw, sizeof(raw));
  GRIDSAMPLE_UNROLL_ALL
  for (int i = 0; i < kCount; ++i) values[i] = widen(pixels[i]);
}

template <typename pixel_t, int kCount>
GRIDSAMPLE_DEVICE void store_row(pixel_t* to,
                                 const typename Compute<pixel_t>::type (&values)[kCount]) {
  using raw_t = typename RawBytes<sizeof(pixel_t) * kCount>::type;
  pixel_t pixels[kCount];
  GRIDSAMPLE_UNROLL_ALL
  for (int i = 0; i < kCount; ++i) pixels[i] = Narrow<pixel_t>::from(values[i]);
  raw_t raw;
  std::memcpy(&raw, pixels, sizeof(raw));
  *reinterpret_cast<raw_t*>(to) = raw;
}

}  // namespace gridsample_ext::cuda
