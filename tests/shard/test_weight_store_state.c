/* What a weight store on several ranks holds, the memory for it, and what it refuses. */
#include "store_fixture.h"

static void state_goes_in_and_out_with(config_strategy strategy) {
  for (int narrow = 0; narrow < 2; narrow++) {
    store_case k = {.strategy = strategy, .state = narrow ? DTYPE_F64 : DTYPE_F32, .narrow = narrow, .n = job.d.ranks};
    store_run r;
    store_start(&k, &job.d, &r);
    size_t size = dtype_size(k.state);
    for (int u = 0; u < job.m->n_units; u++) {
      const unit *x = &job.m->units[u];
      for (state_kind what = STATE_WEIGHTS; what <= STATE_V; what++) {
        void *values = malloc((size_t)x->count * size), *back = malloc((size_t)x->count * size);
        assert_non_null(values);
        assert_non_null(back);
        for (int64_t i = 0; i < x->count; i++) {
          put(values, k.state, i, random_value(job.seed, (uint32_t)(200 + what), (uint64_t)(u * 10000000 + i)));
        }
        ok(r.w->ops->write(r.w, u, what, job.d.rank == 0 ? values : NULL));
        ok(r.w->ops->read(r.w, u, what, job.d.rank == 0 ? back : NULL));
        assert_true(job.d.rank != 0 || memcmp(values, back, (size_t)x->count * size) == 0);
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
    store_stop(&r);
  }
}

static void state_goes_in_and_out(void **state) {
  (void)state;
  with_each_strategy(state_goes_in_and_out_with);
}

static void initial_weights_with(config_strategy strategy) {
  store_case k = {.strategy = strategy, .state = DTYPE_F64, .narrow = true, .n = job.d.ranks};
  store_run r;
  store_start(&k, &job.d, &r);
  for (int u = 0; u < job.m->n_units; u++) {
    const unit *x = &job.m->units[u];
    float *wanted = malloc((size_t)x->count * sizeof *wanted);
    assert_non_null(wanted);
    ok(model_initial(job.m, u, 77, 0, x->count, wanted));
    unit_weights w;
    ok(r.w->source.gather(&r.w->source, u, 0, &w));
    assert_memory_equal(w.matrices, wanted, (size_t)x->vectors * sizeof(float));
    for (int64_t i = x->vectors; i < x->count; i++) {
      assert_true(((const double *)w.vectors)[i - x->vectors] == (double)wanted[i]);
    }
    ok(r.w->source.release(&r.w->source, u));
    free(wanted);
  }
  store_stop(&r);
}

static void initial_weights(void **state) {
  (void)state;
  with_each_strategy(initial_weights_with);
}

static void plan_is_exact_with(const store_case *k, bool training) {
  store_run r = {0};
  ok(wrapped_engine_create(DTYPE_F64, k->narrow, &r.e));
  r.used = &r.e->base;
  int ranks_a_shard = shard_ranks(&job.d, k->strategy);
  ok(groups_create(&job.d, ranks_a_shard, TRANSPORT_MPI, r.used, &r.g));
  ok(weight_store_create(job.m, r.used, &job.d, &r.g, k->strategy, k->offload, k->n, 1, training, &r.w));
  memory_plan most = {0};
  weight_store_plan(job.m, r.used->compute, r.used->state, job.d.ranks, ranks_a_shard, k->strategy, k->offload, k->n,
                    training, &most);
  assert_true(plan_total(&most) >= r.e->bytes && plan_total(&most) < 2 * r.e->bytes);
  assert_true(plan_host(&most) >= r.e->host_bytes);
  assert_true((plan_host(&most) > 0) == (training && k->offload != OFFLOAD_NONE));
  if (power_of_two(job.d.ranks) && k->n % job.d.ranks == 0) {
    assert_true(plan_total(&most) == r.e->bytes && plan_host(&most) == r.e->host_bytes);
  }
  store_stop(&r);
}

static void plan_is_exact(config_strategy strategy) {
  int64_t ranks = job.d.ranks;
  for (int narrow = 0; narrow < 2; narrow++) {
    for (int training = 0; training < 2; training++) {
      for (int64_t n = ranks; n < 3 * ranks + 2; n++) {
        plan_is_exact_with(&(store_case){.strategy = strategy, .narrow = narrow, .n = n}, training);
      }
      const store_case k = {.strategy = strategy, .narrow = narrow, .n = 2 * ranks, .offload = OFFLOAD_OPTIMIZER};
      plan_is_exact_with(&k, training);
    }
  }
}

static void the_plan_is_exact(void **state) {
  (void)state;
  with_each_strategy(plan_is_exact);
}

static void misuse_is_refused_with(config_strategy strategy) {
  store_case k = {.strategy = strategy, .state = DTYPE_F32, .n = 2 * job.d.ranks};
  store_run r;
  store_start(&k, &job.d, &r);
  weight_source *source = &r.w->source;
  update_spec u = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8};
  double losses[2] = {0};
  void *grad = NULL;
  unit_weights w;
  assert_int_equal(source->grad(source, 0, &grad), STATUS_FAILURE); /* outside of a micro-batch */
  assert_int_equal(source->gather(source, job.m->n_units, 0, &w), STATUS_FAILURE);
  assert_int_equal(r.w->ops->begin_micro_batch(r.w, 1), STATUS_FAILURE); /* 0 comes first */
  assert_int_equal(r.w->ops->begin_micro_batch(r.w, 2), STATUS_FAILURE);
  ok(r.w->ops->begin_micro_batch(r.w, 0));
  ok(source->grad(source, 0, &grad));
  ok(source->grad_done(source, 0));
  assert_int_equal(source->grad_done(source, 0), STATUS_FAILURE);        /* twice */
  assert_int_equal(r.w->ops->begin_micro_batch(r.w, 1), STATUS_FAILURE); /* units are missing */
  assert_int_equal(r.w->ops->finish(r.w, losses, &u), STATUS_FAILURE);
  store_stop(&r);
}

static void misuse_is_refused(void **state) {
  (void)state;
  with_each_strategy(misuse_is_refused_with);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(state_goes_in_and_out),
      cmocka_unit_test(initial_weights),
      cmocka_unit_test(the_plan_is_exact),
      cmocka_unit_test(misuse_is_refused),
  };
  return STORE_MAIN(tests);
}
