#include "bench/cached_full.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

typedef struct {
  loaded *l;
  int64_t n, V;
  size_t bytes; /* of a row of logits */
  model_run *run;
  model_cache *cache;
  void *tokens, *all, *row; /* engine: int32 (n), logits (n, V) and (V) */
  float *full, *cached;     /* host: (V) */
} both;

static status allocate(both *b) {
  const model *m = b->l->m;
  engine *e = b->l->e;
  const run_spec spec = {.B = 1, .T = b->n, .recompute = RECOMPUTE_NONE, .training = false};
  TRY(model_run_create(m, e, &spec, &b->run));
  TRY(model_cache_create(m, e, 1, b->n, &b->cache));
  TRY(e->ops->alloc(e, (size_t)b->n * sizeof(int32_t), "a text", &b->tokens));
  TRY(e->ops->alloc(e, (size_t)b->n * b->bytes, "logits of a text", &b->all));
  TRY(e->ops->alloc(e, b->bytes, "logits of a token", &b->row));
  TRY(memory_new(&b->full, (size_t)b->V, sizeof *b->full, "logits"));
  return memory_new(&b->cached, (size_t)b->V, sizeof *b->cached, "logits");
}

static void release(both *b) {
  engine *e = b->l->e;
  e->ops->free(e, b->tokens);
  e->ops->free(e, b->all);
  e->ops->free(e, b->row);
  model_run_free(b->run);
  model_cache_free(b->cache);
  free(b->full);
  free(b->cached);
}

static int64_t most_probable(const float *logits, int64_t V) {
  int64_t best = 0;
  for (int64_t v = 1; v < V; v++) {
    best = logits[v] > logits[best] ? v : best;
  }
  return best;
}

/* Row `position` of both, on the host. */
static status fetch(both *b, int64_t position) {
  engine *e = b->l->e;
  const int32_t past = (int32_t)position;
  const int32_t *token = (const int32_t *)b->tokens + position;
  TRY(model_decode(b->cache, &b->l->w->source, -1, 1, token, &past, b->row));
  TRY(e->ops->copy(e, STREAM_MAIN, COPY_TO_HOST, b->cached, b->row, b->bytes));
  TRY(e->ops->copy(e, STREAM_MAIN, COPY_TO_HOST, b->full, (const char *)b->all + (size_t)position * b->bytes,
                   b->bytes));
  return e->ops->synchronize(e);
}

static status compare(both *b, const int32_t *ids, cached_full *r) {
  engine *e = b->l->e;
  double most = 0;
  TRY(e->ops->copy(e, STREAM_MAIN, COPY_TO_ENGINE, b->tokens, ids, (size_t)b->n * sizeof *ids));
  TRY(model_logits(b->run, &b->l->w->source, b->tokens, b->all));
  for (int64_t i = 0; i < b->n; i++) {
    TRY(fetch(b, i));
    for (int64_t v = 0; v < b->V; v++) {
      r->finite = r->finite && isfinite(b->full[v]) && isfinite(b->cached[v]);
      r->largest = fmax(r->largest, fabs((double)b->full[v] - (double)b->cached[v]));
      most = fmax(most, fabs((double)b->full[v]));
    }
    r->equal_choices += most_probable(b->full, b->V) == most_probable(b->cached, b->V);
  }
  r->largest = most > 0 ? r->largest / most : r->largest;
  return STATUS_OK;
}

status cached_full_compare(loaded *l, const int32_t *ids, int64_t n, cached_full *r) {
  REQUIRE(n > 0 && l->e->state == DTYPE_F32, "a text of %lld tokens can't be compared", (long long)n);
  both b = {.l = l, .n = n, .V = l->m->config.vocab_size, .bytes = (size_t)l->m->config.vocab_size * sizeof(float)};
  *r = (cached_full){.positions = n, .finite = true};
  status s = allocate(&b);
  if (s == STATUS_OK) {
    s = compare(&b, ids, r);
  }
  release(&b);
  return s;
}
