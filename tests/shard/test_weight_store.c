/* The weight store on several ranks against the same store on one: every rank computes the one-rank run for itself.
 * Gradients are made up, a function of (step, micro-batch, element).
 */
#include <math.h>
#include <string.h>

#include "base/digest.h"
#include "random_values.h"
#include "ranks_main.h"
#include "shard/weight_store.h"
#include "unit.h"
#include "wrapped_engine.h"

enum { STEPS = 5 };

static dist d, alone;
static uint64_t seed;
static model *m;

static const config_strategy strategies[] = {STRATEGY_DDP, STRATEGY_SHARD_OPTIMIZER, STRATEGY_SHARD_GRAD,
                                             STRATEGY_FULL_SHARD, STRATEGY_HYBRID};
enum { N_STRATEGIES = sizeof strategies / sizeof strategies[0] };

/* What a comparison of two runs varies. */
typedef struct {
  config_strategy strategy; /* of several ranks */
  dtype state;
  bool narrow;
  int64_t n;
  double grad_clip;
  int bad_step;  /* step of a bad micro-batch, from 1; 0: none */
  bool bad_loss; /* its loss is infinite; otherwise one gradient is NaN */
} scenario;

typedef struct {
  wrapped_engine *e;
  rank_groups g;
  weight_store *w;
  step_result results[STEPS + 1];
  int64_t updates;
} run;

static void ok(status s) {
  if (s != STATUS_OK) {
    fail_msg("rank %d: %s", d.rank, status_message());
  }
}

static void put(void *p, dtype type, int64_t i, double x) {
  if (type == DTYPE_F64) {
    ((double *)p)[i] = x;
  } else {
    ((float *)p)[i] = (float)x;
  }
}

static double get(const void *p, dtype type, int64_t i) {
  return type == DTYPE_F64 ? ((const double *)p)[i] : (double)((const float *)p)[i];
}

static bool is_bad(const scenario *k, int step, int64_t micro_batch) {
  return step == k->bad_step && micro_batch == random_between(seed, 1, (uint64_t)step, 0, k->n - 1);
}

static double loss_of(const scenario *k, int step, int64_t micro_batch) {
  return is_bad(k, step, micro_batch) && k->bad_loss ? INFINITY
                                                     : 3 + random_value(seed, 2, (uint64_t)(step * 1000 + micro_batch));
}

static double gradient_of(int step, int64_t micro_batch, int unit_index, int64_t element) {
  return random_value(seed, (uint32_t)(100 + unit_index),
                      ((uint64_t)step << 48) | ((uint64_t)micro_batch << 32) | (uint64_t)element);
}

/* A backward pass: units in reverse, every trainable element written. */
static void backward(const scenario *k, run *r, int step, int64_t micro_batch) {
  for (int u = m->n_units - 1; u >= 0; u--) {
    const unit *x = &m->units[u];
    unit_weights weights;
    ok(r->w->source.gather(&r->w->source, u, -1, &weights));
    void *grad = NULL;
    ok(r->w->source.grad(&r->w->source, u, &grad));
    for (int64_t i = 0; i < x->n_runs; i++) {
      for (int64_t e = x->runs[i].first; x->runs[i].trainable && e < x->runs[i].first + x->runs[i].count; e++) {
        put(grad, k->state, e, gradient_of(step, micro_batch, u, e));
      }
    }
    if (u == 1 && is_bad(k, step, micro_batch) && !k->bad_loss) {
      put(grad, k->state, x->runs[0].first, NAN);
    }
    ok(r->w->source.grad_done(&r->w->source, u));
    ok(r->w->source.release(&r->w->source, u));
  }
}

static void one_step(const scenario *k, run *r, int step) {
  engine *e = &r->e->base;
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
    losses[j] = loss_of(k, step, micro_batch);
  }
  update_spec u = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.1, .grad_clip = k->grad_clip};
  ok(r->w->ops->finish(r->w, losses, &u));
  ok(e->ops->get_result(e, &r->results[step]));
  r->updates += r->results[step].skip ? 0 : 1;
  e->ops->free(e, losses);
}

/* Whether the ranks can be cut so. */
static bool offers(config_strategy strategy) {
  return d.ranks == 1 ? strategy == STRATEGY_DDP : strategy != STRATEGY_HYBRID || (d.ranks >= 4 && d.ranks % 2 == 0);
}

static int shard_ranks(const dist *ranks, config_strategy strategy) {
  return strategy == STRATEGY_HYBRID && ranks->ranks > 1 ? 2 : ranks->ranks;
}

static void start(const scenario *k, const dist *ranks, run *r) {
  *r = (run){0};
  ok(wrapped_engine_create(k->state, k->narrow, &r->e));
  ok(groups_create(ranks, shard_ranks(ranks, k->strategy), TRANSPORT_MPI, &r->e->base, &r->g));
  ok(weight_store_create(m, &r->e->base, ranks, &r->g, k->strategy, k->n, 77, true, &r->w));
}

static void stop(run *r) {
  weight_store_destroy(r->w);
  groups_destroy(&r->g);
  assert_int_equal(r->e->live, 0);
  wrapped_engine_destroy(r->e);
}

/* This rank's weights as the model sees them. */
static void weights_digest(run *r, char text[DIGEST_TEXT]) {
  digest *sum;
  ok(digest_new(&sum));
  for (int u = 0; u < m->n_units; u++) {
    unit_weights w;
    ok(r->w->source.gather(&r->w->source, u, 0, &w));
    digest_add(sum, w.matrices, (size_t)m->units[u].vectors * dtype_size(r->e->base.compute));
    digest_add(sum, w.vectors, (size_t)(m->units[u].count - m->units[u].vectors) * dtype_size(r->e->base.state));
    ok(r->w->source.release(&r->w->source, u));
  }
  digest_text(sum, text);
  digest_free(sum);
}

static void *read_unit(run *r, int u, state_kind what) {
  void *values = malloc((size_t)m->units[u].count * dtype_size(r->e->base.state));
  assert_non_null(values);
  ok(r->w->ops->read(r->w, u, what, values));
  return values;
}

/* Everything that can be read: the same bits, or close to it. */
static void compare(const scenario *k, run *one, run *many, bool same_bits) {
  for (int step = 1; step <= STEPS; step++) {
    const step_result *a = &one->results[step], *b = &many->results[step];
    assert_int_equal(a->skip, b->skip);
    assert_int_equal(a->skip, step == k->bad_step);
    if (same_bits) {
      assert_memory_equal(a, b, sizeof *a);
    } else if (!a->skip) {
      assert_true(fabs(a->grad_norm - b->grad_norm) <= 1e-5 * a->grad_norm);
      assert_true(fabs(a->loss - b->loss) <= 1e-12 * a->loss);
    }
  }
  for (int u = 0; u < m->n_units; u++) {
    for (state_kind what = STATE_WEIGHTS; what <= STATE_GRADS; what++) {
      void *a = read_unit(one, u, what), *b = read_unit(many, u, what);
      double difference = 0, norm = 0;
      for (int64_t i = 0; i < m->units[u].count; i++) {
        double x = get(a, k->state, i), y = get(b, k->state, i);
        difference += (x - y) * (x - y);
        norm += x * x;
      }
      if (d.rank == 0 && same_bits) {
        assert_memory_equal(a, b, (size_t)m->units[u].count * dtype_size(k->state));
      } else if (d.rank == 0 && !(sqrt(difference) <= 1e-4 * sqrt(norm))) {
        fail_msg("unit %d, state %d: off by %g of %g", u, (int)what, sqrt(difference), sqrt(norm));
      }
      free(a);
      free(b);
    }
  }
  char mine[DIGEST_TEXT], reference[DIGEST_TEXT];
  weights_digest(many, mine);
  weights_digest(one, reference);
  if (same_bits) {
    assert_string_equal(mine, reference);
  }
  ok(dist_same(&d, "the weights", mine));
}

static bool power_of_two(int64_t x) {
  return (x & (x - 1)) == 0;
}

static void check_strategy(const scenario *given, config_strategy strategy) {
  run one, many;
  scenario k = *given;
  k.strategy = strategy;
  start(&k, &alone, &one);
  start(&k, &d, &many);
  char before[DIGEST_TEXT], after[DIGEST_TEXT];
  weights_digest(&many, before);
  for (int step = 1; step <= STEPS; step++) {
    one_step(&k, &one, step);
    one_step(&k, &many, step);
  }
  weights_digest(&many, after);
  assert_string_not_equal(before, after); /* something was learnt */
  bool same_bits = power_of_two(d.ranks) && power_of_two(k.n);
  assert_true((weight_store_identity(d.ranks, k.n)[0] == '\0') == same_bits);
  compare(&k, &one, &many, same_bits);
  stop(&one);
  stop(&many);
}

static void with_each(void (*test)(config_strategy strategy)) {
  for (int i = 0; i < N_STRATEGIES; i++) {
    if (offers(strategies[i])) {
      test(strategies[i]);
    }
  }
}

static void check(scenario k) {
  for (int i = 0; i < N_STRATEGIES; i++) {
    if (offers(strategies[i])) {
      check_strategy(&k, strategies[i]);
    }
  }
}

static void eight_micro_batches(void **state) {
  (void)state;
  check((scenario){.state = DTYPE_F32, .n = 8, .grad_clip = 0});
}

static void clipping_on(void **state) {
  (void)state;
  check((scenario){.state = DTYPE_F32, .n = 8, .grad_clip = 0.5});
}

static void clipping_never_reached(void **state) {
  (void)state;
  check((scenario){.state = DTYPE_F32, .n = 16, .grad_clip = 1e6});
}

static void fp64(void **state) {
  (void)state;
  check((scenario){.state = DTYPE_F64, .n = 8, .grad_clip = 0.5});
}

static void narrower_compute_type(void **state) {
  (void)state;
  check((scenario){.state = DTYPE_F64, .narrow = true, .n = 8, .grad_clip = 0.5});
}

static void as_many_micro_batches_as_ranks(void **state) {
  (void)state;
  check((scenario){.state = DTYPE_F32, .n = d.ranks, .grad_clip = 0.5});
}

static void odd_number_of_micro_batches(void **state) {
  (void)state;
  check((scenario){.state = DTYPE_F32, .n = 2 * d.ranks + 3, .grad_clip = 0.5});
}

static void a_nan_is_skipped_everywhere(void **state) {
  (void)state;
  check((scenario){.state = DTYPE_F32, .n = 8, .grad_clip = 0.5, .bad_step = 3});
}

static void an_infinite_loss_is_skipped_everywhere(void **state) {
  (void)state;
  check((scenario){.state = DTYPE_F32, .n = 8, .grad_clip = 0, .bad_step = 2, .bad_loss = true});
}

/* The first update of AdamW: m = (1 − β₁)g, v = (1 − β₂)g², a step of about lr against the sign of g; nothing where a
 * tensor doesn't learn. */
static void check_first_update(run *r) {
  for (int u = 0; u < m->n_units; u++) {
    const unit *x = &m->units[u];
    float *p0 = malloc((size_t)x->count * sizeof *p0);
    assert_non_null(p0);
    ok(model_initial(m, u, 77, 0, x->count, p0));
    float *p = read_unit(r, u, STATE_WEIGHTS), *m1 = read_unit(r, u, STATE_M), *v = read_unit(r, u, STATE_V),
          *g = read_unit(r, u, STATE_GRADS);
    for (int64_t i = 0; d.rank == 0 && i < x->n_runs; i++) {
      for (int64_t e = x->runs[i].first; e < x->runs[i].first + x->runs[i].count; e++) {
        double mean = x->runs[i].trainable ? g[e] * r->results[1].grad_scale : 0, decay = x->runs[i].decay ? 0.1 : 0;
        double wanted = x->runs[i].trainable ? p0[e] * (1 - 0.01 * decay) - 0.01 * mean / (fabs(mean) + 1e-8) : p0[e];
        assert_true(fabs(p[e] - wanted) <= 1e-5);
        assert_true(fabs(m1[e] - 0.1 * mean) <= 1e-6 * fabs(mean));
        assert_true(fabs(v[e] - 0.05 * mean * mean) <= 1e-6 * mean * mean + 1e-37);
      }
    }
    free(p0);
    free(p);
    free(m1);
    free(v);
    free(g);
  }
}

/* The sum itself against fp64 sums in plain order, and what must stay zero. */
static void the_gradient_is_the_sum_with(config_strategy strategy) {
  scenario k = {.strategy = strategy, .state = DTYPE_F32, .n = 2 * d.ranks + 1, .grad_clip = 0.01};
  run r;
  start(&k, &d, &r);
  one_step(&k, &r, 1);
  double squares = 0, losses = 0;
  for (int u = 0; u < m->n_units; u++) {
    const unit *x = &m->units[u];
    double *wanted = calloc((size_t)x->count, sizeof *wanted);
    assert_non_null(wanted);
    for (int64_t i = 0; i < x->n_runs; i++) {
      for (int64_t e = x->runs[i].first; x->runs[i].trainable && e < x->runs[i].first + x->runs[i].count; e++) {
        for (int64_t b = 0; b < k.n; b++) {
          wanted[e] += (double)(float)gradient_of(1, b, u, e);
        }
        squares += wanted[e] * wanted[e];
      }
    }
    float *got = read_unit(&r, u, STATE_GRADS);
    for (int64_t e = 0; d.rank == 0 && e < x->count; e++) {
      assert_true(fabs(got[e] - wanted[e]) <= 1e-5 * (wanted[e] == 0 ? 0 : (double)k.n));
    }
    free(got);
    free(wanted);
  }
  for (int64_t b = 0; b < k.n; b++) {
    losses += loss_of(&k, 1, b) / (double)k.n;
  }
  double norm = sqrt(squares) / (double)k.n;
  assert_true(fabs(r.results[1].grad_norm - norm) <= 1e-5 * norm);
  assert_true(fabs(r.results[1].loss - losses) <= 1e-12);
  double scale = k.grad_clip / (norm + 1e-6) / (double)k.n;
  assert_true(k.grad_clip < norm && fabs(r.results[1].grad_scale - scale) <= 1e-5 * scale);
  check_first_update(&r);
  stop(&r);
}

static void the_gradient_is_the_sum(void **state) {
  (void)state;
  with_each(the_gradient_is_the_sum_with);
}

static void blocks_cover_the_step(void **state) {
  (void)state;
  for (int64_t n = d.ranks; n < d.ranks + 9; n++) {
    scenario k = {.strategy = STRATEGY_DDP, .state = DTYPE_F32, .n = n};
    run r;
    start(&k, &d, &r);
    int64_t local = r.w->ops->local_micro_batches(r.w), first = r.w->ops->micro_batch(r.w, 0), most = 0, fewest = 0;
    assert_true(local >= 1);
    ok(dist_max(&d, local, &most));
    ok(dist_max(&d, -local, &fewest));
    assert_in_range(most + fewest, 0, 1);
    double mine[2] = {(double)first, (double)local}, all[2 * 64];
    assert_in_range(d.ranks, 1, 64);
    ok(dist_gather(&d, mine, 2, all));
    double next = 0;
    for (int rank = 0; d.rank == 0 && rank < d.ranks; rank++) {
      assert_true(all[2 * rank] == next);
      next += all[2 * rank + 1];
    }
    assert_true(d.rank != 0 || next == (double)n);
    stop(&r);
  }
}

static void state_goes_in_and_out_with(config_strategy strategy) {
  for (int narrow = 0; narrow < 2; narrow++) {
    scenario k = {.strategy = strategy, .state = narrow ? DTYPE_F64 : DTYPE_F32, .narrow = narrow, .n = d.ranks};
    run r;
    start(&k, &d, &r);
    size_t size = dtype_size(k.state);
    for (int u = 0; u < m->n_units; u++) {
      const unit *x = &m->units[u];
      for (state_kind what = STATE_WEIGHTS; what <= STATE_V; what++) {
        void *values = malloc((size_t)x->count * size), *back = malloc((size_t)x->count * size);
        assert_non_null(values);
        assert_non_null(back);
        for (int64_t i = 0; i < x->count; i++) {
          put(values, k.state, i, random_value(seed, (uint32_t)(200 + what), (uint64_t)(u * 10000000 + i)));
        }
        ok(r.w->ops->write(r.w, u, what, d.rank == 0 ? values : NULL));
        ok(r.w->ops->read(r.w, u, what, d.rank == 0 ? back : NULL));
        assert_true(d.rank != 0 || memcmp(values, back, (size_t)x->count * size) == 0);
        unit_weights w;
        ok(r.w->source.gather(&r.w->source, u, +1, &w));
        for (int64_t i = 0; what == STATE_WEIGHTS && i < x->vectors; i++) { /* what every rank's model sees */
          double seen = get(w.matrices, r.e->base.compute, i), given = get(values, k.state, i);
          assert_true(seen == (narrow ? (double)(float)given : given));
        }
        for (int64_t i = x->vectors; what == STATE_WEIGHTS && i < x->count; i++) {
          assert_true(get(w.vectors, k.state, i - x->vectors) == get(values, k.state, i));
        }
        ok(r.w->source.release(&r.w->source, u));
        free(values);
        free(back);
      }
      assert_int_equal(r.w->ops->write(r.w, u, STATE_GRADS, NULL), STATUS_FAILURE);
    }
    stop(&r);
  }
}

static void state_goes_in_and_out(void **state) {
  (void)state;
  with_each(state_goes_in_and_out_with);
}

static void initial_weights_with(config_strategy strategy) {
  scenario k = {.strategy = strategy, .state = DTYPE_F64, .narrow = true, .n = d.ranks};
  run r;
  start(&k, &d, &r);
  for (int u = 0; u < m->n_units; u++) {
    const unit *x = &m->units[u];
    float *wanted = malloc((size_t)x->count * sizeof *wanted);
    assert_non_null(wanted);
    ok(model_initial(m, u, 77, 0, x->count, wanted));
    unit_weights w;
    ok(r.w->source.gather(&r.w->source, u, 0, &w));
    assert_memory_equal(w.matrices, wanted, (size_t)x->vectors * sizeof(float));
    for (int64_t i = x->vectors; i < x->count; i++) {
      assert_true(((const double *)w.vectors)[i - x->vectors] == (double)wanted[i]);
    }
    ok(r.w->source.release(&r.w->source, u));
    free(wanted);
  }
  stop(&r);
}

static void initial_weights(void **state) {
  (void)state;
  with_each(initial_weights_with);
}

static void plan_is_exact(config_strategy strategy) {
  for (int narrow = 0; narrow < 2; narrow++) {
    for (int training = 0; training < 2; training++) {
      for (int64_t n = d.ranks; n < 3 * d.ranks + 2; n++) {
        run r = {0};
        ok(wrapped_engine_create(DTYPE_F64, narrow, &r.e));
        int ranks_a_shard = shard_ranks(&d, strategy);
        ok(groups_create(&d, ranks_a_shard, TRANSPORT_MPI, &r.e->base, &r.g));
        ok(weight_store_create(m, &r.e->base, &d, &r.g, strategy, n, 1, training, &r.w));
        memory_plan most = {0};
        weight_store_plan(m, r.e->base.compute, r.e->base.state, d.ranks, ranks_a_shard, strategy, n, training, &most);
        assert_true(plan_total(&most) >= r.e->bytes && plan_total(&most) < 2 * r.e->bytes);
        assert_true(!power_of_two(d.ranks) || n % d.ranks != 0 || plan_total(&most) == r.e->bytes);
        stop(&r);
      }
    }
  }
}

static void the_plan_is_exact(void **state) {
  (void)state;
  with_each(plan_is_exact);
}

static void misuse_is_refused_with(config_strategy strategy) {
  scenario k = {.strategy = strategy, .state = DTYPE_F32, .n = 2 * d.ranks};
  run r;
  start(&k, &d, &r);
  weight_source *source = &r.w->source;
  update_spec u = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8};
  double losses[2] = {0};
  void *grad = NULL;
  unit_weights w;
  assert_int_equal(source->grad(source, 0, &grad), STATUS_FAILURE); /* outside of a micro-batch */
  assert_int_equal(source->gather(source, m->n_units, 0, &w), STATUS_FAILURE);
  assert_int_equal(r.w->ops->begin_micro_batch(r.w, 1), STATUS_FAILURE); /* 0 comes first */
  assert_int_equal(r.w->ops->begin_micro_batch(r.w, 2), STATUS_FAILURE);
  ok(r.w->ops->begin_micro_batch(r.w, 0));
  ok(source->grad(source, 0, &grad));
  ok(source->grad_done(source, 0));
  assert_int_equal(source->grad_done(source, 0), STATUS_FAILURE);        /* twice */
  assert_int_equal(r.w->ops->begin_micro_batch(r.w, 1), STATUS_FAILURE); /* units are missing */
  assert_int_equal(r.w->ops->finish(r.w, losses, &u), STATUS_FAILURE);
  stop(&r);
}

static void misuse_is_refused(void **state) {
  (void)state;
  with_each(misuse_is_refused_with);
}

static void too_few_micro_batches(void **state) {
  (void)state;
  wrapped_engine *e;
  ok(wrapped_engine_create(DTYPE_F32, false, &e));
  rank_groups none = {0};
  dist nine = {.ranks = 9, .hosts = 1, .local_ranks = 9};
  weight_store *w = (weight_store *)&nine;
  assert_int_equal(weight_store_create(m, &e->base, &nine, &none, STRATEGY_DDP, 8, 1, true, &w), STATUS_USER_ERROR);
  assert_null(w);
  const char *words[] = {"8 micro-batches",   "9 ranks",      "train.batch_tokens",
                         "train.micro_batch", "data.seq_len", "at most 8 ranks"};
  for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
    assert_non_null(strstr(status_message(), words[i]));
  }
  wrapped_engine_destroy(e);
}

static void weights_alone(void **state) {
  (void)state;
  wrapped_engine *e;
  weight_store *w;
  void *grad = NULL;
  ok(wrapped_engine_create(DTYPE_F32, false, &e));
  ok(weight_store_create(m, &e->base, &alone, NULL, STRATEGY_DDP, 0, 1, false, &w));
  float *values = malloc((size_t)m->units[0].count * sizeof *values);
  assert_non_null(values);
  ok(w->ops->read(w, 0, STATE_WEIGHTS, values));
  assert_int_equal(w->ops->read(w, 0, STATE_M, values), STATUS_FAILURE);
  assert_int_equal(w->ops->begin_micro_batch(w, 0), STATUS_FAILURE);
  assert_int_equal(w->source.grad(&w->source, 0, &grad), STATUS_FAILURE);
  free(values);
  weight_store_destroy(w);
  assert_int_equal(e->live, 0);
  wrapped_engine_destroy(e);
}

/* Every allocation in turn fails: an error, and nothing is left behind. */
static void no_memory(void **state) {
  (void)state;
  wrapped_engine *e;
  ok(wrapped_engine_create(DTYPE_F64, true, &e));
  int64_t failures = 0;
  weight_store *w = NULL;
  for (;; failures++) {
    e->fail_after = failures;
    if (weight_store_create(m, &e->base, &alone, NULL, STRATEGY_DDP, 4, 1, true, &w) == STATUS_OK) {
      break;
    }
    assert_null(w);
    assert_int_equal(e->live, 0);
  }
  assert_int_equal(failures, 2 + m->n_units * (2 + 2 + 3));
  weight_store_destroy(w);
  wrapped_engine_destroy(e);
}

static void identity_in_words(void **state) {
  (void)state;
  assert_string_equal(weight_store_identity(1, 1), "");
  assert_string_equal(weight_store_identity(4, 8), "");
  assert_string_equal(weight_store_identity(8, 8), "");
  assert_non_null(strstr(weight_store_identity(3, 8), "3 ranks"));
  assert_non_null(strstr(weight_store_identity(2, 6), "6 micro-batches"));
  assert_non_null(strstr(weight_store_identity(1, 6), "1 rank"));
}

static status prepare(void) {
  dist_single(&alone);
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
    s = model_create(&c->model, "*.norm1.scale", &m);
  }
  config_free(c);
  return s;
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(eight_micro_batches),
      cmocka_unit_test(clipping_on),
      cmocka_unit_test(clipping_never_reached),
      cmocka_unit_test(fp64),
      cmocka_unit_test(narrower_compute_type),
      cmocka_unit_test(as_many_micro_batches_as_ranks),
      cmocka_unit_test(odd_number_of_micro_batches),
      cmocka_unit_test(a_nan_is_skipped_everywhere),
      cmocka_unit_test(an_infinite_loss_is_skipped_everywhere),
      cmocka_unit_test(the_gradient_is_the_sum),
      cmocka_unit_test(blocks_cover_the_step),
      cmocka_unit_test(state_goes_in_and_out),
      cmocka_unit_test(initial_weights),
      cmocka_unit_test(the_plan_is_exact),
      cmocka_unit_test(misuse_is_refused),
      cmocka_unit_test(too_few_micro_batches),
      cmocka_unit_test(weights_alone),
      cmocka_unit_test(no_memory),
      cmocka_unit_test(identity_in_words),
  };
  int code = RANKS_MAIN(prepare, tests);
  model_free(m);
  return code;
}
