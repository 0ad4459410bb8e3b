// What the kernels share: element types, 16-byte packs, reductions in a fixed order, dropout's mask.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>
#include <string.h>

#include <type_traits>

#include "base/philox.h"
#include "exp2.cuh"

enum { WARP = 32, MULTIPROCESSORS = 132 /* of an H100 or H200 on its own board */ };

__device__ __forceinline__ float to_float(float x) {
  return x;
}
__device__ __forceinline__ float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
__device__ __forceinline__ float to_float(__half x) {
  return __half2float(x);
}

template <typename T>
__device__ __forceinline__ T from_float(float x);
template <>
__device__ __forceinline__ float from_float<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}
template <>
__device__ __forceinline__ __half from_float<__half>(float x) {
  return __float2half_rn(x);
}

// COUNT elements that move as one access (16 bytes when COUNT = 16 / sizeof(T)).
template <typename T, int COUNT>
struct alignas(sizeof(T) * COUNT) pack {
  T v[COUNT];
};

// The same bytes as whole words: elements of 16 bits would be taken apart and put together at every move.
template <int BYTES>
struct raw_bytes;
template <>
struct raw_bytes<2> {
  using type = unsigned short;
};
template <>
struct raw_bytes<4> {
  using type = unsigned;
};
template <>
struct raw_bytes<8> {
  using type = uint2;
};
template <>
struct raw_bytes<16> {
  using type = uint4;
};
template <typename T, int COUNT>
using raw_pack = typename raw_bytes<(int)sizeof(T) * COUNT>::type;

// As fp32. `raw` is a value, not a place in memory: from there its bytes would be loaded one by one.
template <typename T, int COUNT>
__device__ __forceinline__ void unpack(raw_pack<T, COUNT> raw, float (&out)[COUNT]) {
  if constexpr (std::is_same_v<T, __nv_bfloat16> && COUNT % 2 == 0) { /* the upper half of an fp32 number */
    unsigned words[COUNT / 2];
    memcpy(words, &raw, sizeof words);
#pragma unroll
    for (int i = 0; i < COUNT / 2; i++) {
      out[2 * i] = __uint_as_float(words[i] << 16);
      out[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
  } else {
    pack<T, COUNT> q;
    memcpy(&q, &raw, sizeof q);
#pragma unroll
    for (int i = 0; i < COUNT; i++) out[i] = to_float(q.v[i]);
  }
}

// Loads COUNT elements as fp32. p must be aligned to the pack.
template <typename T, int COUNT>
__device__ __forceinline__ void load_pack(const T *p, float (&out)[COUNT]) {
  pack<T, COUNT> q = *reinterpret_cast<const pack<T, COUNT> *>(p);
#pragma unroll
  for (int i = 0; i < COUNT; i++) out[i] = to_float(q.v[i]);
}

template <typename T, int COUNT>
__device__ __forceinline__ void store_pack(T *p, const float (&in)[COUNT]) {
  pack<T, COUNT> q;
#pragma unroll
  for (int i = 0; i < COUNT; i++) q.v[i] = from_float<T>(in[i]);
  *reinterpret_cast<pack<T, COUNT> *>(p) = q;
}

// Sum over a warp in a fixed tree; every lane gets it.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int d = WARP / 2; d > 0; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);
  return x;
}

__device__ __forceinline__ double warp_sum(double x) {
#pragma unroll
  for (int d = WARP / 2; d > 0; d /= 2) x += __shfl_xor_sync(0xffffffffu, x, d);
  return x;
}

__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int d = WARP / 2; d > 0; d /= 2) x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, d));
  return x;
}

// An amax (engine.h) that many blocks find; NULL: not wanted. Zero first, then every warp adds what it has seen, once;
// most of them see that it is no more than what is there. Magnitudes order like their bits, and a maximum is the same
// in any order.
inline cudaError_t clear_amax(cudaStream_t stream, void *amax) {
  return amax ? cudaMemsetAsync(amax, 0, sizeof(float), stream) : cudaSuccess;
}
template <typename T>
__device__ __forceinline__ void add_amax(float *amax, float most) {
  most = to_float(from_float<T>(warp_max(most))); /* as it was stored */
  if (threadIdx.x % WARP == 0 && most > __ldcg(amax)) atomicMax(reinterpret_cast<int *>(amax), __float_as_int(most));
}

// Sum over a block of WARPS warps in a fixed order; every thread gets it. `shared` holds WARPS elements; the block may
// use it again after the next barrier.
template <int WARPS, typename T>
__device__ __forceinline__ T block_sum(T x, T *shared) {
  x = warp_sum(x);
  if (WARPS == 1) return x;
  if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = x;
  __syncthreads();
  T total = 0;
#pragma unroll
  for (int w = 0; w < WARPS; w++) total += shared[w];
  __syncthreads();
  return total;
}

// Σ_b partial[b · stride] over `blocks` partial sums of the thread's column, in a fixed order: a block of (WARP
// columns, PARTS) threads; the threads with threadIdx.y = 0 get it. `partial` points at the column; `inside`: there is
// one.
template <int PARTS>
__device__ __forceinline__ float sum_partials(const float *partial, int blocks, int64_t stride, bool inside,
                                              float (*shared)[WARP]) {
  float sum = 0;
  if (inside)
    for (int b = threadIdx.y; b < blocks; b += PARTS) sum += partial[b * stride];
  shared[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  float total = 0;
  if (threadIdx.y == 0)
#pragma unroll
    for (int k = 0; k < PARTS; k++) total += shared[k][threadIdx.x];
  __syncthreads();
  return total;
}

enum { PARTS = 32 }; /* of sum_partials in the kernels that end a column sum */

// Philox4x32-10, as base/philox.h.
__device__ __forceinline__ uint4 device_philox(uint64_t seed, uint32_t purpose, uint32_t c0, uint32_t c1, uint32_t c2,
                                               uint32_t c3) {
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32) ^ (purpose * 0x9E3779B9u);
#pragma unroll
  for (int round = 0; round < 10; round++) {
    uint32_t h0 = __umulhi(0xD2511F53u, c0), l0 = 0xD2511F53u * c0;
    uint32_t h1 = __umulhi(0xCD9E8D57u, c2), l1 = 0xCD9E8D57u * c2;
    c0 = h1 ^ c1 ^ k0;
    c2 = h0 ^ c3 ^ k1;
    c1 = l1;
    c3 = l0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return make_uint4(c0, c1, c2, c3);
}

// Factors (0 or 1/(1 − p)) of the four elements 4·quad … 4·quad + 3 of a sequence.
__device__ __forceinline__ float4 dropout_factors(uint64_t seed, float p, uint32_t site, int64_t sequence,
                                                  uint32_t quad) {
  uint4 r = device_philox(seed, PHILOX_DROPOUT, (uint32_t)sequence, (uint32_t)((uint64_t)sequence >> 32), site, quad);
  float keep = 1.0f / (1.0f - p);
  return make_float4((float)(r.x >> 8) * 0x1p-24f < p ? 0.0f : keep, (float)(r.y >> 8) * 0x1p-24f < p ? 0.0f : keep,
                     (float)(r.z >> 8) * 0x1p-24f < p ? 0.0f : keep, (float)(r.w >> 8) * 0x1p-24f < p ? 0.0f : keep);
}

__device__ __forceinline__ float component(const float4 &f, int i) {
  return i == 0 ? f.x : i == 1 ? f.y : i == 2 ? f.z : f.w;
}
