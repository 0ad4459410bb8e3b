#include "store_fixture.h"

#include <math.h>

#include "deferred_engine.h"

struct store_job job;

const config_strategy store_strategies[STORE_STRATEGIES] = {STRATEGY_DDP, STRATEGY_SHARD_OPTIMIZER, STRATEGY_SHARD_GRAD,
                                                            STRATEGY_FULL_SHARD, STRATEGY_HYBRID};

void ok(status s) {
  if (s != STATUS_OK) {
    fail_msg("rank %d: %s", job.d.rank, status_message());
  }
}

void put(void *p, dtype type, int64_t i, double x) {
  if (type == DTYPE_F64) {
    ((double *)p)[i] = x;
  } else {
    ((float *)p)[i] = (float)x;
  }
}

double get(const void *p, dtype type, int64_t i) {
  return type == DTYPE_F64 ? ((const double *)p)[i] : (double)((const float *)p)[i];
}

static bool is_bad(const store_case *k, int step, int64_t micro_batch) {
  return step == k->bad_step && micro_batch == random_between(job.seed, 1, (uint64_t)step, 0, k->n - 1);
}

double made_up_loss(const store_case *k, int step, int64_t micro_batch) {
  return is_bad(k, step, micro_batch) && k->bad_loss
             ? INFINITY
             : 3 + random_value(job.seed, 2, (uint64_t)(step * 1000 + micro_batch));
}

double made_up_gradient(int step, int64_t micro_batch, int unit_index, int64_t element) {
  return random_value(job.seed, (uint32_t)(100 + unit_index),
                      ((uint64_t)step << 48) | ((uint64_t)micro_batch << 32) | (uint64_t)element);
}

/* Every trainable element of the unit, as a micro-batch leaves it. */
static void write_gradient(const store_case *k, store_run *r, int step, int64_t micro_batch, int u, void *grad) {
  const unit *x = &job.m->units[u];
  size_t size = dtype_size(k->state);
  char *values = malloc((size_t)x->count * size);
  assert_non_null(values);
  for (int64_t i = 0; i < x->n_runs; i++) {
    const optim_run *run = &x->runs[i];
    for (int64_t e = run->first; run->trainable && e < run->first + run->count; e++) {
      put(values, k->state, e, made_up_gradient(step, micro_batch, u, e));
    }
    if (i == 0 && u == 1 && is_bad(k, step, micro_batch) && !k->bad_loss) {
      put(values, k->state, run->first, NAN);
    }
    if (run->trainable) {
      size_t first = (size_t)run->first * size;
      ok(r->used->ops->copy(r->used, STREAM_MAIN, COPY_TO_ENGINE, (char *)grad + first, values + first,
                            (size_t)run->count * size));
    }
  }
  free(values);
}

/* A backward pass: units in reverse. */
static void backward(const store_case *k, store_run *r, int step, int64_t micro_batch) {
  for (int u = job.m->n_units - 1; u >= 0; u--) {
    unit_weights weights;
    ok(r->w->source.gather(&r->w->source, u, -1, &weights));
    void *grad = NULL;
    ok(r->w->source.grad(&r->w->source, u, &grad));
    write_gradient(k, r, step, micro_batch, u, grad);
    ok(r->w->source.grad_done(&r->w->source, u));
    ok(r->w->source.release(&r->w->source, u));
  }
}

void store_step(const store_case *k, store_run *r, int step) {
  engine *e = r->used;
  step_state state = {
      .step = step, .updates = r->updates, .lr = 0.01 * step, .loss_scale = 1, .micro_batches = (double)k->n};
  ok(e->ops->set_step(e, &state));
  int64_t local = r->w->ops->local_micro_batches(r->w);
  double *losses = NULL;
  ok(e->ops->alloc(e, (size_t)local * sizeof *losses, "losses", (void **)&losses));
  for (int64_t j = 0; j < local; j++) {
    ok(r->w->ops->begin_micro_batch(r->w, j));
    int64_t micro_batch = r->w->ops->micro_batch(r->w, j);
    backward(k, r, step, micro_batch);
    double loss = made_up_loss(k, step, micro_batch);
    ok(e->ops->copy(e, STREAM_MAIN, COPY_TO_ENGINE, &losses[j], &loss, sizeof loss));
  }
  update_spec u = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .grad_clip = k->grad_clip};
  ok(r->w->ops->finish(r->w, losses, &u));
  ok(e->ops->get_result(e, &r->results[step]));
  r->updates += r->results[step].skip ? 0 : 1;
  e->ops->free(e, losses);
}

bool strategy_offered(config_strategy strategy) {
  return job.d.ranks == 1 ? strategy == STRATEGY_DDP
                          : strategy != STRATEGY_HYBRID || (job.d.ranks >= 4 && job.d.ranks % 2 == 0);
}

int shard_ranks(const dist *ranks, config_strategy strategy) {
  return strategy == STRATEGY_HYBRID && ranks->ranks > 1 ? 2 : ranks->ranks;
}

void store_start(const store_case *k, const dist *ranks, store_run *r) {
  *r = (store_run){0};
  ok(wrapped_engine_create(k->state, k->narrow, &r->e));
  r->used = &r->e->base;
  int cut = shard_ranks(ranks, k->strategy);
  if (k->deferred != 0) {
    ok(deferred_engine_over(k->deferred + (uint64_t)ranks->rank, &r->e->base, &r->used));
    ok(deferred_groups_create(ranks, cut, r->used, &r->g));
  } else {
    ok(groups_create(ranks, cut, TRANSPORT_MPI, r->used, &r->g));
  }
  ok(weight_store_create(job.m, r->used, ranks, &r->g, k->strategy, k->offload, k->n, 77, true, &r->w));
}

void store_stop(store_run *r) {
  weight_store_destroy(r->w);
  groups_destroy(&r->g);
  assert_int_equal(r->e->live, 0);
  r->used->ops->destroy(r->used);
}

void store_digest(store_run *r, char text[DIGEST_TEXT]) {
  digest *sum;
  ok(digest_new(&sum));
  for (int u = 0; u < job.m->n_units; u++) {
    unit_weights w;
    ok(r->w->source.gather(&r->w->source, u, 0, &w));
    ok(r->used->ops->synchronize(r->used));
    digest_add(sum, w.matrices, (size_t)job.m->units[u].vectors * dtype_size(r->e->base.compute));
    digest_add(sum, w.vectors,
               (size_t)(job.m->units[u].count - job.m->units[u].vectors) * dtype_size(r->e->base.state));
    ok(r->w->source.release(&r->w->source, u));
  }
  digest_text(sum, text);
  digest_free(sum);
}

void *store_read(store_run *r, int u, state_kind what) {
  void *values = malloc((size_t)job.m->units[u].count * dtype_size(r->e->base.state));
  assert_non_null(values);
  ok(r->w->ops->read(r->w, u, what, values));
  return values;
}

bool power_of_two(int64_t x) {
  return (x & (x - 1)) == 0;
}

void with_each_strategy(void (*test)(config_strategy strategy)) {
  for (int i = 0; i < STORE_STRATEGIES; i++) {
    if (strategy_offered(store_strategies[i])) {
      test(store_strategies[i]);
    }
  }
}

static status prepare(void) {
  dist_single(&job.alone);
  config *c;
  TRY(config_new(&c));
  c->model.base = BASE_WAVERESNET;
  c->model.vocab_size = 301; /* large enough that the leaves of most ranks hold more than padding */
  c->model.d_model = 48;
  c->model.n_layers = 2;
  c->model.n_heads = 2;
  c->model.d_mlp = 150;
  c->model.sine_learnable = LEARN_AMPLITUDE; /* frozen tensors between trainable ones */
  c->model.sine_freq_init_std = 0.1;
  status s = config_resolve_model(&c->model);
  if (s == STATUS_OK) {
    s = model_create(&c->model, "*.norm1.scale", &job.m);
  }
  config_free(c);
  return s;
}

int store_main(int argc, char **argv, const char *name, const struct CMUnitTest *tests, size_t n) {
  int code = ranks_main(argc, argv, &job.d, &job.seed, prepare, name, tests, n);
  model_free(job.m);
  return code;
}
