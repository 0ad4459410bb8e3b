/* The weight store in one process: what needs no ranks. */
#include <string.h>

#include "store_fixture.h"

static void too_few_micro_batches(void **state) {
  (void)state;
  wrapped_engine *e;
  ok(wrapped_engine_create(DTYPE_F32, false, &e));
  rank_groups none = {0};
  dist nine = {.ranks = 9, .hosts = 1, .local_ranks = 9};
  weight_store *w = (weight_store *)&nine;
  assert_int_equal(weight_store_create(job.m, &e->base, &nine, &none, STRATEGY_DDP, OFFLOAD_NONE, 8, 1, true, &w),
                   STATUS_USER_ERROR);
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
  ok(weight_store_create(job.m, &e->base, &job.alone, NULL, STRATEGY_DDP, OFFLOAD_NONE, 0, 1, false, &w));
  float *values = malloc((size_t)job.m->units[0].count * sizeof *values);
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
static int64_t failures_with(config_offload offload) {
  wrapped_engine *e;
  ok(wrapped_engine_create(DTYPE_F64, true, &e));
  int64_t failures = 0;
  weight_store *w = NULL;
  for (;; failures++) {
    e->fail_after = failures;
    if (weight_store_create(job.m, &e->base, &job.alone, NULL, STRATEGY_DDP, offload, 4, 1, true, &w) == STATUS_OK) {
      break;
    }
    assert_null(w);
    assert_int_equal(e->live, 0);
  }
  weight_store_destroy(w);
  assert_int_equal(e->live, 0);
  wrapped_engine_destroy(e);
  return failures;
}

static void no_memory(void **state) {
  (void)state;
  assert_int_equal(failures_with(OFFLOAD_NONE), 2 + job.m->n_units * (2 + 2 + 3));
  assert_int_equal(failures_with(OFFLOAD_OPTIMIZER), 2 + job.m->n_units * (3 + 2 + 3) + 3 * 3);
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

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(too_few_micro_batches),
      cmocka_unit_test(weights_alone),
      cmocka_unit_test(no_memory),
      cmocka_unit_test(identity_in_words),
  };
  return STORE_MAIN(tests);
}
