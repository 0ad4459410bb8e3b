// What kernel headers take from CUDA, for tests that compile their mathematics for the host: function qualifiers,
// pairs, and numbers as their bits.
#pragma once

#include <stdint.h>
#include <string.h>

#define __device__
#define __forceinline__ inline

struct float2 {
  float x, y;
};
inline float2 make_float2(float x, float y) {
  return {x, y};
}

inline uint32_t __float_as_uint(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}
inline float __uint_as_float(uint32_t u) {
  float x;
  memcpy(&x, &u, sizeof x);
  return x;
}
inline int __float_as_int(float x) {
  return (int)__float_as_uint(x);
}
inline float __int_as_float(int i) {
  return __uint_as_float((uint32_t)i);
}
