/* Operands in 8 bits on the CPU engine: every value of both formats, borders between neighbours, scales, and what
 * happens to values that are not finite. The values of the formats are written down from their definition here, bit by
 * bit.
 */
#include <math.h>
#include <string.h>

#include "engine/fp8.h"
#include "support.h"

enum { SIZE = 16, CODES = 128 };

/* The value of a code without its sign; INFINITY beyond the largest number. */
static double decode(fp8_format f, int code) {
  int exponent = code >> f.mantissa, fraction = code & ((1 << f.mantissa) - 1);
  double value = exponent == 0 ? ldexp(fraction, f.least - f.mantissa)
                               : ldexp((1 << f.mantissa) + fraction, exponent - 1 + f.least - f.mantissa);
  return value > ldexp(0.875, f.top) ? INFINITY : value;
}

/* The number of the format that is nearest to x, of two the one with an even code. */
static double nearest(fp8_format f, double x) {
  double size = fabs(x), best = 0;
  int best_code = 0;
  for (int code = 0; code < CODES && isfinite(decode(f, code)); code++) {
    double here = fabs(decode(f, code) - size), there = fabs(best - size);
    if (here < there || (here == there && code % 2 == 0 && best_code % 2 != 0)) {
      best = decode(f, code);
      best_code = code;
    }
  }
  return copysign(best, x);
}

/* What the engine makes of x (SIZE): the first row of the product with one, whose own scale is exact. gradient: as dy
 * of a backward, otherwise as the input of a forward. */
static void round_row(dtype type, bool gradient, const double *x, double amax, double *out) {
  engine_limits limits = limits_of(1, SIZE, SIZE, 1, SIZE, 1);
  engine *e;
  OK(engine_cpu_create(type, 1, 0, &e));
  e->fp8 = true;
  OK(e->ops->prepare(e, &limits));
  double *row = zeros(SIZE * SIZE, sizeof *row), *one = zeros(SIZE * SIZE, sizeof *one),
         *y = zeros(3 * SIZE * SIZE, sizeof *y), *in = zeros(SIZE * SIZE, sizeof *in), in_amax = 1;
  memcpy(row, x, SIZE * sizeof *row);
  for (int i = 0; i < SIZE; i++) {
    one[i * SIZE + i] = 1;
  }
  void *a = row, *b = one, *m = &amax, *i = in, *im = &in_amax;
  float fm = (float)amax, fim = 1;
  if (type == DTYPE_F32) {
    a = to_floats(row, SIZE * SIZE), b = to_floats(one, SIZE * SIZE), m = &fm, i = to_floats(in, SIZE * SIZE),
    im = &fim;
  }
  if (gradient) {
    out_backward_args args = {.B = 1, .T = SIZE, .D = SIZE, .K = SIZE, .in = i, .in_amax = im, .weight = b};
    args.dy = a, args.dy_amax = m, args.din = y, args.dweight = y + SIZE * SIZE;
    OK(e->ops->out_backward(e, &args));
  } else {
    up_forward_args args = {.N = SIZE, .D = SIZE, .M = SIZE, .x = a, .x_amax = m, .weight = b};
    args.act.kind = ACT_RELU, args.z = y, args.a = y + SIZE * SIZE, args.bias = y + 2 * SIZE * SIZE;
    OK(e->ops->up_forward(e, &args));
  }
  for (int k = 0; k < SIZE; k++) {
    out[k] = type == DTYPE_F32 ? (double)((float *)y)[k] : y[k];
  }
  close_engine(e);
  free_all();
}

static void check_values(dtype type, bool gradient, const double *x, double amax) {
  fp8_format f = gradient ? fp8_e5m2 : fp8_e4m3;
  double out[SIZE], scale = ldexp(1, fp8_shift(f, amax));
  round_row(type, gradient, x, amax, out);
  for (int i = 0; i < SIZE; i++) {
    double wanted = nearest(f, x[i] * scale) / scale;
    if (out[i] != wanted) {
      fail_msg("%s: %.17g became %.17g, the nearest is %.17g", gradient ? "e5m2" : "e4m3", x[i], out[i], wanted);
    }
  }
}

/* All codes, and what lies between them: the middle, and a little to both sides of it. */
static void test_codes(void **state) {
  (void)state;
  for (int gradient = 0; gradient < 2; gradient++) {
    fp8_format f = gradient ? fp8_e5m2 : fp8_e4m3;
    double amax = ldexp(0.875, f.top);
    assert_int_equal(fp8_shift(f, amax), 0);
    for (int code = 0; code < CODES && isfinite(decode(f, code)); code++) {
      double here = decode(f, code), next = decode(f, code + 1);
      double middle = isfinite(next) ? (here + next) / 2 : here;
      double x[SIZE] = {
          here, -here, middle, -middle, middle * (1 + 1e-6), middle * (1 - 1e-6), -middle * (1 + 1e-6), middle * 0.999,
          amax, -amax, 0,      amax * 2 /* is cut */};
      check_values(DTYPE_F32, gradient, x, amax);
      check_values(DTYPE_F64, gradient, x, amax);
    }
  }
}

/* The power of two: the largest that keeps amax inside, for any amax. */
static void test_scales(void **state) {
  (void)state;
  for (int trial = 0; trial < 200; trial++) {
    bool gradient = trial % 2;
    fp8_format f = gradient ? fp8_e5m2 : fp8_e4m3;
    double x[SIZE], amax = 0, most = ldexp(0.875, f.top), size = exp2(uniform(-60, 60));
    for (int i = 0; i < SIZE; i++) {
      x[i] = (double)(float)(size * normal() * exp2(uniform(-12, 0)));
      amax = fmax(amax, fabs(x[i]));
    }
    double scaled = ldexp(amax, fp8_shift(f, amax));
    assert_true(scaled <= most && 2 * scaled > most);
    check_values(DTYPE_F32, gradient, x, amax);
  }
  assert_int_equal(fp8_shift(fp8_e4m3, 448), 0);
  assert_int_equal(fp8_shift(fp8_e4m3, nextafter(448, 1000)), -1);
  assert_int_equal(fp8_shift(fp8_e5m2, 57344), 0);
  assert_int_equal(fp8_shift(fp8_e4m3, 0), 0);
  assert_int_equal(fp8_shift(fp8_e4m3, 1e-300), FP8_SHIFT_LIMIT);
}

/* A NaN or an infinity must be seen in the result, so that the step is skipped. */
static void test_not_finite(void **state) {
  (void)state;
  for (int gradient = 0; gradient < 2; gradient++) {
    double x[SIZE] = {1, NAN, 3}, out[SIZE];
    round_row(DTYPE_F32, gradient, x, 3, out);
    bool seen = false;
    for (int i = 0; i < SIZE; i++) {
      seen |= isnan(out[i]);
    }
    assert_true(seen);
    x[1] = INFINITY;
    round_row(DTYPE_F32, gradient, x, INFINITY, out);
    assert_true(isnan(out[0]) || isnan(out[1]));
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_codes), cmocka_unit_test(test_scales),
                                     cmocka_unit_test(test_not_finite)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
