/* Accuracy of the sine on an engine in fp32: within 4e-7 of fp64, given fp32 f and z, for |f·z| up to 1e4; its
 * derivative likewise. Amplitude 1, no decay, millions of pairs.
 *
 *   test_gpu_sine                 on the GPU; exit 77 where there is none
 *   test_gpu_sine --engine cpu    the CPU engine
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../engine/trial.h"
#include "engine/select.h"

enum { ROWS = 4096, FEATURES = 384, SKIPPED = 77 };

static const double BOUND = 4e-7, FARTHEST = 1e4;
static config_device device = DEVICE_CUDA;

/* A trial of one engine whose values this file looks at itself. */
typedef struct {
  trial t;
  double *raw, *f; /* (FEATURES): the parameter, and the frequency that it stands for */
  act_spec act;
  double worst_sine, worst_cosine;
  int64_t pairs;
} sine_run;

static engine *open_device(void) {
  engine *e;
  engine_limits limits = limits_of(1, ROWS, FEATURES, FEATURES, FEATURES, 1);
  OK(engine_create(device, PRECISION_FP32, 0, 1, 1, &e));
  OK(e->ops->prepare(e, &limits));
  return e;
}

/* Frequencies above softplus's threshold, where fp32 gives the same number everywhere; or `all`, which a clamp makes
 * exact. */
static sine_run open_run(engine *e, double all) {
  sine_run r = {.t = {.e = e, .in = inputs_new(&precision_fp32), .reference = true}};
  bool fresh;
  r.raw = numbers(&r.t, "raw", FEATURES, &fresh);
  r.f = zeros(FEATURES, sizeof *r.f);
  for (int j = 0; j < FEATURES; j++) {
    r.raw[j] = exp(uniform(log(20.5), log(9000)));
  }
  void *raw = put(&r.t, KIND_S, r.raw, FEATURES);
  for (int j = 0; j < FEATURES; j++) {
    r.f[j] = all > 0 ? all : (double)((float)r.raw[j] + 1e-6f);
  }
  r.act = (act_spec){.kind = ACT_SINE, .decay = ACT_DECAY_NONE, .amplitude = raw, .frequency = raw, .damping = raw};
  r.act.amplitude_lo = r.act.amplitude_hi = 1;
  r.act.frequency_lo = all > 0 ? all : -INFINITY, r.act.frequency_hi = all > 0 ? all : INFINITY;
  r.act.damping_lo = -INFINITY, r.act.damping_hi = INFINITY;
  return r;
}

/* Half of the angles uniform over the range, a quarter of every magnitude, a quarter beside multiples of π/2. */
static double random_angle(void) {
  int64_t kind = below(4);
  if (kind < 2) {
    return uniform(-FARTHEST, FARTHEST);
  }
  if (kind == 2) {
    return exp(uniform(log(1e-6), log(FARTHEST))) * (below(2) == 0 ? 1 : -1);
  }
  return (double)(below(12733) - 6366) * 1.5707963267948966 * (1 + uniform(-2e-7, 2e-7));
}

/* Value (N, FEATURES) against sin(f·z), and slope, where given, against f·cos(f·z). */
static void measure(sine_run *r, const double *z, const double *value, const double *slope) {
  for (int64_t i = 0; i < ROWS * FEATURES; i++) {
    double f = r->f[i % FEATURES], angle = f * z[i]; /* exact: a product of two fp32 numbers */
    if (fabs(angle) > FARTHEST) {
      continue;
    }
    double error = fabs(value[i] - sin(angle));
    r->pairs++;
    if (!(error <= r->worst_sine)) {
      r->worst_sine = isnan(error) ? INFINITY : error;
    }
    error = slope ? fabs(slope[i] / f - cos(angle)) : 0;
    if (!(error <= r->worst_cosine)) {
      r->worst_cosine = isnan(error) ? INFINITY : error;
    }
  }
}

static void report(sine_run *r, const char *what) {
  bool clean;
  OK(trial_collect(&r->t, &clean));
  trial_end(&r->t);
  printf("%-28s %9lld pairs, largest error of the sine %.3g, of the cosine %.3g (bound %.3g)\n", what,
         (long long)r->pairs, r->worst_sine, r->worst_cosine, BOUND);
  assert_true(clean && r->pairs > ROWS * FEATURES / 2);
  assert_true(r->worst_sine <= BOUND && r->worst_cosine <= BOUND);
  free_all();
}

/* A convolution with one tap of 1 hands its input to the activation as it is. */
static void check_convolution(engine *e, const char *what, double all) {
  sine_run r = open_run(e, all);
  int64_t n = ROWS * FEATURES;
  bool fresh;
  double *z = numbers(&r.t, "z", n, &fresh), *ones = zeros((size_t)n, sizeof *ones);
  for (int64_t i = 0; i < n; i++) {
    z[i] = random_angle() / r.f[i % FEATURES];
    ones[i] = 1;
  }
  conv_forward_args f = {.B = 1, .T = ROWS, .D = FEATURES, .k = 1, .dilation = 1, .causal = true, .act = r.act};
  f.x = put(&r.t, KIND_C, z, n);
  f.weight = put(&r.t, KIND_S, ones, FEATURES);
  f.c = scratch(&r.t, KIND_C, n);
  f.a = scratch(&r.t, KIND_C, n);
  OK(e->ops->conv_forward(e, &f));
  conv_backward_args b = {.B = 1, .T = ROWS, .D = FEATURES, .k = 1, .dilation = 1, .causal = true, .act = r.act};
  b.x = f.x, b.weight = f.weight, b.c = f.c;
  b.da = put(&r.t, KIND_C, ones, n);
  b.scratch_c = scratch(&r.t, KIND_C, n);
  b.dx = scratch(&r.t, KIND_C, n);
  b.dweight = scratch(&r.t, KIND_S, FEATURES);
  OK(e->ops->conv_backward(e, &b));
  measure(&r, z, shared(&r.t, KIND_C, "a", f.a, n), shared(&r.t, KIND_C, "dc", b.scratch_c, n));
  report(&r, what);
}

static void test_convolution(void **state) {
  (void)state;
  static const double frequencies[] = {0.001, 0.1, 0.7, 1, 3.1415927, 13.37};
  engine *e = open_device();
  check_convolution(e, "convolution, f above 20", 0);
  check_convolution(e, "convolution, f above 20", 0);
  for (size_t i = 0; i < sizeof frequencies / sizeof *frequencies; i++) {
    char what[32];
    snprintf(what, sizeof what, "convolution, f = %g", frequencies[i]);
    check_convolution(e, what, (double)(float)frequencies[i]);
  }
  close_engine(e);
}

/* The MLP's first half: the z that it keeps (bias 0) is the z that its sine must fit. */
static void test_up_forward(void **state) {
  (void)state;
  enum { WIDTH = 8 };
  engine *e = open_device();
  sine_run r = open_run(e, 0);
  int64_t n = ROWS * FEATURES;
  bool fresh;
  double *x = numbers(&r.t, "x", ROWS * WIDTH, &fresh), *w = numbers(&r.t, "w", FEATURES * WIDTH, &fresh),
         *zero = zeros(FEATURES, sizeof *zero);
  for (int64_t i = 0; i < ROWS * WIDTH; i++) {
    x[i] = bell();
  }
  for (int64_t i = 0; i < FEATURES * WIDTH; i++) {
    w[i] = bell() * FARTHEST / 6 / r.f[i / WIDTH];
  }
  up_forward_args a = {.N = ROWS, .D = WIDTH, .M = FEATURES, .act = r.act};
  a.x = put(&r.t, KIND_C, x, ROWS * WIDTH);
  a.weight = put(&r.t, KIND_C, w, FEATURES * WIDTH);
  a.bias = put(&r.t, KIND_S, zero, FEATURES);
  a.z = scratch(&r.t, KIND_C, n);
  a.a = scratch(&r.t, KIND_C, n);
  OK(e->ops->up_forward(e, &a));
  measure(&r, shared(&r.t, KIND_C, "z", a.z, n), shared(&r.t, KIND_C, "a", a.a, n), NULL);
  report(&r, "up_forward, f above 20");
  close_engine(e);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_convolution), cmocka_unit_test(test_up_forward)};
  if (argc == 3 && strcmp(argv[1], "--engine") == 0 && strcmp(argv[2], "cpu") == 0) {
    device = DEVICE_CPU;
  } else if (argc != 1) {
    fprintf(stderr, "test_gpu_sine [--engine cpu]\n");
    return 2;
  }
  if (device == DEVICE_CUDA && engine_gpus() == 0) {
    printf("skipped: no GPU\n");
    return SKIPPED;
  }
  return cmocka_run_group_tests(tests, NULL, NULL);
}
