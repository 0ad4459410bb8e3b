/* Optimizer state in host memory: the same bits as in engine memory, under every strategy, for units of any size, and
 * when operations are done as late and in as odd an order as a GPU's streams allow. */
#include <string.h>

#include "deferred_engine.h"
#include "shard/offload.h"
#include "store_fixture.h"

enum { UPDATES = 4, UNITS_MOST = 5, RUNS = 3 };

/* One unit of the test of the streaming alone. */
typedef struct {
  int64_t first, count, vectors;
  optim_run runs[RUNS];
  void *grad, *weights; /* engine memory */
  void *m, *v, *master; /* engine memory: what AdamW makes of the unit in one go, */
  offloaded_unit u;     /* and chunk by chunk */
  void *other_weights;
} one_unit;

typedef struct {
  wrapped_engine *w;
  engine *e;
  bool narrow;
  uint64_t seed;
  double *sums; /* engine memory: of squares, of losses */
  int n, begin;
  one_unit units[UNITS_MOST];
} stream_case;

static int64_t between(const stream_case *k, uint32_t what, int u, int64_t low, int64_t high) {
  return random_between(k->seed, what, (uint64_t)u, low, high);
}

static void fill(const stream_case *k, uint32_t what, int u, const held_run *at, bool positive) {
  char *values = malloc((size_t)at->count * dtype_size(at->type) + 1);
  assert_non_null(values);
  for (int64_t i = 0; i < at->count; i++) {
    double x = random_value(k->seed, what, (uint64_t)(u * 100000 + i));
    put(values, at->type, i, positive ? x * x : x);
  }
  ok(held_write(k->e, at, at->first, values, at->type, at->count));
  free(values);
}

static void *engine_copy(const stream_case *k, uint32_t what, int u, bool positive) {
  const one_unit *x = &k->units[u];
  held_run at = {.type = k->e->state, .first = x->first, .count = x->count};
  ok(held_alloc(k->e, &at, "a test"));
  fill(k, what, u, &at, positive);
  return at.at;
}

static held_run host_copy(const stream_case *k, uint32_t what, int u, bool positive) {
  const one_unit *x = &k->units[u];
  held_run at = {.type = k->e->state, .first = x->first, .count = x->count, .host = true};
  ok(held_alloc(k->e, &at, "a test"));
  fill(k, what, u, &at, positive);
  return at;
}

/* Slices that begin and end anywhere, none at all among them; vectors behind, before or in the middle of them. */
static void make_unit(stream_case *k, int u) {
  one_unit *x = &k->units[u];
  engine *e = k->e;
  x->first = 4 * between(k, 20, u, 0, 50);
  x->count = between(k, 21, u, 0, 2) == 0 ? between(k, 22, u, 0, 3) : between(k, 23, u, 1, 1500);
  x->vectors = x->first + between(k, 24, u, -40, x->count + 10);
  for (int i = 0; i < RUNS; i++) {
    int64_t third = (x->first + x->count) / RUNS;
    x->runs[i] = (optim_run){i * third, third - i, i != u % RUNS, i == 0};
  }
  size_t state = (size_t)x->count * dtype_size(e->state);
  x->grad = engine_copy(k, 30, u, false);
  x->m = engine_copy(k, 31, u, false);
  x->v = engine_copy(k, 32, u, true);
  x->master = engine_copy(k, 33, u, false);
  x->weights = x->master;
  x->u = (offloaded_unit){.m = host_copy(k, 31, u, false), .v = host_copy(k, 32, u, true)};
  if (k->narrow) {
    ok(e->ops->alloc(e, state, "a test", &x->weights));
    ok(e->ops->alloc(e, state, "a test", &x->other_weights));
    x->u.master = host_copy(k, 33, u, false);
    x->u.vectors = (held_run){.type = e->state, .first = x->vectors, .count = x->first + x->count + 20 - x->vectors};
    ok(held_alloc(e, &x->u.vectors, "a test"));
  } else {
    x->other_weights = engine_copy(k, 33, u, false);
    x->u.master = (held_run){.at = x->other_weights, .type = e->state, .first = x->first, .count = x->count};
  }
}

static void free_unit(stream_case *k, one_unit *x) {
  held_free(k->e, &x->u.m);
  held_free(k->e, &x->u.v);
  if (k->narrow) {
    held_free(k->e, &x->u.master);
    held_free(k->e, &x->u.vectors);
    held_release(k->e, x->weights);
  }
  void *others[] = {x->grad, x->m, x->v, x->master, x->other_weights};
  for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
    held_release(k->e, others[i]);
  }
}

static adamw_args arguments(const one_unit *x) {
  return (adamw_args){.first = x->first,
                      .count = x->count,
                      .runs = x->runs,
                      .n_runs = RUNS,
                      .beta1 = 0.9,
                      .beta2 = 0.95,
                      .eps = 1e-8,
                      .weight_decay = 0.1,
                      .grad = x->grad,
                      .master = x->master,
                      .m = x->m,
                      .v = x->v,
                      .weights = x->weights};
}

/* Every unit in one go, then every unit from host memory; state in host memory changes between two updates. */
static void update(stream_case *k, offload *o, int step) {
  engine *e = k->e;
  step_state state = {.step = step, .updates = step - 1, .lr = 0.01, .loss_scale = 1, .micro_batches = 2};
  ok(e->ops->set_step(e, &state));
  ok(e->ops->finish_norm(e, k->sums, 1, k->sums + 1, 1, 0));
  for (int u = 0; u < k->n; u++) {
    adamw_args a = arguments(&k->units[u]);
    ok(e->ops->adamw(e, &a));
  }
  for (int i = 0; i < k->n; i++) {
    int u = (k->begin + i) % k->n;
    const one_unit *x = &k->units[u];
    adamw_args a = arguments(x);
    a.m = a.v = NULL;
    a.master = k->narrow ? NULL : x->other_weights;
    a.weights = x->other_weights;
    ok(offload_adamw(o, u, &a));
  }
  if (step == 2) {
    int u = (int)between(k, 40, 0, 0, k->n - 1);
    const one_unit *x = &k->units[u];
    const held_run whole = {.at = x->v, .type = e->state, .first = x->first, .count = x->count};
    fill(k, 41, u, &x->u.v, true); /* first: it has to wait for what is under way by itself */
    fill(k, 41, u, &whole, true);
    offload_forget(o);
  }
}

/* A read waits for what is on its way back, by itself. */
static void check_read(const stream_case *k) {
  const held_run *last = &k->units[k->n - 1].u.m;
  void *values = malloc((size_t)last->count * dtype_size(last->type) + 1);
  assert_non_null(values);
  ok(held_read(k->e, last, last->first, last->count, values));
  ok(k->e->ops->synchronize(k->e));
  assert_memory_equal(values, last->at, (size_t)last->count * dtype_size(last->type));
  free(values);
}

static void check_unit(const stream_case *k, const one_unit *x) {
  size_t state = dtype_size(k->e->state), bytes = (size_t)x->count * state;
  assert_memory_equal(x->m, x->u.m.at, bytes);
  assert_memory_equal(x->v, x->u.v.at, bytes);
  assert_memory_equal(x->master, x->u.master.at, bytes);
  assert_memory_equal(x->weights, x->other_weights, (size_t)x->count * dtype_size(k->e->compute));
  for (int64_t i = x->vectors; k->narrow && i < x->vectors + x->u.vectors.count; i++) {
    bool own = i >= x->first && i < x->first + x->count;
    double seen = get(x->u.vectors.at, k->e->state, i - x->vectors);
    assert_true(seen == (own ? get(x->master, k->e->state, i - x->first) : 0));
  }
}

static void check_stream(uint64_t seed, bool narrow, bool deferred) {
  stream_case k = {.seed = seed, .narrow = narrow};
  ok(wrapped_engine_create(narrow ? DTYPE_F64 : DTYPE_F32, narrow, &k.w));
  k.e = &k.w->base;
  if (deferred) {
    ok(deferred_engine_over(seed, &k.w->base, &k.e));
  }
  k.n = (int)between(&k, 10, 0, 1, UNITS_MOST);
  k.begin = (int)between(&k, 11, 0, 0, k.n - 1);
  offloaded_unit units[UNITS_MOST];
  int64_t largest = 0;
  for (int u = 0; u < k.n; u++) {
    make_unit(&k, u);
    units[u] = k.units[u].u;
    largest = k.units[u].count > largest ? k.units[u].count : largest;
  }
  const double sums[2] = {9, 1};
  ok(k.e->ops->alloc(k.e, sizeof sums, "a test", (void **)&k.sums));
  ok(k.e->ops->copy(k.e, STREAM_MAIN, COPY_TO_ENGINE, k.sums, sums, sizeof sums));
  offload *o;
  double before = k.w->bytes;
  ok(offload_create(k.e, units, k.n, k.begin, &o));
  memory_plan p = {0};
  offload_plan(k.e->state, narrow, largest, &p);
  assert_true(k.w->bytes - before <= plan_total(&p)); /* less where there are fewer chunks than buffers */
  for (int step = 1; step <= UPDATES; step++) {
    update(&k, o, step);
  }
  check_read(&k);
  for (int u = 0; u < k.n; u++) {
    check_unit(&k, &k.units[u]);
  }
  offload_destroy(o);
  for (int u = 0; u < k.n; u++) {
    free_unit(&k, &k.units[u]);
  }
  held_release(k.e, k.sums);
  assert_int_equal(k.w->live, 0);
  k.e->ops->destroy(k.e);
}

static void chunks_of_any_units(void **state) {
  (void)state;
  for (uint64_t i = 0; i < 60; i++) {
    check_stream(job.seed + 1000 * i, i % 2 == 1, i % 3 != 0);
  }
}

static void another_unit_is_refused(void **state) {
  (void)state;
  stream_case k = {.seed = job.seed, .n = 2};
  ok(wrapped_engine_create(DTYPE_F32, false, &k.w));
  k.e = &k.w->base;
  offloaded_unit units[2];
  for (int u = 0; u < k.n; u++) {
    while (make_unit(&k, u), k.units[u].count == 0) {
      free_unit(&k, &k.units[u]);
      k.seed++;
    }
    units[u] = k.units[u].u;
  }
  offload *o;
  ok(offload_create(k.e, units, k.n, 0, &o));
  adamw_args a = arguments(&k.units[1]);
  assert_int_equal(offload_adamw(o, 1, &a), STATUS_FAILURE);
  offload_destroy(o);
  free_unit(&k, &k.units[0]);
  free_unit(&k, &k.units[1]);
  wrapped_engine_destroy(k.w);
}

/* The whole store. */

/* New values for one kind of state of all units, as a checkpoint brings them in the middle of a launch. */
static void change(const store_case *k, store_run *r, state_kind what) {
  for (int u = 0; u < job.m->n_units; u++) {
    int64_t count = job.m->units[u].count;
    void *values = malloc((size_t)count * dtype_size(k->state));
    assert_non_null(values);
    for (int64_t i = 0; i < count; i++) {
      double x = random_value(job.seed, (uint32_t)(300 + what), (uint64_t)(u * 10000000 + i));
      put(values, k->state, i, what == STATE_V ? x * x : x);
    }
    ok(r->w->ops->write(r->w, u, what, job.d.rank == 0 ? values : NULL));
    free(values);
  }
}

static void run(const store_case *k, state_kind changed, store_run *r) {
  store_start(k, &job.d, r);
  for (int step = 1; step <= STORE_STEPS; step++) {
    store_step(k, r, step);
    if (step == 2) {
      change(k, r, changed);
    }
  }
}

static void compare(const store_case *k, store_run *a, store_run *b) {
  assert_memory_equal(a->results + 1, b->results + 1, STORE_STEPS * sizeof a->results[0]);
  for (int u = 0; u < job.m->n_units; u++) {
    for (state_kind what = STATE_WEIGHTS; what <= STATE_V; what++) {
      void *x = store_read(a, u, what), *y = store_read(b, u, what);
      if (job.d.rank == 0 && memcmp(x, y, (size_t)job.m->units[u].count * dtype_size(k->state)) != 0) {
        fail_msg("unit %d, state %d differs", u, (int)what);
      }
      free(x);
      free(y);
    }
  }
  char x[DIGEST_TEXT], y[DIGEST_TEXT];
  store_digest(a, x);
  store_digest(b, y);
  assert_string_equal(x, y);
}

static void same_bits_with(config_strategy strategy) {
  static const struct {
    dtype state;
    bool narrow;
  } types[] = {{DTYPE_F32, false}, {DTYPE_F64, true}};
  for (uint64_t i = 0; i < 4; i++) {
    store_case k = {.strategy = strategy,
                    .state = types[i % 2].state,
                    .narrow = types[i % 2].narrow,
                    .n = 2 * job.d.ranks,
                    .grad_clip = 0.5,
                    .bad_step = i == 3 ? 3 : 0};
    state_kind changed = (state_kind)(STATE_WEIGHTS + (job.seed + i) % 3);
    store_run plain, offloaded;
    run(&k, changed, &plain);
    k.offload = OFFLOAD_OPTIMIZER;
    k.deferred = i < 3 ? job.seed + 100 * i + 1 : 0;
    run(&k, changed, &offloaded);
    compare(&k, &plain, &offloaded);
    store_stop(&plain);
    store_stop(&offloaded);
  }
}

static void same_bits(void **state) {
  (void)state;
  with_each_strategy(same_bits_with);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(chunks_of_any_units),
      cmocka_unit_test(another_unit_is_refused),
      cmocka_unit_test(same_bits),
  };
  return STORE_MAIN(tests);
}
