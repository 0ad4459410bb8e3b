// The activations and their derivatives in fp32. Formulas: docs/model.md.
#pragma once

#include <math.h>

#include "engine/engine.h"
#include "exp2.cuh"

// The nearest integer of x, |x| < 2^22, as the float k and as the low bits of n: the addition rounds at the units.
// (rintf and a conversion would take two turns of the slow unit that the exponential needs.)
__device__ __forceinline__ void nearest(float hi, float inverse, float &k, int &n) {
  constexpr float UNITS = 12582912.0f; /* 1.5 · 2^23 */
  float t = fmaf(hi, inverse, UNITS);
  k = t - UNITS;
  n = __float_as_int(t);
}

constexpr float SIN_LIMIT = 1e6f; /* of |f·z|; beyond, the reduction below loses digits */

// Both by the library, in fp64: a model that gets here is lost, but its numbers stay right. (FAR below: chosen for a
// pack of elements at once, since a branch inside each would keep them from overlapping.)
static __device__ __noinline__ float2 sincos_far(float f, float z) {
  double s, c;
  sincos((double)f * (double)z, &s, &c);
  return make_float2((float)s, (float)c);
}

// Sine and cosine of f·z but for a sign that they share: the value's is `flip`, all of whose bits but the highest are
// 0. The product is kept in two terms and reduced by multiples of π in two, so that the error stays under 2e-7 for
// |f·z| up to 1e5.
struct half_turn {
  float r;
  int flip;
};

__device__ __forceinline__ half_turn reduce_product(float f, float z) {
  float hi = f * z;
  float lo = fmaf(f, z, -hi);
  float k;
  int n;
  nearest(hi, 0.318309886f, k, n);
  float r = fmaf(-k, 3.14159274f, hi);
  r = fmaf(-k, -8.74227766e-8f, r);
  return {r + lo, (int)((unsigned)n << 31)};
}

__device__ __forceinline__ float flipped(float x, int flip) {
  return __int_as_float(__float_as_int(x) ^ flip);
}

// On [−π/2, π/2], to 5e-10 before rounding.
__device__ __forceinline__ float sin_half_turn(float r) {
  float q = r * r;
  float p =
      fmaf(q, fmaf(q, fmaf(q, fmaf(q, -2.3889859e-8f, 2.7525562e-6f), -1.9840874e-4f), 8.3333310e-3f), -1.6666667e-1f);
  return fmaf(r * q, p, r);
}

__device__ __forceinline__ float cos_half_turn(float r) {
  float q = r * r;
  float p = fmaf(q, fmaf(q, fmaf(q, -2.61921173e-7f, 2.47692224e-5f), -1.38885679e-3f), 4.16666567e-2f);
  return fmaf(q, fmaf(q, p, -0.5f), 1.0f);
}

template <bool FAR>
__device__ __forceinline__ void sincos_product(float f, float z, float &s, float &c, int &flip) {
  if (FAR) {
    float2 far = sincos_far(f, z);
    s = far.x;
    c = far.y;
    flip = 0;
    return;
  }
  half_turn t = reduce_product(f, z);
  s = sin_half_turn(t.r);
  c = cos_half_turn(t.r);
  flip = t.flip;
}

template <bool FAR>
__device__ __forceinline__ float sin_product(float f, float z) {
  if (FAR) return sincos_far(f, z).x;
  half_turn t = reduce_product(f, z);
  return flipped(sin_half_turn(t.r), t.flip);
}

// softplus with its derivative (the logistic function), as the reference: raw itself above 20.
__device__ __forceinline__ float softplus(float raw) {
  return raw > 20.0f ? raw : log1pf(expf(raw));
}
__device__ __forceinline__ float softplus_slope(float raw) {
  return raw > 20.0f ? 1.0f : 1.0f / (1.0f + expf(-raw));
}

struct act_bounds {
  float amplitude_lo, amplitude_hi, frequency_lo, frequency_hi, damping_lo, damping_hi;
};

inline act_bounds bounds_of(const act_spec *a) {
  return {(float)a->amplitude_lo, (float)a->amplitude_hi, (float)a->frequency_lo,
          (float)a->frequency_hi, (float)a->damping_lo,   (float)a->damping_hi};
}

// The effective A, f, d of a feature, and what does not change from row to row.
struct sine_feature {
  float A, f, d;
  float exponent;                        // of the envelope: −d / ln 2
  float slope_frequency, slope_damping;  // scale·A·f and scale·A·d
};

// scale: of the gradient; the forward doesn't use it.
__device__ __forceinline__ sine_feature effective_sine(float A, float f, float d, float scale) {
  return {A, f, d, -LOG2_E * d, scale * A * f, scale * A * d};
}

__device__ __forceinline__ sine_feature sine_of(float raw_A, float raw_f, float raw_d, const act_bounds &b,
                                                float scale) {
  return effective_sine(fminf(fmaxf(softplus(raw_A), b.amplitude_lo), b.amplitude_hi),
                        fminf(fmaxf(softplus(raw_f) + 1e-6f, b.frequency_lo), b.frequency_hi),
                        fminf(fmaxf(softplus(raw_d), b.damping_lo), b.damping_hi), scale);
}

template <int DECAY>
__device__ __forceinline__ float sine_envelope(const sine_feature &p, float z) {
  if (DECAY == ACT_DECAY_NONE) return 1.0f;
  return exp2_fast(p.exponent * (DECAY == ACT_DECAY_ABS ? fabsf(z) : fmaxf(z, 0.0f)));
}

// Does any element of a pack need the library's sine?
template <int KIND, int VEC>
__device__ __forceinline__ bool any_far(const sine_feature (&p)[VEC], const float (&z)[VEC]) {
  if (KIND != ACT_SINE) return false;
  float top = 0;
#pragma unroll
  for (int i = 0; i < VEC; i++) top = fmaxf(top, fabsf(p[i].f * z[i]));
  return top > SIN_LIMIT;
}

template <int KIND, int DECAY, bool FAR>
__device__ __forceinline__ float act_value(const sine_feature &p, float z) {
  if (KIND == ACT_SINE) return p.A * sine_envelope<DECAY>(p, z) * sin_product<FAR>(p.f, z);
  if (KIND == ACT_GELU) return 0.5f * z * (1.0f + erff(z * 0.707106781f));
  return fmaxf(z, 0.0f);
}

// What a row adds to a feature's sums, and the gradient at z, from g, the gradient at y over `scale`:
//   sine: with t = e·s·g and u = e·c·g (e envelope, s and c of f·z, γ the envelope's |z| or max(z, 0))
//         sums Σt, Σu·z, Σγ·t, from which act_finish makes those of A, f, d and of y·g;
//         dz = scale·A·(f·u − d·γ'·t)
//   GELU, ReLU: Σy·g and dz = scale·g·y'.
// The last sum is Σdz.
enum { SUM_VALUE, SUM_FREQUENCY, SUM_DAMPING, SUM_BIAS, SUMS };

template <int KIND, int DECAY, bool FAR>
__device__ __forceinline__ float act_gradient(const sine_feature &p, float scale, float z, float g,
                                              float (&sums)[SUMS]) {
  float dz;
  if (KIND == ACT_SINE) {
    float s, c;
    int flip;
    sincos_product<FAR>(p.f, z, s, c, flip);
    float eg = flipped(sine_envelope<DECAY>(p, z) * g, flip), t = eg * s, u = eg * c;
    sums[SUM_VALUE] += t;
    sums[SUM_FREQUENCY] = fmaf(u, z, sums[SUM_FREQUENCY]);
    dz = p.slope_frequency * u;
    if (DECAY == ACT_DECAY_ABS) {
      float signed_t = flipped(t, __float_as_int(z) & 0x80000000); /* γ'·t */
      sums[SUM_DAMPING] = fmaf(z, signed_t, sums[SUM_DAMPING]);
      dz = fmaf(-p.slope_damping, signed_t, dz);
    } else if (DECAY == ACT_DECAY_RELU) {
      sums[SUM_DAMPING] = fmaf(fmaxf(z, 0.0f), t, sums[SUM_DAMPING]);
      dz = fmaf(z > 0.0f ? -p.slope_damping : 0.0f, t, dz);
    }
  } else if (KIND == ACT_GELU) {
    float phi = 0.5f * (1.0f + erff(z * 0.707106781f));
    sums[SUM_VALUE] = fmaf(z * phi, g, sums[SUM_VALUE]);
    dz = scale * g * (phi + z * 0.398942280f * expf(-0.5f * z * z));
  } else {
    sums[SUM_VALUE] = fmaf(fmaxf(z, 0.0f), g, sums[SUM_VALUE]);
    dz = z > 0.0f ? scale * g : 0.0f;
  }
  sums[SUM_BIAS] += dz;
  return dz;
}
