// 64 × 64 numbers as wgmma leaves them in a warpgroup's registers (warpgroup.cuh), times `scale` and rounded to T, on
// their way to memory.
#pragma once

#include "device.cuh"
#include "warpgroup.cuh"

// To global memory: to[row · stride + column], of the first `rows` rows. Four lanes have eight columns between them,
// two each, of all vectors of 16 bytes in a row; they exchange them, so that each gets a whole one of four.
template <typename T>
__device__ __forceinline__ void rows_to_global(T *to, int64_t stride, int64_t rows, float scale, const float (&x)[32]) {
  enum { COLUMNS = 64, GROUP = 128 };
  int lane = threadIdx.x % WARP, part = lane % 4, row = (int)threadIdx.x % GROUP / WARP * 16 + lane / 4;
  bool odd = part & 1, high = part & 2;
#pragma unroll
  for (int r = 0; r < 2; r++, row += 8) {
#pragma unroll
    for (int j = 0; j < COLUMNS / 8; j += 4) {
      uint32_t a[4];
#pragma unroll
      for (int i = 0; i < 4; i++)
        a[i] = pair_of_floats<T>(x[4 * (j + i) + 2 * r] * scale, x[4 * (j + i) + 2 * r + 1] * scale);
      uint32_t u = __shfl_xor_sync(0xffffffffu, odd ? a[0] : a[1], 1);
      uint32_t v = __shfl_xor_sync(0xffffffffu, odd ? a[2] : a[3], 1);
      (odd ? a[0] : a[1]) = u;
      (odd ? a[2] : a[3]) = v;
      u = __shfl_xor_sync(0xffffffffu, high ? a[0] : a[2], 2);
      v = __shfl_xor_sync(0xffffffffu, high ? a[1] : a[3], 2);
      (high ? a[0] : a[2]) = u;
      (high ? a[1] : a[3]) = v;
      if (row < rows)
        *reinterpret_cast<uint4 *>(to + row * stride + (j + part) * 8) = make_uint4(a[0], a[1], a[2], a[3]);
    }
  }
}

// To shared memory, as a box (box_map.h), for the copy engine.
template <typename T>
__device__ __forceinline__ void rows_to_box(uint32_t box, float scale, const float (&x)[32]) {
  enum { LINE = 128, GROUP = 128 };
  int lane = threadIdx.x % WARP, warp = threadIdx.x % GROUP / WARP;
  uint32_t to = box + (uint32_t)(warp * 16 + lane % 16) * LINE, chunk = (uint32_t)(lane / 16 ^ lane % 8) << 4;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const float *y = x + 8 * i;
    store_matrices(to + (chunk ^ (uint32_t)i << 5), pair_of_floats<T>(y[0] * scale, y[1] * scale),
                   pair_of_floats<T>(y[2] * scale, y[3] * scale), pair_of_floats<T>(y[4] * scale, y[5] * scale),
                   pair_of_floats<T>(y[6] * scale, y[7] * scale));
  }
}
