/* Thinning and smoothing: means and ranges of known series, gaps, and units of axes. */
#include <math.h>
#include <string.h>

#include "../train/unit.h"
#include "report/curves.h"

enum { N = 100000 };

static double steps[N], values[N];

static curve made(size_t n, bool smooth) {
  curve c;
  run_series s = {.steps = steps, .values = values, .n = n};
  for (size_t i = 0; i < n; i++) {
    steps[i] = (double)i + 1;
  }
  assert_int_equal(curve_make(&s, smooth, &c), STATUS_OK);
  return c;
}

/* Nothing is thinned, and without smoothing nothing is changed. */
static void test_short_series(void **state) {
  for (int i = 0; i < 100; i++) {
    values[i] = i % 10 == 3 ? (double)NAN : i;
  }
  curve c = made(100, false);
  assert_int_equal(c.n, 100);
  assert_false(c.thinned);
  for (int i = 0; i < 100; i++) {
    assert_true(c.x[i] == i + 1);
    assert_true(i % 10 == 3 ? isnan(c.mean[i]) && isnan(c.low[i]) : c.mean[i] == i && c.low[i] == i && c.high[i] == i);
  }
  curve_free(&c);
}

/* A lone peak is in the range of one point, and only there. */
static void test_long_series(void **state) {
  for (int i = 0; i < N; i++) {
    values[i] = i == 54321 ? 1e6 : i % 2;
  }
  curve c = made(N, false);
  assert_true(c.thinned && c.n < 1000);
  int peaks = 0;
  for (size_t k = 0; k < c.n; k++) {
    assert_true(c.low[k] == 0);
    peaks += c.high[k] == 1e6;
    assert_true(c.high[k] == 1e6 || (c.high[k] == 1 && fabs(c.mean[k] - 0.5) < 0.01));
    assert_true(k == 0 || c.x[k] > c.x[k - 1]);
  }
  assert_int_equal(peaks, 1);
  curve_free(&c);
}

/* The running mean of a straight line is the line, also at its ends, where the window is cut on both sides alike. */
static void test_smoothing_keeps_a_line(void **state) {
  for (int i = 0; i < N; i++) {
    values[i] = 3.0 * (i + 1);
  }
  for (size_t n = 1; n <= N; n *= 10) {
    curve c = made(n, true);
    for (size_t k = 0; k < c.n; k++) {
      assert_true(fabs(c.mean[k] - 3 * c.x[k]) < 1e-6 * c.mean[k]);
    }
    curve_free(&c);
  }
}

static void test_smoothing_is_smooth(void **state) {
  for (int i = 0; i < 900; i++) {
    values[i] = i % 2 ? 1 : -1;
  }
  curve c = made(900, true);
  for (size_t k = 20; k + 20 < c.n; k++) {
    assert_true(fabs(c.mean[k]) < 0.1);
  }
  curve_free(&c);
}

static void test_units(void **state) {
  assert_true(unit_of_rate(0.004).factor == 1e3);
  assert_true(unit_of_rate(0.001).factor == 1e3);
  assert_true(unit_of_rate(3e-4).factor == 1e4);
  assert_true(unit_of_rate(2).factor == 1);
  assert_true(unit_of_rate(1e-12).factor == 1e7);
  assert_true(unit_of_rate(NAN).factor > 0);
  assert_string_equal(unit_of_speed(540754).label, "thousand tokens per second");
  assert_string_equal(unit_of_steps(900).label, "step");
  assert_string_equal(unit_of_bytes(4e10).label, "GiB");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_short_series),
      cmocka_unit_test(test_long_series),
      cmocka_unit_test(test_smoothing_keeps_a_line),
      cmocka_unit_test(test_smoothing_is_smooth),
      cmocka_unit_test(test_units),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
