#pragma once

// float16 by its bits, rounded to nearest, ties to even. A NaN becomes CUDA's one NaN, 0x7fff.

#include <bit>
#include <cstdint>

struct __half {
  unsigned short bits;
};

inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
inline unsigned short __half_as_ushort(__half x) { return x.bits; }

inline float __half2float(__half x) {
  const uint32_t sign = (x.bits & 0x8000u) << 16;
  const uint32_t magnitude = x.bits & 0x7fffu;
  uint32_t bits;
  if (magnitude < 0x400) {  // a multiple of 2^-24
    bits = std::bit_cast<uint32_t>(static_cast<float>(magnitude) * 0x1p-24f);
  } else {
    // The exponent's bias grows from 15 to 127; infinity and NaN go on to the largest exponent.
    bits = (magnitude << 13) + ((magnitude < 0x7c00 ? 112u : 224u) << 23);
  }
  return std::bit_cast<float>(sign | bits);
}

inline __half __float2half_rn(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000) return {0x7fff};
  uint32_t result;
  if (magnitude >= 0x47800000) {  // 2^16; what rounds up to it carries into infinity below
    result = 0x7c00;
  } else if (magnitude < 0x38800000) {
    // Below 2^-14 float16 has steps of 2^-24, as float32 has from 0.5 to 1.
    result = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000;
  } else {
    result = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  }
  return {static_cast<unsigned short>(sign | result)};
}
