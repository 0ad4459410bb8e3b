/* Causal attention over a packed (N, 3, H, h), one sequence and head at a time, in blocks of queries and in groups of
 * TILE_GROUP rows: what a group can't see is never multiplied. Scores are computed again in the backward from the kept
 * log-sum-exp. Everything but the packed transposes lies where the caller has it, so a head's working set is its keys,
 * values and one block of scores.
 */
#include <math.h>
#include <omp.h>
#include <string.h>

#include "engine/cpu/cpu_engine.h"
#include "engine/cpu/dropout.h"
#include "engine/cpu/fp8.h"
#include "engine/cpu/ops.h"
#include "engine/cpu/tile.h"
#include "engine/cpu/vecmath.h"

_Static_assert(QUERY_BLOCK % TILE_GROUP == 0, "groups of queries and of keys share their borders");

/* Keys of a row of scores, padded so that all tiles are wide. */
static int64_t padded(int64_t keys) {
  return (keys + TILE_WIDTH - 1) / TILE_WIDTH * TILE_WIDTH;
}

/* One sequence and head. */
typedef struct {
  const real *q, *k, *v; /* (T, h), row_stride apart */
  int64_t T, h, H, row_stride, head;
  int64_t ld;        /* T, padded: row length of scores and transposes */
  real scale, slope; /* of the scores; of ALiBi, 0 without */
  const dropout_spec *dropout;
  uint64_t seed;
  int64_t sequence; /* in the job */
} head_view;

static head_view view_of(const engine *e, const real *qkv, int64_t T, int64_t H, int64_t h, bool alibi,
                         const dropout_spec *dropout, int64_t item) {
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
      .ld = padded(T),
      .scale = (real)(1.0 / sqrt((double)h)),
      .slope = alibi ? (real)alibi_slope(head, H) : (real)0,
      .dropout = dropout->p > 0 ? dropout : NULL,
      .seed = e->seed,
      .sequence = ((const cpu_engine *)e)->step.first_sequence + b,
  };
}

/* to (h, ld) = factor · xᵀ for x (T, h); the padding becomes zero. Some rows at a time: whole rows of x are used while
 * they are cached. */
static void transpose(const head_view *w, const real *x, real factor, real *to) {
  for (int64_t t = 0; t < w->ld; t += TILE_WIDTH) {
    int64_t n = min_i64(TILE_WIDTH, w->T - t);
    const real *from = x + t * w->row_stride;
    for (int64_t j = 0; j < w->h; j++) {
      real *row = to + j * w->ld + t;
      for (int64_t i = 0; i < n; i++) {
        row[i] = factor * from[i * w->row_stride + j];
      }
      for (int64_t i = n; i < TILE_WIDTH; i++) {
        row[i] = 0;
      }
    }
  }
}

/* Length of the rows of scores in query first + i's group: its last key, padded. A row's loops run over all of it and
 * select what the query may see; what it may not becomes zero, so that products over the group need no mask. */
static int64_t width_of(int64_t first, int64_t n, int64_t i) {
  return padded(first + min_i64(n, (i / TILE_GROUP + 1) * TILE_GROUP));
}

/* s (n, keys) = x (n, h) · transposed (h, keys) for the queries [first, first + n), up to each group's last key; x's
 * rows are x_stride apart. */
static void block_products(const head_view *w, int64_t first, int64_t n, const real *x, int64_t x_stride,
                           const real *transposed, real *s) {
  for (int64_t i = 0; i < n; i += TILE_GROUP) {
    int64_t m = min_i64(TILE_GROUP, n - i);
    tile_rows(m, width_of(first, n, i), w->h, x + (first + i) * x_stride, x_stride, transposed, w->ld, false,
              s + i * w->ld, w->ld);
  }
}

/* ALiBi's bias on a query's scores. */
static void add_slope(const head_view *w, int64_t query, real *s) {
  real slope = w->slope;
#pragma omp simd
  for (int64_t j = 0; j <= query; j++) {
    s[j] -= slope * (real)(int32_t)(query - j);
  }
}

/* Largest of the first `seen` of a row's `width` scores. */
static real seen_max(const real *s, int width, int seen) {
  real most = s[0];
  width &= -TILE_WIDTH; /* tells the compiler that no rest is left */
#pragma omp simd reduction(max : most)
  for (int j = 0; j < width; j++) {
    real x = j < seen ? s[j] : s[0];
    most = x > most ? x : most;
  }
  return most;
}

/* s ← exp(s − most) for the first `seen`, 0 for the others; returns the sum. */
static real seen_exp(real *s, int width, int seen, real most) {
  real sum = 0;
  width &= -TILE_WIDTH;
#pragma omp simd reduction(+ : sum)
  for (int j = 0; j < width; j++) {
    real x = j < seen ? s[j] - most : (real)0;
    real y = real_exp(x);
    y = j < seen ? y : (real)0;
    s[j] = y;
    sum += y;
  }
  return sum;
}

/* The dropout mask of a query's row over keys [0, n). */
static void row_mask(const head_view *w, int64_t query, int64_t n, real *mask) {
  dropout_mask(w->dropout, w->seed, w->sequence, (w->head * w->T + query) * w->T, n, mask);
}

/* Room of one thread's forward: transposed keys, a block of scores, a mask. */
typedef struct {
  real *keys, *s, *mask;
} forward_room;

static void forward_block(const head_view *w, int64_t first, int64_t n, const forward_room *room, real *out,
                          int64_t out_stride, real *lse) {
  real inverse[QUERY_BLOCK];
  block_products(w, first, n, w->q, w->row_stride, room->keys, room->s);
  for (int64_t i = 0; i < n; i++) {
    real *row = room->s + i * w->ld;
    int seen = (int)(first + i + 1), width = (int)width_of(first, n, i);
    if (w->slope != 0) {
      add_slope(w, first + i, row);
    }
    real most = seen_max(row, width, seen);
    real sum = seen_exp(row, width, seen, most);
    lse[first + i] = (real)((double)most + log((double)sum));
    inverse[i] = (real)1 / sum;
    if (w->dropout) {
      row_mask(w, first + i, seen, room->mask);
#pragma omp simd
      for (int64_t j = 0; j < seen; j++) {
        row[j] *= room->mask[j];
      }
    }
  }
  for (int64_t i = 0; i < n; i += TILE_GROUP) {
    int64_t m = min_i64(TILE_GROUP, n - i);
    real *o = out + (first + i) * out_stride;
    tile_rows(m, w->h, first + i + m, room->s + i * w->ld, w->ld, w->v, w->row_stride, false, o, out_stride);
    for (int64_t r = 0; r < m; r++) {
#pragma omp simd
      for (int64_t j = 0; j < w->h; j++) {
        o[r * out_stride + j] *= inverse[i + r];
      }
    }
  }
}

status ENGINE_NAME(attention_forward)(engine *e, const attention_forward_args *a) {
  cpu_engine *cpu = cpu_of(e);
  int64_t T = a->T, D = a->H * a->h, items = a->B * a->H, ld = padded(T);
  int64_t scores = min_i64(QUERY_BLOCK, T) * ld, each = a->h * ld + scores + ld;
  scratch s = scratch_open(e);
  real *rooms;
  TRY(scratch_take(&s, cpu->threads * each, sizeof(real), &rooms));
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
  for (int64_t item = 0; item < items; item++) {
    head_view w = view_of(e, a->qkv, T, a->H, a->h, a->alibi, &a->dropout, item);
    real *mine = rooms + omp_get_thread_num() * each;
    forward_room room = {mine, mine + a->h * ld, mine + a->h * ld + scores};
    transpose(&w, w.k, w.scale, room.keys);
    real *out = (real *)a->out + item / a->H * T * D + w.head * a->h;
    for (int64_t first = 0; first < T; first += QUERY_BLOCK) {
      forward_block(&w, first, min_i64(QUERY_BLOCK, T - first), &room, out, D, (real *)a->lse + item * T);
    }
  }
  note_amax(cpu->threads, a->out, a->B * T * D, a->out_amax);
  return STATUS_OK;
}

/* What a head's backward writes and reads beside its view. */
typedef struct {
  const real *out, *dout, *lse; /* (T, h) D apart; (T) */
  int64_t D;
  real *dq, *dk, *dv;  /* (T, h), row_stride apart */
  real *keys, *values; /* (h, ld), transposed */
  real *p, *ds, *mask; /* (QUERY_BLOCK, ld) twice, (ld) */
} head_backward;

/* p: scores → probabilities; ds: gradient at the probabilities → at the products q·k. What the query may not see
 * becomes 0. */
static void backward_row(int width, int seen, real lse, real delta, real scale, real *p, real *ds) {
  width &= -TILE_WIDTH;
#pragma omp simd
  for (int j = 0; j < width; j++) {
    real x = j < seen ? p[j] - lse : (real)0;
    real probability = real_exp(x);
    real gradient = probability * (ds[j] - delta) * scale;
    p[j] = j < seen ? probability : (real)0;
    ds[j] = j < seen ? gradient : (real)0;
  }
}

/* The same when the probabilities p were multiplied by a mask on their way to the output. */
static void backward_row_dropped(int width, int seen, const real *mask, real lse, real delta, real scale, real *p,
                                 real *ds) {
  width &= -TILE_WIDTH;
#pragma omp simd
  for (int j = 0; j < width; j++) {
    real x = j < seen ? p[j] - lse : (real)0;
    real probability = real_exp(x);
    real gradient = probability * (mask[j] * ds[j] - delta) * scale;
    p[j] = j < seen ? probability * mask[j] : (real)0;
    ds[j] = j < seen ? gradient : (real)0;
  }
}

static void backward_rows(const head_view *w, const head_backward *g, int64_t first, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    int64_t query = first + i;
    int seen = (int)query + 1, width = (int)width_of(first, n, i);
    real *p = g->p + i * w->ld, *ds = g->ds + i * w->ld;
    const real *o = g->out + query * g->D, *dout = g->dout + query * g->D;
    real delta = 0;
#pragma omp simd reduction(+ : delta)
    for (int64_t j = 0; j < w->h; j++) {
      delta += o[j] * dout[j];
    }
    if (w->slope != 0) {
      add_slope(w, query, p);
    }
    if (w->dropout) {
      row_mask(w, query, seen, g->mask);
      backward_row_dropped(width, seen, g->mask, g->lse[query], delta, w->scale, p, ds);
    } else {
      backward_row(width, seen, g->lse[query], delta, w->scale, p, ds);
    }
  }
}

/* The last block comes first: it covers all keys, so it writes dk and dv and the others add. */
static void backward_block(const head_view *w, const head_backward *g, int64_t first, int64_t n, bool add) {
  int64_t stride = w->row_stride, ld = w->ld;
  block_products(w, first, n, w->q, stride, g->keys, g->p);
  block_products(w, first, n, g->dout, g->D, g->values, g->ds);
  backward_rows(w, g, first, n);
  for (int64_t i = 0; i < n; i += TILE_GROUP) {
    int64_t m = min_i64(TILE_GROUP, n - i);
    tile_rows(m, w->h, first + i + m, g->ds + i * ld, ld, w->k, stride, false, g->dq + (first + i) * stride, stride);
  }
  for (int64_t key = 0; key < first + n; key += TILE_GROUP) {
    int64_t m = min_i64(TILE_GROUP, first + n - key);
    int64_t from = max_i64(0, key - first); /* the first query of the block that sees a key of this group */
    const real *q = w->q + (first + from) * stride, *dout = g->dout + (first + from) * g->D;
    tile_columns(m, w->h, n - from, g->ds + from * ld + key, ld, q, stride, add, g->dk + key * stride, stride);
    tile_columns(m, w->h, n - from, g->p + from * ld + key, ld, dout, g->D, add, g->dv + key * stride, stride);
  }
}

status ENGINE_NAME(attention_backward)(engine *e, const attention_backward_args *a) {
  cpu_engine *cpu = cpu_of(e);
  int64_t T = a->T, h = a->h, D = a->H * h, items = a->B * a->H, ld = padded(T);
  int64_t scores = min_i64(QUERY_BLOCK, T) * ld, each = 2 * h * ld + 2 * scores + ld;
  scratch s = scratch_open(e);
  real *rooms;
  TRY(scratch_take(&s, cpu->threads * each, sizeof(real), &rooms));
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
  for (int64_t item = 0; item < items; item++) {
    head_view w = view_of(e, a->qkv, T, a->H, h, a->alibi, &a->dropout, item);
    int64_t row = item / a->H * T, column = w.head * h;
    real *dq = (real *)a->dqkv + row * w.row_stride + column, *mine = rooms + omp_get_thread_num() * each;
    head_backward g = {
        .out = (const real *)a->out + row * D + column,
        .dout = (const real *)a->dout + row * D + column,
        .lse = (const real *)a->lse + item * T,
        .D = D,
        .dq = dq,
        .dk = dq + D,
        .dv = dq + 2 * D,
        .keys = mine,
        .values = mine + h * ld,
        .p = mine + 2 * h * ld,
        .ds = mine + 2 * h * ld + scores,
        .mask = mine + 2 * h * ld + 2 * scores,
    };
    transpose(&w, w.k, w.scale, g.keys);
    transpose(&w, w.v, 1, g.values);
    int64_t last = (T - 1) / QUERY_BLOCK * QUERY_BLOCK;
    for (int64_t first = last; first >= 0; first -= QUERY_BLOCK) {
      backward_block(&w, &g, first, min_i64(QUERY_BLOCK, T - first), first != last);
    }
  }
  return STATUS_OK;
}
