/* Counts of operations and the table of memory. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "fixture.h"
#include "model/plan.h"

static void near(double value, double wanted, double relative) {
  if (!(fabs(value - wanted) <= relative * wanted)) {
    fail_msg("%.9g, wanted %.9g", value, wanted);
  }
}

static double flop(const char *keys, int64_t T) {
  config_model c = make_config(keys);
  model *m;
  GOOD(model_create(&c, NULL, &m));
  double f = plan_flop_per_token(m, T);
  model_free(m);
  return f;
}

static void test_flop(void **unused) {
  near(flop("d_model=256 n_layers=4 n_heads=4 d_mlp=1024 vocab_size=32000", 4096), 93.2e6, 6e-4);
  near(flop("d_model=512 n_layers=8 n_heads=8 d_mlp=2048 vocab_size=32000", 1024), 274.5e6, 2e-4);
  near(flop("d_model=768 n_layers=12 n_heads=12 d_mlp=3072 vocab_size=50304", 1024), 797.9e6, 2e-4);
  near(flop("d_model=1024 n_layers=24 n_heads=16 d_mlp=4096 vocab_size=32000", 2048), 2.311e9, 3e-4);
  near(flop("d_model=2048 n_layers=24 n_heads=16 d_mlp=8192 vocab_size=32000", 2048), 8.245e9, 1e-4);
  near(flop("d_model=1536 n_layers=28 n_heads=12 d_mlp=13440 vocab_size=151936", 1024), 10.19e9, 5e-4);
  /* The transformer multiplies the same matrices; the wave block adds its projection. */
  const char *shape = "d_model=64 n_layers=3 n_heads=4 d_mlp=100 vocab_size=77";
  char keys[256];
  double plain = flop(shape, 50);
  assert_true(plain == 6.0 * (3 * (4 * 64 * 64 + 2 * 64 * 100) + 64 * 77) + 6.0 * 3 * 50 * 64);
  snprintf(keys, sizeof(keys), "base=transformer %s", shape);
  assert_true(flop(keys, 50) == plain);
  snprintf(keys, sizeof(keys), "base=waveresnet wave_interleave=true %s", shape);
  assert_true(flop(keys, 50) == plain + 6.0 * 3 * 64 * 64);
}

static void test_table(void **unused) {
  static char names[PLAN_ROWS + 5][16];
  memory_plan p = {0};
  double sum = 0;
  plan_add(&p, "weights", 100);
  plan_add(&p, "weights", 50);
  assert_int_equal(p.n_rows, 1);
  assert_true(p.rows[0].bytes == 150 && plan_total(&p) == 150);
  plan_add_host(&p, "weights", 7); /* another row: of other memory */
  assert_true(p.n_rows == 2 && plan_total(&p) == 150 && plan_host(&p) == 7);
  plan_print(&p, 1e9, 1e9);
  plan_all_one(&p);
  assert_true(plan_total(&p) == 157 && plan_host(&p) == 0);
  sum = 157;
  for (int i = 0; i < PLAN_ROWS + 5; i++) {
    snprintf(names[i], sizeof(names[i]), "row %d", i);
    plan_add(&p, names[i], i + 1);
    sum += i + 1;
  }
  assert_int_equal(p.n_rows, PLAN_ROWS);
  assert_true(plan_total(&p) == sum); /* a full table loses nothing */
  plan_print(&p, 1e9, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_flop), cmocka_unit_test(test_table)};
  return cmocka_run_group_tests_name("model plan", tests, NULL, NULL);
}
