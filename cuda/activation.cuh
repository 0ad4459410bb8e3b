// The activations and their derivatives in fp32. Formulas: docs/model.md.
#pragma once

#include <math.h>

#include "engine/engine.h"
#include "exp2.cuh"

// The effective parameters of a feature, as the passes need them.
struct sine_feature {
  float A;
  float turns, turns_low;                // f/π in two terms
  float exponent;                        // of the envelope: −d / ln 2
  float slope_frequency, slope_damping;  // scale·A·f and scale·A·d
};

// scale: of the gradient; the forward doesn't use it.
__device__ __forceinline__ sine_feature effective_sine(float A, float f, float d, float scale) {
  constexpr float INVERSE_PI = 0.318309873f, INVERSE_PI_LOW = 1.28412765e-8f;
  float turns = f * INVERSE_PI;
  float low = fmaf(f, INVERSE_PI_LOW, fmaf(f, INVERSE_PI, -turns));
  return {A, turns, low, -LOG2_E * d, scale * A * f, scale * A * d};
}

// f·z = π·(r + an integer); sine and cosine of it are those of π·r, |r| ≤ 1/2, but for a sign that they share: the
// value's is `flip`, all of whose bits but the highest are 0.
struct half_turn {
  float r;
  int flip;
};

constexpr float FAR = 3e4f; /* of the integer; beyond, f/π by its first term puts r too far past 1/2 */

// The nearest integer is found by an addition that rounds at the units: for up to 2^22, which is beyond FAR. (rintf and
// a conversion would take two turns of the slow unit that the exponential needs.) What is left is exact but for one
// rounding, so that the sine's error stays under 3e-7.
__device__ __forceinline__ half_turn reduce_near(const sine_feature &p, float z) {
  constexpr float UNITS = 12582912.0f; /* 1.5 · 2^23 */
  float t = fmaf(z, p.turns, UNITS), integer = t - UNITS;
  float r = fmaf(z, p.turns_low, fmaf(z, p.turns, -integer));
  return {r, (int)((unsigned)__float_as_int(t) << 31)};
}

// In fp64, from f itself, which its two terms give back exactly. A model that gets here is lost, but its numbers stay
// right up to 1e13; past that, NaN shows it.
__device__ __forceinline__ half_turn reduce_far(const sine_feature &p, float z) {
  float f = (float)(((double)p.turns + (double)p.turns_low) * 3.1415926535897931);
  double x = (double)f * (double)z, k = rint(x * 0.31830988618379067);
  double r = fma(-k, 1.2246467991473532e-16, fma(-k, 3.1415926535897931, x)) * 0.31830988618379067;
  bool odd = k != 2 * rint(0.5 * k);
  return {fabs(x) <= 1e13 ? (float)r : __int_as_float(0x7fffffff), odd ? (int)0x80000000 : 0};
}

template <bool IN_FAR>
__device__ __forceinline__ half_turn reduced(const sine_feature &p, float z) {
  return IN_FAR ? reduce_far(p, z) : reduce_near(p, z);
}

// Does any element of a pack need reduce_far? (Chosen for all of them at once, since a branch inside each would keep
// them from overlapping.)
template <int KIND, int VEC>
__device__ __forceinline__ bool any_far(const sine_feature (&p)[VEC], const float (&z)[VEC]) {
  if (KIND != ACT_SINE) return false;
  float most = 0;
#pragma unroll
  for (int i = 0; i < VEC; i++) most = fmaxf(most, fabsf(p[i].turns * z[i]));
  return __builtin_expect(most > FAR, false);
}

__device__ __forceinline__ float flipped(float x, int flip) {
  return __int_as_float(__float_as_int(x) ^ flip);
}

// sin π·r to 4e-9 and cos π·r to 6e-8 before rounding, for |r| ≤ 1/2: of all polynomials of their degree the ones with
// the smallest largest error.
__device__ __forceinline__ float sin_half_turn(float r) {
  float q = r * r;
  float p = fmaf(q, fmaf(q, fmaf(q, fmaf(q, 0.07722013f, -0.59804517f), 2.55003138f), -5.16770688f), 3.14159258f);
  return r * p;
}

__device__ __forceinline__ float cos_half_turn(float r) {
  float q = r * r;
  float p = fmaf(q, fmaf(q, fmaf(q, 0.22008066f, -1.33209387f), 4.05845134f), -4.93479552f);
  return fmaf(q, p, 1.0f);
}

// HARDWARE: by the hardware's functions, to 5e-7, where what comes of it is rounded to 16 bits. On the host, where
// tests compile the formulas, the library's.
constexpr float HALF_TURN = 3.14159265f;
template <bool HARDWARE>
__device__ __forceinline__ float sin_of(float r) {
#ifdef __CUDA_ARCH__
  return HARDWARE ? __sinf(HALF_TURN * r) : sin_half_turn(r);
#else
  return HARDWARE ? sinf(HALF_TURN * r) : sin_half_turn(r);
#endif
}
template <bool HARDWARE>
__device__ __forceinline__ float cos_of(float r) {
#ifdef __CUDA_ARCH__
  return HARDWARE ? __cosf(HALF_TURN * r) : cos_half_turn(r);
#else
  return HARDWARE ? cosf(HALF_TURN * r) : cos_half_turn(r);
#endif
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

template <int KIND, int DECAY, bool IN_FAR, bool HARDWARE = false>
__device__ __forceinline__ float act_value(const sine_feature &p, float z) {
  if (KIND == ACT_SINE) {
    half_turn t = reduced<IN_FAR>(p, z);
    return p.A * sine_envelope<DECAY>(p, z) * flipped(sin_of<HARDWARE>(t.r), t.flip);
  }
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

template <int KIND, int DECAY, bool IN_FAR, bool HARDWARE = false>
__device__ __forceinline__ float act_gradient(const sine_feature &p, float scale, float z, float g,
                                              float (&sums)[SUMS]) {
  float dz;
  if (KIND == ACT_SINE) {
    half_turn angle = reduced<IN_FAR>(p, z);
    float eg = flipped(sine_envelope<DECAY>(p, z) * g, angle.flip);
    float t = eg * sin_of<HARDWARE>(angle.r), u = eg * cos_of<HARDWARE>(angle.r);
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
