/* qkv (with RoPE), the output projection, and the norms that end operations. */
#include <math.h>
#include <string.h>

#include "support.h"

typedef struct {
  engine *e;
  int64_t B, T, D, H, K;
  double *x, *weight, *bias, *residual, *y, *out, *scale, *norm_bias, *stats, *w_y, *w_out;
  norm_kind norm;
  dropout_spec dropout;
  bool rope;
  int32_t *past;
} projection;

static double run_qkv(void *context) {
  projection *c = context;
  qkv_forward_args a = {.B = c->B,
                        .T = c->T,
                        .D = c->D,
                        .H = c->H,
                        .x = c->x,
                        .weight = c->weight,
                        .rope = c->rope,
                        .past = c->past,
                        .qkv = c->out};
  OK(c->e->ops->qkv_forward(c->e, &a));
  return dot(c->w_out, c->out, c->B * c->T * 3 * c->D);
}

static projection open_case(int64_t B, int64_t T, int64_t D, int64_t H, int64_t K) {
  engine_limits limits = limits_of(B, T, D, H, K, 5);
  projection c = {.e = open_engine(DTYPE_F64, 1, &limits), .B = B, .T = T, .D = D, .H = H, .K = K};
  return c;
}

static void check_qkv(int64_t B, int64_t T, int64_t D, int64_t H, bool rope) {
  projection c = open_case(B, T, D, H, D);
  int64_t N = B * T;
  c.rope = rope;
  c.x = random_doubles(N * D, 1);
  c.weight = random_doubles(3 * D * D, 1 / sqrt((double)D));
  c.out = zeros((size_t)(N * 3 * D), 8);
  c.w_out = random_doubles(N * 3 * D, 1);
  run_qkv(&c);
  double *dqkv = zeros((size_t)(N * 3 * D), 8), *dx = zeros((size_t)(N * D), 8), *dw = zeros((size_t)(3 * D * D), 8);
  memcpy(dqkv, c.w_out, (size_t)(N * 3 * D) * 8);
  qkv_backward_args a = {.B = B,
                         .T = T,
                         .D = D,
                         .H = H,
                         .x = c.x,
                         .weight = c.weight,
                         .rope = rope,
                         .dqkv = dqkv,
                         .dx = dx,
                         .dweight = dw};
  OK(c.e->ops->qkv_backward(c.e, &a));
  check_gradient("x", run_qkv, &c, c.x, dx, N * D);
  check_gradient("qkv weight", run_qkv, &c, c.weight, dw, 3 * D * D);
  close_engine(c.e);
  free_all();
}

static void test_qkv(void **state) {
  (void)state;
  check_qkv(1, 1, 4, 1, true);
  check_qkv(2, 13, 12, 2, true);
  check_qkv(1, 65, 20, 2, true);
  check_qkv(2, 7, 9, 3, false);
}

/* Angles from the formula; a row with a past continues where it stopped; odd heads are refused. */
static void test_rope_positions(void **state) {
  (void)state;
  projection c = open_case(2, 5, 8, 2, 8);
  c.rope = true;
  c.x = random_doubles(10 * 8, 1);
  c.weight = random_doubles(24 * 8, 1);
  c.out = zeros(10 * 24, 8);
  c.w_out = zeros(10 * 24, 8);
  c.past = zeros(2, sizeof(int32_t));
  c.past[0] = 3;
  c.past[1] = 1234;
  run_qkv(&c);
  for (int64_t row = 0; row < 10; row++) {
    for (int64_t j = 0; j < 24; j += 2) {
      double even = dot(c.weight + j * 8, c.x + row * 8, 8), odd = dot(c.weight + (j + 1) * 8, c.x + row * 8, 8);
      double angle = j < 16 ? (double)(c.past[row / 5] + row % 5) * pow(10000, -(double)(j % 4 / 2) / 2) : 0;
      double expected[2] = {even * cos(angle) - odd * sin(angle), odd * cos(angle) + even * sin(angle)};
      assert_true(fabs(c.out[row * 24 + j] - expected[0]) < 1e-4 && fabs(c.out[row * 24 + j + 1] - expected[1]) < 1e-4);
      if (j >= 16 || row == 0) {
        assert_true(fabs(c.out[row * 24 + j] - expected[0]) < 1e-6);
      }
    }
  }
  c.H = 8;
  qkv_forward_args a = {.B = 2, .T = 5, .D = 8, .H = 8, .x = c.x, .weight = c.weight, .rope = true, .qkv = c.out};
  assert_int_equal(c.e->ops->qkv_forward(c.e, &a), STATUS_FAILURE);
  close_engine(c.e);
  free_all();
}

static norm_spec spec_of(const projection *c) {
  return (norm_spec){.kind = c->norm, .scale = c->scale, .bias = c->norm_bias, .y = c->out, .stats = c->stats};
}

static double value_of(const projection *c) {
  int64_t n = c->B * c->T * c->D;
  return dot(c->w_y, c->y, n) + (c->norm == NORM_NONE ? 0 : dot(c->w_out, c->out, n));
}

static double run_out(void *context) {
  projection *c = context;
  out_forward_args a = {.B = c->B,
                        .T = c->T,
                        .D = c->D,
                        .K = c->K,
                        .in = c->x,
                        .weight = c->weight,
                        .bias = c->bias,
                        .dropout = c->dropout,
                        .residual = c->residual,
                        .y = c->y,
                        .norm = spec_of(c)};
  OK(c->e->ops->out_forward(c->e, &a));
  return value_of(c);
}

static projection new_out(int64_t B, int64_t T, int64_t D, int64_t K, norm_kind norm, double p, bool bias) {
  projection c = open_case(B, T, D, 1, K);
  int64_t N = B * T;
  c.norm = norm;
  c.dropout = (dropout_spec){.p = p, .site = 3};
  c.x = random_doubles(N * K, 1);
  c.weight = random_doubles(D * K, 1 / sqrt((double)K));
  c.bias = bias ? random_doubles(D, 1) : NULL;
  c.residual = random_doubles(N * D, 1);
  c.y = zeros((size_t)(N * D), 8);
  c.out = zeros((size_t)(N * D), 8);
  c.stats = zeros((size_t)(2 * N), 8);
  c.scale = random_doubles(D, 1);
  c.norm_bias = random_doubles(D, 1);
  c.w_y = random_doubles(N * D, 1);
  c.w_out = random_doubles(N * D, 1);
  return c;
}

/* The gradient through norm and projection together: norm_backward's dx is the gradient at y. */
static void check_out(int64_t B, int64_t T, int64_t D, int64_t K, norm_kind norm, double p, bool bias) {
  projection c = new_out(B, T, D, K, norm, p, bias);
  int64_t N = B * T;
  run_out(&c);
  double *dy = c.w_y;
  double *dscale = zeros((size_t)D, 8), *dnorm_bias = zeros((size_t)D, 8);
  if (norm != NORM_NONE) {
    dy = zeros((size_t)(N * D), 8);
    norm_backward_args a = {.N = N,
                            .D = D,
                            .x = c.y,
                            .norm = spec_of(&c),
                            .dy = c.w_out,
                            .dresidual = c.w_y,
                            .dx = dy,
                            .dscale = dscale,
                            .dbias = norm == NORM_LAYER ? dnorm_bias : NULL};
    OK(c.e->ops->norm_backward(c.e, &a));
  }
  double *din = zeros((size_t)(N * K), 8), *dw = zeros((size_t)(D * K), 8), *dbias = zeros((size_t)D, 8);
  out_backward_args b = {.B = B,
                         .T = T,
                         .D = D,
                         .K = K,
                         .in = c.x,
                         .weight = c.weight,
                         .dropout = c.dropout,
                         .dy = dy,
                         .din = din,
                         .dweight = dw,
                         .dbias = bias ? dbias : NULL};
  OK(c.e->ops->out_backward(c.e, &b));
  check_gradient("in", run_out, &c, c.x, din, N * K);
  check_gradient("weight", run_out, &c, c.weight, dw, D * K);
  check_gradient("residual", run_out, &c, c.residual, dy, N * D);
  if (bias) {
    check_gradient("bias", run_out, &c, c.bias, dbias, D);
  }
  if (norm != NORM_NONE) {
    check_gradient("scale", run_out, &c, c.scale, dscale, D);
  }
  if (norm == NORM_LAYER) {
    check_gradient("norm bias", run_out, &c, c.norm_bias, dnorm_bias, D);
  }
  close_engine(c.e);
  free_all();
}

static void test_out(void **state) {
  (void)state;
  check_out(1, 1, 5, 3, NORM_RMS, 0, true);
  check_out(2, 65, 7, 9, NORM_RMS, 0, false);
  check_out(2, 130, 13, 11, NORM_LAYER, 0, true);
  check_out(3, 7, 70, 5, NORM_LAYER, 0.25, true);
  check_out(2, 13, 10, 33, NORM_NONE, 0.5, false);
  check_out(2, 13, 10, 33, NORM_NONE, 0, true);
}

/* Writing y over the residual must give the bits of writing it elsewhere, with and without dropout. */
static void test_out_in_place(void **state) {
  (void)state;
  for (int dropped = 0; dropped < 2; dropped++) {
    projection c = new_out(2, 70, 19, 23, NORM_RMS, dropped ? 0.3 : 0, true);
    size_t bytes = 140 * 19 * sizeof(double);
    run_out(&c);
    double *y = c.y, *out = c.out;
    c.y = zeros(bytes, 1);
    c.out = zeros(bytes, 1);
    memcpy(c.y, c.residual, bytes);
    c.residual = c.y;
    run_out(&c);
    assert_memory_equal(c.y, y, bytes);
    assert_memory_equal(c.out, out, bytes);
    close_engine(c.e);
    free_all();
  }
}

/* The norms by their formulas; norm_backward in place and without a residual. */
static void test_norm(void **state) {
  (void)state;
  for (int kind = NORM_RMS; kind <= NORM_LAYER; kind++) {
    int64_t N = 131, D = 21;
    projection c = new_out(1, N, D, 3, (norm_kind)kind, 0, false);
    norm_forward_args f = {.N = N, .D = D, .x = c.residual, .norm = spec_of(&c)};
    OK(c.e->ops->norm_forward(c.e, &f));
    for (int64_t row = 0; row < N; row++) {
      const double *x = c.residual + row * D;
      double mean = 0, squares = 0;
      for (int64_t j = 0; j < D && kind == NORM_LAYER; j++) {
        mean += x[j] / (double)D;
      }
      for (int64_t j = 0; j < D; j++) {
        squares += (x[j] - mean) * (x[j] - mean) / (double)D;
      }
      double deviation = sqrt(squares + (kind == NORM_RMS ? 1e-6 : 1e-5));
      for (int64_t j = 0; j < D; j++) {
        double expected = (x[j] - mean) / deviation * c.scale[j] + (kind == NORM_LAYER ? c.norm_bias[j] : 0);
        assert_true(fabs(c.out[row * D + j] - expected) < 1e-12);
      }
    }
    double *with = zeros((size_t)(N * D), 8), *without = zeros((size_t)(N * D), 8), *dscale = zeros((size_t)D, 8);
    norm_backward_args b = {
        .N = N, .D = D, .x = c.residual, .norm = spec_of(&c), .dy = c.w_out, .dx = without, .dscale = dscale};
    OK(c.e->ops->norm_backward(c.e, &b));
    memcpy(with, c.w_y, (size_t)(N * D) * 8);
    b.dresidual = b.dx = with;
    OK(c.e->ops->norm_backward(c.e, &b));
    for (int64_t i = 0; i < N * D; i++) {
      assert_true(fabs(with[i] - (without[i] + c.w_y[i])) < 1e-12);
    }
    close_engine(c.e);
    free_all();
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_qkv), cmocka_unit_test(test_rope_positions),
                                     cmocka_unit_test(test_out), cmocka_unit_test(test_out_in_place),
                                     cmocka_unit_test(test_norm)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
