/* Generation. Texts are fed in pieces of at most so many rows, so that the buffers of a pass stay small however long a
 * prompt is. */
#include <stdlib.h>

#include "base/memory.h"
#include "model/pass.h"

enum { PIECE_ROWS = 256 };

struct model_cache {
  pass_buffers b;
  int64_t B, capacity, rows; /* rows: of a pass */
  int32_t *host_past;        /* (B) */
  int32_t *length;           /* (B) positions that have been fed */
  void *past, *tokens;       /* int32 (B), int32 (rows) in engine memory */
  void *last;                /* c (B, D) normed rows of the last positions */
};

static int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}
static int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}

static status take_buffers(model_cache *k, const model *m, engine *e) {
  TRY(memory_new(&k->host_past, (size_t)k->B, sizeof(int32_t), "positions of the cache"));
  TRY(memory_new(&k->length, (size_t)k->B, sizeof(int32_t), "lengths of the cache"));
  buffer_plan plan = {
      .e = e, .compute = e->compute, .state = e->state, .rows = k->rows, .cached_rows = k->B, .capacity = k->capacity};
  TRY(pass_create(&k->b, m, &plan));
  k->b.p.cached = true;
  k->b.p.capacity = k->capacity;
  /* int32 has the size of fp32. */
  TRY(plan_take(&k->b.plan, "positions", DTYPE_F32, k->B, &k->past));
  TRY(plan_take(&k->b.plan, "tokens", DTYPE_F32, k->rows, &k->tokens));
  k->b.p.past = k->past;
  return plan_take(&k->b.plan, "last rows", e->compute, k->B * m->config.d_model, &k->last);
}

status model_cache_create(const model *m, engine *e, int64_t B, int64_t capacity, model_cache **out) {
  *out = NULL;
  REQUIRE(B > 0 && capacity > 0 && B <= INT32_MAX && capacity <= INT32_MAX / B,
          "a cache of %lld rows of %lld positions has more than %d positions", (long long)B, (long long)capacity,
          INT32_MAX);
  TRY(m->base->check_cache(&m->config));
  int64_t rows = larger(B, smaller(PIECE_ROWS, B * capacity));
  engine_limits limits;
  model_limits(m, e, 1, smaller(rows, capacity), &limits);
  TRY(e->ops->prepare(e, &limits));
  model_limits(m, e, B, larger(1, rows / B), &limits);
  TRY(e->ops->prepare(e, &limits));
  model_cache *k = NULL;
  TRY(memory_new(&k, 1, sizeof(model_cache), "generation cache"));
  k->B = B;
  k->capacity = capacity;
  k->rows = rows;
  status result = take_buffers(k, m, e);
  if (result != STATUS_OK) {
    model_cache_free(k);
    return result;
  }
  *out = k;
  return STATUS_OK;
}

void model_cache_free(model_cache *k) {
  if (k == NULL) {
    return;
  }
  pass_free(&k->b);
  free(k->host_past);
  free(k->length);
  free(k);
}

/* Checks the positions and lets rows that start a text forget the one before. */
static status start_rows(model_cache *k, int64_t first, int64_t T, const int32_t *past) {
  const model *m = k->b.p.m;
  for (int64_t b = 0; b < k->b.p.B; b++) {
    int64_t row = first + b;
    REQUIRE(past[b] >= 0 && T <= k->capacity - past[b],
            "row %lld of the cache: %lld tokens at position %d pass the capacity of %lld", (long long)row, (long long)T,
            past[b], (long long)k->capacity);
    REQUIRE(past[b] == 0 || past[b] == k->length[row],
            "row %lld of the cache: %d tokens were fed, the next stand at %d", (long long)row, k->length[row], past[b]);
    for (int i = 0; past[b] == 0 && i < (int)m->config.n_layers; i++) {
      block_call c = pass_call(&k->b, i);
      TRY(m->base->forget(&c, row));
    }
    k->length[row] = past[b];
  }
  return STATUS_OK;
}

/* Feeds columns [t0, t0 + p.T) of tokens (B, T); the head stays gathered. */
static status feed(model_cache *k, weight_source *w, int64_t first, int64_t T, int64_t t0, const int32_t *tokens,
                   unit_weights *head) {
  pass *p = &k->b.p;
  const engine_ops *ops = p->e->ops;
  const int32_t *piece = tokens + t0;
  if (p->B > 1 && p->T < T) {
    for (int64_t b = 0; b < p->B; b++) {
      TRY(ops->copy(p->e, STREAM_MAIN, COPY_INSIDE, (int32_t *)k->tokens + b * p->T, tokens + b * T + t0,
                    (size_t)p->T * sizeof(int32_t)));
    }
    piece = k->tokens;
  }
  for (int64_t b = 0; b < p->B; b++) {
    k->host_past[b] = k->length[first + b];
    k->length[first + b] += (int32_t)p->T;
  }
  TRY(ops->copy(p->e, STREAM_MAIN, COPY_TO_ENGINE, k->past, k->host_past, (size_t)p->B * sizeof(int32_t)));
  return pass_forward(&k->b, w, piece, head);
}

static status last_logits(model_cache *k, const unit_weights *head, void *logits) {
  const pass *p = &k->b.p;
  const config_model *c = &p->m->config;
  size_t line = (size_t)c->d_model * dtype_size(p->e->compute);
  for (int64_t b = 0; b < p->B; b++) {
    const char *row = (const char *)k->b.final.y + (size_t)(b * p->T + p->T - 1) * line;
    TRY(p->e->ops->copy(p->e, STREAM_MAIN, COPY_INSIDE, (char *)k->last + (size_t)b * line, row, line));
  }
  ENGINE(p->e, head_logits, .N = p->B, .D = c->d_model, .V = c->vocab_size, .Vp = p->m->vocab_padded, .x = k->last,
         .weight = head->matrices, .logits = logits);
  return STATUS_OK;
}

status model_decode(model_cache *k, weight_source *w, int64_t row, int64_t T, const int32_t *tokens,
                    const int32_t *past, void *logits) {
  pass *p = &k->b.p;
  REQUIRE(row < k->B && T > 0, "%lld tokens for row %lld of a cache of %lld rows", (long long)T, (long long)row,
          (long long)k->B);
  int64_t first = row < 0 ? 0 : row;
  int head_unit = (int)p->m->config.n_layers + 1;
  p->B = row < 0 ? k->B : 1;
  p->cache_row = first;
  TRY(start_rows(k, first, T, past));
  int64_t piece = larger(1, k->rows / p->B);
  for (int64_t t0 = 0; t0 < T; t0 += piece) {
    unit_weights head;
    p->T = smaller(piece, T - t0);
    p->N = p->B * p->T;
    TRY(feed(k, w, first, T, t0, tokens, &head));
    if (t0 + p->T == T) {
      TRY(last_logits(k, &head, logits));
    }
    TRY(w->release(w, head_unit));
  }
  return STATUS_OK;
}
