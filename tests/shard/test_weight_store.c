/* The weight store on several ranks against the same store on one: every rank computes the one-rank run for itself. */
#include <math.h>

#include "store_fixture.h"

/* Everything that can be read: the same bits, or close to it. */
static void compare(const store_case *k, store_run *one, store_run *many, bool same_bits) {
  for (int step = 1; step <= STORE_STEPS; step++) {
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
  for (int u = 0; u < job.m->n_units; u++) {
    for (state_kind what = STATE_WEIGHTS; what <= STATE_GRADS; what++) {
      void *a = store_read(one, u, what), *b = store_read(many, u, what);
      double difference = 0, norm = 0;
      for (int64_t i = 0; i < job.m->units[u].count; i++) {
        double x = get(a, k->state, i), y = get(b, k->state, i);
        difference += (x - y) * (x - y);
        norm += x * x;
      }
      if (job.d.rank == 0 && same_bits) {
        assert_memory_equal(a, b, (size_t)job.m->units[u].count * dtype_size(k->state));
      } else if (job.d.rank == 0 && !(sqrt(difference) <= 1e-4 * sqrt(norm))) {
        fail_msg("unit %d, state %d: off by %g of %g", u, (int)what, sqrt(difference), sqrt(norm));
      }
      free(a);
      free(b);
    }
  }
  char mine[DIGEST_TEXT], reference[DIGEST_TEXT];
  store_digest(many, mine);
  store_digest(one, reference);
  if (same_bits) {
    assert_string_equal(mine, reference);
  }
  ok(dist_same(&job.d, "the weights", mine));
}

static void check_strategy(const store_case *given, config_strategy strategy) {
  store_run one, many;
  store_case k = *given;
  k.strategy = strategy;
  store_start(&k, &job.alone, &one);
  store_start(&k, &job.d, &many);
  char before[DIGEST_TEXT], after[DIGEST_TEXT];
  store_digest(&many, before);
  for (int step = 1; step <= STORE_STEPS; step++) {
    store_step(&k, &one, step);
    store_step(&k, &many, step);
  }
  store_digest(&many, after);
  assert_string_not_equal(before, after); /* something was learnt */
  bool same_bits = power_of_two(job.d.ranks) && power_of_two(k.n);
  assert_true((weight_store_identity(job.d.ranks, k.n)[0] == '\0') == same_bits);
  compare(&k, &one, &many, same_bits);
  store_stop(&one);
  store_stop(&many);
}

static void check(store_case k) {
  for (int i = 0; i < STORE_STRATEGIES; i++) {
    if (strategy_offered(store_strategies[i])) {
      check_strategy(&k, store_strategies[i]);
    }
  }
}

static void eight_micro_batches(void **state) {
  (void)state;
  check((store_case){.state = DTYPE_F32, .n = 8, .grad_clip = 0});
}

static void clipping_on(void **state) {
  (void)state;
  check((store_case){.state = DTYPE_F32, .n = 8, .grad_clip = 0.5});
}

static void clipping_never_reached(void **state) {
  (void)state;
  check((store_case){.state = DTYPE_F32, .n = 16, .grad_clip = 1e6});
}

static void fp64(void **state) {
  (void)state;
  check((store_case){.state = DTYPE_F64, .n = 8, .grad_clip = 0.5});
}

static void narrower_compute_type(void **state) {
  (void)state;
  check((store_case){.state = DTYPE_F64, .narrow = true, .n = 8, .grad_clip = 0.5});
}

static void as_many_micro_batches_as_ranks(void **state) {
  (void)state;
  check((store_case){.state = DTYPE_F32, .n = job.d.ranks, .grad_clip = 0.5});
}

static void odd_number_of_micro_batches(void **state) {
  (void)state;
  check((store_case){.state = DTYPE_F32, .n = 2 * job.d.ranks + 3, .grad_clip = 0.5});
}

static void a_nan_is_skipped_everywhere(void **state) {
  (void)state;
  check((store_case){.state = DTYPE_F32, .n = 8, .grad_clip = 0.5, .bad_step = 3});
}

static void an_infinite_loss_is_skipped_everywhere(void **state) {
  (void)state;
  check((store_case){.state = DTYPE_F32, .n = 8, .grad_clip = 0, .bad_step = 2, .bad_loss = true});
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
  };
  return STORE_MAIN(tests);
}
