/* The engine's variants against each other: fp32 against fp64, instruction sets and numbers of threads against each
 * other, on one small model's worth of operations. */
#include <math.h>
#include <stdio.h>

#include "engine/cpu/variants.h"
#include "operations.h"

/* What all cases have in common. */
#define SHAPE .B = 3, .T = 67, .D = 72, .H = 3, .M = 53, .V = 131, .chunk = 50, .k = 3, .dilation = 2

static const struct {
  const operation *op;
  op_case c;
} cases[] = {
    {&op_embed_forward, {SHAPE, .sinusoidal = true, .norm = NORM_RMS}},
    {&op_embed_backward, {SHAPE}},
    {&op_norm_forward, {SHAPE, .norm = NORM_LAYER}},
    {&op_norm_backward, {SHAPE, .norm = NORM_RMS, .keep = true}},
    {&op_norm_backward, {SHAPE, .norm = NORM_LAYER}},
    {&op_qkv_forward, {SHAPE, .rope = true}},
    {&op_qkv_backward, {SHAPE, .rope = true}},
    {&op_attention_forward, {SHAPE}},
    {&op_attention_forward, {SHAPE, .alibi = true, .dropout = 0.2}},
    {&op_attention_backward, {SHAPE}},
    {&op_attention_backward, {SHAPE, .alibi = true, .dropout = 0.2}},
    {&op_attention_cached, {SHAPE, .capacity = 67}},
    {&op_out_forward, {SHAPE, .norm = NORM_LAYER, .bias = true, .alpha = true, .dropout = 0.3}},
    {&op_out_backward, {SHAPE, .bias = true, .dropout = 0.3}},
    {&op_up_forward, {SHAPE, .act = ACT_SINE, .keep = true}},
    {&op_up_forward, {SHAPE, .act = ACT_GELU, .bias = true}},
    {&op_mlp_backward, {SHAPE, .act = ACT_SINE, .bounds = true, .bias = true, .alpha = true}},
    {&op_mlp_backward, {SHAPE, .act = ACT_GELU, .bias = true, .alpha = true, .dropout = 0.3}},
    {&op_mlp_backward, {SHAPE, .act = ACT_RELU, .bias = true, .keep = true}},
    {&op_conv_forward, {SHAPE, .act = ACT_SINE, .causal = true, .keep = true}},
    {&op_conv_forward, {SHAPE, .act = ACT_GELU, .causal = true}},
    {&op_conv_backward, {SHAPE, .act = ACT_SINE, .causal = true, .frozen = true}},
    {&op_conv_backward, {SHAPE, .act = ACT_GELU, .causal = true}},
    {&op_head_train, {SHAPE, .label_smoothing = 0.1}},
    {&op_head_eval, {SHAPE}},
    {&op_head_logits, {SHAPE}},
};

enum { CASES = sizeof cases / sizeof *cases };

static trial run_case(int i, engine *e, inputs *in, bool reference) {
  trial t = {.e = e, .in = in, .reference = reference};
  engine_limits limits = op_limits(&cases[i].c);
  bool clean;
  OK(e->ops->prepare(e, &limits));
  OK(cases[i].op->run(&t, &cases[i].c));
  OK(trial_collect(&t, &clean));
  assert_true(clean);
  trial_end(&t);
  return t;
}

static void test_types_and_instruction_sets(void **state) {
  (void)state;
  int n, bad = 0;
  const engine_variant *variants = engine_cpu_variants(&n);
  for (int k = 0; k < CASES; k++) {
    inputs *in = inputs_new(&precision_fp32);
    engine *exact;
    OK(engine_cpu_create(DTYPE_F64, 1, 99, &exact));
    trial reference = run_case(k, exact, in, true);
    for (int i = 0; i < n; i++) {
      if (variants[i].compute != DTYPE_F32 || !variants[i].runs_here()) {
        continue;
      }
      char what[96];
      snprintf(what, sizeof what, "%s %s", variants[i].name, cases[k].op->name);
      engine *single;
      OK(engine_cpu_create_variant(&variants[i], 1, 99, &single));
      trial t = run_case(k, single, in, false);
      bad += !(trial_compare(what, &t, &reference, &precision_fp32) <= 1);
      close_engine(single);
    }
    close_engine(exact);
    free_all();
  }
  assert_int_equal(bad, 0);
}

static void test_threads(void **state) {
  (void)state;
  int bad = 0;
  for (int k = 0; k < CASES; k++) {
    const char *what = cases[k].op->name;
    inputs *in = inputs_new(&precision_fp32);
    engine *one, *two, *exact;
    OK(engine_cpu_create(DTYPE_F64, 1, 99, &exact));
    trial reference = run_case(k, exact, in, true);
    OK(engine_cpu_create(DTYPE_F32, 1, 99, &one));
    trial first = run_case(k, one, in, false), again = run_case(k, one, in, false);
    bad += !same_bits(what, &first, &again, true);
    OK(engine_cpu_create(DTYPE_F32, 2, 99, &two));
    trial threads = run_case(k, two, in, false);
    bad += !same_bits("two threads", &first, &threads, false);
    bad += !(trial_compare("two threads", &threads, &reference, &precision_fp32) <= 1);
    close_engine(exact);
    close_engine(one);
    close_engine(two);
    free_all();
  }
  assert_int_equal(bad, 0);
}

/* Angles beyond the vector sine's range take the exact path and stay bounded. */
static void test_far_angles(void **state) {
  (void)state;
  enum { FAR_N = 2, FAR_M = 70 };
  engine_limits limits = limits_of(1, FAR_N, 1, 1, FAR_M, 4);
  engine *e = open_engine(DTYPE_F32, 1, &limits);
  float x[FAR_N] = {3e8f, 1}, *w = zeros(FAR_M, 4), *zero = zeros(FAR_M, 4), *raw = zeros(FAR_M, 4),
        *z = zeros(FAR_N * FAR_M, 4);
  float *a = zeros(FAR_N * FAR_M, 4);
  for (int j = 0; j < FAR_M; j++) {
    w[j] = (float)uniform(0.5, 2);
  }
  act_spec act = {.kind = ACT_SINE,
                  .decay = ACT_DECAY_NONE,
                  .amplitude = raw,
                  .frequency = raw,
                  .damping = raw,
                  .amplitude_lo = -INFINITY,
                  .amplitude_hi = INFINITY,
                  .frequency_lo = -INFINITY,
                  .frequency_hi = INFINITY,
                  .damping_lo = -INFINITY,
                  .damping_hi = INFINITY};
  up_forward_args u = {.N = FAR_N, .D = 1, .M = FAR_M, .x = x, .weight = w, .bias = zero, .act = act, .z = z, .a = a};
  OK(e->ops->up_forward(e, &u));
  for (int i = 0; i < FAR_N * FAR_M; i++) {
    double f = (double)(float)(log(2) + 1e-6);
    assert_true(fabs((double)a[i] - log(2) * sin(f * (double)z[i])) < 2e-7);
  }
  close_engine(e);
  free_all();
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_types_and_instruction_sets), cmocka_unit_test(test_threads),
                                     cmocka_unit_test(test_far_angles)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
