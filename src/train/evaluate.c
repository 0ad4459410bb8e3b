#include "train/evaluate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "data/sampler.h"

enum { SUMS = 3 }; /* −log p, tokens, right ones: head_eval_args */

struct evaluation {
  engine *e;
  weight_source *w;
  const dist *d;
  const token_store *store;
  int64_t available; /* batches that the store has */
  int64_t batches;   /* that are evaluated */
  int64_t rounds;    /* that every rank computes: dummies fill the last one */
  model_run *pass;
  host_batch host;
  void *tokens, *labels; /* int32 (B·T), engine memory */
  void *sums;            /* SUMS doubles, engine memory */
  double *mine;          /* (rounds, SUMS) */
  double *all;           /* (ranks, rounds, SUMS), rank 0 */
};

static run_spec spec_of(int64_t B, int64_t T) {
  return (run_spec){.B = B, .T = T, .recompute = RECOMPUTE_NONE, .label_smoothing = 0, .training = false};
}

size_t evaluation_bytes(const model *m, const engine *e, int64_t B, int64_t T) {
  run_spec spec = spec_of(B, T);
  return model_run_bytes(m, e->compute, e->state, &spec) + 2 * (size_t)(B * T) * sizeof(int32_t) +
         SUMS * sizeof(double);
}

static status prepare(evaluation *v, const model *m, int64_t B, int64_t T) {
  run_spec spec = spec_of(B, T);
  size_t bytes = (size_t)(B * T) * sizeof(int32_t);
  TRY(host_batch_init(&v->host, B, T));
  TRY(model_run_create(m, v->e, &spec, &v->pass));
  TRY(v->e->ops->alloc(v->e, bytes, "evaluation tokens", &v->tokens));
  TRY(v->e->ops->alloc(v->e, bytes, "evaluation labels", &v->labels));
  TRY(v->e->ops->alloc(v->e, SUMS * sizeof(double), "evaluation sums", &v->sums));
  TRY(memory_new(&v->mine, (size_t)v->rounds, SUMS * sizeof(double), "sums of an evaluation"));
  if (v->d->rank == 0) {
    TRY(memory_new(&v->all, (size_t)(v->rounds * v->d->ranks), SUMS * sizeof(double),
                   "all ranks' sums of an evaluation"));
  }
  return STATUS_OK;
}

static status check_length(const evaluation *v) {
  if (v->batches < 1) {
    USER_ERROR("the token store '%s' has %lld token%s: nothing to evaluate on", v->store->path,
               (long long)v->store->tokens, v->store->tokens == 1 ? "" : "s");
  }
  if (v->rounds > INT32_MAX / SUMS) {
    USER_ERROR("an evaluation of %lld batches is too long; lower eval.batches", (long long)v->batches);
  }
  return STATUS_OK;
}

status evaluation_create(const model *m, engine *e, weight_source *w, const dist *d, const token_store *store,
                         int64_t B, int64_t T, int64_t batches, evaluation **out) {
  *out = NULL;
  evaluation *v = NULL;
  TRY(memory_new(&v, 1, sizeof *v, "an evaluation"));
  v->e = e;
  v->w = w;
  v->d = d;
  v->store = store;
  v->available = (eval_windows(store, T) + B - 1) / B;
  v->batches = batches > 0 && batches < v->available ? batches : v->available;
  v->rounds = (v->batches + d->ranks - 1) / d->ranks;
  status s = check_length(v);
  if (s == STATUS_OK) {
    s = prepare(v, m, B, T);
  }
  if (s != STATUS_OK) {
    evaluation_free(v);
    return s;
  }
  *out = v;
  return STATUS_OK;
}

void evaluation_free(evaluation *v) {
  if (v == NULL) {
    return;
  }
  model_run_free(v->pass);
  v->e->ops->free(v->e, v->tokens);
  v->e->ops->free(v->e, v->labels);
  v->e->ops->free(v->e, v->sums);
  host_batch_free(&v->host);
  free(v->mine);
  free(v->all);
  free(v);
}

/* Batch i of the evaluation, or a masked dummy where there is none: gathering weights is collective under sharded
 * strategies, so every rank passes as often. */
static status load(evaluation *v, int64_t i) {
  if (i < v->batches) {
    return eval_load(v->store, i * v->available / v->batches * v->host.B, &v->host);
  }
  for (int64_t row = 0; row < v->host.B * v->host.T; row++) {
    v->host.tokens[row] = 0;
    v->host.labels[row] = -1;
  }
  return STATUS_OK;
}

static status run_batch(evaluation *v, int64_t i, double *sums) {
  size_t bytes = (size_t)(v->host.B * v->host.T) * sizeof(int32_t);
  TRY(load(v, i));
  TRY(v->e->ops->copy(v->e, STREAM_MAIN, COPY_TO_ENGINE, v->tokens, v->host.tokens, bytes));
  TRY(v->e->ops->copy(v->e, STREAM_MAIN, COPY_TO_ENGINE, v->labels, v->host.labels, bytes));
  model_batch batch = {.tokens = v->tokens, .labels = v->labels, .order = NULL};
  TRY(model_eval(v->pass, v->w, &batch, v->sums));
  TRY(v->e->ops->copy(v->e, STREAM_MAIN, COPY_TO_HOST, sums, v->sums, SUMS * sizeof(double)));
  return v->e->ops->synchronize(v->e);
}

/* All ranks' sums in batch order: batch i was done by rank i mod R in its round i / R. */
static void add_up(const evaluation *v, evaluation_result *r) {
  double nats = 0, tokens = 0, right = 0;
  for (int64_t i = 0; i < v->batches; i++) {
    const double *sums = v->all + ((i % v->d->ranks) * v->rounds + i / v->d->ranks) * SUMS;
    nats += sums[0];
    tokens += sums[1];
    right += sums[2];
  }
  r->tokens = (int64_t)tokens;
  r->loss = nats / tokens;
  r->ppl = exp(r->loss);
  r->accuracy = right / tokens;
  r->bits_per_byte = NAN;
  if (v->store->text_bytes > 0) {
    double bits = v->batches == v->available ? nats / log(2) : r->loss * (double)v->store->tokens / log(2);
    r->bits_per_byte = bits / (double)v->store->text_bytes;
  }
}

status evaluation_run(evaluation *v, evaluation_result *r, void (*progress)(int64_t done, int64_t of)) {
  double start = clock_seconds();
  for (int64_t round = 0; round < v->rounds; round++) {
    TRY(run_batch(v, round * v->d->ranks + v->d->rank, v->mine + round * SUMS));
    if (progress != NULL) {
      progress(round + 1, v->rounds);
    }
  }
  TRY(dist_gather(v->d, v->mine, (int)(v->rounds * SUMS), v->all));
  memset(r, 0, sizeof *r);
  if (v->d->rank == 0) {
    add_up(v, r);
  }
  void *bytes = r;
  size_t count = sizeof *r;
  TRY(dist_broadcast(v->d, &bytes, &count));
  if (v->d->rank != 0) {
    memcpy(r, bytes, sizeof *r);
    free(bytes);
  }
  r->seconds = clock_seconds() - start;
  return STATUS_OK;
}
