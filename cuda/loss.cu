// Cross entropy over a chunk of logits: a block a row; the logits become their own gradient in place. Columns past V
// are −∞: they enter no sum and get zero.
#include "device.cuh"
#include "kernels.h"

namespace {

enum { THREADS = 512, WARPS = THREADS / WARP };

struct row_softmax {
  float max, sum, total;  // largest logit, Σ exp(x − max), Σ x
};

// exp(x − top). Logits of 16 bits are not worth more than the hardware's 2^x.
template <typename T>
__device__ __forceinline__ float exp_below(float x, float top) {
  return sizeof(T) == 2 ? exp2_fast(fmaf(x, LOG2_E, -LOG2_E * top)) : expf(x - top);
}

// keep: shared memory for the row, or NULL.
template <typename T, int VEC>
__device__ row_softmax softmax_of(const T *row, int64_t V, bool want_total, T *keep, float *shared) {
  float m = -INFINITY, s = 0, total = 0;
  for (int64_t j = (int64_t)threadIdx.x * VEC; j < V; j += THREADS * VEC) {
    pack<T, VEC> raw = *(const pack<T, VEC> *)(row + j);
    if (keep) *(pack<T, VEC> *)(keep + j) = raw;
    float x[VEC], top = -INFINITY;
#pragma unroll
    for (int i = 0; i < VEC; i++) {
      x[i] = j + i < V ? to_float(raw.v[i]) : -INFINITY;
      top = fmaxf(top, x[i]);
    }
    if (top > m) {
      s *= expf(m - top);
      m = top;
    }
    if (m == -INFINITY) continue;
#pragma unroll
    for (int i = 0; i < VEC; i++) s += exp_below<T>(x[i], m);
    if (want_total)
#pragma unroll
      for (int i = 0; i < VEC; i++) total += j + i < V ? x[i] : 0.0f;
  }
  float wm = warp_max(m);
  if (threadIdx.x % WARP == 0) shared[threadIdx.x / WARP] = wm;
  __syncthreads();
  float top = shared[0];
#pragma unroll
  for (int w = 1; w < WARPS; w++) top = fmaxf(top, shared[w]);
  __syncthreads();
  s = block_sum<WARPS>(m == -INFINITY ? 0.0f : s * expf(m - top), shared);
  if (want_total) total = block_sum<WARPS>(total, shared);
  return {top, s, total};
}

// `staged`: the row fits in shared memory, so that it is read once.
template <typename T, int VEC>
__global__ void __launch_bounds__(THREADS)
    loss_train(int64_t first, int64_t N, int64_t V, int64_t Vp, const int32_t *labels, float smoothing,
               const step_state *step, bool staged, T *logits, double *losses) {
  __shared__ float shared[WARPS];
  extern __shared__ __align__(16) unsigned char memory[];
  T *row = logits + (int64_t)blockIdx.x * Vp, *keep = staged ? (T *)memory : NULL;
  int32_t label = labels[first + blockIdx.x];
  row_softmax r = softmax_of<T, VEC>(row, V, smoothing > 0.0f, keep, shared);
  float lse = r.max + logf(r.sum);
  if (threadIdx.x == 0) {
    double nll = (double)lse - to_float(row[label]), even = (double)lse - (double)r.total / (double)V;
    losses[first + blockIdx.x] = smoothing > 0.0f ? (1.0 - smoothing) * nll + smoothing * even : nll;
  }
  __syncthreads();
  float seed = (float)(step->loss_scale / (double)N), factor = seed / r.sum;
  float share = seed * (smoothing / (float)V), hit = seed * (1.0f - smoothing);
  const T *from = keep ? keep : row;
  for (int64_t j = (int64_t)threadIdx.x * VEC; j < Vp; j += THREADS * VEC) {
    float x[VEC] = {};
    if (j < V) {
      load_pack<T, VEC>(from + j, x);
#pragma unroll
      for (int i = 0; i < VEC; i++) x[i] = j + i < V ? factor * exp_below<T>(x[i], r.max) - share : 0.0f;
      if (label >= j && label < j + VEC)
#pragma unroll
        for (int i = 0; i < VEC; i++) x[i] -= j + i == label ? hit : 0.0f;
    }
    store_pack<T, VEC>(row + j, x);
  }
}

template <typename T, int VEC>
__global__ void __launch_bounds__(THREADS)
    loss_eval(int64_t first, int64_t N, int64_t V, int64_t Vp, const int32_t *labels, const T *logits, double *stats) {
  __shared__ float shared[WARPS];
  __shared__ int best[WARPS];
  const T *row = logits + (int64_t)blockIdx.x * Vp;
  int64_t at = first + blockIdx.x;
  int32_t label = labels[at];
  row_softmax r = softmax_of<T, VEC>(row, V, false, NULL, shared);
  int arg = 0x7fffffff;
  for (int64_t j = threadIdx.x; j < V; j += THREADS)
    if (to_float(row[j]) == r.max) {
      arg = (int)j;
      break;
    }
  arg = __reduce_min_sync(0xffffffffu, arg);
  if (threadIdx.x % WARP == 0) best[threadIdx.x / WARP] = arg;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 0; w < WARPS; w++) arg = min(arg, best[w]);
    bool counted = label >= 0;
    stats[at] = counted ? (double)(r.max + logf(r.sum)) - to_float(row[label]) : 0.0;
    stats[N + at] = counted ? 1.0 : 0.0;
    stats[2 * N + at] = counted && arg == label ? 1.0 : 0.0;
  }
}

__global__ void __launch_bounds__(1024) sum_doubles(const double *x, int64_t n, double scale, double *out) {
  __shared__ double shared[32];
  const double *row = x + blockIdx.x * n;
  double sum = 0;
  for (int64_t i = threadIdx.x; i < n; i += 1024) sum += row[i];
  sum = block_sum<32>(sum, shared);
  if (threadIdx.x == 0) out[blockIdx.x] = sum * scale;
}

template <typename T>
__global__ void unpad(int64_t V, int64_t Vp, const T *logits, float *out) {
  for (int64_t j = threadIdx.x; j < V; j += blockDim.x) out[blockIdx.x * V + j] = to_float(logits[blockIdx.x * Vp + j]);
}

template <typename T>
void train(const launch *l, const head_train_args *a, int64_t first, int64_t rows, void *logits, double *losses) {
  // Two blocks a multiprocessor must fit, otherwise reading the row twice is the lesser evil.
  constexpr size_t LARGEST = 112 << 10;
  size_t bytes = (size_t)a->Vp * sizeof(T);
  bool staged = bytes <= LARGEST;
  auto kernel = loss_train<T, 16 / sizeof(T)>;
  if (staged) cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)LARGEST);
  kernel<<<(unsigned)rows, THREADS, staged ? bytes : 0, l->stream>>>(
      first, a->N, a->V, a->Vp, a->labels, (float)a->label_smoothing, l->step, staged, (T *)logits, losses);
}

template <typename T>
void eval(const launch *l, const head_eval_args *a, int64_t first, int64_t rows, const void *logits, double *stats) {
  loss_eval<T, 16 / sizeof(T)>
      <<<(unsigned)rows, THREADS, 0, l->stream>>>(first, a->N, a->V, a->Vp, a->labels, (const T *)logits, stats);
}

}  // namespace

cudaError_t launch_loss_train(const launch *l, const head_train_args *a, int64_t first, int64_t rows, void *logits,
                              double *losses) {
  if (l->compute == DTYPE_F32) {
    train<float>(l, a, first, rows, logits, losses);
  } else if (l->compute == DTYPE_BF16) {
    train<__nv_bfloat16>(l, a, first, rows, logits, losses);
  } else {
    train<__half>(l, a, first, rows, logits, losses);
  }
  return cudaGetLastError();
}

cudaError_t launch_loss_eval(const launch *l, const head_eval_args *a, int64_t first, int64_t rows, const void *logits,
                             double *stats) {
  if (l->compute == DTYPE_F32) {
    eval<float>(l, a, first, rows, logits, stats);
  } else if (l->compute == DTYPE_BF16) {
    eval<__nv_bfloat16>(l, a, first, rows, logits, stats);
  } else {
    eval<__half>(l, a, first, rows, logits, stats);
  }
  return cudaGetLastError();
}

cudaError_t launch_sum_doubles(const launch *l, const double *x, int64_t n, int64_t sums, double scale, double *out) {
  sum_doubles<<<(unsigned)sums, 1024, 0, l->stream>>>(x, n, scale, out);
  return cudaGetLastError();
}

cudaError_t launch_unpad_logits(const launch *l, int64_t rows, int64_t V, int64_t Vp, const void *logits, float *out) {
  if (l->compute == DTYPE_F32) {
    unpad<<<(unsigned)rows, 256, 0, l->stream>>>(V, Vp, (const float *)logits, out);
  } else if (l->compute == DTYPE_BF16) {
    unpad<<<(unsigned)rows, 256, 0, l->stream>>>(V, Vp, (const __nv_bfloat16 *)logits, out);
  } else {
    unpad<<<(unsigned)rows, 256, 0, l->stream>>>(V, Vp, (const __half *)logits, out);
  }
  return cudaGetLastError();
}
