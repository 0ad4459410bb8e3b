// Cross entropy over a chunk of logits: a team of threads a row; the logits become their own gradient in place. Columns
// past V are −∞: they enter no sum and get zero.
#include "device.cuh"
#include "kernels.h"
#include "tensor_core.cuh"

namespace {

enum { THREADS = 512, WARPS = THREADS / WARP, TEAMS = 2 /* of a block that streams rows */ };

// What a team needs to work together: all of a block, or one of a block's TEAMS.
struct block_team {
  __device__ __forceinline__ int thread() const { return threadIdx.x; }
  __device__ __forceinline__ void sync() const { __syncthreads(); }
};
struct part_team {
  __device__ __forceinline__ int thread() const { return threadIdx.x % THREADS; }
  __device__ __forceinline__ void sync() const {
    asm volatile("bar.sync %0, %1;" ::"r"(1 + threadIdx.x / THREADS), "n"((int)THREADS) : "memory");
  }
};

// As block_sum.
template <typename Team>
__device__ __forceinline__ float team_sum(Team team, float x, float *shared) {
  x = warp_sum(x);
  if (team.thread() % WARP == 0) shared[team.thread() / WARP] = x;
  team.sync();
  float total = 0;
#pragma unroll
  for (int w = 0; w < WARPS; w++) total += shared[w];
  team.sync();
  return total;
}

struct row_softmax {
  float max, sum, total;  // largest logit, Σ exp(x − max), Σ x
};

// exp(x − top). Logits of 16 bits are not worth more than the hardware's 2^x.
template <typename T>
__device__ __forceinline__ float exp_below(float x, float top) {
  return sizeof(T) == 2 ? exp2_fast(fmaf(x, LOG2_E, -LOG2_E * top)) : expf(x - top);
}

// WHOLE: V is a multiple of VEC, so no pack is cut by it. keep: shared memory for the row, or NULL.
template <typename T, int VEC, bool WHOLE, typename Team>
__device__ __forceinline__ row_softmax softmax_of(Team team, const T *row, int V, bool want_total, T *keep,
                                                  float *shared) {
  float m = -INFINITY, s = 0, total = 0;
  for (int j = team.thread() * VEC; j < V; j += THREADS * VEC) {
    raw_pack<T, VEC> raw = *(const raw_pack<T, VEC> *)(row + j);
    if (keep) *(raw_pack<T, VEC> *)(keep + j) = raw;
    float x[VEC], top = -INFINITY;
    unpack<T, VEC>(raw, x);
#pragma unroll
    for (int i = 0; i < VEC; i++) {
      x[i] = WHOLE || j + i < V ? x[i] : -INFINITY;
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
      for (int i = 0; i < VEC; i++) total += WHOLE || j + i < V ? x[i] : 0.0f;
  }
  float wm = warp_max(m);
  if (team.thread() % WARP == 0) shared[team.thread() / WARP] = wm;
  team.sync();
  float top = shared[0];
#pragma unroll
  for (int w = 1; w < WARPS; w++) top = fmaxf(top, shared[w]);
  team.sync();
  s = team_sum(team, m == -INFINITY ? 0.0f : s * expf(m - top), shared);
  if (want_total) total = team_sum(team, total, shared);
  return {top, s, total};
}

struct train_args {
  int64_t first, N;
  int rows, V, Vp;
  const int32_t *labels;
  float smoothing;
  const step_state *step;
  double *losses;
};

// A row's loss, and its gradient from `from`, where its logits are, to `row`.
template <typename T, int VEC, bool WHOLE, typename Team>
__device__ __forceinline__ void train_row(Team team, const train_args &a, int at, const row_softmax &r, const T *from,
                                          T *row) {
  int label = a.labels[a.first + at];
  if (team.thread() == 0) {
    float lse = r.max + logf(r.sum);
    double nll = (double)lse - to_float(from[label]), even = (double)lse - (double)r.total / (double)a.V;
    a.losses[a.first + at] = a.smoothing > 0.0f ? (1.0 - a.smoothing) * nll + a.smoothing * even : nll;
  }
  team.sync();
  float seed = (float)(a.step->loss_scale / (double)a.N), factor = seed / r.sum;
  float share = seed * (a.smoothing / (float)a.V), hit = seed * (1.0f - a.smoothing);
  for (int j = team.thread() * VEC; j < a.Vp; j += THREADS * VEC) {
    float x[VEC] = {};
    if (j < a.V) {
      unpack<T, VEC>(*(const raw_pack<T, VEC> *)(from + j), x);
#pragma unroll
      for (int i = 0; i < VEC; i++) x[i] = WHOLE || j + i < a.V ? factor * exp_below<T>(x[i], r.max) - share : 0.0f;
      if (label >= j && label < j + VEC)
#pragma unroll
        for (int i = 0; i < VEC; i++) x[i] -= j + i == label ? hit : 0.0f;
    }
    pack<T, VEC> q;
#pragma unroll
    for (int i = 0; i < VEC; i++) q.v[i] = from_float<T>(x[i]);
    raw_pack<T, VEC> raw;
    memcpy(&raw, &q, sizeof raw);
    __stwb((raw_pack<T, VEC> *)(row + j), raw); /* by name: the compiler takes a plain store of some types apart */
  }
}

// A block a row. `staged`: the row fits in shared memory, so that it is read once.
template <typename T, int VEC, bool WHOLE>
__global__ void __launch_bounds__(THREADS) loss_train(train_args a, bool staged, T *logits) {
  __shared__ float shared[WARPS];
  extern __shared__ __align__(128) unsigned char memory[];
  T *row = logits + (int64_t)blockIdx.x * a.Vp, *keep = staged ? (T *)memory : NULL;
  row_softmax r = softmax_of<T, VEC, WHOLE>(block_team{}, row, a.V, a.smoothing > 0.0f, keep, shared);
  train_row<T, VEC, WHOLE>(block_team{}, a, blockIdx.x, r, keep ? keep : row, row);
}

// The same, to the bit, for long rows of which shared memory takes two or more: a block stays and takes every
// gridDim.x-th row. The copy engine brings `places` of them ahead, so that memory is hardly waited for, and while one
// team sums a row up the other writes its own. Each place has two barriers in turn, so that rows of one barrier are all
// of one team: it has waited for each before, and never takes an earlier phase for its own.
enum { MOST_PLACES = 4, STREAM_BYTES = 225 << 10, LEAST_BYTES = 32 << 10 /* of a row */ };
template <typename T, int VEC, bool WHOLE>
__global__ void __launch_bounds__(TEAMS *THREADS, 1) loss_train_streamed(train_args a, int places, T *logits) {
  __shared__ float shared[TEAMS][WARPS];
  __shared__ __align__(8) uint64_t barriers[TEAMS * MOST_PLACES];
  extern __shared__ __align__(128) unsigned char memory[];
  part_team team;
  int own = threadIdx.x / THREADS, mine = (a.rows - (int)blockIdx.x + (int)gridDim.x - 1) / (int)gridDim.x;
  int turns = TEAMS * places;
  uint32_t bytes = (uint32_t)a.Vp * sizeof(T), full = (uint32_t)__cvta_generic_to_shared(barriers);
  auto row_of = [&](int i) { return logits + ((int64_t)blockIdx.x + (int64_t)i * gridDim.x) * a.Vp; };
  auto bring = [&](int i) {
    uint32_t barrier = full + 8 * (i % turns);
    barrier_arrive_expect(barrier, bytes);
    bulk_copy((uint32_t)__cvta_generic_to_shared(memory + (size_t)(i % places) * bytes), row_of(i), bytes, barrier);
  };
  if (threadIdx.x == 0) {
    for (int t = 0; t < turns; t++) barrier_init(full + 8 * t, 1);
    barrier_init_done();
    for (int i = 0; i < places && i < mine; i++) bring(i);
  }
  __syncthreads();
  for (int i = own; i < mine; i += TEAMS) {
    const T *from = (const T *)(memory + (size_t)(i % places) * bytes);
    barrier_wait(full + 8 * (i % turns), i / turns % 2);
    row_softmax r = softmax_of<T, VEC, WHOLE>(team, from, a.V, a.smoothing > 0.0f, (T *)NULL, shared[own]);
    train_row<T, VEC, WHOLE>(team, a, (int)blockIdx.x + i * (int)gridDim.x, r, from, row_of(i));
    team.sync(); /* all of the row has been read */
    if (team.thread() == 0 && i + places < mine) bring(i + places);
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
  row_softmax r = softmax_of<T, VEC, false>(block_team{}, row, (int)V, false, (T *)NULL, shared);
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

template <typename T, bool WHOLE>
cudaError_t train(const launch *l, const train_args &a, void *logits) {
  // Two blocks a multiprocessor must fit, otherwise reading the row twice is the lesser evil.
  constexpr size_t LARGEST = 112 << 10;
  constexpr int VEC = 16 / sizeof(T);
  size_t bytes = (size_t)a.Vp * sizeof(T), places = STREAM_BYTES / bytes;
  bool staged = bytes <= LARGEST;
  if (bytes >= LEAST_BYTES && places >= TEAMS && a.rows >= (int)TEAMS * (int)MULTIPROCESSORS) {
    places = places < MOST_PLACES ? places : MOST_PLACES;
    auto kernel = loss_train_streamed<T, VEC, WHOLE>;
    cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, STREAM_BYTES);
    if (e != cudaSuccess) return e;
    kernel<<<MULTIPROCESSORS, TEAMS * THREADS, places * bytes, l->stream>>>(a, (int)places, (T *)logits);
    return cudaGetLastError();
  }
  auto kernel = loss_train<T, VEC, WHOLE>;
  if (staged) cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)LARGEST);
  kernel<<<(unsigned)a.rows, THREADS, staged ? bytes : 0, l->stream>>>(a, staged, (T *)logits);
  return cudaGetLastError();
}

template <typename T>
cudaError_t train(const launch *l, const head_train_args *a, int64_t first, int64_t rows, void *logits,
                  double *losses) {
  train_args t = {first, a->N, (int)rows, (int)a->V, (int)a->Vp, a->labels, (float)a->label_smoothing, l->step, losses};
  return a->V % (16 / (int64_t)sizeof(T)) == 0 ? train<T, true>(l, t, logits) : train<T, false>(l, t, logits);
}

template <typename T>
void eval(const launch *l, const head_eval_args *a, int64_t first, int64_t rows, const void *logits, double *stats) {
  loss_eval<T, 16 / sizeof(T)>
      <<<(unsigned)rows, THREADS, 0, l->stream>>>(first, a->N, a->V, a->Vp, a->labels, (const T *)logits, stats);
}

}  // namespace

cudaError_t launch_loss_train(const launch *l, const head_train_args *a, int64_t first, int64_t rows, void *logits,
                              double *losses) {
  if (l->compute == DTYPE_F32) return train<float>(l, a, first, rows, logits, losses);
  if (l->compute == DTYPE_BF16) return train<__nv_bfloat16>(l, a, first, rows, logits, losses);
  return train<__half>(l, a, first, rows, logits, losses);
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
