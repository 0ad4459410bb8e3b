/* How a run's memory of losses and norms moves (engine/spikes.h), and where a run picks it up again. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "optim/spikes.h"
#include "unit.h"

static bool next(spike_watch *w, double loss, double norm, double *loss_z, double *norm_z) {
  return spike_watch_after(w, loss, norm, loss_z, norm_z);
}

/* Without weights: mean and variance of the first `window` distances, by the book. */
static void test_first_window(void **state) {
  (void)state;
  enum { WINDOW = 16 };
  spike_watch w = {.window = WINDOW, .zscore = 6};
  double level = 0, sum = 0, squares = 0, z[2];
  for (int i = 0; i < WINDOW; i++) {
    double x = 3 + sin(5.1 * i), distance = i > 0 ? x - level : 0;
    level += (x - level) / (i + 1);
    sum += distance;
    squares += distance * distance;
    assert_false(next(&w, x, x, &z[0], &z[1]));
    assert_true(z[0] == 0 && z[1] == 0); /* too early to tell */
  }
  double mean = sum / WINDOW, variance = squares / WINDOW - mean * mean;
  assert_int_equal(w.count, WINDOW);
  assert_true(fabs(w.loss.level - level) < 1e-12);
  assert_true(fabs(w.loss.mean - mean) < 1e-12);
  assert_true(fabs(w.loss.variance - variance) < 1e-12);
  assert_memory_equal(&w.loss, &w.norm, sizeof w.loss);
  next(&w, w.loss.level + mean + 3 * sqrt(variance), 0, &z[0], &z[1]);
  assert_true(fabs(z[0] - 3) < 1e-9);
}

/* What is far below is no spike, and each of the two can be one alone. */
static void test_sides(void **state) {
  (void)state;
  for (int which = 0; which < 4; which++) {
    spike_watch w = {.window = 8, .zscore = 5};
    double z[2];
    for (int i = 0; i < 40; i++) {
      assert_false(next(&w, 4 + 0.1 * sin(3.3 * i), 1 + 0.1 * cos(3.3 * i), &z[0], &z[1]));
    }
    bool spike = next(&w, which == 0 ? 9 : which == 2 ? -9 : 4, which == 1 ? 9 : which == 3 ? -9 : 1, &z[0], &z[1]);
    assert_int_equal(spike, which < 2);
    assert_int_equal(z[0] > 5, which == 0);
    assert_int_equal(z[1] > 5, which == 1);
  }
}

/* A deviation is at least a thousandth of the level. */
static void test_a_curve_without_noise(void **state) {
  (void)state;
  spike_watch w = {.window = 8, .zscore = 6};
  double z[2];
  for (int i = 0; i < 30; i++) {
    assert_false(next(&w, 2, 0, &z[0], &z[1])); /* a level of 0 has no deviation at all */
    assert_true(z[0] == 0 && z[1] == 0);
  }
  assert_false(next(&w, 2.01, 0, &z[0], &z[1]));
  assert_true(fabs(z[0] - 5) < 1e-6);
  w = (spike_watch){.window = 8, .zscore = 6};
  for (int i = 0; i < 30; i++) {
    next(&w, 2, 1, &z[0], &z[1]);
  }
  assert_true(next(&w, 2.02, 1, &z[0], &z[1]));
}

/* A loss that falls steeply and evenly: its end is no spike, as a plain mean would have it on the way. */
static void test_a_trend(void **state) {
  (void)state;
  spike_watch w = {.window = 32, .zscore = 6};
  double z[2];
  for (int i = 0; i < 400; i++) {
    double loss = 2 + 8 * exp(-i / 60.0) + 0.05 * sin(7.7 * i), norm = 1 + 0.002 * i + 0.05 * sin(3.1 * i);
    assert_false(next(&w, loss, norm, &z[0], &z[1]));
  }
}

/* Spikes in a row are found each; none widens the limits much. */
static void test_spikes_in_a_row(void **state) {
  (void)state;
  spike_watch w = {.window = 64, .zscore = 6};
  double z[2];
  for (int i = 0; i < 200; i++) {
    next(&w, 3 + 0.1 * sin(7.7 * i), 1, &z[0], &z[1]);
  }
  for (int i = 0; i < 4; i++) {
    assert_true(next(&w, 1e30, 1, &z[0], &z[1]));
    assert_true(isfinite(w.loss.level) && isfinite(w.loss.variance) && w.loss.level < 4);
  }
}

static void test_windows(void **state) {
  (void)state;
  double z[2];
  spike_watch off = {.window = 0, .zscore = 6};
  for (int i = 0; i < 50; i++) {
    assert_false(next(&off, i % 7 == 6 ? 1e9 : 1, 1, &z[0], &z[1]));
  }
  assert_int_equal(off.count, 0);
  const int64_t sizes[] = {8, 9, 127, 1000};
  for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
    spike_watch w = {.window = sizes[k], .zscore = 6};
    for (int64_t i = 0; i < sizes[k] - 1; i++) {
      assert_false(next(&w, 3 + 0.1 * sin(7.7 * (double)i), 1, &z[0], &z[1]));
    }
    assert_false(next(&w, 100, 1, &z[0], &z[1])); /* the last step of the first window */
    for (int64_t i = 0; i < 40 * sizes[k]; i++) {
      next(&w, 3 + 0.1 * sin(7.7 * (double)i), 1, &z[0], &z[1]);
    }
    assert_true(next(&w, 100, 1, &z[0], &z[1]));
  }
}

static void test_from_config(void **state) {
  (void)state;
  config *c;
  assert_int_equal(config_new(&c), STATUS_OK);
  c->watch.spike_window = 33;
  c->watch.spike_zscore = 4.5;
  const spike_statistic loss = {1, 2, 3}, norm = {4, 5, 6};
  for (int policy = SPIKE_OFF; policy <= SPIKE_ROLLBACK; policy++) {
    c->watch.on_spike = (config_on_spike)policy;
    spike_watch w = spike_watch_from(c);
    assert_int_equal(w.window, policy == SPIKE_OFF ? 0 : 33);
    assert_int_equal(w.skip, policy == SPIKE_SKIP || policy == SPIKE_ROLLBACK);
    assert_true(w.count == 0 && w.loss.level == 0 && w.norm.variance == 0);
    w = spike_watch_resumed(c, 77, loss, norm);
    assert_int_equal(w.count, policy == SPIKE_OFF ? 0 : 77);
    assert_true(w.loss.mean == (policy == SPIKE_OFF ? 0 : 2) && w.norm.variance == (policy == SPIKE_OFF ? 0 : 6));
  }
  config_free(c);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_first_window),          cmocka_unit_test(test_sides),
      cmocka_unit_test(test_a_curve_without_noise), cmocka_unit_test(test_a_trend),
      cmocka_unit_test(test_spikes_in_a_row),       cmocka_unit_test(test_windows),
      cmocka_unit_test(test_from_config),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
