/* Causal attention over a packed (N, 3, H, h), one sequence and head at a time, in blocks of queries: the keys that a block can't see are never
 * multiplied. Scores are computed again in the backward from the kept log-sum-exp.
 */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "engine/cpu/blas.h"
#include "engine/cpu/cpu_engine.h"
#include "engine/cpu/dropout.h"
#include "engine/cpu/ops.h"
#include "engine/cpu/softmax.h"

/* One sequence and head. */
typedef struct {
  const real *q, *k, *v; /* (T, h), row_stride apart */
  int64_t T, h, H, row_stride, head;
  real scale, slope; /* of the scores; of ALiBi, 0 without */
  const dropout_spec *dropout;
  uint64_t seed;
  int64_t sequence; /* in the job */
} head_view;

static head_view view_of(const engine *e, const real *qkv, int64_t T, int64_t H, int64_t h, bool alibi, const dropout_spec *dropout,
                         int64_t item) {
  int64_t b = item / H, head = item % H, D = H * h;
  const real *q = qkv + b * T * 3 * D + head * h;
  return (head_view){
      .q = q,
      .k = q + D,
      .v = q + 2 * D,
      .T = T,
      .h = h,
      .H = H,
      .row_stride = 3 * D,
      .head = head,
      .scale = (real)(1.0 / sqrt((double)h)),
      .slope = alibi ? (real)alibi_slope(head, H) : (real)0,
      .dropout = dropout->p > 0 ? dropout : NULL,
      .seed = e->seed,
      .sequence = ((const cpu_engine *)e)->step.first_sequence + b,
  };
}

/* Scaled scores of queries [first, first + n) against keys [0, first + n), with ALiBi's bias; s (n, first + n). Entries that a query may not see
 * hold finite numbers of no meaning. */
static void block_scores(const head_view *w, int64_t first, int64_t n, real *s) {
  int64_t keys = first + n;
  gemm(PLAIN, TRANSPOSED, n, keys, w->h, w->scale, w->q + first * w->row_stride, w->row_stride, w->k, w->row_stride, 0, s, keys);
  if (w->slope == 0) {
    return;
  }
  for (int64_t i = 0; i < n; i++) {
    real *row = s + i * keys;
    int64_t query = first + i;
#pragma omp simd
    for (int64_t j = 0; j <= query; j++) {
      row[j] -= w->slope * (real)(int32_t)(query - j);
    }
  }
}

/* The dropout mask of a query's row over keys [0, n). */
static void row_mask(const head_view *w, int64_t query, int64_t n, real *mask) {
  dropout_mask(w->dropout, w->seed, w->sequence, (w->head * w->T + query) * w->T, n, mask);
}

static void forward_block(const head_view *w, int64_t first, int64_t n, real *s, real *mask, real *out, int64_t out_stride, real *lse) {
  int64_t keys = first + n;
  real inverse[QUERY_BLOCK];
  block_scores(w, first, n, s);
  for (int64_t i = 0; i < n; i++) {
    real *row = s + i * keys;
    int64_t seen = first + i + 1;
    real most = row_max(row, seen);
    real sum = row_exp(row, seen, most);
    memset(row + seen, 0, (size_t)(keys - seen) * sizeof(real));
    lse[first + i] = (real)((double)most + log((double)sum));
    inverse[i] = (real)1 / sum;
    if (w->dropout) {
      row_mask(w, first + i, seen, mask);
      for (int64_t j = 0; j < seen; j++) {
        row[j] *= mask[j];
      }
    }
  }
  real *o = out + first * out_stride;
  gemm(PLAIN, PLAIN, n, w->h, keys, 1, s, keys, w->v, w->row_stride, 0, o, out_stride);
  for (int64_t i = 0; i < n; i++) {
#pragma omp simd
    for (int64_t j = 0; j < w->h; j++) {
      o[i * out_stride + j] *= inverse[i];
    }
  }
}

/* Products inside a parallel loop run on the thread that asks for them; with OpenBLAS's own threads they would wait for each other. */
static void blas_single(const cpu_engine *cpu, bool single) {
  if (cpu->threads > 1) {
    openblas_set_num_threads(single ? 1 : cpu->threads);
  }
}

status ENGINE_NAME(attention_forward)(engine *e, const attention_forward_args *a) {
  cpu_engine *cpu = cpu_of(e);
  int64_t T = a->T, D = a->H * a->h, items = a->B * a->H;
  scratch s = scratch_open(e);
  real *scores, *masks;
  int64_t room = min_i64(QUERY_BLOCK, T) * T;
  TRY(scratch_take(&s, cpu->threads * room, sizeof(real), &scores));
  TRY(scratch_take(&s, cpu->threads * T, sizeof(real), &masks));
  blas_single(cpu, true);
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
  for (int64_t item = 0; item < items; item++) {
    head_view w = view_of(e, a->qkv, T, a->H, a->h, a->alibi, &a->dropout, item);
    real *out = (real *)a->out + item / a->H * T * D + w.head * a->h;
    real *lse = (real *)a->lse + item * T;
    int thread = omp_get_thread_num();
    for (int64_t first = 0; first < T; first += QUERY_BLOCK) {
      forward_block(&w, first, min_i64(QUERY_BLOCK, T - first), scores + thread * room, masks + thread * T, out, D, lse);
    }
  }
  blas_single(cpu, false);
  return STATUS_OK;
}

/* What a head's backward writes and reads beside its view. */
typedef struct {
  const real *out, *dout, *lse; /* (T, h) D apart; (T) */
  int64_t D;
  real *dq, *dk, *dv; /* (T, h), row_stride apart */
  real *p, *ds, *mask; /* (QUERY_BLOCK, T) twice, (T) */
} head_backward;

/* s: scores → probabilities (dropped); ds: gradient at the probabilities → at the scaled products q·k. */
static void backward_rows(const head_view *w, const head_backward *g, int64_t first, int64_t n) {
  int64_t keys = first + n;
  for (int64_t i = 0; i < n; i++) {
    int64_t query = first + i, seen = query + 1;
    real *p = g->p + i * keys, *ds = g->ds + i * keys;
    const real *o = g->out + query * g->D, *dout = g->dout + query * g->D;
    real delta = 0, lse = g->lse[query];
#pragma omp simd reduction(+ : delta)
    for (int64_t j = 0; j < w->h; j++) {
      delta += o[j] * dout[j];
    }
    if (w->dropout) {
      row_mask(w, query, seen, g->mask);
#pragma omp simd
      for (int64_t j = 0; j < seen; j++) {
        real probability = real_exp(p[j] - lse);
        p[j] = probability * g->mask[j];
        ds[j] = probability * (g->mask[j] * ds[j] - delta) * w->scale;
      }
    } else {
#pragma omp simd
      for (int64_t j = 0; j < seen; j++) {
        real probability = real_exp(p[j] - lse);
        p[j] = probability;
        ds[j] = probability * (ds[j] - delta) * w->scale;
      }
    }
    memset(p + seen, 0, (size_t)(keys - seen) * sizeof(real));
    memset(ds + seen, 0, (size_t)(keys - seen) * sizeof(real));
  }
}

/* The last block comes first: it covers all keys, so it writes dk and dv and the others add. */
static void backward_block(const head_view *w, const head_backward *g, int64_t first, int64_t n, real beta) {
  int64_t keys = first + n, stride = w->row_stride;
  const real *dout = g->dout + first * g->D;
  block_scores(w, first, n, g->p);
  gemm(PLAIN, TRANSPOSED, n, keys, w->h, 1, dout, g->D, w->v, stride, 0, g->ds, keys);
  backward_rows(w, g, first, n);
  gemm(PLAIN, PLAIN, n, w->h, keys, 1, g->ds, keys, w->k, stride, 0, g->dq + first * stride, stride);
  gemm(TRANSPOSED, PLAIN, keys, w->h, n, 1, g->ds, keys, w->q + first * stride, stride, beta, g->dk, stride);
  gemm(TRANSPOSED, PLAIN, keys, w->h, n, 1, g->p, keys, dout, g->D, beta, g->dv, stride);
}

status ENGINE_NAME(attention_backward)(engine *e, const attention_backward_args *a) {
  cpu_engine *cpu = cpu_of(e);
  int64_t T = a->T, D = a->H * a->h, items = a->B * a->H;
  scratch s = scratch_open(e);
  real *scores, *masks;
  int64_t room = min_i64(QUERY_BLOCK, T) * T;
  TRY(scratch_take(&s, cpu->threads * 2 * room, sizeof(real), &scores));
  TRY(scratch_take(&s, cpu->threads * T, sizeof(real), &masks));
  blas_single(cpu, true);
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
  for (int64_t item = 0; item < items; item++) {
    head_view w = view_of(e, a->qkv, T, a->H, a->h, a->alibi, &a->dropout, item);
    int thread = omp_get_thread_num();
    int64_t row = item / a->H * T, column = w.head * a->h;
    real *dq = (real *)a->dqkv + row * w.row_stride + column;
    head_backward g = {
        .out = (const real *)a->out + row * D + column,
        .dout = (const real *)a->dout + row * D + column,
        .lse = (const real *)a->lse + item * T,
        .D = D,
        .dq = dq,
        .dk = dq + D,
        .dv = dq + 2 * D,
        .p = scores + thread * 2 * room,
        .ds = scores + thread * 2 * room + room,
        .mask = masks + thread * T,
    };
    int64_t last = (T - 1) / QUERY_BLOCK * QUERY_BLOCK;
    for (int64_t first = last; first >= 0; first -= QUERY_BLOCK) {
      backward_block(&w, &g, first, min_i64(QUERY_BLOCK, T - first), first == last ? 0 : 1);
    }
  }
  blas_single(cpu, false);
  return STATUS_OK;
}
