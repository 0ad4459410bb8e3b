// The power of two of engine/fp8.h, from the bits of a largest magnitude. Tests compile it for the host, too.
#pragma once

#include "engine/fp8.h"

// fp8_shift: amax = m · 2^e with 1 <= m < 2, and m <= 1.75 is 0.875 there. What is not finite gives a scale that makes
// everything NaN. `factor` undoes the scale.
__device__ __forceinline__ void fp8_scale(float amax, int top, float *scale, float *factor) {
  unsigned bits = __float_as_uint(amax);
  if (bits >= 0x7f800000u) {
    *scale = *factor = __uint_as_float(0x7fc00000u);
    return;
  }
  if (bits < 0x00800000u) { /* zero, or below every normal number */
    int shift = bits == 0 ? 0 : FP8_SHIFT_LIMIT;
    *scale = ldexpf(1.0f, shift), *factor = ldexpf(1.0f, -shift);
    return;
  }
  int exponent = (int)(bits >> 23) - 126;
  int shift = (bits & 0x007fffffu) <= 0x00600000u ? top - exponent : top - 1 - exponent;
  shift = max(-FP8_SHIFT_LIMIT, min(FP8_SHIFT_LIMIT, shift));
  *scale = __uint_as_float((unsigned)(127 + shift) << 23), *factor = __uint_as_float((unsigned)(127 - shift) << 23);
}
