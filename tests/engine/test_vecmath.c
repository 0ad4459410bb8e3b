/* Errors of the vectorised exp, sine, cosine and normal distribution in fp32, in loops as the engine has them. Compiled
 * with and without fused multiply-add. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/cpu/vecmath.h"
#include "support.h"

enum { N = 1 << 14 };

static double ulp_of(double x) {
  float f = fabsf((float)x);
  return f < 0x1p-126f ? 0x1p-149 : (double)(nextafterf(f, INFINITY) - f);
}

static void test_exp(void **state) {
  (void)state;
  static float x[N], y[N];
  double worst = 0;
  for (int i = 0; i < N; i++) {
    x[i] = (float)(i % 2 ? uniform(-86.9, 88.7) : uniform(-2, 2));
  }
#pragma omp simd
  for (int i = 0; i < N; i++) {
    y[i] = vm_expf(x[i]);
  }
  for (int i = 0; i < N; i++) {
    double exact = exp((double)x[i]);
    worst = fmax(worst, fabs((double)y[i] - exact) / ulp_of(exact));
  }
  printf("exp: %.2f ulp\n", worst);
  assert_true(worst < 2);
  assert_true(vm_expf(0) == 1 && vm_expf(-INFINITY) == 0 && vm_expf(INFINITY) == INFINITY && isnan(vm_expf(NAN)));
  assert_true(vm_expf(90) == INFINITY && vm_expf(1e30f) == INFINITY && vm_expf(-87.5f) == 0 && vm_expf(-1e30f) == 0 &&
              isfinite(vm_expf(88.72f)));
}

static void check_sincos(double f_most, double product_most, double tolerance) {
  static float f[N], z[N], s[N], c[N];
  double worst = 0;
  for (int i = 0; i < N; i++) {
    f[i] = (float)uniform(0.001, f_most);
    z[i] = (float)(uniform(-1, 1) * product_most) / f[i];
    if (i % 8 == 0) { /* close to a multiple of π/2, where the reduction loses most */
      z[i] = (float)((double)below((int64_t)(product_most / 1.58) + 1) * 1.5707963267948966 / (double)f[i]);
    }
  }
#pragma omp simd
  for (int i = 0; i < N; i++) {
    vm_sincosf(f[i], z[i], &s[i], &c[i]);
  }
  for (int i = 0; i < N; i++) {
    double angle = (double)f[i] * (double)z[i];
    double error = fmax(fabs((double)s[i] - sin(angle)), fabs((double)c[i] - cos(angle)));
    worst = error > worst || isnan(error) ? error : worst;
  }
  printf("sincos up to %g: %.3g\n", product_most, worst);
  assert_true(worst < tolerance);
}

static void test_sincos(void **state) {
  (void)state;
  check_sincos(3, 1, 2e-7);
  check_sincos(3, 10, 2e-7);
  check_sincos(50, 1e4, 2e-7);
  check_sincos(1000, 1e5, 2e-7);
  check_sincos(1000, (double)VM_SINCOS_LIMIT, 4e-7);
  float s, c;
  vm_sincosf(1, 0, &s, &c);
  assert_true(s == 0 && c == 1);
  vm_sincosf(1, INFINITY, &s, &c);
  assert_true(isnan(s) && isnan(c));
  vm_sincosf(NAN, 1, &s, &c);
  assert_true(isnan(s) && isnan(c));
  vm_sincosf(1, 1e-30f, &s, &c);
  assert_true(s == 1e-30f);
}

static void test_normal(void **state) {
  (void)state;
  static float x[N], y[N], d[N];
  double worst = 0, worst_tail = 0, worst_density = 0;
  for (int i = 0; i < N; i++) {
    x[i] = (float)uniform(-12, 12);
  }
#pragma omp simd
  for (int i = 0; i < N; i++) {
    vm_normalf(x[i], &y[i], &d[i]);
  }
  for (int i = 0; i < N; i++) {
    double exact = 0.5 * erfc(-(double)x[i] * M_SQRT1_2),
           density = exp(-0.5 * (double)x[i] * (double)x[i]) / 2.5066282746310002;
    worst = fmax(worst, fabs((double)y[i] - exact));
    worst_tail = fmax(worst_tail, fabs((double)y[i] - exact) / exact);
    worst_density = fmax(worst_density, fabs((double)d[i] - density));
  }
  printf("normal: %.3g absolute, %.3g relative, density %.3g\n", worst, worst_tail, worst_density);
  assert_true(worst < 3e-7 && worst_tail < 2e-5 && worst_density < 1e-7);
  vm_normalf(NAN, &y[0], &d[0]);
  assert_true(isnan(y[0]) && isnan(d[0]));
  vm_normalf(0, &y[0], &d[0]);
  assert_true(y[0] == 0.5f);
}

int main(void) {
#ifdef TEST_NEEDS
  if (!__builtin_cpu_supports(TEST_NEEDS)) {
    return 77; /* skipped */
  }
#endif
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_exp), cmocka_unit_test(test_sincos),
                                     cmocka_unit_test(test_normal)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
