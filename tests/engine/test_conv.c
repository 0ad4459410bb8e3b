/* The temporal convolution: the formula, central differences, causality, and continuing from a history. */
#include <math.h>
#include <string.h>

#include "support.h"

typedef struct {
  engine *e;
  int64_t B, T, D, k, dilation;
  bool causal;
  double *x, *weight, *A, *f, *d, *c, *a, *out_weight;
  act_spec act;
} conv_case;

static conv_case new_case(int64_t B, int64_t T, int64_t D, int64_t k, int64_t dilation, bool causal, act_kind kind) {
  int64_t N = B * T;
  engine_limits limits = limits_of(B, T, D, 1, D, 5);
  conv_case c = {
      .e = open_engine(DTYPE_F64, 1, &limits), .B = B, .T = T, .D = D, .k = k, .dilation = dilation, .causal = causal};
  c.x = random_doubles(N * D, 1);
  c.weight = random_doubles(D * k, 1);
  c.A = random_doubles(D, 1);
  c.f = random_doubles(D, 1);
  c.d = random_doubles(D, 1);
  c.c = zeros((size_t)(N * D), 8);
  c.a = zeros((size_t)(N * D), 8);
  c.out_weight = random_doubles(N * D, 1);
  c.act = (act_spec){.kind = kind,
                     .decay = ACT_DECAY_ABS,
                     .amplitude = c.A,
                     .frequency = c.f,
                     .damping = c.d,
                     .amplitude_lo = -INFINITY,
                     .amplitude_hi = INFINITY,
                     .frequency_lo = -INFINITY,
                     .frequency_hi = INFINITY,
                     .damping_lo = -INFINITY,
                     .damping_hi = INFINITY};
  return c;
}

static conv_forward_args args_of(const conv_case *c) {
  return (conv_forward_args){.B = c->B,
                             .T = c->T,
                             .D = c->D,
                             .k = c->k,
                             .dilation = c->dilation,
                             .causal = c->causal,
                             .x = c->x,
                             .weight = c->weight,
                             .act = c->act,
                             .c = c->c,
                             .a = c->a};
}

static double run_forward(void *context) {
  conv_case *c = context;
  conv_forward_args a = args_of(c);
  OK(c->e->ops->conv_forward(c->e, &a));
  return dot(c->out_weight, c->a, c->B * c->T * c->D);
}

static void check_formula(const conv_case *c) {
  int64_t shift = c->causal ? -(c->k - 1) * c->dilation : -(c->k - 1) / 2 * c->dilation;
  for (int64_t row = 0; row < c->B * c->T; row++) {
    for (int64_t j = 0; j < c->D; j++) {
      double sum = 0;
      for (int64_t tap = 0; tap < c->k; tap++) {
        int64_t t = row % c->T + shift + tap * c->dilation;
        if (t >= 0 && t < c->T) {
          sum += c->weight[j * c->k + tap] * c->x[(row / c->T * c->T + t) * c->D + j];
        }
      }
      assert_true(fabs(c->c[row * c->D + j] - sum) < 1e-12);
    }
  }
}

static void check_case(int64_t B, int64_t T, int64_t D, int64_t k, int64_t dilation, bool causal, act_kind kind) {
  conv_case c = new_case(B, T, D, k, dilation, causal, kind);
  int64_t N = B * T;
  run_forward(&c);
  check_formula(&c);
  double *scratch = zeros((size_t)(N * D), 8), *dx = zeros((size_t)(N * D), 8), *dw = zeros((size_t)(D * k), 8);
  double *dA = zeros((size_t)D, 8), *df = zeros((size_t)D, 8), *dd = zeros((size_t)D, 8);
  conv_backward_args b = {.B = B,
                          .T = T,
                          .D = D,
                          .k = k,
                          .dilation = dilation,
                          .causal = causal,
                          .x = c.x,
                          .weight = c.weight,
                          .c = c.c,
                          .act = c.act,
                          .da = c.out_weight,
                          .scratch_c = scratch,
                          .dx = dx,
                          .dweight = dw,
                          .dact = {dA, df, dd}};
  OK(c.e->ops->conv_backward(c.e, &b));
  check_gradient("x", run_forward, &c, c.x, dx, N * D);
  check_gradient("taps", run_forward, &c, c.weight, dw, D * k);
  if (kind == ACT_SINE) {
    check_gradient("amplitude", run_forward, &c, c.A, dA, D);
    check_gradient("frequency", run_forward, &c, c.f, df, D);
    check_gradient("damping", run_forward, &c, c.d, dd, D);
  }
  close_engine(c.e);
  free_all();
}

static void test_gradients(void **state) {
  (void)state;
  check_case(2, 13, 9, 3, 1, true, ACT_SINE);
  check_case(2, 13, 67, 3, 2, false, ACT_SINE);
  check_case(1, 7, 5, 4, 3, true, ACT_SINE);
  check_case(3, 65, 6, 2, 1, true, ACT_GELU);
  check_case(1, 130, 130, 5, 4, false, ACT_GELU);
  check_case(2, 1, 3, 3, 1, true, ACT_SINE);
  check_case(1, 5, 4, 1, 1, true, ACT_SINE);
}

static void test_even_taps_on_both_sides(void **state) {
  (void)state;
  conv_case c = new_case(1, 5, 4, 2, 1, false, ACT_SINE);
  conv_forward_args a = args_of(&c);
  assert_int_not_equal(c.e->ops->conv_forward(c.e, &a), STATUS_OK);
  close_engine(c.e);
  free_all();
}

/* The second half computed from the first half's rows as history equals the whole; neither keeps c. */
static void test_history(void **state) {
  (void)state;
  int64_t B = 2, T = 20, D = 7, k = 3, dilation = 3, kept = (k - 1) * dilation, split = 11, rest = T - split;
  conv_case c = new_case(B, T, D, k, dilation, true, ACT_SINE);
  run_forward(&c);
  double *x = zeros((size_t)(B * rest * D), 8), *history = zeros((size_t)(B * kept * D), 8),
         *a = zeros((size_t)(B * rest * D), 8);
  for (int64_t b = 0; b < B; b++) {
    memcpy(x + b * rest * D, c.x + (b * T + split) * D, (size_t)(rest * D) * 8);
    memcpy(history + b * kept * D, c.x + (b * T + split - kept) * D, (size_t)(kept * D) * 8);
  }
  conv_forward_args args = args_of(&c);
  args.T = rest;
  args.x = x;
  args.history = history;
  args.c = NULL;
  args.a = a;
  OK(c.e->ops->conv_forward(c.e, &args));
  for (int64_t b = 0; b < B; b++) {
    assert_memory_equal(a + b * rest * D, c.a + (b * T + split) * D, (size_t)(rest * D) * 8);
  }
  close_engine(c.e);
  free_all();
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradients), cmocka_unit_test(test_even_taps_on_both_sides),
                                     cmocka_unit_test(test_history)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
