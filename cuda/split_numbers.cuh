// Numbers split into hi and lo (split_layout.h): exponents, and chunks of eight in their place.
#pragma once

#include <stdint.h>

#include "split_layout.h"
#include "tensor_core.cuh"

// e that brings a largest magnitude to SPLIT_PEAK; 0 where there is none, or it is not finite.
__device__ __forceinline__ int split_exponent(float largest) {
  uint32_t field = __float_as_uint(largest) >> 23 & 255;
  if (largest == 0.0f || field == 255) return 0;
  int e = SPLIT_PEAK - ((int)(field > 0 ? field : 1) - 127);
  return e < SPLIT_PEAK_LIMIT ? e : SPLIT_PEAK_LIMIT;
}

// 2^e, |e| ≤ 126.
__device__ __forceinline__ float power_of_two(int e) {
  return __uint_as_float((uint32_t)(e + 127) << 23);
}

// Eight elements from x, zeros from `count` on. wide: x lies on 16 bytes and count is a multiple of 4.
__device__ __forceinline__ void load_chunk(const float *x, int64_t count, bool wide, float (&v)[8]) {
#pragma unroll
  for (int i = 0; i < 8; i++) v[i] = 0;
  if (wide) {
    if (count > 0) {
      float4 a = *reinterpret_cast<const float4 *>(x);
      v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
    }
    if (count > 4) {
      float4 b = *reinterpret_cast<const float4 *>(x + 4);
      v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 8; i++)
    if (i < count) v[i] = x[i];
}

// Eight numbers times scale, as a chunk of hi and one of lo in line `row` of a block.
__device__ __forceinline__ void store_chunks(char *block, int row, int chunk, const float (&v)[8], float scale) {
  uint4 hi, lo;
  split_pair(v[0] * scale, v[1] * scale, hi.x, lo.x);
  split_pair(v[2] * scale, v[3] * scale, hi.y, lo.y);
  split_pair(v[4] * scale, v[5] * scale, hi.z, lo.z);
  split_pair(v[6] * scale, v[7] * scale, hi.w, lo.w);
  *reinterpret_cast<uint4 *>(block + split_chunk(row, chunk)) = hi;
  *reinterpret_cast<uint4 *>(block + split_chunk(row, SPLIT_LO + chunk)) = lo;
}
