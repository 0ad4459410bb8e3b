/* exp, sine and cosine, and the normal distribution, as branch-free functions that the compiler vectorises when they
 * are called in a loop under `#pragma omp simd`.
 *
 * fp32: polynomials after range reduction; fp64: the C library. Every multiply-add is spelled out (vm_fma) and the
 * files are compiled without contraction, so a value doesn't depend on the loop that computes it: the activation
 * recomputed in the backward has the forward's bits.
 */
#ifndef PSANN_ENGINE_CPU_VECMATH_H
#define PSANN_ENGINE_CPU_VECMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "engine/cpu/real.h"

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define VM_HAS_FMA 1
#else
#define VM_HAS_FMA 0
#endif

static inline float vm_fma(float a, float b, float c) {
#if VM_HAS_FMA
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}

static inline uint32_t vm_bits(float x) {
  uint32_t u;
  memcpy(&u, &x, sizeof u);
  return u;
}

static inline float vm_float(uint32_t u) {
  float x;
  memcpy(&x, &u, sizeof x);
  return x;
}

/* Adding and subtracting it rounds to an integer, which then stands in the low bits of the sum. */
#define VM_ROUND 0x1.8p23f

/* eˣ with an error of 1 ulp or so; 0 below e⁻⁸⁶·⁹⁸ = 1.7e-38 (no subnormal numbers), infinity where fp32 ends. */
static inline float vm_expf(float x) {
  float rounded = vm_fma(x, 0x1.715476p+0f, VM_ROUND);
  float n = rounded - VM_ROUND;
  /* ln 2 in two parts; n · the first is exact even without fma, since its last 9 bits are zero. */
  float r = vm_fma(n, -0x1.62e4p-1f, x);
  r = vm_fma(n, -0x1.7f7d1cp-20f, r);
  float p = 0.0013926181810489343f;
  p = vm_fma(p, r, 0.008363177629994445f);
  p = vm_fma(p, r, 0.041666554627878084f);
  p = vm_fma(p, r, 0.16666576998242924f);
  p = vm_fma(p, r, 0.5f);
  p = vm_fma(p, r * r, r) + 1.0f;
  /* 2ⁿ as 2 · 2ⁿ⁻¹, for n = 128; the rounding constant's own bits leave with the shift. */
  float y = (p + p) * vm_float((vm_bits(rounded) + 126u) << 23);
  y = x < -86.98f ? 0.0f : y;
  return x > 88.8f ? INFINITY : y;
}

/* |f · z| up to here is reduced to the full accuracy of vm_sincosf. */
#define VM_SINCOS_LIMIT 1.0e6f

/* sin and cos of the exact product f · z, absolute error below 2e-7 up to VM_SINCOS_LIMIT. */
static inline void vm_sincosf(float f, float z, float *sine, float *cosine) {
  float r;
  uint32_t sign;
#if VM_HAS_FMA
  float product = f * z;
  float rest = __builtin_fmaf(f, z, -product);
  float rounded = __builtin_fmaf(product, 0x1.45f306p-2f, VM_ROUND);
  float n = rounded - VM_ROUND;
  r = __builtin_fmaf(n, -0x1.921fb6p+1f, product); /* exact: π's first 24 bits */
  r += __builtin_fmaf(n, 0x1.777a5cp-24f, rest);   /* the rest of π, and of the product */
  sign = vm_bits(rounded) << 31;
#else
  double product = (double)f * (double)z;
  double rounded = product * 0x1.45f306dc9c883p-2 + 0x1.8p52;
  double n = rounded - 0x1.8p52;
  r = (float)((product - n * 0x1.921fb5p+1) + n * -0x1.110b4611a6263p-25);
  uint64_t bits;
  memcpy(&bits, &rounded, sizeof bits);
  sign = (uint32_t)bits << 31;
#endif
  float u = r * r;
  float s = 2.6347407676624413e-06f;
  s = vm_fma(s, u, -0.00019822734665600865f);
  s = vm_fma(s, u, 0.008333242099350914f);
  s = vm_fma(s, u, -0.1666666596345293f);
  s = vm_fma(s, r * u, r);
  float c = -2.6545934789348107e-07f;
  c = vm_fma(c, u, 2.478607839606787e-05f);
  c = vm_fma(c, u, -0.0013888812521280793f);
  c = vm_fma(c, u, 0.04166666607799775f);
  c = vm_fma(c, u, -0.5f);
  c = vm_fma(c, u, 1.0f);
  *sine = vm_float(vm_bits(s) ^ sign);
  *cosine = vm_float(vm_bits(c) ^ sign);
}

/* Φ(x), the normal distribution (gelu(x) = x Φ(x)), and its density. The lower tail keeps its relative accuracy. */
static inline void vm_normalf(float x, float *distribution, float *density) {
  float t = fabsf(x);
  float g = vm_expf(-0.5f * t * t);
  /* Φ(−t) = g · polynomial in 1/(1 + 0.24 t) */
  float u = 1.0f / vm_fma(0.24f, t, 1.0f);
  float p = 0.025598603422552723f;
  p = vm_fma(p, u, -0.1250756751580752f);
  p = vm_fma(p, u, 0.20662137999779182f);
  p = vm_fma(p, u, -0.14594757873542732f);
  p = vm_fma(p, u, 0.14297962716525706f);
  p = vm_fma(p, u, 0.027260534339331566f);
  p = vm_fma(p, u, 0.08809751819014776f);
  p = vm_fma(p, u, 0.08885675303520026f);
  p = vm_fma(p, u, 0.0958673218753482f);
  p = vm_fma(p, u, 0.09574151729372936f);
  float tail = g * (p * u);
  *distribution = x < 0.0f ? tail : 1.0f - tail;
  *density = 0.3989422804014327f * g;
}

#if ENGINE_BITS == 64

static inline double real_sqrt(double x) {
  return sqrt(x);
}
static inline double real_exp(double x) {
  return exp(x);
}

static inline void real_sincos(double f, double z, double *s, double *c) {
  *s = sin(f * z);
  *c = cos(f * z);
}

static inline void real_normal(double x, double *distribution, double *density) {
  *distribution = 0.5 * erfc(-x * 0.70710678118654752440);
  *density = 0.39894228040143267794 * exp(-0.5 * x * x);
}

static inline double real_fma(double a, double b, double c) {
  return a * b + c;
}

#else

static inline float real_sqrt(float x) {
  return sqrtf(x);
}
static inline float real_exp(float x) {
  return vm_expf(x);
}
static inline void real_sincos(float f, float z, float *s, float *c) {
  vm_sincosf(f, z, s, c);
}
static inline void real_normal(float x, float *distribution, float *density) {
  vm_normalf(x, distribution, density);
}
static inline float real_fma(float a, float b, float c) {
  return vm_fma(a, b, c);
}

#endif

#endif
