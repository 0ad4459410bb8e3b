#include "bench/forward.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "train/memory.h"

static run_spec spec_of(const training *t) {
  return (run_spec){
      .B = t->c->train.micro_batch, .T = t->c->data.seq_len, .recompute = RECOMPUTE_NONE, .training = false};
}

static size_t token_bytes(const training *t) {
  return (size_t)(t->c->train.micro_batch * t->c->data.seq_len) * sizeof(int32_t);
}

static size_t row_bytes(const training *t) {
  return (size_t)t->m->vocab_padded * dtype_size(t->e->compute);
}

status forward_plan(training *t, forward_pass *f) {
  run_spec spec = spec_of(t);
  engine_limits limits;
  model_limits(t->m, t->e, spec.B, spec.T, &limits);
  t->plan = (memory_plan){0};
  weight_store_plan(t->m, t->e->compute, t->e->state, t->d->ranks, t->shard_ranks, t->c->parallel.strategy,
                    OFFLOAD_NONE, t->micro_batches, false, &t->plan);
  plan_add(&t->plan, "activations", (double)model_run_bytes(t->m, t->e->compute, t->e->state, &spec));
  plan_add(&t->plan, "scratch", (double)t->e->ops->scratch_bytes(t->e, &limits));
  plan_add(&t->plan, "tokens", (double)token_bytes(t));
  memory_plan_device(t);
  double whole = (double)(spec.B * spec.T) * (double)row_bytes(t);
  bool fits = t->memory_available <= 0 || plan_total(&t->plan) + whole <= t->memory_available;
  int64_t short_somewhere;
  TRY(dist_max(t->d, !fits, &short_somewhere));
  f->rows = short_somewhere ? limits.chunk : spec.B * spec.T;
  plan_add(&t->plan, "logits", (double)f->rows * (double)row_bytes(t));
  return STATUS_OK;
}

static status allocate(training *t, forward_pass *f) {
  run_spec spec = spec_of(t);
  TRY(weight_store_create(t->m, t->e, t->d, &t->groups, t->c->parallel.strategy, OFFLOAD_NONE, t->micro_batches,
                          (uint64_t)t->c->run.seed, false, &t->w));
  TRY(model_run_create(t->m, t->e, &spec, &t->pass));
  TRY(host_batch_init(&t->host, spec.B, spec.T));
  TRY(t->e->ops->alloc(t->e, token_bytes(t), "tokens", &t->tokens));
  TRY(t->e->ops->alloc(t->e, (size_t)f->rows * row_bytes(t), "logits", &f->logits));
  if (t->c->train.graphs && t->d->ranks == 1) { /* nothing is gathered */
    TRY(graph_set_create(t->e, 1, &t->graphs));
  }
  TRY(t->batches.load(t->batches.context, t->d->rank * spec.B, &t->host));
  TRY(t->e->ops->copy(t->e, STREAM_MAIN, COPY_TO_ENGINE, t->tokens, t->host.tokens, token_bytes(t)));
  return t->e->ops->synchronize(t->e);
}

status forward_allocate(training *t, forward_pass *f) {
  engine_limits limits;
  model_limits(t->m, t->e, t->c->train.micro_batch, t->c->data.seq_len, &limits);
  limits.logits = t->c->train.micro_batch * t->c->data.seq_len;
  limits.logits_chunk = f->rows;
  TRY(training_connect(t, &limits));
  return dist_agree(t->d, allocate(t, f));
}

typedef struct {
  training *t;
  forward_pass *f;
} forward_context;

static status issue_pass(void *context, int64_t part) {
  const forward_context *c = context;
  (void)part;
  return model_forward(c->t->pass, &c->t->w->source, c->t->tokens, c->f->logits, c->f->rows);
}

status forward_step(training *t, forward_pass *f) {
  forward_context c = {t, f};
  bool launched;
  return t->graphs == NULL ? issue_pass(&c, 0) : graph_set_run(t->graphs, 0, issue_pass, &c, &launched);
}

static double value_of(const void *values, dtype type, int64_t i) {
  uint32_t bits;
  float x;
  switch (type) {
    case DTYPE_F64:
      return ((const double *)values)[i];
    case DTYPE_F16:
      return (double)((const _Float16 *)values)[i];
    case DTYPE_BF16:
      bits = (uint32_t)((const uint16_t *)values)[i] << 16;
      memcpy(&x, &bits, sizeof x);
      return x;
    case DTYPE_F32:
      break;
  }
  return ((const float *)values)[i];
}

static double row_loss(const void *logits, dtype type, int64_t first, int64_t V, int32_t label) {
  double most = -INFINITY, sum = 0;
  for (int64_t v = 0; v < V; v++) {
    most = fmax(most, value_of(logits, type, first + v));
  }
  for (int64_t v = 0; v < V; v++) {
    sum += exp(value_of(logits, type, first + v) - most);
  }
  return most + log(sum) - value_of(logits, type, first + label);
}

status forward_loss(training *t, const forward_pass *f, const int32_t *labels, double *loss) {
  enum { LOOKED_AT = 64 };
  int64_t N = t->c->train.micro_batch * t->c->data.seq_len, last = N % f->rows == 0 ? f->rows : N % f->rows;
  int64_t n = last < LOOKED_AT ? last : LOOKED_AT;
  void *logits;
  TRY(memory_new(&logits, (size_t)n, row_bytes(t), "logits"));
  status s = t->e->ops->copy(t->e, STREAM_MAIN, COPY_TO_HOST, logits,
                             (const char *)f->logits + (size_t)(last - n) * row_bytes(t), (size_t)n * row_bytes(t));
  if (s == STATUS_OK) {
    s = t->e->ops->synchronize(t->e);
  }
  *loss = 0;
  for (int64_t i = 0; i < n && s == STATUS_OK; i++) {
    *loss +=
        row_loss(logits, t->e->compute, i * t->m->vocab_padded, t->m->config.vocab_size, labels[N - n + i]) / (double)n;
  }
  free(logits);
  return s;
}

void forward_free(training *t, forward_pass *f) {
  if (t->e != NULL) {
    t->e->ops->free(t->e, f->logits);
  }
  *f = (forward_pass){0};
}
