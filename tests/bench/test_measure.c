/* A measured step is a training step: the same losses, bit for bit, as steps put together here from the parts, on any
 * number of ranks; and what a row says fits together. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <math.h>
#include <string.h>

#include "bench/measure.h"
#include "bench/random_tokens.h"
#include "train/setup.h"

enum {
  B = 2,
  T = 24,
  V = 67,
  STEPS = 2,
  WARMUP = 1,
  REPEAT = 3,
  ALL_STEPS = WARMUP + STEPS * REPEAT,
  LARGE_B = 400,
  LARGE_V = 2000
};

static dist d;
static const bench_length length = {.steps = STEPS, .warmup = WARMUP, .repeat = REPEAT};

#define GOOD(call)                                 \
  do {                                             \
    if ((call) != STATUS_OK) {                     \
      fail_msg("%s: %s", #call, status_message()); \
    }                                              \
  } while (0)

static const char text[] =
    "[run]\ndevice = cpu\nseed = 77\n"
    "[model]\nbase = respsann\nvocab_size = 67\nd_model = 16\nn_layers = 2\nn_heads = 2\nd_mlp = 24\n"
    "[data]\nseq_len = 24\n"
    "[train]\nmicro_batch = 2\nlr = 0.01\n";

static config *measured_config(int64_t micro_batch, int64_t vocab_size) {
  config *c;
  GOOD(config_new(&c));
  GOOD(config_read_text(c, text, "a test"));
  c->train.micro_batch = micro_batch;
  c->model.vocab_size = vocab_size;
  GOOD(config_resolve_measured(c, bench_total_steps(&length), d.ranks));
  assert_int_equal(c->train.max_steps, ALL_STEPS);
  assert_int_equal(c->train.batch_tokens, micro_batch * T * d.ranks);
  return c;
}

static void check_numbers(const bench_row *r) {
  double flop = 6 * (2 * (4 * 16 * 16 + 2 * 16 * 24) + 16 * (double)r->vocab_size) + 6.0 * 2 * T * 16,
         full = flop + 6.0 * 2 * T * 16;
  double share = r->mode == BENCH_TRAIN ? 1 : 1.0 / 3;
  assert_string_equal(r->error, "");
  assert_true(r->ms > 0 && r->ms_min <= r->ms && r->ms <= r->ms_max);
  assert_true(fabs(r->tok_s / ((double)(d.ranks * r->micro_batch * T) / r->ms * 1000) - 1) < 1e-12);
  assert_true(fabs(r->flop_per_token / (share * flop) - 1) < 1e-12);
  assert_true(fabs(r->flop_per_token_full / (share * full) - 1) < 1e-12);
  assert_true(fabs(r->tflops / (r->tok_s / d.ranks * r->flop_per_token * 1e-12) - 1) < 1e-9);
  assert_true(isnan(r->mfu) && isnan(r->mfu_full)); /* no peak is known for a CPU */
  assert_true(r->peak_bytes > 1e6 && r->peak_bytes < 1e10);
  assert_true(d.rank != 0 || (isnan(r->power_w) && isnan(r->sm_mhz)));
  assert_true(r->plan_bytes > 1e4);
  assert_int_equal(r->skipped, 0);
}

/* The loss of the last of ALL_STEPS steps, all micro-batches on this rank. */
static double plain_training(const config *c) {
  dist alone;
  model *m;
  engine *e;
  weight_store *w;
  model_run *pass;
  host_batch host;
  random_tokens tokens;
  void *engine_tokens, *labels, *order;
  double *losses;
  dist_single(&alone);
  GOOD(model_create(&c->model, c->train.decay_exclude, &m));
  GOOD(engine_cpu_create(DTYPE_F32, 1, 77, &e));
  GOOD(weight_store_create(m, e, &alone, NULL, STRATEGY_DDP, OFFLOAD_NONE, d.ranks, 77, true, &w));
  run_spec spec = {.B = B, .T = T, .training = true};
  GOOD(model_run_create(m, e, &spec, &pass));
  GOOD(host_batch_init(&host, B, T));
  GOOD(random_tokens_create(V, T, 77, &tokens));
  batch_source source = random_tokens_source(&tokens);
  GOOD(e->ops->alloc(e, sizeof(int32_t) * B * T, "tokens", &engine_tokens));
  GOOD(e->ops->alloc(e, sizeof(int32_t) * B * T, "labels", &labels));
  GOOD(e->ops->alloc(e, sizeof(int32_t) * B * T, "order", &order));
  GOOD(e->ops->alloc(e, sizeof(double) * (size_t)d.ranks, "losses", (void **)&losses));
  schedule rate = schedule_from(c);
  update_spec update = update_from(c);
  step_result result;
  for (int64_t step = 0; step < ALL_STEPS; step++) {
    step_state state = {.step = step + 1,
                        .updates = step,
                        .lr = schedule_lr(&rate, step + 1),
                        .loss_scale = 1,
                        .micro_batches = d.ranks};
    for (int64_t j = 0; j < d.ranks; j++) {
      GOOD(source.load(source.context, (step * d.ranks + j) * B, &host));
      memcpy(engine_tokens, host.tokens, sizeof(int32_t) * B * T);
      memcpy(labels, host.labels, sizeof(int32_t) * B * T);
      memcpy(order, host.order, sizeof(int32_t) * B * T);
      GOOD(e->ops->set_step(e, &state));
      GOOD(w->ops->begin_micro_batch(w, j));
      model_batch batch = {engine_tokens, labels, order};
      GOOD(model_train(pass, &w->source, &batch, &losses[j]));
    }
    GOOD(w->ops->finish(w, losses, &update));
    GOOD(e->ops->get_result(e, &result));
  }
  e->ops->free(e, engine_tokens);
  e->ops->free(e, labels);
  e->ops->free(e, order);
  e->ops->free(e, losses);
  host_batch_free(&host);
  random_tokens_free(&tokens);
  model_run_free(pass);
  weight_store_destroy(w);
  e->ops->destroy(e);
  model_free(m);
  return result.loss;
}

static void test_train(void **unused) {
  (void)unused;
  config *c = measured_config(B, V);
  system_facts machine;
  bench_row row;
  system_read(&machine);
  GOOD(bench_measure(c, "here", BENCH_TRAIN, false, &length, &machine, &d, &row));
  check_numbers(&row);
  assert_string_equal(row.model, "here");
  double wanted = plain_training(c);
  assert_true(fabs(wanted - log(V)) < 0.5);
  assert_memory_equal(&row.loss, &wanted, sizeof wanted);
  config_free(c);
}

static void test_forward(void **unused) {
  (void)unused;
  config *c = measured_config(LARGE_B, LARGE_V);
  system_facts machine;
  bench_row row;
  system_read(&machine);
  GOOD(bench_measure(c, "here", BENCH_FORWARD, false, &length, &machine, &d, &row));
  check_numbers(&row);
  assert_int_equal(row.logits_rows, LARGE_B * T);
  double whole = row.loss;
  assert_true(fabs(whole - log(LARGE_V)) < 0.5);

  /* Logits that do not fit all at once: chunks, and the last rows have the same loss. */
  machine.memory_available = (row.plan_bytes - 8) * d.local_ranks;
  GOOD(bench_measure(c, "here", BENCH_FORWARD, false, &length, &machine, &d, &row));
  check_numbers(&row);
  assert_true(row.logits_rows < LARGE_B * T && row.plan_bytes * d.local_ranks <= machine.memory_available);
  assert_true(fabs(row.loss - whole) < 1e-5);
  config_free(c);
}

static void test_no_room(void **unused) {
  (void)unused;
  config *c = measured_config(B, V);
  system_facts machine;
  bench_row row;
  system_read(&machine);
  machine.memory_available = 1000;
  for (bench_mode mode = BENCH_TRAIN; mode <= BENCH_FORWARD; mode++) {
    GOOD(bench_measure(c, "here", mode, false, &length, &machine, &d, &row));
    assert_non_null(strstr(row.error, "each rank needs"));
    assert_int_equal(row.seq_len, T);
  }
  config_free(c);
}

static void test_length(void **unused) {
  (void)unused;
  config *c = measured_config(B, V);
  bench_row row;
  const bench_length bad[] = {{0, 1, 1}, {1, -1, 1}, {1, 0, 0}, {1, 0, BENCH_REPEATS + 1}};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    assert_int_not_equal(bench_measure(c, "here", BENCH_TRAIN, false, &bad[i], NULL, &d, &row), STATUS_OK);
  }
  config_free(c);
}

/* Tokens are in range, labels are the tokens that follow, a sequence is the same in every batch. */
static void test_random_tokens(void **unused) {
  (void)unused;
  random_tokens r;
  host_batch one, two;
  int counts[V] = {0};
  GOOD(random_tokens_create(V, T, 5, &r));
  GOOD(host_batch_init(&one, 8, T));
  GOOD(host_batch_init(&two, 3, T));
  batch_source s = random_tokens_source(&r);
  GOOD(s.load(s.context, 100, &one));
  GOOD(s.load(s.context, 104, &two));
  assert_memory_equal(one.tokens + 4 * T, two.tokens, sizeof(int32_t) * 3 * T);
  assert_memory_equal(one.labels + 4 * T, two.labels, sizeof(int32_t) * 3 * T);
  for (int64_t i = 0; i < 8 * T; i++) {
    assert_in_range(one.tokens[i], 0, V - 1);
    assert_true(i % T == T - 1 || one.labels[i] == one.tokens[i + 1]);
    assert_true(i == 0 || one.tokens[one.order[i - 1]] <= one.tokens[one.order[i]]);
    counts[one.tokens[i]]++;
  }
  int seen = 0;
  for (int v = 0; v < V; v++) {
    seen += counts[v] > 0;
  }
  assert_true(seen > V / 2); /* 192 draws of 67 values */
  host_batch_free(&one);
  host_batch_free(&two);
  random_tokens_free(&r);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_train), cmocka_unit_test(test_forward),
                                     cmocka_unit_test(test_no_room), cmocka_unit_test(test_length),
                                     cmocka_unit_test(test_random_tokens)};
  status s = dist_start(&argc, &argv, &d);
  if (s == STATUS_OK) {
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    s = failed == 0 ? STATUS_OK
                    : status_set(STATUS_FAILURE, __FILE__, __LINE__, "%d tests failed on rank %d", failed, d.rank);
  }
  dist_end(&d, s);
  return s;
}
