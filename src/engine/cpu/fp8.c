#include "engine/cpu/fp8.h"

#include <math.h>
#include <string.h>

#include "engine/cpu/blas.h"

real amax_of(int threads, const real *x, int64_t n) {
  real most = 0;
#pragma omp parallel for simd num_threads(threads) schedule(static) reduction(max : most)
  for (int64_t i = 0; i < n; i++) {
    real size = x[i] < 0 ? -x[i] : x[i];
    most = size > most ? size : most;
  }
  return most;
}

void note_amax(int threads, const void *x, int64_t n, void *amax) {
  if (amax) {
    *(real *)amax = amax_of(threads, x, n);
  }
}

/* 2^e as a double, for exponents of normal numbers. */
static double power_of_two(int e) {
  uint64_t bits = (uint64_t)(e + 1023) << 52;
  double p;
  memcpy(&p, &bits, sizeof p);
  return p;
}

/* To the nearest multiple of the format's step at x: adding 1.5 · 2^52 steps leaves no bits below one. A NaN stays. */
static void round_to(fp8_format f, double scale, double back, int64_t n, const real *x, real *out) {
  const uint64_t exponent = UINT64_C(0x7ff) << 52;
  double most = ldexp(0.875, f.top), least = power_of_two(f.least), steps = 1.5 * power_of_two(52 - f.mantissa);
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    double v = (double)x[i] * scale;
    v = v > most ? most : v < -most ? -most : v;
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    bits &= exponent;
    double power;
    memcpy(&power, &bits, sizeof power);
    double shift = (power > least ? power : least) * steps;
    out[i] = (real)(((v + shift) - shift) * back);
  }
}

/* *x (n) becomes its rounded copy in s, by *amax or, where that is NULL, by the tensor's own largest magnitude. */
static status operand(scratch *s, fp8_format f, int64_t n, const void *amax, const real **x) {
  enum { PIECE = 4096 };
  int threads = s->e->threads;
  real *rounded;
  TRY(scratch_take(s, n, sizeof(real), &rounded));
  double most = (double)(amax ? *(const real *)amax : amax_of(threads, *x, n));
  int shift = isfinite(most) ? fp8_shift(f, most) : 0;
  double scale = isfinite(most) ? power_of_two(shift) : NAN, back = power_of_two(-shift);
  const real *from = *x;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t first = 0; first < n; first += PIECE) {
    round_to(f, scale, back, min_i64(PIECE, n - first), from + first, rounded + first);
  }
  *x = rounded;
  return STATUS_OK;
}

status layer_forward(scratch s, int64_t rows, int64_t out, int64_t in, const void *x, const void *x_amax,
                     const void *weight, real *y) {
  const real *left = x, *right = weight;
  if (x_amax) {
    TRY(operand(&s, fp8_e4m3, rows * in, x_amax, &left));
    TRY(operand(&s, fp8_e4m3, out * in, NULL, &right));
  }
  linear_forward(rows, out, in, left, right, y);
  return STATUS_OK;
}

status layer_backward(scratch s, int64_t rows, int64_t out, int64_t in, const void *dy, const void *dy_amax,
                      const void *weight, const void *x, const void *x_amax, real *dx, real *dweight) {
  const real *left = dy;
  if (x_amax) {
    TRY(operand(&s, fp8_e5m2, rows * out, dy_amax, &left));
  }
  if (dx) {
    scratch here = s;
    const real *right = weight;
    if (x_amax) {
      TRY(operand(&here, fp8_e4m3, out * in, NULL, &right));
    }
    linear_backward_input(rows, out, in, left, right, dx);
  }
  if (dweight) {
    scratch here = s;
    const real *right = x;
    if (x_amax) {
      TRY(operand(&here, fp8_e4m3, rows * in, x_amax, &right));
    }
    linear_backward_weight(rows, out, in, left, right, dweight);
  }
  return STATUS_OK;
}
