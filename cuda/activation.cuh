// The activations and their derivatives in fp32. Formulas: docs/model.md.
#pragma once

#include <math.h>

#include "engine/engine.h"

// sin(f·z) and cos(f·z). The product is kept in two terms and reduced by multiples of π/2 in three, so that the error
// stays under 2e-7 for |f·z| up to 1e5.
__device__ __forceinline__ void sincos_product(float f, float z, float &s, float &c) {
  float hi = f * z;
  float lo = fmaf(f, z, -hi);
  float k = rintf(hi * 0.636619772f);
  float r = fmaf(-k, 1.57079637f, hi);
  r = fmaf(-k, -4.37113883e-8f, r);
  r += lo;
  float q = r * r;
  float sp = fmaf(q, fmaf(q, fmaf(q, 2.718311493e-6f, -1.984090483e-4f), 8.333329386e-3f), -1.666666664e-1f);
  sp = fmaf(r * q, sp, r);
  float cp = fmaf(q, fmaf(q, fmaf(q, fmaf(q, 2.443315711e-5f, -1.388731625e-3f), 4.166664568e-2f), -0.5f), 1.0f);
  int n = (int)k;
  bool swap = n & 1;
  s = swap ? cp : sp;
  c = swap ? sp : cp;
  if (n & 2) s = -s;
  if ((n + 1) & 2) c = -c;
}

__device__ __forceinline__ float sin_product(float f, float z) {
  float hi = f * z;
  float lo = fmaf(f, z, -hi);
  float k = rintf(hi * 0.318309886f);
  float r = fmaf(-k, 3.14159274f, hi);
  r = fmaf(-k, -8.74227766e-8f, r);
  r += lo;
  float q = r * r;
  float p =
      fmaf(q, fmaf(q, fmaf(q, fmaf(q, -2.3889859e-8f, 2.7525562e-6f), -1.9840874e-4f), 8.3333310e-3f), -1.6666667e-1f);
  p = fmaf(r * q, p, r);
  return ((int)k & 1) ? -p : p;
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

// The effective A, f, d of a feature.
struct sine_feature {
  float A, f, d;
};

__device__ __forceinline__ sine_feature sine_of(float raw_A, float raw_f, float raw_d, const act_bounds &b) {
  return {fminf(fmaxf(softplus(raw_A), b.amplitude_lo), b.amplitude_hi),
          fminf(fmaxf(softplus(raw_f) + 1e-6f, b.frequency_lo), b.frequency_hi),
          fminf(fmaxf(softplus(raw_d), b.damping_lo), b.damping_hi)};
}

template <int DECAY>
__device__ __forceinline__ float sine_envelope(float d, float z) {
  if (DECAY == ACT_DECAY_NONE) return 1.0f;
  float g = DECAY == ACT_DECAY_ABS ? fabsf(z) : fmaxf(z, 0.0f);
  return exp2f(-1.44269504f * (d * g));
}

template <int KIND, int DECAY>
__device__ __forceinline__ float act_value(const sine_feature &p, float z) {
  if (KIND == ACT_SINE) return p.A * sine_envelope<DECAY>(p.d, z) * sin_product(p.f, z);
  if (KIND == ACT_GELU) return 0.5f * z * (1.0f + erff(z * 0.707106781f));
  return fmaxf(z, 0.0f);
}

// Value and derivatives: y = act(z), dy/dz, and for the sine ∂y/∂A, ∂y/∂f, ∂y/∂d.
struct act_slopes {
  float y, z, A, f, d;
};

template <int KIND, int DECAY>
__device__ __forceinline__ act_slopes act_derivatives(const sine_feature &p, float z) {
  act_slopes o = {};
  if (KIND == ACT_SINE) {
    float s, c;
    sincos_product(p.f, z, s, c);
    float e = sine_envelope<DECAY>(p.d, z);
    float g = DECAY == ACT_DECAY_ABS ? fabsf(z) : DECAY == ACT_DECAY_RELU ? fmaxf(z, 0.0f) : 0.0f;
    float slope = DECAY == ACT_DECAY_ABS    ? copysignf(1.0f, z)
                  : DECAY == ACT_DECAY_RELU ? (z > 0.0f ? 1.0f : 0.0f)
                                            : 0.0f;
    float es = e * s, ae = p.A * e;
    o.A = es;
    o.y = p.A * es;
    o.z = ae * (p.f * c - p.d * slope * s);
    o.f = ae * c * z;
    o.d = -g * o.y;
  } else if (KIND == ACT_GELU) {
    float phi = 0.5f * (1.0f + erff(z * 0.707106781f));
    o.y = z * phi;
    o.z = phi + z * 0.398942280f * expf(-0.5f * z * z);
  } else {
    o.y = fmaxf(z, 0.0f);
    o.z = z > 0.0f ? 1.0f : 0.0f;
  }
  return o;
}
