// Causal attention in fp32 arithmetic for what cuDNN does not take: fp32 storage, ALiBi, dropout on probabilities, any
// head size up to 256.
//
// Tiles of TILE queries and TILE keys; 256 threads, each with 4 × 4 scores and 4 rows × HEAD/16 columns of output.
// Tiles lie in shared memory with the head dimension outermost, so that a thread reads its four queries and four keys
// as one 16-byte access each. T × T is never stored: the forward keeps the log of the sum of exponentials, the backward
// forms the probabilities again. The backward runs twice over the scores (once a key tile for dK and dV, once a query
// tile for dQ): no atomics, one order.
#include "device.cuh"
#include "kernels.h"

namespace {

enum { TILE = 64, THREADS = 256, PAD = 4, LINE = TILE + PAD };

struct shape {
  int64_t B, T, H, h;
  bool alibi;
  float scale, p;
  uint32_t site;
  uint64_t seed;
  const step_state *step;
};

// Slope of a head (docs/model.md): with c the largest power of two ≤ H, base^(i+1) for the first c heads, then odd
// powers of the next finer base.
__device__ float alibi_slope(int64_t head, int64_t H) {
  int64_t c = 1;
  while (c * 2 <= H) c *= 2;
  if (head < c) return exp2f(-8.0f / (float)c * (float)(head + 1));
  return exp2f(-4.0f / (float)c * (float)(2 * (head - c) + 1));
}

template <typename T, int HEAD>
__device__ __forceinline__ void load_tile(float *tile, const T *base, int64_t stride, int64_t first, int64_t rows,
                                          int64_t h) {
  for (int e = threadIdx.x; e < TILE * HEAD; e += THREADS) {
    int r = e / HEAD, d = e % HEAD;
    tile[d * LINE + r] = first + r < rows && d < h ? to_float(base[(first + r) * stride + d]) : 0.0f;
  }
}

// s[i][j] = Σ_d a[d][row 4·y + i] · b[d][row 4·x + j]
template <int HEAD>
__device__ __forceinline__ void tile_dot(const float *a, const float *b, int y, int x, float (&s)[4][4]) {
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int j = 0; j < 4; j++) s[i][j] = 0;
#pragma unroll 8
  for (int d = 0; d < HEAD; d++) {
    float4 q = *(const float4 *)(a + d * LINE + 4 * y), k = *(const float4 *)(b + d * LINE + 4 * x);
    float qv[4] = {q.x, q.y, q.z, q.w}, kv[4] = {k.x, k.y, k.z, k.w};
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
      for (int j = 0; j < 4; j++) s[i][j] = fmaf(qv[i], kv[j], s[i][j]);
  }
}

// o[i][c] += Σ_k w[k][4·y + i] · b[d = x + 16·c][k]: rows of the weights' tile times the transposed tile b.
template <int HEAD>
__device__ __forceinline__ void tile_accumulate(const float *w, const float *b, int y, int x,
                                                float (&o)[4][HEAD / 16]) {
#pragma unroll 4
  for (int k = 0; k < TILE; k++) {
    float4 p = *(const float4 *)(w + k * LINE + 4 * y);
    float pv[4] = {p.x, p.y, p.z, p.w};
#pragma unroll
    for (int c = 0; c < HEAD / 16; c++) {
      float v = b[(x + 16 * c) * LINE + k];
#pragma unroll
      for (int i = 0; i < 4; i++) o[i][c] = fmaf(pv[i], v, o[i][c]);
    }
  }
}

__device__ __forceinline__ float score(const shape &s, float dot, float slope, int64_t query, int64_t key) {
  if (key > query || key >= s.T) return -INFINITY;
  return dot * s.scale - (s.alibi ? slope * (float)(query - key) : 0.0f);
}

// Dropout's factor of one probability.
__device__ __forceinline__ float keep_factor(const shape &s, int64_t b, int64_t head, int64_t query, int64_t key) {
  int64_t e = (head * s.T + query) * s.T + key;
  return component(dropout_factors(s.seed, s.p, s.site, s.step->first_sequence + b, (uint32_t)(e / 4)), (int)(e % 4));
}

template <typename T, int HEAD>
__global__ void __launch_bounds__(THREADS) attention_forward(shape s, const T *qkv, T *out, float *lse) {
  extern __shared__ float shared[];
  float *tq = shared, *tk = tq + HEAD * LINE, *tv = tk + HEAD * LINE, *tp = tv + HEAD * LINE;
  int64_t head = blockIdx.y, b = blockIdx.z, first = (int64_t)(gridDim.x - 1 - blockIdx.x) * TILE,
          stride = 3 * s.H * s.h;
  const T *base = qkv + b * s.T * stride + head * s.h;
  int y = threadIdx.x / 16, x = threadIdx.x % 16;
  float slope = s.alibi ? alibi_slope(head, s.H) : 0.0f;
  float o[4][HEAD / 16] = {}, m[4], sum[4] = {};
#pragma unroll
  for (int i = 0; i < 4; i++) m[i] = -INFINITY;
  load_tile<T, HEAD>(tq, base, stride, first, s.T, s.h);
  for (int64_t k0 = 0; k0 <= first; k0 += TILE) {
    __syncthreads();
    load_tile<T, HEAD>(tk, base + s.H * s.h, stride, k0, s.T, s.h);
    load_tile<T, HEAD>(tv, base + 2 * s.H * s.h, stride, k0, s.T, s.h);
    __syncthreads();
    float p[4][4];
    tile_dot<HEAD>(tq, tk, y, x, p);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      int64_t query = first + 4 * y + i;
      float top = m[i];
#pragma unroll
      for (int j = 0; j < 4; j++) {
        p[i][j] = score(s, p[i][j], slope, query, k0 + 4 * x + j);
        top = fmaxf(top, p[i][j]);
      }
#pragma unroll
      for (int d = 8; d > 0; d /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, d));
      float shrink = top == -INFINITY ? 1.0f : expf(m[i] - top), add = 0;
#pragma unroll
      for (int j = 0; j < 4; j++) {
        p[i][j] = top == -INFINITY ? 0.0f : expf(p[i][j] - top);
        add += p[i][j];
      }
#pragma unroll
      for (int d = 8; d > 0; d /= 2) add += __shfl_xor_sync(0xffffffffu, add, d);
      sum[i] = sum[i] * shrink + add;
      m[i] = top;
#pragma unroll
      for (int c = 0; c < HEAD / 16; c++) o[i][c] *= shrink;
#pragma unroll
      for (int j = 0; j < 4; j++) {
        float f = s.p > 0 && p[i][j] > 0 ? keep_factor(s, b, head, query, k0 + 4 * x + j) : 1.0f;
        tp[(4 * x + j) * LINE + 4 * y + i] = p[i][j] * f;
      }
    }
    __syncthreads();
    tile_accumulate<HEAD>(tp, tv, y, x, o);
  }
#pragma unroll
  for (int i = 0; i < 4; i++) {
    int64_t query = first + 4 * y + i;
    if (query >= s.T) continue;
#pragma unroll
    for (int c = 0; c < HEAD / 16; c++)
      if (x + 16 * c < s.h) out[((b * s.T + query) * s.H + head) * s.h + x + 16 * c] = from_float<T>(o[i][c] / sum[i]);
    if (x == 0 && lse) lse[(b * s.H + head) * s.T + query] = m[i] + logf(sum[i]);
  }
}

// delta = Σ_d dout · out, a warp a (row, head).
template <typename T>
__global__ void __launch_bounds__(128) attention_delta(shape s, const T *out, const T *dout, float *delta) {
  int64_t item = (int64_t)blockIdx.x * 4 + threadIdx.x / WARP;
  if (item >= s.B * s.T * s.H) return;
  float sum = 0;
  for (int64_t d = threadIdx.x % WARP; d < s.h; d += WARP)
    sum += to_float(out[item * s.h + d]) * to_float(dout[item * s.h + d]);
  sum = warp_sum(sum);
  int64_t row = item / s.H, head = item % s.H;
  if (threadIdx.x % WARP == 0) delta[(row / s.T * s.H + head) * s.T + row % s.T] = sum;
}

// Probability (with dropout's factor) and gradient of the score of one (query, key).
struct pair_grad {
  float p, ds;
};

__device__ __forceinline__ pair_grad pair_of(const shape &s, float dot, float dp, float slope, float lse, float delta,
                                             int64_t b, int64_t head, int64_t query, int64_t key) {
  if (query >= s.T) return {0, 0};
  float p = expf(score(s, dot, slope, query, key) - lse);
  float f = s.p > 0 && p > 0 ? keep_factor(s, b, head, query, key) : 1.0f;
  return {p * f, p * (dp * f - delta) * s.scale};
}

// WITH_KEYS: a block owns a key tile and walks over queries, for dK and dV. Otherwise it owns a query tile and walks
// over keys, for dQ.
template <typename T, int HEAD, bool WITH_KEYS>
__global__ void __launch_bounds__(THREADS)
    attention_backward(shape s, const T *qkv, const T *dout, const float *lse, const float *delta, T *dqkv) {
  extern __shared__ float shared[];
  float *tq = shared, *tk = tq + HEAD * LINE, *tv = tk + HEAD * LINE, *to = tv + HEAD * LINE, *ts = to + HEAD * LINE,
        *tp = ts + TILE * LINE;
  int64_t head = blockIdx.y, b = blockIdx.z, stride = 3 * s.H * s.h;
  int64_t own = (WITH_KEYS ? (int64_t)blockIdx.x : (int64_t)(gridDim.x - 1 - blockIdx.x)) * TILE;
  const T *base = qkv + b * s.T * stride + head * s.h;
  const T *dbase = dout + (b * s.T * s.H + head) * s.h;
  const float *row_lse = lse + (b * s.H + head) * s.T, *row_delta = delta + (b * s.H + head) * s.T;
  int y = threadIdx.x / 16, x = threadIdx.x % 16;
  float slope = s.alibi ? alibi_slope(head, s.H) : 0.0f;
  float first_sum[4][HEAD / 16] = {}, second_sum[4][WITH_KEYS ? HEAD / 16 : 1] = {};
  if (WITH_KEYS) {
    load_tile<T, HEAD>(tk, base + s.H * s.h, stride, own, s.T, s.h);
    load_tile<T, HEAD>(tv, base + 2 * s.H * s.h, stride, own, s.T, s.h);
  } else {
    load_tile<T, HEAD>(tq, base, stride, own, s.T, s.h);
    load_tile<T, HEAD>(to, dbase, s.H * s.h, own, s.T, s.h);
  }
  int64_t begin = WITH_KEYS ? own : 0, end = WITH_KEYS ? s.T : own + 1;
  for (int64_t walk = begin; walk < end; walk += TILE) {
    __syncthreads();
    if (WITH_KEYS) {
      load_tile<T, HEAD>(tq, base, stride, walk, s.T, s.h);
      load_tile<T, HEAD>(to, dbase, s.H * s.h, walk, s.T, s.h);
    } else {
      load_tile<T, HEAD>(tk, base + s.H * s.h, stride, walk, s.T, s.h);
      load_tile<T, HEAD>(tv, base + 2 * s.H * s.h, stride, walk, s.T, s.h);
    }
    __syncthreads();
    float dot[4][4], dp[4][4];
    tile_dot<HEAD>(tq, tk, y, x, dot);
    tile_dot<HEAD>(to, tv, y, x, dp);
    int64_t q0 = WITH_KEYS ? walk : own, k0 = WITH_KEYS ? own : walk;
#pragma unroll
    for (int i = 0; i < 4; i++) {
      int64_t query = q0 + 4 * y + i;
      float l = query < s.T ? row_lse[query] : 0.0f, d = query < s.T ? row_delta[query] : 0.0f;
#pragma unroll
      for (int j = 0; j < 4; j++) {
        pair_grad g = pair_of(s, dot[i][j], dp[i][j], slope, l, d, b, head, query, k0 + 4 * x + j);
        // The walked axis is outermost in the tile that the sum below reads.
        if (WITH_KEYS) {
          ts[(4 * y + i) * LINE + 4 * x + j] = g.ds;
          tp[(4 * y + i) * LINE + 4 * x + j] = g.p;
        } else {
          ts[(4 * x + j) * LINE + 4 * y + i] = g.ds;
        }
      }
    }
    __syncthreads();
    if constexpr (WITH_KEYS) {
      tile_accumulate<HEAD>(ts, tq, y, x, first_sum);
      tile_accumulate<HEAD>(tp, to, y, x, second_sum);
    } else {
      tile_accumulate<HEAD>(ts, tk, y, x, first_sum);
    }
  }
#pragma unroll
  for (int i = 0; i < 4; i++) {
    int64_t row = own + 4 * y + i;
    if (row >= s.T) continue;
    T *target = dqkv + (b * s.T + row) * stride + head * s.h;
#pragma unroll
    for (int c = 0; c < HEAD / 16; c++) {
      if (x + 16 * c >= s.h) continue;
      if constexpr (WITH_KEYS) {
        target[s.H * s.h + x + 16 * c] = from_float<T>(first_sum[i][c]);
        target[2 * s.H * s.h + x + 16 * c] = from_float<T>(second_sum[i][c]);
      } else {
        target[x + 16 * c] = from_float<T>(first_sum[i][c]);
      }
    }
  }
}

template <typename T>
__global__ void append_cache(int64_t T_, int64_t H, int64_t h, int64_t capacity, const int32_t *past, const T *qkv,
                             T *keys, T *values) {
  int64_t row = blockIdx.x, b = row / T_, position = past[b] + row % T_;
  for (int64_t e = threadIdx.x; e < H * h; e += blockDim.x) {
    int64_t head = e / h, d = e % h, at = ((b * H + head) * capacity + position) * h + d;
    keys[at] = qkv[(row * 3 + 1) * H * h + e];
    values[at] = qkv[(row * 3 + 2) * H * h + e];
  }
}

// A block a (row, head); four warps take keys in turn, each with its own running softmax, joined in warp order.
template <typename T, int PER_LANE>
__global__ void __launch_bounds__(128)
    attend_cache(int64_t T_, int64_t H, int64_t h, int64_t capacity, bool alibi, float scale, const int32_t *past,
                 const T *qkv, const T *keys, const T *values, T *out) {
  __shared__ float part[4][PER_LANE * WARP], maxima[4], sums[4];
  int64_t row = blockIdx.x, head = blockIdx.y, b = row / T_, query = past[b] + row % T_;
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  float slope = alibi ? alibi_slope(head, H) : 0.0f, q[PER_LANE] = {}, o[PER_LANE] = {}, m = -INFINITY, sum = 0;
  for (int i = 0; i < PER_LANE; i++)
    if (lane + i * WARP < h) q[i] = to_float(qkv[row * 3 * H * h + head * h + lane + i * WARP]);
  for (int64_t key = warp; key <= query; key += 4) {
    const T *k = keys + ((b * H + head) * capacity + key) * h, *v = values + ((b * H + head) * capacity + key) * h;
    float dot = 0;
    for (int i = 0; i < PER_LANE; i++)
      if (lane + i * WARP < h) dot += q[i] * to_float(k[lane + i * WARP]);
    float s = warp_sum(dot) * scale - slope * (float)(query - key), top = fmaxf(m, s), shrink = expf(m - top),
          p = expf(s - top);
    for (int i = 0; i < PER_LANE; i++)
      o[i] = o[i] * shrink + (lane + i * WARP < h ? p * to_float(v[lane + i * WARP]) : 0.0f);
    sum = sum * shrink + p;
    m = top;
  }
  for (int i = 0; i < PER_LANE; i++) part[warp][lane + i * WARP] = o[i];
  if (lane == 0) maxima[warp] = m, sums[warp] = sum;
  __syncthreads();
  float top = fmaxf(fmaxf(maxima[0], maxima[1]), fmaxf(maxima[2], maxima[3]));
  for (int64_t d = threadIdx.x; d < h; d += 128) {
    float total = 0, weight = 0;
    for (int w = 0; w < 4; w++) {
      if (maxima[w] == -INFINITY) continue;
      float f = expf(maxima[w] - top);
      total += f * part[w][d];
      weight += f * sums[w];
    }
    out[(row * H + head) * h + d] = from_float<T>(total / weight);
  }
}

template <typename A>
shape shape_of(const launch *l, const A *a) {
  return {
      a->B,    a->T,   a->H, a->h, a->alibi, (float)(1.0 / sqrt((double)a->h)), (float)a->dropout.p, a->dropout.site,
      l->seed, l->step};
}

// Shared memory above 48 KiB has to be asked for, once a kernel.
template <typename K>
cudaError_t allow(K kernel, size_t bytes) {
  return bytes > 48 * 1024 ? cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes)
                           : cudaSuccess;
}

template <typename T, int HEAD>
cudaError_t forward(const launch *l, const attention_forward_args *a) {
  size_t bytes = (size_t)(3 * HEAD + TILE) * LINE * sizeof(float);
  cudaError_t e = allow(attention_forward<T, HEAD>, bytes);
  if (e != cudaSuccess) return e;
  dim3 grid((unsigned)((a->T + TILE - 1) / TILE), (unsigned)a->H, (unsigned)a->B);
  attention_forward<T, HEAD>
      <<<grid, THREADS, bytes, l->stream>>>(shape_of(l, a), (const T *)a->qkv, (T *)a->out, (float *)a->lse);
  return cudaGetLastError();
}

template <typename T, int HEAD>
cudaError_t backward(const launch *l, const attention_backward_args *a, float *delta) {
  size_t bytes = (size_t)(4 * HEAD + 2 * TILE) * LINE * sizeof(float);
  cudaError_t e = allow(attention_backward<T, HEAD, true>, bytes);
  if (e == cudaSuccess) e = allow(attention_backward<T, HEAD, false>, bytes);
  if (e != cudaSuccess) return e;
  shape s = shape_of(l, a);
  const T *qkv = (const T *)a->qkv, *dout = (const T *)a->dout;
  attention_delta<T>
      <<<(unsigned)((a->B * a->T * a->H + 3) / 4), 128, 0, l->stream>>>(s, (const T *)a->out, dout, delta);
  dim3 grid((unsigned)((a->T + TILE - 1) / TILE), (unsigned)a->H, (unsigned)a->B);
  attention_backward<T, HEAD, true>
      <<<grid, THREADS, bytes, l->stream>>>(s, qkv, dout, (const float *)a->lse, delta, (T *)a->dqkv);
  attention_backward<T, HEAD, false>
      <<<grid, THREADS, bytes, l->stream>>>(s, qkv, dout, (const float *)a->lse, delta, (T *)a->dqkv);
  return cudaGetLastError();
}

template <typename T>
cudaError_t forward_typed(const launch *l, const attention_forward_args *a) {
  if (a->h <= 32) return forward<T, 32>(l, a);
  if (a->h <= 64) return forward<T, 64>(l, a);
  if (a->h <= 96) return forward<T, 96>(l, a);
  if (a->h <= 128) return forward<T, 128>(l, a);
  return cudaErrorInvalidValue;
}

template <typename T>
cudaError_t backward_typed(const launch *l, const attention_backward_args *a, float *delta) {
  if (a->h <= 32) return backward<T, 32>(l, a, delta);
  if (a->h <= 64) return backward<T, 64>(l, a, delta);
  if (a->h <= 96) return backward<T, 96>(l, a, delta);
  if (a->h <= 128) return backward<T, 128>(l, a, delta);
  return cudaErrorInvalidValue;
}

template <typename T>
cudaError_t cached(const launch *l, const attention_cached_args *a) {
  if (a->h > 256) return cudaErrorInvalidValue;
  append_cache<T><<<(unsigned)(a->B * a->T), 128, 0, l->stream>>>(a->T, a->H, a->h, a->capacity, a->past,
                                                                  (const T *)a->qkv, (T *)a->keys, (T *)a->values);
  attend_cache<T, 8><<<dim3((unsigned)(a->B * a->T), (unsigned)a->H), 128, 0, l->stream>>>(
      a->T, a->H, a->h, a->capacity, a->alibi, (float)(1.0 / sqrt((double)a->h)), a->past, (const T *)a->qkv,
      (const T *)a->keys, (const T *)a->values, (T *)a->out);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_attention_forward(const launch *l, const attention_forward_args *a) {
  if (l->compute == DTYPE_F32) return forward_typed<float>(l, a);
  if (l->compute == DTYPE_BF16) return forward_typed<__nv_bfloat16>(l, a);
  return forward_typed<__half>(l, a);
}

cudaError_t launch_attention_backward(const launch *l, const attention_backward_args *a, float *delta) {
  if (l->compute == DTYPE_F32) return backward_typed<float>(l, a, delta);
  if (l->compute == DTYPE_BF16) return backward_typed<__nv_bfloat16>(l, a, delta);
  return backward_typed<__half>(l, a, delta);
}

cudaError_t launch_attention_cached(const launch *l, const attention_cached_args *a) {
  if (l->compute == DTYPE_F32) return cached<float>(l, a);
  if (l->compute == DTYPE_BF16) return cached<__nv_bfloat16>(l, a);
  return cached<__half>(l, a);
}
