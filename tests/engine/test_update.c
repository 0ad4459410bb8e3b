/* Sums, norms, AdamW, dropout's mask, and the engine's own functions. */
#include <math.h>
#include <string.h>

#include "base/philox.h"
#include "support.h"

static engine *small_engine(dtype compute, int threads) {
  engine_limits limits = limits_of(1, 4, 4, 1, 4, 4);
  return open_engine(compute, threads, &limits);
}

static void test_add_and_squares(void **state) {
  (void)state;
  for (int threads = 1; threads <= 3; threads++) {
    engine *e = small_engine(DTYPE_F32, threads);
    int64_t leaf = 4100, leaves = 9, n = leaf * leaves;
    double *a = random_doubles(n, 1), *b = random_doubles(n, 1), squares[18] = {0};
    float *sum = to_floats(a, n), *term = to_floats(b, n);
    OK(e->ops->leaf_squares(e, STREAM_MAIN, sum, leaf, leaves, squares, 2));
    for (int64_t i = 0; i < leaves; i++) {
      assert_true(squares[2 * i + 1] == 0 && fabs(squares[2 * i] / dot(a + i * leaf, a + i * leaf, leaf) - 1) < 1e-14);
    }
    OK(e->ops->add(e, STREAM_MAIN, sum, sum, term, n - 1));
    for (int64_t i = 0; i < n; i++) {
      assert_true(sum[i] == (float)a[i] + (i < n - 1 ? (float)b[i] : 0));
    }
    close_engine(e);
    free_all();
  }
}

/* Of one pass the same bits as of two, wherever the sum goes. */
static void test_add_leaf_squares(void **state) {
  (void)state;
  const int64_t leaf = 4100, leaves = 9, n = leaf * leaves;
  for (int threads = 1; threads <= 3; threads++) {
    for (int place = 0; place < 3; place++) {
      engine *e = small_engine(DTYPE_F32, threads);
      double *a = random_doubles(n, 1), *b = random_doubles(n, 1), squares[18] = {0}, wanted[18] = {0};
      float *terms[2] = {to_floats(a, n), to_floats(b, n)}, *apart = zeros(n, sizeof(float));
      float *sum = place < 2 ? terms[place] : zeros(n, sizeof(float));
      OK(e->ops->add(e, STREAM_MAIN, apart, terms[0], terms[1], n));
      OK(e->ops->leaf_squares(e, STREAM_MAIN, apart, leaf, leaves, wanted, 2));
      OK(e->ops->add_leaf_squares(e, STREAM_MAIN, sum, terms[0], terms[1], leaf, leaves, squares, 2, place == 1));
      assert_memory_equal(sum, apart, (size_t)n * sizeof(float));
      assert_memory_equal(squares, wanted, sizeof squares);
      close_engine(e);
      free_all();
    }
  }
}

static void test_finish_norm(void **state) {
  (void)state;
  engine *e = small_engine(DTYPE_F32, 1);
  step_state step = {.step = 5, .updates = 4, .lr = 0.1, .loss_scale = 8, .micro_batches = 4};
  OK(e->ops->set_step(e, &step));
  double squares[3] = {9 * 1024, 16 * 1024, 0}, losses[4] = {1, 2, 3, 6};
  step_result r;
  OK(e->ops->finish_norm(e, squares, 3, losses, 4, 2.0));
  OK(e->ops->get_result(e, &r));
  assert_true(fabs(r.grad_norm - 5) < 1e-15 && fabs(r.loss - 3) < 1e-15 && r.skip == 0);
  assert_true(fabs(r.grad_scale - 2.0 / (5 + 1e-6) / 32) < 1e-16);
  OK(e->ops->finish_norm(e, squares, 3, losses, 4, 6.0));
  OK(e->ops->get_result(e, &r));
  assert_true(r.grad_scale == 1.0 / 32); /* not beyond the limit */
  OK(e->ops->finish_norm(e, squares, 3, losses, 4, 0));
  OK(e->ops->get_result(e, &r));
  assert_true(r.grad_scale == 1.0 / 32); /* off */
  const double bad[] = {NAN, INFINITY};
  for (int i = 0; i < 2; i++) {
    squares[2] = bad[i];
    OK(e->ops->finish_norm(e, squares, 3, losses, 4, 2.0));
    OK(e->ops->get_result(e, &r));
    assert_int_equal(r.skip, 1);
    squares[2] = 0;
    losses[1] = bad[i];
    OK(e->ops->finish_norm(e, squares, 3, losses, 4, 2.0));
    OK(e->ops->get_result(e, &r));
    assert_int_equal(r.skip, 1);
    losses[1] = 2;
  }
  close_engine(e);
}

/* The engine's own scale: undone before the norm is judged, and adapted by every step. */
static void test_loss_scale(void **state) {
  (void)state;
  engine *e = small_engine(DTYPE_F32, 1);
  const loss_scaling s = {.scale = 0x1p40, .growth_interval = 2, .least = 0x1p38, .most = 0x1p39};
  step_state step = {.step = 1, .lr = 0.1, .loss_scale = 1, .micro_batches = 4};
  double squares = 12345.678, loss = 2, scaled;
  step_result plain, r;
  OK(e->ops->set_step(e, &step));
  OK(e->ops->finish_norm(e, &squares, 1, &loss, 1, 2.0));
  OK(e->ops->get_result(e, &plain));
  assert_true(plain.loss_scale == 1 && plain.next.scale == 1); /* fixed until told otherwise */
  OK(e->ops->set_loss_scale(e, &s));
  const struct {
    bool finite;
    double scale, next;
  } steps[] = {{false, 0x1p40, 0x1p39}, {false, 0x1p39, 0x1p38}, {false, 0x1p38, 0x1p38}, {true, 0x1p38, 0x1p38},
               {true, 0x1p38, 0x1p39},  {true, 0x1p39, 0x1p39},  {true, 0x1p39, 0x1p39}};
  step.loss_scale = 0;
  for (int i = 0; i < 7; i++) {
    OK(e->ops->set_step(e, &step)); /* as often as there are micro-batches */
    OK(e->ops->set_step(e, &step));
    scaled = steps[i].finite ? squares * steps[i].scale * steps[i].scale : INFINITY;
    OK(e->ops->finish_norm(e, &scaled, 1, &loss, 1, 2.0));
    OK(e->ops->get_result(e, &r));
    assert_true(r.loss_scale == steps[i].scale && r.next.scale == steps[i].next && r.skip == !steps[i].finite);
    assert_true(r.loss == plain.loss);
    if (steps[i].finite) {
      assert_true(r.grad_norm == plain.grad_norm && r.grad_scale * r.loss_scale == plain.grad_scale);
    }
  }
  close_engine(e);
}

/* A falling, noisy loss with one step far off: the watch says so before the update, and the next step is none. */
static void test_spikes(void **state) {
  (void)state;
  enum { STEPS = 60, BAD = 40 };
  for (int skip = 0; skip <= 1; skip++) {
    engine *e = small_engine(DTYPE_F32, 1);
    const spike_watch w = {.window = 16, .zscore = 6, .skip = skip};
    OK(e->ops->set_step(e, &(step_state){.step = 1, .loss_scale = 1, .micro_batches = 1}));
    OK(e->ops->set_spike_watch(e, &w));
    step_result r, before = {0};
    for (int i = 0; i < STEPS; i++) {
      double noise = sin(i * 7.7), loss = 5 - 0.04 * i + 0.1 * noise + (i == BAD ? 2 : 0), square = 4 + noise;
      OK(e->ops->finish_norm(e, &square, 1, &loss, 1, 0));
      OK(e->ops->get_result(e, &r));
      assert_int_equal(r.spike, i == BAD);
      assert_int_equal(r.skip, i == BAD && skip);
      assert_true(fabs(r.norm_zscore) < 4 && (i != BAD ? fabs(r.loss_zscore) < 4 : r.loss_zscore > 10));
      assert_int_equal(r.spikes.count, i + 1);
      if (i == BAD) { /* it moves level and deviation by no more than the limit would */
        assert_true(r.spikes.loss.level - before.spikes.loss.level < 2.0 / 16);
        assert_true(r.spikes.loss.variance < 4 * before.spikes.loss.variance);
      }
      before = r;
    }
    double infinite = INFINITY, loss = 3;
    OK(e->ops->finish_norm(e, &infinite, 1, &loss, 1, 0));
    OK(e->ops->get_result(e, &r));
    assert_true(r.skip == 1 && r.spike == 0); /* another matter, which leaves no trace */
    assert_memory_equal(&r.spikes, &before.spikes, sizeof r.spikes);
    close_engine(e);
  }
}

/* A level that stays is accepted after a while; without a watch nothing is a spike. */
static void test_new_level(void **state) {
  (void)state;
  engine *e = small_engine(DTYPE_F32, 1);
  OK(e->ops->set_step(e, &(step_state){.step = 1, .loss_scale = 1, .micro_batches = 1}));
  step_result r;
  for (int watched = 0; watched <= 1; watched++) {
    OK(e->ops->set_spike_watch(e, &(spike_watch){.window = watched ? 16 : 0, .zscore = 6, .skip = 1}));
    int spikes = 0, last = -1;
    for (int i = 0; i < 100; i++) {
      double square = 1, loss = 1 + 0.1 * sin(i * 7.7) + (i >= 40 ? 3 : 0);
      OK(e->ops->finish_norm(e, &square, 1, &loss, 1, 0));
      OK(e->ops->get_result(e, &r));
      spikes += (int)r.spike;
      last = r.spike ? i : last;
    }
    assert_true(watched ? spikes >= 1 && last < 60 : spikes == 0 && r.spikes.count == 0);
  }
  close_engine(e);
}

enum { UNIT = 40000 };

static const optim_run runs[] = {
    {0, 37, true, true}, {64, 100, false, true}, {192, 3, true, false}, {256, UNIT - 300, true, true}};

/* The run of element i of the unit, or NULL for padding. */
static const optim_run *run_of(int64_t i) {
  for (int r = 0; r < 4; r++) {
    if (i >= runs[r].first && i < runs[r].first + runs[r].count) {
      return &runs[r];
    }
  }
  return NULL;
}

/* Several updates of a slice of the unit, against the formula in fp64. */
static void check_adamw(dtype compute, int threads, bool separate_weights) {
  engine *e = small_engine(compute, threads);
  int64_t first = 10, n = UNIT - 20;
  double *p = random_doubles(n, 1), *m = random_doubles(n, 0.1), *v = random_doubles(n, 0.1), *g = random_doubles(n, 3);
  for (int64_t i = 0; i < n; i++) {
    v[i] = fabs(v[i]);
  }
  bool wide = compute == DTYPE_F64;
  size_t bytes = (size_t)n * dtype_size(compute);
  void *master = wide ? memcpy(zeros(bytes, 1), p, bytes) : to_floats(p, n),
       *mm = wide ? memcpy(zeros(bytes, 1), m, bytes) : to_floats(m, n);
  void *vv = wide ? memcpy(zeros(bytes, 1), v, bytes) : to_floats(v, n), *grad = wide ? (void *)g : to_floats(g, n);
  void *weights = separate_weights ? zeros(bytes, 1) : master;
  adamw_args a = {.first = first,
                  .count = n,
                  .runs = runs,
                  .n_runs = 4,
                  .beta1 = 0.9,
                  .beta2 = 0.95,
                  .eps = 1e-8,
                  .weight_decay = 0.1,
                  .grad = grad,
                  .master = master,
                  .m = mm,
                  .v = vv,
                  .weights = weights};
  for (int64_t update = 2; update < 5; update++) {
    step_state step = {.step = update + 2, .updates = update, .lr = 0.01, .loss_scale = 2, .micro_batches = 4};
    OK(e->ops->set_step(e, &step));
    double squares = 1, loss = 1;
    OK(e->ops->finish_norm(e, &squares, 1, &loss, 1, 0));
    OK(e->ops->adamw(e, &a));
    double t = (double)(update + 1);
    for (int64_t i = 0; i < n; i++) {
      const optim_run *run = run_of(first + i);
      if (!run || !run->trainable) {
        continue;
      }
      double gi = g[i] / 8;
      m[i] = 0.9 * m[i] + 0.1 * gi;
      v[i] = 0.95 * v[i] + 0.05 * gi * gi;
      p[i] = p[i] * (run->decay ? 1 - 0.01 * 0.1 : 1) -
             0.01 * (m[i] / (1 - pow(0.9, t))) / (sqrt(v[i]) / sqrt(1 - pow(0.95, t)) + 1e-8);
    }
  }
  const double *got = wide ? master : to_doubles(master, n), *got_m = wide ? mm : to_doubles(mm, n),
               *got_v = wide ? vv : to_doubles(vv, n);
  double tolerance = wide ? 1e-14 : 1e-6;
  for (int64_t i = 0; i < n; i++) {
    const optim_run *run = run_of(first + i);
    double allowed = run && run->trainable ? tolerance : 1e-300;
    assert_true(fabs(got[i] - p[i]) < allowed * 3 && fabs(got_m[i] - m[i]) < allowed &&
                fabs(got_v[i] - v[i]) < allowed * 3);
  }
  if (separate_weights) {
    for (int64_t i = 0; i < n; i++) {
      const optim_run *run = run_of(first + i);
      size_t at = (size_t)i * dtype_size(compute);
      const char *expected = run && run->trainable ? (char *)master + at : (const char[8]){0};
      assert_memory_equal((char *)weights + at, expected, dtype_size(compute));
    }
  }
  close_engine(e);
  free_all();
}

static void test_adamw(void **state) {
  (void)state;
  check_adamw(DTYPE_F64, 1, false);
  check_adamw(DTYPE_F32, 2, true);
}

static void test_skipped_update(void **state) {
  (void)state;
  engine *e = small_engine(DTYPE_F64, 1);
  double *p = random_doubles(UNIT, 1), *m = random_doubles(UNIT, 1), *v = random_doubles(UNIT, 1),
         *g = random_doubles(UNIT, 1);
  double *kept[3] = {zeros(UNIT, 8), zeros(UNIT, 8), zeros(UNIT, 8)}, *now[3] = {p, m, v};
  for (int i = 0; i < 3; i++) {
    memcpy(kept[i], now[i], UNIT * sizeof(double));
  }
  double squares = NAN, loss = 1;
  OK(e->ops->finish_norm(e, &squares, 1, &loss, 1, 1));
  adamw_args a = {.count = UNIT,
                  .runs = runs,
                  .n_runs = 4,
                  .beta1 = 0.9,
                  .beta2 = 0.95,
                  .eps = 1e-8,
                  .grad = g,
                  .master = p,
                  .m = m,
                  .v = v,
                  .weights = p};
  OK(e->ops->adamw(e, &a));
  for (int i = 0; i < 3; i++) {
    assert_memory_equal(kept[i], now[i], UNIT * sizeof(double));
  }
  close_engine(e);
  free_all();
}

/* out_forward of zeros with bias 1 shows the mask. */
static float *mask_of(engine *e, int64_t T, int64_t D, uint32_t site, double p) {
  float *in = zeros((size_t)T, 4), *weight = zeros((size_t)D, 4), *bias = zeros((size_t)D, 4),
        *residual = zeros((size_t)(T * D), 4);
  float *y = zeros((size_t)(T * D), 4);
  for (int64_t j = 0; j < D; j++) {
    bias[j] = 1;
  }
  out_forward_args a = {.B = 1,
                        .T = T,
                        .D = D,
                        .K = 1,
                        .in = in,
                        .weight = weight,
                        .bias = bias,
                        .dropout = {.p = p, .site = site},
                        .residual = residual,
                        .y = y};
  OK(e->ops->out_forward(e, &a));
  return y;
}

/* Known answer of Philox4x32-10 for key 0 and counter 0: 6627e8d5 e169c58d bc57ac4c 9b00dbd8, so the uniform numbers
 * are 0.399, 0.880, 0.736, 0.605. */
static void test_mask_known_answer(void **state) {
  (void)state;
  engine *e;
  OK(engine_cpu_create(DTYPE_F32, 1, (uint64_t)(PHILOX_DROPOUT * 0x9E3779B9u) << 32, &e));
  engine_limits limits = limits_of(1, 1, 4, 1, 4, 4);
  OK(e->ops->prepare(e, &limits));
  const double p[] = {0.25, 0.5, 0.625, 0.75, 0.9};
  const int kept[][4] = {{1, 1, 1, 1}, {0, 1, 1, 1}, {0, 1, 1, 0}, {0, 1, 0, 0}, {0, 0, 0, 0}};
  for (int i = 0; i < 5; i++) {
    const float *mask = mask_of(e, 1, 4, 0, p[i]);
    for (int j = 0; j < 4; j++) {
      assert_true(mask[j] == (kept[i][j] ? (float)(1 / (1 - p[i])) : 0));
    }
  }
  close_engine(e);
  free_all();
}

/* Every element of a mask of odd shape, in a job's far sequence, against philox(). */
static void test_mask_counters(void **state) {
  (void)state;
  int64_t T = 31, D = 77;
  engine_limits limits = limits_of(1, T, D, 1, D, 4);
  engine *e = open_engine(DTYPE_F32, 2, &limits);
  step_state step = {.step = 1, .first_sequence = 0x123456789ab, .loss_scale = 1, .micro_batches = 1};
  OK(e->ops->set_step(e, &step));
  double p = uniform(0.05, 0.95);
  const float *mask = mask_of(e, T, D, 9, p);
  for (int64_t i = 0; i < T * D; i++) {
    philox_block b = philox(e->seed, PHILOX_DROPOUT, 0x456789abu, 0x123u, 9, (uint32_t)(i / 4));
    float expected = (double)philox_uniform(b.x[i % 4]) < p ? 0 : (float)(1 / (1 - p));
    assert_true(mask[i] == expected);
  }
  close_engine(e);
  free_all();
}

static void test_engine_itself(void **state) {
  (void)state;
  engine *e;
  assert_int_equal(engine_cpu_create(DTYPE_F32, 0, 1, &e), STATUS_USER_ERROR);
  assert_null(e);
  OK(engine_cpu_create(DTYPE_F32, 2, 1, &e));
  assert_true(e->compute == DTYPE_F32 && e->state == DTYPE_F32 && strstr(e->description, "2 threads") &&
              strstr(e->description, "OpenBLAS"));
  void *p;
  OK(e->ops->alloc(e, 1000, "a test", &p));
  assert_true((uintptr_t)p % 256 == 0);
  for (int i = 0; i < 1000; i++) {
    assert_true(((char *)p)[i] == 0);
  }
  e->ops->free(e, p);
  assert_int_equal(e->ops->alloc(e, SIZE_MAX - 5, "a test", &p), STATUS_FAILURE);
  assert_null(p);
  OK(e->ops->alloc(e, 0, "nothing", &p));
  e->ops->free(e, p);
  OK(e->ops->record(e, STREAM_SIDE, ENGINE_EVENTS - 1));
  assert_int_equal(e->ops->wait(e, STREAM_MAIN, ENGINE_EVENTS), STATUS_FAILURE);
  OK(e->ops->synchronize(e));
  float x[4] = {1, 2, 3, 4}, y[4] = {0};
  OK(e->ops->copy(e, STREAM_COPY, COPY_TO_ENGINE, y, x, sizeof x));
  assert_memory_equal(x, y, sizeof x);
  OK(e->ops->fill_zero(e, STREAM_MAIN, y, 8));
  assert_true(y[1] == 0 && y[2] == 3);
  /* A shape beyond the limits, or no limits at all, is refused before anything is written. */
  mlp_backward_args a = {.B = 1, .T = 1, .D = 4, .M = 4, .dropout = {.p = 0.5}};
  assert_int_equal(e->ops->mlp_backward(e, &a), STATUS_FAILURE);
  assert_true(strstr(status_message(), "scratch") != NULL);
  close_engine(e);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_add_and_squares),
      cmocka_unit_test(test_add_leaf_squares),
      cmocka_unit_test(test_finish_norm),
      cmocka_unit_test(test_loss_scale),
      cmocka_unit_test(test_adamw),
      cmocka_unit_test(test_spikes),
      cmocka_unit_test(test_new_level),
      cmocka_unit_test(test_skipped_update),
      cmocka_unit_test(test_mask_known_answer),
      cmocka_unit_test(test_mask_counters),
      cmocka_unit_test(test_engine_itself),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
