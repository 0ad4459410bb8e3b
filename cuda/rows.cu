// One pass over the rows of an (N, D) activation: a source (embedding, residual sum, or the activation itself), then
// the norm of what it gave.
//
// A row belongs to THREADS threads, each holding PACKS packs of VEC elements in registers: one read, one write, one
// more write for the norm.
#include "device.cuh"
#include "kernels.h"

namespace {

enum { SOURCE_EMBED, SOURCE_RESIDUAL, SOURCE_DROPPED /* a residual sum with dropout */, SOURCE_PLAIN };

template <int SOURCE>
constexpr bool HAS_PRODUCT = SOURCE == SOURCE_RESIDUAL || SOURCE == SOURCE_DROPPED;

struct row_args {
  int64_t N, T, D;
  // SOURCE_EMBED
  const int32_t *tokens, *past;
  const float *frequencies; /* of the sinusoidal encoding; NULL: none */
  // SOURCE_RESIDUAL, SOURCE_DROPPED: product, bias, alpha, dropout; x is the embedding, the residual or the activation.
  const float *bias, *alpha;
  float p;
  uint32_t site;
  uint64_t seed;
  const step_state *step;
  // The norm that follows.
  const float *scale, *norm_bias;
  float *stats;
  float *amax; /* of the norm's output; NULL: not wanted */
};

// Sinusoidal position: element j of position p is sin (even j) or cos (odd j) of p · frequency[j / 2].
__device__ __forceinline__ float sinusoid(const float *frequencies, int64_t position, int64_t j) {
  float angle = (float)position * frequencies[j / 2];
  return j & 1 ? cosf(angle) : sinf(angle);
}

// x += alpha · dropout(u + bias), u as the product gave it.
template <int VEC, bool DROPOUT>
__device__ __forceinline__ void add_residual_branch(const row_args &a, int64_t row, int64_t column, float alpha,
                                                    float (&u)[VEC], float (&x)[VEC]) {
  if (a.bias) {
    float bias[VEC];
    load_pack<float, VEC>(a.bias + column, bias);
#pragma unroll
    for (int i = 0; i < VEC; i++) u[i] += bias[i];
  }
  if constexpr (DROPOUT) {
    int64_t sequence = a.step->first_sequence + row / a.T, element = row % a.T * a.D + column;
    float4 keep = {};
#pragma unroll
    for (int i = 0; i < VEC; i++) {
      if (i == 0 || (element + i) % 4 == 0)
        keep = dropout_factors(a.seed, a.p, a.site, sequence, (uint32_t)((element + i) / 4));
      u[i] *= component(keep, (int)((element + i) % 4));
    }
  }
#pragma unroll
  for (int i = 0; i < VEC; i++) x[i] = fmaf(alpha, u[i], x[i]);
}

// What a thread has of a row, as it stands in memory.
template <typename T, int VEC, int PACKS>
struct row_packs {
  raw_pack<T, VEC> x[PACKS], product[PACKS];
};

template <typename T, int VEC, int THREADS, int PACKS, int SOURCE>
__device__ __forceinline__ void load_row(const row_args &a, const T *x, const T *product, int64_t row, int thread,
                                         row_packs<T, VEC, PACKS> *r) {
  int64_t source_row = SOURCE == SOURCE_EMBED ? a.tokens[row] : row;
#pragma unroll
  for (int p = 0; p < PACKS; p++) {
    int64_t column = ((int64_t)p * THREADS + thread) * VEC;
    if (column >= a.D) continue;
    r->x[p] = *reinterpret_cast<const raw_pack<T, VEC> *>(x + source_row * a.D + column);
    if (HAS_PRODUCT<SOURCE>) r->product[p] = *reinterpret_cast<const raw_pack<T, VEC> *>(product + row * a.D + column);
  }
}

// Blocks of a kernel below that a multiprocessor holds: what they ask for ahead keeps its memory busy.
template <int BLOCK, int ALL_THREADS>
constexpr int RESIDENT = ALL_THREADS / BLOCK < 1 ? 1 : ALL_THREADS / BLOCK;

// A block goes from row to row: the next one is on its way while the norm of this one is summed up.
template <typename T, int VEC, int THREADS, int PACKS, int SOURCE>
__global__ void __launch_bounds__(THREADS == WARP ? 128 : THREADS,
                                  PACKS <= 2 ? RESIDENT<(THREADS == WARP ? 128 : THREADS), 1024> : 1)
    rows(row_args a, int norm, const T *x, const T *product, T *y, T *normed) {
  constexpr int ROWS = THREADS == WARP ? 4 : 1;
  __shared__ float shared[THREADS / WARP];
  int thread = threadIdx.x % THREADS;
  float alpha = HAS_PRODUCT<SOURCE> && a.alpha ? *a.alpha : 1.0f;
  bool layer = norm == NORM_LAYER;
  float most = 0;
  row_packs<T, VEC, PACKS> ahead;
  // With THREADS = WARP the warps of a block go their own ways; otherwise all threads see the same rows.
  int64_t row = (int64_t)blockIdx.x * ROWS + threadIdx.x / THREADS;
  if (row < a.N) load_row<T, VEC, THREADS, PACKS, SOURCE>(a, x, product, row, thread, &ahead);
  for (int64_t next; row < a.N; row = next) {
    next = row + (int64_t)gridDim.x * ROWS;
    int64_t position = SOURCE == SOURCE_EMBED ? row % a.T + (a.past ? a.past[row / a.T] : 0) : 0;
    row_packs<T, VEC, PACKS> here = ahead;
    if (next < a.N) load_row<T, VEC, THREADS, PACKS, SOURCE>(a, x, product, next, thread, &ahead);
    float v[PACKS][VEC];
#pragma unroll
    for (int p = 0; p < PACKS; p++) {
      int64_t column = ((int64_t)p * THREADS + thread) * VEC;
#pragma unroll
      for (int i = 0; i < VEC; i++) v[p][i] = 0;
      if (column >= a.D) continue;
      unpack<T, VEC>(here.x[p], v[p]);
      if (SOURCE == SOURCE_EMBED && a.frequencies) {
#pragma unroll
        for (int i = 0; i < VEC; i++) v[p][i] += sinusoid(a.frequencies, position, column + i);
      }
      if (HAS_PRODUCT<SOURCE>) {
        float u[VEC];
        unpack<T, VEC>(here.product[p], u);
        add_residual_branch<VEC, SOURCE == SOURCE_DROPPED>(a, row, column, alpha, u, v[p]);
      }
      if (SOURCE != SOURCE_PLAIN) {
        store_pack<T, VEC>(y + row * a.D + column, v[p]);
        // The norm sees what was stored, so that computing it again later gives the same bits.
#pragma unroll
        for (int i = 0; i < VEC; i++) v[p][i] = to_float(from_float<T>(v[p][i]));
      }
    }
    if (norm == NORM_NONE) continue;
    float mean = 0.0f;
    if (layer) {
      float sum = 0;
#pragma unroll
      for (int p = 0; p < PACKS; p++)
#pragma unroll
        for (int i = 0; i < VEC; i++) sum += v[p][i];
      mean = block_sum<THREADS / WARP>(sum, shared) / (float)a.D;
    }
    float squares = 0;
#pragma unroll
    for (int p = 0; p < PACKS; p++) {
      if (((int64_t)p * THREADS + thread) * VEC >= a.D) continue;
#pragma unroll
      for (int i = 0; i < VEC; i++) squares += (v[p][i] - mean) * (v[p][i] - mean);
    }
    squares = block_sum<THREADS / WARP>(squares, shared) / (float)a.D;
    float r = 1.0f / sqrtf(squares + (layer ? 1e-5f : 1e-6f));
    if (thread == 0) {
      if (layer) a.stats[row] = mean;
      a.stats[layer ? a.N + row : row] = r;
    }
#pragma unroll
    for (int p = 0; p < PACKS; p++) {
      int64_t column = ((int64_t)p * THREADS + thread) * VEC;
      if (column >= a.D) continue;
      float o[VEC], scale[VEC], bias[VEC] = {};
      load_pack<float, VEC>(a.scale + column, scale);
      if (layer) load_pack<float, VEC>(a.norm_bias + column, bias);
#pragma unroll
      for (int i = 0; i < VEC; i++) {
        o[i] = (v[p][i] - mean) * r * scale[i];
        if (layer) o[i] += bias[i];
        most = fmaxf(most, fabsf(o[i]));
      }
      store_pack<T, VEC>(normed + row * a.D + column, o);
    }
  }
  if (a.amax) add_amax<T>(a.amax, most);
}

// Row groups of a block of the norm's backward: where a warp holds a row, eight of them.
template <int THREADS>
constexpr int ROW_GROUPS = THREADS == WARP ? 8 : 1;

// Σ over a block's row groups of their sums, in the order of the groups, to out (D).
template <int VEC, int THREADS, int PACKS>
__device__ __forceinline__ void add_groups(int64_t D, const float (&sums)[PACKS][VEC], float *out) {
  constexpr int GROUPS = ROW_GROUPS<THREADS>, WIDTH = THREADS * VEC;
  int thread = threadIdx.x % THREADS, group = threadIdx.x / THREADS;
  __shared__ float all[GROUPS == 1 ? 1 : GROUPS * WIDTH];
#pragma unroll
  for (int p = 0; p < PACKS; p++) {
    int64_t column = ((int64_t)p * THREADS + thread) * VEC;
    if constexpr (GROUPS == 1) {
      if (column < D) store_pack<float, VEC>(out + column, sums[p]);
    } else {
#pragma unroll
      for (int i = 0; i < VEC; i++) all[group * WIDTH + i * THREADS + thread] = sums[p][i];
      __syncthreads();
      for (int e = threadIdx.x; e < WIDTH; e += THREADS * GROUPS) {
        int64_t at = ((int64_t)p * THREADS + e % THREADS) * VEC + e / THREADS;
        float total = 0;
#pragma unroll
        for (int k = 0; k < GROUPS; k++) total += all[k * WIDTH + e];
        if (at < D) out[at] = total;
      }
      __syncthreads();
    }
  }
}

// What a thread reads of a row of the norm's backward, as it stands in memory.
template <typename T, int VEC, int PACKS>
struct backward_packs {
  raw_pack<T, VEC> x[PACKS], dy[PACKS], dresidual[PACKS];
};

template <typename T, int VEC, int THREADS, int PACKS>
__device__ __forceinline__ void load_backward(int64_t D, const T *x, const T *dy, const T *dresidual, int64_t row,
                                              int thread, backward_packs<T, VEC, PACKS> *r) {
  using packed = raw_pack<T, VEC>;
#pragma unroll
  for (int p = 0; p < PACKS; p++) {
    int64_t column = ((int64_t)p * THREADS + thread) * VEC, at = row * D + column;
    if (column >= D) continue;
    r->x[p] = *reinterpret_cast<const packed *>(x + at);
    r->dy[p] = *reinterpret_cast<const packed *>(dy + at);
    if (dresidual) r->dresidual[p] = *reinterpret_cast<const packed *>(dresidual + at);
  }
}

// dx = dresidual + r·(g − n·mean(g·n)) with g = dy·scale, n = (x − mean)·r (layer: minus mean(g) as well). A group of
// threads walks over its rows and keeps the sums of the columns in registers; a block adds those of its groups.
template <typename T, int VEC, int THREADS, int PACKS, bool layer>
__global__ void __launch_bounds__(THREADS *ROW_GROUPS<THREADS>,
                                  PACKS == 1 ? RESIDENT<THREADS * ROW_GROUPS<THREADS>, 768> : 1)
    norm_backward(int64_t N, int64_t D, const T *x, const float *scale, const float *stats, const T *dy,
                  const T *dresidual, T *dx, float *partial, float *amax) {
  constexpr int GROUPS = ROW_GROUPS<THREADS>;
  __shared__ float shared[THREADS / WARP];
  int thread = threadIdx.x % THREADS, group = threadIdx.x / THREADS;
  float most = 0, dscale[PACKS][VEC] = {}, dbias[PACKS][VEC] = {}, s[PACKS][VEC] = {};
#pragma unroll
  for (int p = 0; p < PACKS; p++) {
    int64_t column = ((int64_t)p * THREADS + thread) * VEC;
    if (column < D) load_pack<float, VEC>(scale + column, s[p]);
  }
  int64_t rows = (N + gridDim.x - 1) / gridDim.x, first = blockIdx.x * rows, end = min(first + rows, N);
  // The next row is on its way while the sums of this one go round; two packs a thread leave no registers for that.
  constexpr bool AHEAD = PACKS == 1;
  backward_packs<T, VEC, PACKS> ahead;
  if (AHEAD && first + group < end)
    load_backward<T, VEC, THREADS, PACKS>(D, x, dy, dresidual, first + group, thread, &ahead);
  for (int64_t row = first + group; row < end; row += GROUPS) {
    float mean = layer ? stats[row] : 0.0f, r = stats[layer ? N + row : row];
    float n[PACKS][VEC], g[PACKS][VEC], o[PACKS][VEC] = {}, dot = 0, sum = 0;
    if (!AHEAD) load_backward<T, VEC, THREADS, PACKS>(D, x, dy, dresidual, row, thread, &ahead);
#pragma unroll
    for (int p = 0; p < PACKS; p++) {
      if (((int64_t)p * THREADS + thread) * VEC >= D) continue;
      unpack<T, VEC>(ahead.x[p], n[p]);
      unpack<T, VEC>(ahead.dy[p], g[p]);
      if (dresidual) unpack<T, VEC>(ahead.dresidual[p], o[p]);
    }
    if (AHEAD && row + GROUPS < end)
      load_backward<T, VEC, THREADS, PACKS>(D, x, dy, dresidual, row + GROUPS, thread, &ahead);
#pragma unroll
    for (int p = 0; p < PACKS; p++) {
      if (((int64_t)p * THREADS + thread) * VEC >= D) continue;
#pragma unroll
      for (int i = 0; i < VEC; i++) {
        n[p][i] = (n[p][i] - mean) * r;
        dscale[p][i] += g[p][i] * n[p][i];
        if (layer) dbias[p][i] += g[p][i];
        g[p][i] *= s[p][i];
        dot += g[p][i] * n[p][i];
        sum += g[p][i];
      }
    }
    dot = block_sum<THREADS / WARP>(dot, shared) / (float)D;
    if (layer) sum = block_sum<THREADS / WARP>(sum, shared) / (float)D;
#pragma unroll
    for (int p = 0; p < PACKS; p++) {
      int64_t column = ((int64_t)p * THREADS + thread) * VEC;
      if (column >= D) continue;
#pragma unroll
      for (int i = 0; i < VEC; i++) {
        o[p][i] += r * (g[p][i] - n[p][i] * dot - (layer ? sum : 0.0f));
        most = fmaxf(most, fabsf(o[p][i]));
      }
      store_pack<T, VEC>(dx + row * D + column, o[p]);
    }
  }
  if (amax) add_amax<T>(amax, most);
  add_groups<VEC, THREADS, PACKS>(D, dscale, partial + (int64_t)blockIdx.x * D);
  if (layer) add_groups<VEC, THREADS, PACKS>(D, dbias, partial + ((int64_t)gridDim.x + blockIdx.x) * D);
}

__global__ void __launch_bounds__(WARP *PARTS)
    norm_finish(int64_t D, int blocks, const float *partial, float *dscale, float *dbias) {
  __shared__ float shared[PARTS][WARP];
  int64_t j = (int64_t)blockIdx.x * WARP + threadIdx.x;
  float s = sum_partials<PARTS>(partial + j, blocks, D, j < D, shared), b = 0;
  if (dbias) b = sum_partials<PARTS>(partial + (int64_t)blocks * D + j, blocks, D, j < D, shared);
  if (j >= D || threadIdx.y != 0) return;
  if (dscale) dscale[j] = s;
  if (dbias) dbias[j] = b;
}

template <typename T, int VEC, int THREADS, int PACKS, int SOURCE>
void launch_rows(cudaStream_t stream, const row_args &a, int norm, const void *x, const void *product, void *y,
                 void *normed) {
  constexpr int ROWS = THREADS == WARP ? 4 : 1;
  constexpr int BLOCK = THREADS * ROWS;
  int64_t blocks = (a.N + ROWS - 1) / ROWS, resident = (int64_t)MULTIPROCESSORS * RESIDENT<BLOCK, 1024>;
  unsigned grid = (unsigned)(blocks < resident ? blocks : resident);
  rows<T, VEC, THREADS, PACKS, SOURCE>
      <<<grid, BLOCK, 0, stream>>>(a, norm, (const T *)x, (const T *)product, (T *)y, (T *)normed);
}

// Threads and packs for a width: a warp a row while that keeps a row in registers, then more warps.
template <typename T, int SOURCE>
cudaError_t rows_of(cudaStream_t stream, const row_args &a, int norm, const void *x, const void *product, void *y,
                    void *normed) {
  constexpr int V = 16 / sizeof(T);
  int64_t packs = a.D / V;
  if (a.D % V != 0) {
    if (a.D > 1024 * 8) return cudaErrorInvalidValue;
    launch_rows<T, 1, 1024, 8, SOURCE>(stream, a, norm, x, product, y, normed);
  } else if (packs <= 32) {
    launch_rows<T, V, 32, 1, SOURCE>(stream, a, norm, x, product, y, normed);
  } else if (packs <= 64) {
    launch_rows<T, V, 32, 2, SOURCE>(stream, a, norm, x, product, y, normed);
  } else if (packs <= 96) {
    launch_rows<T, V, 96, 1, SOURCE>(stream, a, norm, x, product, y, normed);
  } else if (packs <= 128) {
    launch_rows<T, V, 128, 1, SOURCE>(stream, a, norm, x, product, y, normed);
  } else if (packs <= 256) {
    launch_rows<T, V, 128, 2, SOURCE>(stream, a, norm, x, product, y, normed);
  } else if (packs <= 384) {
    launch_rows<T, V, 192, 2, SOURCE>(stream, a, norm, x, product, y, normed);
  } else if (packs <= 512) {
    launch_rows<T, V, 256, 2, SOURCE>(stream, a, norm, x, product, y, normed);
  } else if (packs <= 2048) {
    launch_rows<T, V, 512, 4, SOURCE>(stream, a, norm, x, product, y, normed);
  } else {
    return cudaErrorInvalidValue;
  }
  return cudaGetLastError();
}

template <int SOURCE>
cudaError_t rows_typed(const launch *l, const row_args &a, int norm, const void *x, const void *product, void *y,
                       void *normed) {
  if (clear_amax(l->stream, a.amax) != cudaSuccess) return cudaGetLastError();
  if (l->compute == DTYPE_F32) return rows_of<float, SOURCE>(l->stream, a, norm, x, product, y, normed);
  if (l->compute == DTYPE_BF16) return rows_of<__nv_bfloat16, SOURCE>(l->stream, a, norm, x, product, y, normed);
  return rows_of<__half, SOURCE>(l->stream, a, norm, x, product, y, normed);
}

void set_norm(row_args *r, const norm_spec *n) {
  r->scale = (const float *)n->scale;
  r->norm_bias = (const float *)n->bias;
  r->stats = (float *)n->stats;
  r->amax = n->kind == NORM_NONE ? NULL : (float *)n->y_amax;
}

template <typename T, int VEC, int THREADS, int PACKS>
void launch_backward(const launch *l, const norm_backward_args *a, float *partial) {
  const T *x = (const T *)a->x, *dy = (const T *)a->dy, *dresidual = (const T *)a->dresidual;
  const float *scale = (const float *)a->norm.scale, *stats = (const float *)a->norm.stats;
  auto kernel = a->norm.kind == NORM_LAYER ? norm_backward<T, VEC, THREADS, PACKS, true>
                                           : norm_backward<T, VEC, THREADS, PACKS, false>;
  kernel<<<NORM_BLOCKS, THREADS * ROW_GROUPS<THREADS>, 0, l->stream>>>(a->N, a->D, x, scale, stats, dy, dresidual,
                                                                       (T *)a->dx, partial, (float *)a->dx_amax);
}

template <typename T>
cudaError_t backward_of(const launch *l, const norm_backward_args *a, float *partial) {
  constexpr int V = 16 / sizeof(T);
  int64_t packs = a->D / V;
  if (a->D % V != 0) {
    if (a->D > 1024 * 8) return cudaErrorInvalidValue;
    launch_backward<T, 1, 1024, 8>(l, a, partial);
  } else if (packs <= 32) {
    launch_backward<T, V, 32, 1>(l, a, partial);
  } else if (packs <= 64) {
    launch_backward<T, V, 32, 2>(l, a, partial);
  } else if (packs <= 96) {
    launch_backward<T, V, 96, 1>(l, a, partial);
  } else if (packs <= 128) {
    launch_backward<T, V, 128, 1>(l, a, partial);
  } else if (packs <= 192) {
    launch_backward<T, V, 192, 1>(l, a, partial);
  } else if (packs <= 256) {
    launch_backward<T, V, 256, 1>(l, a, partial);
  } else if (packs <= 384) {
    launch_backward<T, V, 384, 1>(l, a, partial);
  } else if (packs <= 512) {
    launch_backward<T, V, 512, 1>(l, a, partial);
  } else if (packs <= 2048) {
    launch_backward<T, V, 1024, 2>(l, a, partial);
  } else {
    return cudaErrorInvalidValue;
  }
  norm_finish<<<(unsigned)((a->D + WARP - 1) / WARP), dim3(WARP, PARTS), 0, l->stream>>>(
      a->D, NORM_BLOCKS, partial, (float *)a->dscale, a->norm.kind == NORM_LAYER ? (float *)a->dbias : NULL);
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_embed_forward(const launch *l, const embed_forward_args *a, const float *frequencies) {
  row_args r = {};
  r.N = a->B * a->T, r.T = a->T, r.D = a->D;
  r.tokens = a->tokens, r.past = a->past, r.frequencies = a->sinusoidal ? frequencies : NULL;
  set_norm(&r, &a->norm);
  return rows_typed<SOURCE_EMBED>(l, r, a->norm.kind, a->weight, NULL, a->x, a->norm.y);
}

cudaError_t launch_norm_forward(const launch *l, const norm_forward_args *a) {
  row_args r = {};
  r.N = a->N, r.T = a->N, r.D = a->D;
  set_norm(&r, &a->norm);
  return rows_typed<SOURCE_PLAIN>(l, r, a->norm.kind, a->x, NULL, NULL, a->norm.y);
}

cudaError_t launch_residual(const launch *l, const out_forward_args *a, const void *product) {
  row_args r = {};
  r.N = a->B * a->T, r.T = a->T, r.D = a->D;
  r.bias = (const float *)a->bias, r.alpha = (const float *)a->alpha;
  r.p = (float)a->dropout.p, r.site = a->dropout.site, r.seed = l->seed, r.step = l->step;
  set_norm(&r, &a->norm);
  return r.p > 0.0f ? rows_typed<SOURCE_DROPPED>(l, r, a->norm.kind, a->residual, product, a->y, a->norm.y)
                    : rows_typed<SOURCE_RESIDUAL>(l, r, a->norm.kind, a->residual, product, a->y, a->norm.y);
}

cudaError_t launch_norm_backward(const launch *l, const norm_backward_args *a, float *partial) {
  if (clear_amax(l->stream, a->dx_amax) != cudaSuccess) return cudaGetLastError();
  if (l->compute == DTYPE_F32) return backward_of<float>(l, a, partial);
  if (l->compute == DTYPE_BF16) return backward_of<__nv_bfloat16>(l, a, partial);
  return backward_of<__half>(l, a, partial);
}
