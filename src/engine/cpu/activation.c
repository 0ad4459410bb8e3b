#include "engine/cpu/activation.h"

#include <math.h>
#include <stdbool.h>

#include "engine/cpu/vecmath.h"

#define INLINE static inline __attribute__((always_inline))

enum { ROWS_TOGETHER = 4 }; /* rows whose sums meet in registers before they are added to memory */

/* Softplus, its shift and clamp, and the derivative by the raw value: zero where the clamp holds. */
static void effective(const real *raw, int64_t F, double shift, double lo, double hi, real *value, real *derivative) {
  for (int64_t j = 0; j < F; j++) {
    double r = (double)raw[j];
    double v = (r > 20.0 ? r : log1p(exp(r))) + shift;
    bool passed = lo <= v && v <= hi;
    value[j] = (real)(v < lo ? lo : v > hi ? hi : v);
    derivative[j] = (real)(!passed ? 0.0 : r > 20.0 ? 1.0 : 1.0 / (1.0 + exp(-r)));
  }
}

void act_prepare(const act_spec *spec, int64_t F, real *room, act_params *p) {
  *p = (act_params){.kind = spec->kind, .decay = spec->decay};
  if (spec->kind != ACT_SINE) {
    return;
  }
  effective(spec->amplitude, F, 0.0, spec->amplitude_lo, spec->amplitude_hi, room, room + F);
  effective(spec->frequency, F, 1e-6, spec->frequency_lo, spec->frequency_hi, room + 2 * F, room + 3 * F);
  effective(spec->damping, F, 0.0, spec->damping_lo, spec->damping_hi, room + 4 * F, room + 5 * F);
  p->amplitude = room;
  p->amplitude_d = room + F;
  p->frequency = room + 2 * F;
  p->frequency_d = room + 3 * F;
  p->damping = room + 4 * F;
  p->damping_d = room + 5 * F;
}

/* g(z) of the decay, and its derivative with 0 at the kink (where it is multiplied by sin 0). */
INLINE real decay_of(act_decay decay, real z) {
  return decay == ACT_DECAY_ABS ? (z < 0 ? -z : z) : decay == ACT_DECAY_RELU ? (z < 0 ? (real)0 : z) : (real)0;
}

INLINE real decay_slope(act_decay decay, real z) {
  real positive = z > 0 ? (real)1 : (real)0;
  real negative = z < 0 ? (real)1 : (real)0;
  return decay == ACT_DECAY_ABS ? positive - negative : decay == ACT_DECAY_RELU ? positive : (real)0;
}

INLINE real envelope(act_decay decay, real damping, real g) {
  return decay == ACT_DECAY_NONE ? (real)1 : real_exp(-damping * g);
}

#if ENGINE_BITS == 64
INLINE bool out_of_range(const real *f, const real *z, int64_t n) {
  (void)f, (void)z, (void)n;
  return false;
}
INLINE void sincos_far(real f, real z, real *s, real *c) {
  real_sincos(f, z, s, c);
}
#else
/* Whether an angle of the slice is beyond what the vector sine reduces exactly; such slices take the C library's. */
INLINE bool out_of_range(const real *f, const real *z, int64_t n) {
  int found = 0;
#pragma omp simd reduction(| : found)
  for (int64_t j = 0; j < n; j++) {
    found |= fabsf(f[j] * z[j]) > VM_SINCOS_LIMIT;
  }
  return found != 0;
}
INLINE void sincos_far(real f, real z, real *s, real *c) {
  double angle = (double)f * (double)z;
  *s = (real)sin(angle);
  *c = (real)cos(angle);
}
#endif

INLINE void sincos_of(bool far, real f, real z, real *s, real *c) {
  if (far) {
    sincos_far(f, z, s, c);
  } else {
    real_sincos(f, z, s, c);
  }
}

INLINE void sine_forward(act_decay decay, bool far, int64_t n, const real *A, const real *f, const real *d,
                         const real *z, real *a) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    real s, c;
    sincos_of(far, f[j], z[j], &s, &c);
    a[j] = A[j] * envelope(decay, d[j], decay_of(decay, z[j])) * s;
  }
}

static void sine_forward_slice(const act_params *p, int64_t first, int64_t n, const real *z, real *a) {
  const real *A = p->amplitude + first, *f = p->frequency + first, *d = p->damping + first;
  if (out_of_range(f, z, n)) {
    sine_forward(p->decay, true, n, A, f, d, z, a);
  } else if (p->decay == ACT_DECAY_ABS) {
    sine_forward(ACT_DECAY_ABS, false, n, A, f, d, z, a);
  } else if (p->decay == ACT_DECAY_RELU) {
    sine_forward(ACT_DECAY_RELU, false, n, A, f, d, z, a);
  } else {
    sine_forward(ACT_DECAY_NONE, false, n, A, f, d, z, a);
  }
}

void act_forward(const act_params *p, int64_t first, int64_t n, const real *bias, const real *in, real *z, real *a) {
  real *sum = z ? z : a; /* the activation reads it back from the first-level cache */
  if (bias) {
    bias += first;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
      sum[j] = in[j] + bias[j];
    }
  } else if (sum != in) {
    for (int64_t j = 0; j < n; j++) {
      sum[j] = in[j];
    }
  }
  if (p->kind == ACT_SINE) {
    sine_forward_slice(p, first, n, sum, a);
  } else if (p->kind == ACT_GELU) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
      real distribution, density;
      real_normal(sum[j], &distribution, &density);
      a[j] = sum[j] * distribution;
    }
  } else {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) {
      a[j] = sum[j] < 0 ? (real)0 : sum[j];
    }
  }
}

/* R rows, the sums kept in registers across them. E = exp(−d g(z)), s = sin(f z), c = cos(f z):
 * dz = A E (f c − d g′ s), dA = E s, df = A E c z, dd = −g A E s, each times the gradient at a. */
INLINE void sine_backward(act_decay decay, bool far, int R, bool write_again, const act_params *p, int64_t first,
                          int64_t n, int64_t ld, real factor, const real *z, real *g, real *again,
                          const act_sums *sums) {
  const real *A = p->amplitude + first, *f = p->frequency + first, *d = p->damping + first;
  real *sum_A = sums->amplitude, *sum_f = sums->frequency, *sum_d = sums->damping, *sum_z = sums->bias;
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    real acc_A = 0, acc_f = 0, acc_d = 0, acc_z = 0;
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
      real zj = z[r * ld + j];
      real gy = factor * g[r * ld + j];
      real s, c;
      sincos_of(far, f[j], zj, &s, &c);
      real decayed = decay_of(decay, zj);
      real E = envelope(decay, d[j], decayed);
      real AE = A[j] * E;
      real y = AE * s;
      real gAE = gy * AE;
      real dz = gAE * (f[j] * c - d[j] * decay_slope(decay, zj) * s);
      acc_A = real_fma(gy, E * s, acc_A);
      acc_f = real_fma(gAE * c, zj, acc_f);
      acc_d = real_fma(-gy * decayed, y, acc_d);
      acc_z += dz;
      g[r * ld + j] = dz;
      if (write_again) {
        again[r * ld + j] = y;
      }
    }
    sum_A[j] += acc_A;
    sum_f[j] += acc_f;
    sum_d[j] += acc_d;
    sum_z[j] += acc_z;
  }
}

INLINE void sine_backward_decay(bool far, int R, const act_params *p, int64_t first, int64_t n, int64_t ld, real factor,
                                const real *z, real *g, real *again, const act_sums *sums) {
  if (p->decay == ACT_DECAY_ABS) {
    if (again) {
      sine_backward(ACT_DECAY_ABS, far, R, true, p, first, n, ld, factor, z, g, again, sums);
    } else {
      sine_backward(ACT_DECAY_ABS, far, R, false, p, first, n, ld, factor, z, g, NULL, sums);
    }
  } else if (p->decay == ACT_DECAY_RELU) {
    if (again) {
      sine_backward(ACT_DECAY_RELU, far, R, true, p, first, n, ld, factor, z, g, again, sums);
    } else {
      sine_backward(ACT_DECAY_RELU, far, R, false, p, first, n, ld, factor, z, g, NULL, sums);
    }
  } else if (again) {
    sine_backward(ACT_DECAY_NONE, far, R, true, p, first, n, ld, factor, z, g, again, sums);
  } else {
    sine_backward(ACT_DECAY_NONE, far, R, false, p, first, n, ld, factor, z, g, NULL, sums);
  }
}

static void sine_backward_rows(int R, const act_params *p, int64_t first, int64_t n, int64_t ld, real factor,
                               const real *z, real *g, real *again, const act_sums *sums) {
  bool far = false;
  for (int r = 0; r < R; r++) {
    far |= out_of_range(p->frequency + first, z + r * ld, n);
  }
  if (!far && R == ROWS_TOGETHER) {
    sine_backward_decay(false, ROWS_TOGETHER, p, first, n, ld, factor, z, g, again, sums);
    return;
  }
  for (int r = 0; r < R; r++) {
    real *again_row = again ? again + r * ld : NULL;
    if (far) {
      sine_backward_decay(true, 1, p, first, n, ld, factor, z + r * ld, g + r * ld, again_row, sums);
    } else {
      sine_backward_decay(false, 1, p, first, n, ld, factor, z + r * ld, g + r * ld, again_row, sums);
    }
  }
}

/* GELU: y = z Φ(z), y′ = Φ(z) + z φ(z). */
INLINE void gelu_backward_row(bool write_again, int64_t n, real factor, const real *z, real *g, real *again,
                              real *sum_z) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    real distribution, density;
    real_normal(z[j], &distribution, &density);
    real dz = factor * g[j] * (distribution + z[j] * density);
    sum_z[j] += dz;
    g[j] = dz;
    if (write_again) {
      again[j] = z[j] * distribution;
    }
  }
}

static void relu_backward_row(int64_t n, real factor, const real *z, real *g, real *again, real *sum_z) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    real dz = z[j] > 0 ? factor * g[j] : (real)0;
    sum_z[j] += dz;
    g[j] = dz;
  }
  for (int64_t j = 0; again && j < n; j++) {
    again[j] = z[j] < 0 ? (real)0 : z[j];
  }
}

void act_backward(const act_params *p, int64_t first, int64_t n, int64_t rows, int64_t ld, real factor, const real *z,
                  real *g, real *again, const act_sums *sums) {
  if (p->kind == ACT_SINE) {
    for (int64_t r = 0; r < rows; r += ROWS_TOGETHER) {
      sine_backward_rows((int)min_i64(ROWS_TOGETHER, rows - r), p, first, n, ld, factor, z + r * ld, g + r * ld,
                         again ? again + r * ld : NULL, sums);
    }
    return;
  }
  for (int64_t r = 0; r < rows; r++) {
    const real *zr = z + r * ld;
    real *gr = g + r * ld;
    if (p->kind == ACT_RELU) {
      relu_backward_row(n, factor, zr, gr, again ? again + r * ld : NULL, sums->bias);
    } else if (again) {
      gelu_backward_row(true, n, factor, zr, gr, again + r * ld, sums->bias);
    } else {
      gelu_backward_row(false, n, factor, zr, gr, NULL, sums->bias);
    }
  }
}
