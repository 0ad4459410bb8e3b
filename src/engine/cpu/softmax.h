/* Exponentials of a row of scores, for softmax and cross entropy. */
#ifndef PSANN_ENGINE_CPU_SOFTMAX_H
#define PSANN_ENGINE_CPU_SOFTMAX_H

#include "engine/cpu/vecmath.h"

/* The largest of n ≥ 1 values; with a NaN among them, a NaN or any other value. */
static inline real row_max(const real *s, int64_t n) {
  real most = s[0];
#pragma omp simd reduction(max : most)
  for (int64_t j = 0; j < n; j++) {
    most = s[j] > most ? s[j] : most;
  }
  return most;
}

/* s ← exp(s − most); returns the sum, which a NaN anywhere makes a NaN. */
static inline real row_exp(real *s, int64_t n, real most) {
  real sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < n; j++) {
    s[j] = real_exp(s[j] - most);
    sum += s[j];
  }
  return sum;
}

#endif
