/* What the weight store computes, by its formulas: the sum over micro-batches and ranks, who takes which of them, and
 * the update that follows.
 */
#include <math.h>

#include "store_fixture.h"

/* The first update of AdamW: m = (1 − β₁)g, v = (1 − β₂)g², a step of about lr against the sign of g; nothing where a
 * tensor doesn't learn. */
static void check_first_update(store_run *r) {
  for (int u = 0; u < job.m->n_units; u++) {
    const unit *x = &job.m->units[u];
    float *p0 = malloc((size_t)x->count * sizeof *p0);
    assert_non_null(p0);
    ok(model_initial(job.m, u, 77, 0, x->count, p0));
    float *p = store_read(r, u, STATE_WEIGHTS), *m1 = store_read(r, u, STATE_M), *v = store_read(r, u, STATE_V),
          *g = store_read(r, u, STATE_GRADS);
    for (int64_t i = 0; job.d.rank == 0 && i < x->n_runs; i++) {
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
  store_case k = {.strategy = strategy, .state = DTYPE_F32, .n = 2 * job.d.ranks + 1, .grad_clip = 0.01};
  store_run r;
  store_start(&k, &job.d, &r);
  store_step(&k, &r, 1);
  double squares = 0, losses = 0;
  for (int u = 0; u < job.m->n_units; u++) {
    const unit *x = &job.m->units[u];
    double *wanted = calloc((size_t)x->count, sizeof *wanted);
    assert_non_null(wanted);
    for (int64_t i = 0; i < x->n_runs; i++) {
      for (int64_t e = x->runs[i].first; x->runs[i].trainable && e < x->runs[i].first + x->runs[i].count; e++) {
        for (int64_t b = 0; b < k.n; b++) {
          wanted[e] += (double)(float)made_up_gradient(1, b, u, e);
        }
        squares += wanted[e] * wanted[e];
      }
    }
    float *got = store_read(&r, u, STATE_GRADS);
    for (int64_t e = 0; job.d.rank == 0 && e < x->count; e++) {
      assert_true(fabs(got[e] - wanted[e]) <= 1e-5 * (wanted[e] == 0 ? 0 : (double)k.n));
    }
    free(got);
    free(wanted);
  }
  for (int64_t b = 0; b < k.n; b++) {
    losses += made_up_loss(&k, 1, b) / (double)k.n;
  }
  double norm = sqrt(squares) / (double)k.n;
  assert_true(fabs(r.results[1].grad_norm - norm) <= 1e-5 * norm);
  assert_true(fabs(r.results[1].loss - losses) <= 1e-12);
  double scale = k.grad_clip / (norm + 1e-6) / (double)k.n;
  assert_true(k.grad_clip < norm && fabs(r.results[1].grad_scale - scale) <= 1e-5 * scale);
  check_first_update(&r);
  store_stop(&r);
}

static void the_gradient_is_the_sum(void **state) {
  (void)state;
  with_each_strategy(the_gradient_is_the_sum_with);
}

static void blocks_cover_the_step(void **state) {
  (void)state;
  for (int64_t n = job.d.ranks; n < job.d.ranks + 9; n++) {
    store_case k = {.strategy = STRATEGY_DDP, .state = DTYPE_F32, .n = n};
    store_run r;
    store_start(&k, &job.d, &r);
    int64_t local = r.w->ops->local_micro_batches(r.w), first = r.w->ops->micro_batch(r.w, 0), most = 0, fewest = 0;
    assert_true(local >= 1);
    ok(dist_max(&job.d, local, &most));
    ok(dist_max(&job.d, -local, &fewest));
    assert_in_range(most + fewest, 0, 1);
    double mine[2] = {(double)first, (double)local}, all[2 * 64];
    assert_in_range(job.d.ranks, 1, 64);
    ok(dist_gather(&job.d, mine, 2, all));
    double next = 0;
    for (int rank = 0; job.d.rank == 0 && rank < job.d.ranks; rank++) {
      assert_true(all[2 * rank] == next);
      next += all[2 * rank + 1];
    }
    assert_true(job.d.rank != 0 || next == (double)n);
    store_stop(&r);
  }
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_gradient_is_the_sum),
      cmocka_unit_test(blocks_cover_the_step),
  };
  return STORE_MAIN(tests);
}
