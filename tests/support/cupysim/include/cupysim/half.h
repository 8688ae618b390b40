// Half precision: conversions between binary16 and binary32, rounded to nearest even. CuPy's own class computes in float.
#pragma once
#include "cupysim/mathematics.h"

inline unsigned short __float2half_rn(float value) {
  uint32_t bits = __float_as_uint(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return sign | 0x7e00u;   // NaN
  if (magnitude >= 0x477ff000u) return sign | 0x7c00u;  // 65520 and more round to infinity
  if (magnitude < 0x38800000u)  // below 2^-14, steps of 2^-24: those of floats from 0.5 on, so adding 0.5 rounds
    return sign | (__float_as_uint(__uint_as_float(magnitude) + 0.5f) - 0x3f000000u);
  magnitude += 0xfffu + (magnitude >> 13 & 1u);  // half a step up, a tie only to the even neighbour
  return sign | ((magnitude >> 13) - (112u << 10));
}

inline float __half2float(unsigned short half) {
  uint32_t sign = uint32_t(half & 0x8000u) << 16, magnitude = uint32_t(half & 0x7fffu) << 13;
  if (magnitude >= 0x0f800000u) return __uint_as_float(sign | 0x7f800000u | magnitude);  // infinity, NaN
  if (magnitude >= 0x00800000u) return __uint_as_float(sign | (magnitude + (112u << 23)));
  float subnormal = float(half & 0x3ffu) * 0x1p-24f;
  return sign ? -subnormal : subnormal;
}

// The class that CuPy's float16.cuh defines where it does not find the toolkit's.
struct half;
template <class Half = half> inline Half __ushort_as_half(unsigned short bits) {
  return cupysim::same_bits<Half>(bits);
}
template <class Half> inline unsigned short __half_as_ushort(const Half& value) {
  return cupysim::same_bits<unsigned short>(value);
}
