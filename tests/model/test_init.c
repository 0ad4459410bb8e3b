/* Initial values: their distribution, and that they depend on seed, name and element alone. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "fixture.h"

typedef struct {
  double mean, deviation, least, most;
} statistics;

static float *unit_values(const model *m, int unit_index, uint64_t seed) {
  const unit *u = &m->units[unit_index];
  float *values = test_malloc((size_t)u->count * sizeof(float));
  memset(values, 0xff, (size_t)u->count * sizeof(float));
  GOOD(model_initial(m, unit_index, seed, 0, u->count, values));
  return values;
}

static statistics measure(const model *m, const char *name, uint64_t seed) {
  int unit_index;
  const tensor *t = model_tensor(m, name, &unit_index);
  assert_non_null(t);
  float *values = unit_values(m, unit_index, seed);
  statistics s = {.least = INFINITY, .most = -INFINITY};
  double squares = 0;
  for (int64_t i = 0; i < t->count; i++) {
    double v = values[t->offset + i];
    assert_true(isfinite(v));
    s.mean += v / (double)t->count;
    squares += v * v / (double)t->count;
    s.least = fmin(s.least, v);
    s.most = fmax(s.most, v);
  }
  s.deviation = sqrt(fmax(squares - s.mean * s.mean, 0));
  test_free(values);
  return s;
}

static double softplus(double x) {
  return log1p(exp(x));
}

static model *create(const char *keys) {
  config_model c = make_config(keys);
  model *m;
  GOOD(model_create(&c, NULL, &m));
  return m;
}

#define SHAPE "d_model=128 n_heads=4 n_layers=2 d_mlp=512 vocab_size=1000 "

static void near(double value, double wanted, double tolerance) {
  if (!(fabs(value - wanted) <= tolerance)) {
    fail_msg("%.9g, wanted %.9g within %.3g", value, wanted, tolerance);
  }
}

static void test_distributions(void **unused) {
  uint64_t seed = test_seed();
  model *m = create(SHAPE "base=waveresnet wave_interleave=true wave_kernel_size=9");
  statistics s = measure(m, "embed.weight", seed);
  near(s.mean, 0, 5 * 0.02 / sqrt(128000));
  near(s.deviation, 0.02, 0.0003);
  assert_true(s.most > 0.07 && s.least < -0.07); /* a normal distribution's tails */
  const struct {
    const char *name;
    double bound, count;
  } uniform[] = {
      {"blocks.1.attn.v_proj.weight", sqrt(6.0 / 256), 128 * 128},
      {"blocks.0.mlp.fc1.weight", sqrt(6.0 / 640), 128 * 512},
      {"blocks.0.mlp.fc2.weight", sqrt(6.0 / 640), 128 * 512},
      {"lm_head.weight", sqrt(6.0 / 1128), 128 * 1000},
      {"blocks.0.wave.proj.weight", sqrt(6.0 / 256), 128 * 128},
      {"blocks.0.wave.dw.weight", 1.0 / 3, 128 * 9},
  };
  for (size_t i = 0; i < sizeof(uniform) / sizeof(uniform[0]); i++) {
    double b = uniform[i].bound, n = uniform[i].count;
    s = measure(m, uniform[i].name, seed);
    near(s.mean, 0, 5 * b / sqrt(3 * n));
    near(s.deviation, b / sqrt(3), 5 * b / sqrt(n));
    near(s.most, b, 20 * b / n);
    near(s.least, -b, 20 * b / n);
    assert_true(s.most <= b && s.least >= -b);
  }
  const struct {
    const char *name;
    double value;
  } constant[] = {{"blocks.0.alpha", 1},
                  {"blocks.1.norm1.scale", 1},
                  {"blocks.0.mlp.fc1.bias", 0},
                  {"blocks.0.wave.proj.bias", 0},
                  {"ln_f.scale", 1}};
  for (size_t i = 0; i < sizeof(constant) / sizeof(constant[0]); i++) {
    s = measure(m, constant[i].name, seed);
    assert_true(s.least == constant[i].value && s.most == constant[i].value);
  }
  model_free(m);
  m = create(SHAPE "base=transformer");
  s = measure(m, "blocks.0.norm1.weight", seed);
  assert_true(s.least == 1 && s.most == 1);
  s = measure(m, "ln_f.bias", seed);
  assert_true(s.least == 0 && s.most == 0);
  model_free(m);
}

static void test_sine(void **unused) {
  uint64_t seed = test_seed();
  model *m = create(SHAPE "base=respsann sine_amp_init=1 sine_freq_init=2.25 sine_damp_init=0.01");
  near(measure(m, "blocks.0.mlp.act._A", seed).mean, 0.54132485, 1e-6);
  near(measure(m, "blocks.0.mlp.act._f", seed).mean, 2.1386223, 1e-6);
  near(measure(m, "blocks.0.mlp.act._d", seed).mean, -4.6001663, 1e-6);
  model_free(m);

  m = create(SHAPE "base=respsann sine_amp_init=100 sine_freq_init_std=0.1 sine_damp_init=0 sine_damp_range=0.2,0.3");
  near(measure(m, "blocks.0.mlp.act._A", seed).most, 100, 1e-4); /* no overflow */
  statistics f = measure(m, "blocks.1.mlp.act._f", seed);
  near(softplus(f.mean), 1, 0.05);
  assert_true(f.most > f.least + 0.3);
  statistics d0 = measure(m, "blocks.0.mlp.act._d", seed), d1 = measure(m, "blocks.1.mlp.act._d", seed);
  assert_true(d0.least == d0.most); /* one draw a layer */
  assert_true(softplus(d0.most) >= 0.2 && softplus(d0.most) <= 0.3);
  assert_true(d0.most != d1.most);
  model_free(m);

  /* Spread below zero is cut off at the smallest value, and stays finite. */
  m = create(SHAPE "base=respsann sine_damp_init=0 sine_damp_init_std=1");
  statistics d = measure(m, "blocks.0.mlp.act._d", seed);
  near(d.least, log(expm1(1.1920929e-07)), 1e-4);
  model_free(m);
}

static void test_any_range(void **unused) {
  uint64_t seed = test_seed();
  model *m = create(
      "d_model=24 n_heads=2 n_layers=3 d_mlp=37 vocab_size=61 base=waveresnet wave_interleave=true "
      "sine_freq_init_std=0.3 sine_amp_range=0.5,1.5");
  for (int u = 0; u < m->n_units; u++) {
    float *all = unit_values(m, u, seed);
    for (int trial = 0; trial < 20; trial++) {
      int64_t first = random_below(m->units[u].count), count = 1 + random_below(m->units[u].count - first);
      float *part = test_malloc((size_t)count * sizeof(float));
      GOOD(model_initial(m, u, seed, first, count, part));
      assert_memory_equal(part, all + first, (size_t)count * sizeof(float));
      test_free(part);
    }
    test_free(all);
  }
  float value;
  assert_int_not_equal(model_initial(m, 1, seed, m->units[1].count, 1, &value), STATUS_OK);
  assert_int_not_equal(model_initial(m, m->n_units, seed, 0, 1, &value), STATUS_OK);
  model_free(m);
}

/* Threads split the work, not the values. */
static void test_threads(void **unused) {
  uint64_t seed = test_seed();
  model *m = create("d_model=96 n_heads=2 n_layers=1 d_mlp=130 vocab_size=301 base=respsann sine_freq_init_std=0.3");
  for (int u = 0; u < m->n_units; u++) {
    float *all = unit_values(m, u, seed);
    for (int threads = 1; threads <= 7; threads += 3) {
      int64_t first = random_below(m->units[u].count), count = m->units[u].count - first;
      float *part = test_malloc((size_t)count * sizeof(float));
      memset(part, 0xff, (size_t)count * sizeof(float));
      GOOD(model_initial_parallel(m, u, seed, first, count, threads, part));
      assert_memory_equal(part, all + first, (size_t)count * sizeof(float));
      test_free(part);
    }
    test_free(all);
  }
  int64_t count = m->units[0].count;
  float *room = test_malloc((size_t)(count + 1) * sizeof(float));
  assert_int_not_equal(model_initial_parallel(m, 0, seed, 0, count + 1, 3, room), STATUS_OK);
  test_free(room);
  model_free(m);
}

/* Layers, tensors and seeds differ from one another; padding is zero; a tensor does not depend on what else the model
 * has. */
static void test_independence(void **unused) {
  uint64_t seed = test_seed();
  const char *shape = "d_model=24 n_heads=2 n_layers=2 d_mlp=36 vocab_size=61 ";
  char keys[256];
  snprintf(keys, sizeof(keys), "%s base=respsann", shape);
  model *plain = create(keys);
  snprintf(keys, sizeof(keys), "%s base=waveresnet wave_interleave=true", shape);
  model *wave = create(keys);
  float *a = unit_values(plain, 1, seed), *b = unit_values(plain, 2, seed), *c = unit_values(plain, 1, seed + 1);
  float *w = unit_values(wave, 1, seed);
  const tensor *q = model_tensor(plain, "blocks.0.attn.q_proj.weight", NULL);
  const tensor *k = model_tensor(plain, "blocks.0.attn.k_proj.weight", NULL);
  const tensor *q_wave = model_tensor(wave, "blocks.0.attn.q_proj.weight", NULL);
  size_t bytes = (size_t)q->count * sizeof(float);
  assert_memory_not_equal(a + q->offset, b + q->offset, bytes);
  assert_memory_not_equal(a + q->offset, c + q->offset, bytes);
  assert_memory_not_equal(a + q->offset, a + k->offset, bytes);
  assert_memory_equal(a + q->offset, w + q_wave->offset, bytes);
  const unit *head = &plain->units[3];
  float *h = unit_values(plain, 3, seed);
  for (int64_t i = 61 * 24; i < head->vectors; i++) {
    assert_true(h[i] == 0);
  }
  test_free(a);
  test_free(b);
  test_free(c);
  test_free(w);
  test_free(h);
  model_free(plain);
  model_free(wave);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_distributions), cmocka_unit_test(test_sine),         cmocka_unit_test(test_any_range),
      cmocka_unit_test(test_threads),       cmocka_unit_test(test_independence),
  };
  return cmocka_run_group_tests_name("model init", tests, NULL, NULL);
}
