/* Attention over a cache of keys and values, in blocks of keys with a running maximum, so that scratch doesn't depend
 * on the cache's capacity. */
#include <math.h>
#include <string.h>

#include "engine/cpu/blas.h"
#include "engine/cpu/cpu_engine.h"
#include "engine/cpu/ops.h"
#include "engine/cpu/softmax.h"

/* One sequence and head: T new queries, of which the first stands at position `past`. */
typedef struct {
  const real *q;             /* (T, h), 3 D apart */
  const real *keys, *values; /* (past + T, h) */
  real *out;                 /* (T, h), D apart */
  int64_t h, D, past;
  real scale, slope;
} cached_head;

/* Scores of a row against keys [from, from + n), of which the query sees the first `seen`, become weights; the row's
 * running maximum and sum are brought up to date, and what has been added up so far is rescaled. */
static void fold_row(const cached_head *w, int64_t position, int64_t from, int64_t n, real *s, real *most, real *sum,
                     real *out) {
  int64_t seen = min_i64(n, position + 1 - from);
  if (seen <= 0) {
    memset(s, 0, (size_t)n * sizeof(real));
    return;
  }
  if (w->slope != 0) {
    for (int64_t j = 0; j < seen; j++) {
      s[j] -= w->slope * (real)(int32_t)(position - from - j);
    }
  }
  real here = row_max(s, seen);
  if (from == 0) {
    *most = here;
    *sum = row_exp(s, seen, here);
  } else {
    real now = here > *most ? here : *most;
    real shrink = real_exp(*most - now);
    *most = now;
    *sum = *sum * shrink + row_exp(s, seen, now);
    for (int64_t j = 0; j < w->h; j++) {
      out[j] *= shrink;
    }
  }
  memset(s + seen, 0, (size_t)(n - seen) * sizeof(real));
}

/* Queries [first, first + n). */
static void cached_block(const cached_head *w, int64_t first, int64_t n, real *s) {
  real most[QUERY_BLOCK], sum[QUERY_BLOCK];
  real *out = w->out + first * w->D;
  int64_t visible = w->past + first + n;
  for (int64_t from = 0; from < visible; from += KEY_BLOCK) {
    int64_t keys = min_i64(KEY_BLOCK, visible - from);
    gemm(PLAIN, TRANSPOSED, n, keys, w->h, w->scale, w->q + first * 3 * w->D, 3 * w->D, w->keys + from * w->h, w->h, 0,
         s, keys);
    for (int64_t i = 0; i < n; i++) {
      fold_row(w, w->past + first + i, from, keys, s + i * keys, &most[i], &sum[i], out + i * w->D);
    }
    gemm(PLAIN, PLAIN, n, w->h, keys, 1, s, keys, w->values + from * w->h, w->h, from == 0 ? 0 : 1, out, w->D);
  }
  for (int64_t i = 0; i < n; i++) {
    for (int64_t j = 0; j < w->h; j++) {
      out[i * w->D + j] /= sum[i];
    }
  }
}

status ENGINE_NAME(attention_cached)(engine *e, const attention_cached_args *a) {
  int64_t T = a->T, h = a->h, D = a->H * h;
  scratch s = scratch_open(e);
  real *scores;
  TRY(scratch_take(&s, QUERY_BLOCK * KEY_BLOCK, sizeof(real), &scores));
  for (int64_t item = 0; item < a->B * a->H; item++) {
    int64_t b = item / a->H, head = item % a->H, past = a->past[b];
    REQUIRE(past >= 0 && past + T <= a->capacity,
            "sequence %lld has %lld cached positions and %lld new ones, but the cache holds %lld", (long long)b,
            (long long)past, (long long)T, (long long)a->capacity);
    const real *q = (const real *)a->qkv + b * T * 3 * D + head * h;
    real *keys = (real *)a->keys + item * a->capacity * h, *values = (real *)a->values + item * a->capacity * h;
    for (int64_t t = 0; t < T; t++) {
      memcpy(keys + (past + t) * h, q + t * 3 * D + D, (size_t)h * sizeof(real));
      memcpy(values + (past + t) * h, q + t * 3 * D + 2 * D, (size_t)h * sizeof(real));
    }
    cached_head w = {
        .q = q,
        .keys = keys,
        .values = values,
        .out = (real *)a->out + b * T * D + head * h,
        .h = h,
        .D = D,
        .past = past,
        .scale = (real)(1.0 / sqrt((double)h)),
        .slope = a->alibi ? (real)alibi_slope(head, a->H) : (real)0,
    };
    for (int64_t first = 0; first < T; first += QUERY_BLOCK) {
      cached_block(&w, first, min_i64(QUERY_BLOCK, T - first), scores);
    }
  }
  return STATUS_OK;
}
