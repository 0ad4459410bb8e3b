/* How the loss scale of fp16 moves, and where a run picks it up again. */
#include <math.h>
#include <stdlib.h>

#include "config/config.h"
#include "optim/loss_scale.h"
#include "unit.h"

static const loss_scaling start = {.scale = 65536, .growth_interval = 3, .least = 16, .most = 0x1p18};

static void test_growth(void **state) {
  loss_scaling s = start;
  const double scales[] = {0x1p16, 0x1p16, 0x1p17, 0x1p17, 0x1p17, 0x1p18, 0x1p18, 0x1p18, 0x1p18, 0x1p18};
  for (int i = 0; i < 10; i++) {
    loss_scaling_after(&s, true);
    assert_true(s.scale == scales[i]); /* the last three are at the bound */
    assert_int_equal(s.good_steps, (i + 1) % 3);
  }
}

static void test_halving(void **state) {
  loss_scaling s = start;
  loss_scaling_after(&s, true);
  loss_scaling_after(&s, true);
  for (int i = 1; i <= 20; i++) {
    loss_scaling_after(&s, false);
    assert_true(s.scale == fmax(16, ldexp(65536, -i)));
    assert_int_equal(s.good_steps, 0);
  }
  loss_scaling_after(&s, true);
  loss_scaling_after(&s, false); /* good steps count in a row */
  loss_scaling_after(&s, true);
  loss_scaling_after(&s, true);
  assert_true(s.scale == 16);
  loss_scaling_after(&s, true);
  assert_true(s.scale == 32);
}

static void test_fixed(void **state) {
  loss_scaling s = {.scale = 1024};
  for (int i = 0; i < 5000; i++) {
    loss_scaling_after(&s, i % 100 != 0);
  }
  assert_true(s.scale == 1024 && s.good_steps == 0);
}

static config *config_of(const char *lines) {
  char text[512];
  config *c;
  snprintf(text, sizeof text, "[run]\ndir = a\n[data]\ntrain = a\n[train]\nmax_steps = 9\n%s", lines);
  assert_int_equal(config_new(&c), STATUS_OK);
  assert_int_equal(config_read_text(c, text, "test"), STATUS_OK);
  assert_int_equal(config_resolve(c), STATUS_OK);
  return c;
}

static void test_from_config(void **state) {
  static const struct {
    const char *lines;
    loss_scaling fresh, resumed; /* resumed from 2^30 with 7 good steps */
  } cases[] = {
      {"precision = bf16\n", {.scale = 1}, {.scale = 1}},
      {"precision = fp16\n", {65536, 0, 2000, 1, 0x1p24}, {0x1p24, 7, 2000, 1, 0x1p24}},
      {"precision = fp16\nloss_scale = 128\n", {.scale = 128}, {.scale = 128}},
      {"precision = fp16\nloss_scale_init = 1099511627776\nloss_scale_max = 1099511627776\nloss_scale_min = 4\n"
       "loss_scale_growth_interval = 5\n",
       {0x1p40, 0, 5, 4, 0x1p40},
       {0x1p30, 7, 5, 4, 0x1p40}},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    config *c = config_of(cases[i].lines);
    loss_scaling fresh = loss_scaling_from(c), resumed = loss_scaling_resumed(c, 0x1p30, 7);
    assert_memory_equal(&fresh, &cases[i].fresh, sizeof fresh);
    assert_memory_equal(&resumed, &cases[i].resumed, sizeof resumed);
    config_free(c);
  }
}

/* The same moves from a resume in the middle as without it. */
static void test_resume(void **state) {
  config *c = config_of("precision = fp16\nloss_scale_growth_interval = 4\n");
  for (int stop = 0; stop < 60; stop++) {
    loss_scaling whole = loss_scaling_from(c), parts = whole;
    for (int step = 0; step < 60; step++) {
      if (step == stop) {
        parts = loss_scaling_resumed(c, parts.scale, parts.good_steps);
      }
      bool finite = step * 7 % 13 != 5;
      loss_scaling_after(&whole, finite);
      loss_scaling_after(&parts, finite);
      assert_memory_equal(&whole, &parts, sizeof whole);
    }
  }
  config_free(c);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_growth), cmocka_unit_test(test_halving),     cmocka_unit_test(test_fixed),
      cmocka_unit_test(test_resume), cmocka_unit_test(test_from_config),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
