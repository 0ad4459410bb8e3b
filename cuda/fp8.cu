// Operands in 8 bits (engine/fp8.h): the largest magnitude of a tensor, and its rounded copies, as it stands and
// transposed.
#include <cuda_fp8.h>

#include "device.cuh"
#include "fp8_scale.cuh"
#include "kernels.h"

namespace {

enum { TILE = 128, THREADS = 256, PACK = 8, ROWS = 4 };

__global__ void __launch_bounds__(THREADS) amax_of(int64_t packs, int64_t n, const __nv_bfloat16 *x, float *amax) {
  float most = 0;
  int64_t step = (int64_t)gridDim.x * THREADS;
  const uint4 *p = reinterpret_cast<const uint4 *>(x);
#pragma unroll 4
  for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < packs; i += step) {
    float v[PACK];
    unpack<__nv_bfloat16, PACK>(p[i], v);
#pragma unroll
    for (int k = 0; k < PACK; k++) most = fmaxf(most, fabsf(v[k]));
  }
  if (blockIdx.x == 0)
    for (int64_t i = packs * PACK + threadIdx.x; i < n; i += THREADS) most = fmaxf(most, fabsf(to_float(x[i])));
  add_amax<__nv_bfloat16>(amax, most);
}

template <__nv_fp8_interpretation_t FORMAT>
__device__ __forceinline__ uint2 round_pack(uint4 raw, float scale) {
  float v[PACK];
  unpack<__nv_bfloat16, PACK>(raw, v);
  unsigned words[2] = {};
#pragma unroll
  for (int i = 0; i < PACK / 2; i++) {
    unsigned pair =
        __nv_cvt_float2_to_fp8x2(make_float2(v[2 * i] * scale, v[2 * i + 1] * scale), __NV_SATFINITE, FORMAT);
    words[i / 2] |= pair << (16 * (i % 2));
  }
  return make_uint2(words[0], words[1]);
}

// A tile of TILE × TILE elements a block. A thread rounds PACK columns of ROWS rows at a time; their bytes, turned, are
// one word a column, which goes through shared memory so that rows of the transposed copy are written whole. A warp
// holds 4 packs by 8 groups of rows: its words fall into 32 banks.
template <__nv_fp8_interpretation_t FORMAT, bool STRAIGHT, bool TRANSPOSED>
__global__ void __launch_bounds__(THREADS)
    fp8_round(int64_t rows, int64_t columns, const __nv_bfloat16 *x, const float *amax, int top, uint8_t *straight,
              uint8_t *transposed, float *factor) {
  constexpr int WORDS = TILE / ROWS, STRIDE = WORDS + 1;
  __shared__ unsigned turned[TRANSPOSED ? TILE * STRIDE : 1];
  float scale, back;
  fp8_scale(__ldg(amax), top, &scale, &back);
  if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) *factor = back;
  int64_t first_row = (int64_t)blockIdx.y * TILE, first_column = (int64_t)blockIdx.x * TILE;
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  constexpr int PARTS_OF_TILE = TILE / (4 * PACK) * (TILE / (8 * ROWS)), EACH = PARTS_OF_TILE / (THREADS / WARP);
  uint4 raw[EACH][ROWS];
#pragma unroll
  for (int part = 0; part < EACH; part++) {
    int at = part * (THREADS / WARP) + warp;
    int64_t column = first_column + (at % 4) * 4 * PACK + (lane % 4) * PACK;
    int64_t row = first_row + (at / 4) * 8 * ROWS + (lane / 4) * ROWS;
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      raw[part][r] = make_uint4(0, 0, 0, 0);
      if (column < columns && row + r < rows)
        raw[part][r] = *reinterpret_cast<const uint4 *>(x + (row + r) * columns + column);
    }
  }
#pragma unroll
  for (int part = 0; part < EACH; part++) {
    int at = part * (THREADS / WARP) + warp;
    int tile_column = (at % 4) * 4 * PACK + (lane % 4) * PACK, tile_word = (at / 4) * 8 + lane / 4;
    int64_t column = first_column + tile_column, row = first_row + tile_word * ROWS;
    uint2 narrow[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      narrow[r] = round_pack<FORMAT>(raw[part][r], scale);
      if (STRAIGHT && column < columns && row + r < rows)
        *reinterpret_cast<uint2 *>(straight + (row + r) * columns + column) = narrow[r];
    }
    if constexpr (TRANSPOSED) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        unsigned a = half ? narrow[0].y : narrow[0].x, b = half ? narrow[1].y : narrow[1].x;
        unsigned c = half ? narrow[2].y : narrow[2].x, d = half ? narrow[3].y : narrow[3].x;
        unsigned ab_low = __byte_perm(a, b, 0x5140), ab_high = __byte_perm(a, b, 0x7362);
        unsigned cd_low = __byte_perm(c, d, 0x5140), cd_high = __byte_perm(c, d, 0x7362);
        unsigned *to = turned + (tile_column + half * 4) * STRIDE + tile_word;
        to[0] = __byte_perm(ab_low, cd_low, 0x5410);
        to[STRIDE] = __byte_perm(ab_low, cd_low, 0x7632);
        to[2 * STRIDE] = __byte_perm(ab_high, cd_high, 0x5410);
        to[3 * STRIDE] = __byte_perm(ab_high, cd_high, 0x7632);
      }
    }
  }
  if constexpr (TRANSPOSED) {
    __syncthreads();
    for (int column = warp; column < TILE; column += THREADS / WARP) {
      int64_t row = first_row + lane * ROWS; /* rows come in multiples of FP8_MULTIPLE */
      if (first_column + column < columns && row < rows)
        *reinterpret_cast<unsigned *>(transposed + (first_column + column) * rows + row) =
            turned[column * STRIDE + lane];
    }
  }
}

template <__nv_fp8_interpretation_t FORMAT>
void launch_format(cudaStream_t stream, const fp8_round_args *a, int top) {
  dim3 grid((unsigned)((a->columns + TILE - 1) / TILE), (unsigned)((a->rows + TILE - 1) / TILE));
  auto kernel = a->transposed == NULL ? fp8_round<FORMAT, true, false>
                : a->straight == NULL ? fp8_round<FORMAT, false, true>
                                      : fp8_round<FORMAT, true, true>;
  kernel<<<grid, THREADS, 0, stream>>>(a->rows, a->columns, (const __nv_bfloat16 *)a->x, (const float *)a->amax, top,
                                       (uint8_t *)a->straight, (uint8_t *)a->transposed, a->factor);
}

}  // namespace

cudaError_t launch_amax(const launch *l, int64_t n, const void *x, void *amax) {
  if (l->compute != DTYPE_BF16) return cudaErrorInvalidValue;
  if (clear_amax(l->stream, amax) != cudaSuccess) return cudaGetLastError();
  int64_t packs = n / PACK, blocks = (packs + 4 * THREADS - 1) / (4 * THREADS), most = 8 * MULTIPROCESSORS;
  amax_of<<<(unsigned)(blocks < 1      ? 1
                       : blocks < most ? blocks
                                       : most),
            THREADS, 0, l->stream>>>(packs, n, (const __nv_bfloat16 *)x, (float *)amax);
  return cudaGetLastError();
}

cudaError_t launch_fp8_round(const launch *l, const fp8_round_args *a) {
  if (l->compute != DTYPE_BF16 || a->rows % FP8_MULTIPLE != 0 || a->columns % FP8_MULTIPLE != 0)
    return cudaErrorInvalidValue;
  if (a->gradient) {
    launch_format<__NV_E5M2>(l->stream, a, fp8_e5m2.top);
  } else {
    launch_format<__NV_E4M3>(l->stream, a, fp8_e4m3.top);
  }
  return cudaGetLastError();
}
