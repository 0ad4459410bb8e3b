// Sums over the rows of an activation (gradients of biases), and dropout's mask as a pass of its own.
#include "device.cuh"
#include "kernels.h"

namespace {

enum { WARPS = 8, THREADS = WARPS * WARP };

template <typename T, int VEC>
__global__ void __launch_bounds__(THREADS) column_partials(int64_t N, int64_t D, const T *x, float *partial) {
  __shared__ float sums[WARPS][WARP * VEC];
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  int64_t column = ((int64_t)blockIdx.x * WARP + lane) * VEC;
  float total[VEC] = {};
  int64_t rows = (N + ROW_BLOCKS - 1) / ROW_BLOCKS, first = blockIdx.y * rows, end = min(first + rows, N);
  if (column < D) {
    for (int64_t row = first + warp; row < end; row += WARPS) {
      float v[VEC];
      load_pack<T, VEC>(x + row * D + column, v);
#pragma unroll
      for (int i = 0; i < VEC; i++) total[i] += v[i];
    }
  }
#pragma unroll
  for (int i = 0; i < VEC; i++) sums[warp][lane * VEC + i] = total[i];
  __syncthreads();
  for (int j = threadIdx.x; j < WARP * VEC; j += THREADS) {
    float sum = 0;
#pragma unroll
    for (int w = 0; w < WARPS; w++) sum += sums[w][j];
    int64_t feature = (int64_t)blockIdx.x * WARP * VEC + j;
    if (feature < D) partial[(int64_t)blockIdx.y * D + feature] = sum;
  }
}

__global__ void __launch_bounds__(WARP *PARTS)
    column_finish(int64_t D, const float *partial, const float *scale, float *sums, float *out) {
  __shared__ float shared[PARTS][WARP];
  int64_t j = (int64_t)blockIdx.x * WARP + threadIdx.x;
  float sum = sum_partials<PARTS>(partial + j, ROW_BLOCKS, D, j < D, shared);
  if (j >= D || threadIdx.y != 0) return;
  if (sums) sums[j] = sum;
  if (out) out[j] = scale ? *scale * sum : sum;
}

template <typename T>
__global__ void __launch_bounds__(256) dropout_rows(int64_t elements, int64_t quads, const step_state *step,
                                                    uint64_t seed, float p, uint32_t site, const T *x, T *y) {
  int64_t quad = (int64_t)blockIdx.x * 256 + threadIdx.x, b = blockIdx.y;
  if (quad >= quads) return;
  float4 keep = dropout_factors(seed, p, site, step->first_sequence + b, (uint32_t)quad);
  for (int i = 0; i < 4 && quad * 4 + i < elements; i++) {
    int64_t at = b * elements + quad * 4 + i;
    y[at] = from_float<T>(to_float(x[at]) * component(keep, i));
  }
}

template <typename T>
__global__ void __launch_bounds__(256) noise(int64_t n, uint32_t number, T *x) {
  int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x;
  if (i >= n) return;
  uint4 r = device_philox(number, PHILOX_SAMPLING, (uint32_t)i, (uint32_t)(i >> 32), 0, 0);
  x[i] =
      from_float<T>(((float)(r.x >> 8) + (float)(r.y >> 8) + (float)(r.z >> 8) + (float)(r.w >> 8)) * 0x1p-24f - 2.0f);
}

template <typename T>
void column_sums(const launch *l, int64_t N, int64_t D, const void *x, float *partial) {
  constexpr int V = 8 / sizeof(T);
  if (D % V == 0) {
    dim3 grid((unsigned)((D + WARP * V - 1) / (WARP * V)), ROW_BLOCKS);
    column_partials<T, V><<<grid, THREADS, 0, l->stream>>>(N, D, (const T *)x, partial);
  } else {
    dim3 grid((unsigned)((D + WARP - 1) / WARP), ROW_BLOCKS);
    column_partials<T, 1><<<grid, THREADS, 0, l->stream>>>(N, D, (const T *)x, partial);
  }
}

template <typename T>
void dropout_typed(const launch *l, int64_t B, int64_t elements, const dropout_spec *d, const void *x, void *y) {
  int64_t quads = (elements + 3) / 4;
  dim3 grid((unsigned)((quads + 255) / 256), (unsigned)B);
  dropout_rows<T>
      <<<grid, 256, 0, l->stream>>>(elements, quads, l->step, l->seed, (float)d->p, d->site, (const T *)x, (T *)y);
}

}  // namespace

cudaError_t launch_column_sums(const launch *l, int64_t N, int64_t D, const void *x, const void *scale, float *partial,
                               float *sums, void *out) {
  if (l->compute == DTYPE_F32) {
    column_sums<float>(l, N, D, x, partial);
  } else if (l->compute == DTYPE_BF16) {
    column_sums<__nv_bfloat16>(l, N, D, x, partial);
  } else {
    column_sums<__half>(l, N, D, x, partial);
  }
  column_finish<<<(unsigned)((D + WARP - 1) / WARP), dim3(WARP, PARTS), 0, l->stream>>>(
      D, partial, (const float *)scale, sums, (float *)out);
  return cudaGetLastError();
}

cudaError_t launch_dropout(const launch *l, int64_t B, int64_t T, int64_t D, const dropout_spec *dropout, const void *x,
                           void *y) {
  if (l->compute == DTYPE_F32) {
    dropout_typed<float>(l, B, T * D, dropout, x, y);
  } else if (l->compute == DTYPE_BF16) {
    dropout_typed<__nv_bfloat16>(l, B, T * D, dropout, x, y);
  } else {
    dropout_typed<__half>(l, B, T * D, dropout, x, y);
  }
  return cudaGetLastError();
}

cudaError_t launch_noise(const launch *l, int64_t n, uint32_t stream_number, void *x) {
  unsigned grid = (unsigned)((n + 255) / 256);
  if (l->compute == DTYPE_F32) {
    noise<<<grid, 256, 0, l->stream>>>(n, stream_number, (float *)x);
  } else if (l->compute == DTYPE_BF16) {
    noise<<<grid, 256, 0, l->stream>>>(n, stream_number, (__nv_bfloat16 *)x);
  } else {
    noise<<<grid, 256, 0, l->stream>>>(n, stream_number, (__half *)x);
  }
  return cudaGetLastError();
}
