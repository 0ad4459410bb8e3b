/* The elementwise activations, forward and backward, over slices of rows. */
#ifndef PSANN_ENGINE_CPU_ACTIVATION_H
#define PSANN_ENGINE_CPU_ACTIVATION_H

#include "engine/cpu/real.h"
#include "engine/engine.h"

#define act_prepare ENGINE_NAME(act_prepare)
#define act_forward ENGINE_NAME(act_forward)
#define act_backward ENGINE_NAME(act_backward)

/* The effective values of the parameters, once per operation. */
typedef struct {
  act_kind kind;
  act_decay decay;
  const real *amplitude, *frequency, *damping;       /* (F), after softplus and clamp */
  const real *amplitude_d, *frequency_d, *damping_d; /* (F), their derivatives by the raw parameter */
} act_params;

enum { ACT_PREPARE_ROOM = 6 }; /* reals per feature that act_prepare needs */

/* Fills p from the raw parameters, F features; room: (ACT_PREPARE_ROOM, F), unused but for the sine. */
void act_prepare(const act_spec *spec, int64_t F, real *room, act_params *p);

/* Features first … first + n − 1 of one row: z = in + bias (bias NULL: 0), a = act(z). All slices begin at feature
 * `first`, but for bias, which begins at feature 0. z may be NULL or in; a may be in. */
void act_forward(const act_params *p, int64_t first, int64_t n, const real *bias, const real *in, real *z, real *a);

/* What a backward pass adds up over rows: one value per feature, raw parameters' derivative factors left out. */
typedef struct {
  real *amplitude, *frequency, *damping, *bias; /* (n) */
} act_sums;

/* Backward of `rows` rows, ld apart: factor · g is the gradient at a, and g becomes the gradient at z; `again`, when
 * not NULL, becomes act(z) with the forward's bits; the sums are added to. Slices begin at feature `first`. */
void act_backward(const act_params *p, int64_t first, int64_t n, int64_t rows, int64_t ld, real factor, const real *z,
                  real *g, real *again, const act_sums *sums);

#endif
