/* A real model with dropout, trained a few steps over several ranks and on one: the same bits under every strategy,
 * also when operations are done as late and in as odd an order as a GPU's streams allow, and when what repeats is
 * launched as a graph. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/memory.h"
#include "deferred_engine.h"
#include "engine/graph_set.h"
#include "random_values.h"
#include "ranks_main.h"
#include "shard/weight_store.h"
#include "unit.h"

enum { STEPS = 4, N = 8, B = 2, T = 9, V = 53, CHUNK = 7 };

/* How operations are done, and where the optimizer's state lies. */
typedef enum { AT_ONCE, DEFERRED, OFFLOADED, VARIANTS } variant; /* OFFLOADED is deferred too */

static dist d, alone;
static uint64_t seed;

typedef struct {
  int32_t tokens[B * T], labels[B * T], order[B * T];
} rows;

typedef struct {
  const dist *ranks;
  model *m;
  engine *e;
  rank_groups g;
  weight_store *w;
  model_run *pass;
  rows *r;        /* engine memory */
  double *losses; /* engine memory */
  graph_set *graphs;
  int64_t launches; /* of graphs */
  bool scaled;      /* by the engine's loss scale; otherwise by 1 */
  step_result results[STEPS + 1];
} trainer;

static void make_rows(int step, int64_t micro_batch, rows *r) {
  for (int i = 0; i < B * T; i++) {
    uint64_t at = (uint64_t)((step * N + micro_batch) * B * T + i);
    r->tokens[i] = (int32_t)random_between(seed, 1, at, 0, V - 1);
    r->labels[i] = (int32_t)random_between(seed, 2, at, 0, V - 1);
    int at_order = i;
    for (; at_order > 0 && r->tokens[r->order[at_order - 1]] > r->tokens[i]; at_order--) {
      r->order[at_order] = r->order[at_order - 1];
    }
    r->order[at_order] = i;
  }
}

static status start(trainer *t, const dist *ranks, config_strategy strategy, variant how, const config_model *c) {
  bool deferred = how != AT_ONCE;
  t->ranks = ranks;
  TRY(model_create(c, "", &t->m));
  TRY(deferred ? deferred_engine_create(seed + (uint64_t)(ranks->rank * 1000 + (int)strategy), 5, &t->e)
               : engine_cpu_create(DTYPE_F32, 1, 5, &t->e));
  engine_limits limits = {.B = B,
                          .T = T,
                          .D = c->d_model,
                          .H = c->n_heads,
                          .M = c->d_mlp,
                          .V = V,
                          .Vp = t->m->vocab_padded,
                          .chunk = CHUNK};
  TRY(t->e->ops->prepare(t->e, &limits));
  int shard_ranks = strategy == STRATEGY_HYBRID && ranks->ranks > 1 ? 2 : ranks->ranks;
  TRY(deferred ? deferred_groups_create(ranks, shard_ranks, t->e, &t->g)
               : groups_create(ranks, shard_ranks, TRANSPORT_MPI, t->e, &t->g));
  TRY(weight_store_create(t->m, t->e, ranks, &t->g, strategy, how == OFFLOADED ? OFFLOAD_OPTIMIZER : OFFLOAD_NONE, N, 3,
                          true, &t->w));
  run_spec spec = {.B = B, .T = T, .recompute = RECOMPUTE_NONE, .label_smoothing = 0.1, .training = true};
  TRY(model_run_create(t->m, t->e, &spec, &t->pass));
  TRY(graph_set_create(t->e, t->w->ops->local_micro_batches(t->w) + 1, &t->graphs));
  TRY(t->e->ops->alloc(t->e, sizeof *t->r, "rows", (void **)&t->r));
  return t->e->ops->alloc(t->e, N * sizeof(double), "losses", (void **)&t->losses);
}

static status issue_pass(void *context, int64_t j) {
  trainer *t = context;
  TRY(t->w->ops->begin_micro_batch(t->w, j));
  model_batch batch = {t->r->tokens, t->r->labels, t->r->order};
  return model_train(t->pass, &t->w->source, &batch, &t->losses[j]);
}

static status issue_finish(void *context, int64_t j) {
  trainer *t = context;
  (void)j;
  update_spec u = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .grad_clip = 1};
  return t->w->ops->finish(t->w, t->losses, &u);
}

/* As a graph where it is one. */
static status run_part(trainer *t, int64_t j, graph_part issue) {
  bool launched = false;
  if (!t->w->ops->repeats(t->w, j)) {
    return issue(t, j);
  }
  TRY(graph_set_run(t->graphs, j, issue, t, &launched));
  t->launches += launched;
  return launched ? t->w->ops->repeated(t->w, j) : STATUS_OK;
}

static status train(trainer *t, int step) {
  const weight_store_ops *ops = t->w->ops;
  rows host, *r = t->r;
  for (int64_t j = 0; j < ops->local_micro_batches(t->w); j++) {
    int64_t micro_batch = ops->micro_batch(t->w, j);
    make_rows(step, micro_batch, &host);
    TRY(t->e->ops->copy(t->e, STREAM_MAIN, COPY_TO_ENGINE, r, &host, sizeof host));
    step_state state = {.step = step,
                        .updates = step - 1,
                        .first_sequence = ((step - 1) * N + micro_batch) * B,
                        .lr = 0.01,
                        .loss_scale = t->scaled ? 0 : 1,
                        .micro_batches = N};
    TRY(t->e->ops->set_step(t->e, &state));
    TRY(run_part(t, j, issue_pass));
  }
  TRY(run_part(t, ops->local_micro_batches(t->w), issue_finish));
  return t->e->ops->get_result(t->e, &t->results[step]);
}

/* A few attempts at a scale that overflows even fp32, on every rank alike, then the step at one that fits. */
static status train_scaled(trainer *t, int step) {
  const loss_scaling far_too_large = {.scale = 0x1p140, .growth_interval = 1, .least = 1, .most = 0x1p140},
                     fitting = {.scale = ldexp(65536, step), .growth_interval = 1, .least = 1, .most = 0x1p24};
  const step_result *r = &t->results[step];
  TRY(t->e->ops->set_loss_scale(t->e, &far_too_large));
  for (int i = 0; i < 3; i++) {
    TRY(train(t, step));
    REQUIRE(r->skip == 1 && r->loss_scale == ldexp(0x1p140, -i) && r->next.scale == r->loss_scale / 2,
            "attempt %d: skip %lld, loss scale %g, then %g", i, (long long)r->skip, r->loss_scale, r->next.scale);
  }
  TRY(t->e->ops->set_loss_scale(t->e, &fitting));
  TRY(train(t, step));
  REQUIRE(r->loss_scale == fitting.scale && r->next.scale == 2 * fitting.scale, "loss scale %g, then %g", r->loss_scale,
          r->next.scale);
  return STATUS_OK;
}

static void stop(trainer *t) {
  graph_set_destroy(t->graphs);
  t->e->ops->free(t->e, t->losses);
  t->e->ops->free(t->e, t->r);
  model_run_free(t->pass);
  weight_store_destroy(t->w);
  groups_destroy(&t->g);
  t->e->ops->destroy(t->e);
  model_free(t->m);
}

static status compare(trainer *one, trainer *many) {
  for (int step = 1; step <= STEPS; step++) {
    const step_result *x = &one->results[step], *y = &many->results[step];
    REQUIRE(x->loss == y->loss && x->grad_norm == y->grad_norm && x->skip == y->skip &&
                x->grad_scale * x->loss_scale == y->grad_scale * y->loss_scale,
            "step %d: loss %.17g and norm %.17g on one rank, %.17g and %.17g on %d", step, one->results[step].loss,
            one->results[step].grad_norm, many->results[step].loss, many->results[step].grad_norm, d.ranks);
    REQUIRE(!one->results[step].skip && one->results[step].grad_norm > 0, "step %d was skipped", step);
  }
  for (int u = 0; u < one->m->n_units; u++) {
    const unit *x = &one->m->units[u];
    unit_weights a, b;
    TRY(one->w->source.gather(&one->w->source, u, 0, &a));
    TRY(many->w->source.gather(&many->w->source, u, 0, &b));
    TRY(many->e->ops->synchronize(many->e));
    REQUIRE(memcmp(a.matrices, b.matrices, (size_t)x->vectors * sizeof(float)) == 0, "matrices of %s differ", x->name);
    REQUIRE(memcmp(a.vectors, b.vectors, (size_t)(x->count - x->vectors) * sizeof(float)) == 0, "vectors of %s differ",
            x->name);
    TRY(one->w->source.release(&one->w->source, u));
    TRY(many->w->source.release(&many->w->source, u));
  }
  return STATUS_OK;
}

static status check(config_base base, config_strategy strategy, variant how) {
  config *c;
  TRY(config_new(&c));
  config_model shape = c->model;
  config_free(c);
  shape.base = base;
  shape.vocab_size = V;
  shape.d_model = 16;
  shape.n_layers = 3; /* more units than buffers for gathered ones */
  shape.n_heads = 2;
  shape.d_mlp = 24;
  shape.dropout = 0.2;
  shape.wave_interleave = base == BASE_WAVERESNET;
  TRY(config_resolve_model(&shape));
  trainer one = {0}, many = {0}, scaled = {.scaled = true};
  TRY(start(&one, &alone, STRATEGY_DDP, AT_ONCE, &shape));
  TRY(start(&many, &d, strategy, how, &shape));
  TRY(start(&scaled, &d, strategy, how, &shape));
  /* One trainer after the other: what is deferred in one would keep other ranks waiting. */
  for (int step = 1; step <= STEPS; step++) {
    TRY(train(&one, step));
  }
  for (int step = 1; step <= STEPS; step++) {
    TRY(train(&many, step));
  }
  TRY(many.e->ops->synchronize(many.e));
  bool some = d.ranks == 1 || (strategy == STRATEGY_DDP && d.ranks < N);
  REQUIRE(one.launches == 0 && (how == AT_ONCE || !some || many.launches > 0), "launches of graphs: %lld and %lld",
          (long long)one.launches, (long long)many.launches);
  for (int step = 1; step <= STEPS; step++) {
    TRY(train_scaled(&scaled, step));
  }
  TRY(scaled.e->ops->synchronize(scaled.e));
  TRY(compare(&one, &many));
  TRY(compare(&one, &scaled)); /* a power of two changes no bit, and an overflow leaves no trace */
  stop(&one);
  stop(&many);
  stop(&scaled);
  return STATUS_OK;
}

static void same_bits(config_base base) {
  static const char *const names[] = {"", ", operations deferred", ", operations deferred, state in host memory"};
  for (config_strategy strategy = STRATEGY_DDP; strategy <= STRATEGY_HYBRID; strategy++) {
    for (variant how = AT_ONCE; how < VARIANTS && (strategy != STRATEGY_HYBRID || d.ranks >= 4); how++) {
      if (check(base, strategy, how) != STATUS_OK) {
        fail_msg("rank %d, strategy %d%s: %s", d.rank, (int)strategy, names[how], status_message());
      }
    }
  }
}

static void respsann(void **state) {
  (void)state;
  same_bits(BASE_RESPSANN);
}

static void waveresnet(void **state) {
  (void)state;
  same_bits(BASE_WAVERESNET);
}

static void transformer(void **state) {
  (void)state;
  same_bits(BASE_TRANSFORMER);
}

static status prepare(void) {
  dist_single(&alone);
  return STATUS_OK;
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(respsann),
      cmocka_unit_test(waveresnet),
      cmocka_unit_test(transformer),
  };
  return RANKS_MAIN(prepare, tests);
}
