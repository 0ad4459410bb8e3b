/* Products with operands in 8 bits (engine/fp8.h): operands are rounded into scratch, in `real`, and multiplied as
 * others are. What the GPUs' tensor cores do with them, but for the sums' order.
 */
#ifndef PSANN_ENGINE_CPU_FP8_H
#define PSANN_ENGINE_CPU_FP8_H

#include "engine/cpu/cpu_engine.h"
#include "engine/cpu/real.h"
#include "engine/fp8.h"

#define amax_of ENGINE_NAME(amax_of)
#define note_amax ENGINE_NAME(note_amax)
#define layer_forward ENGINE_NAME(layer_forward)
#define layer_backward ENGINE_NAME(layer_backward)

/* Largest magnitude of x (n); a NaN does not count. */
real amax_of(int threads, const real *x, int64_t n);

/* *amax = amax_of(x); nothing where amax is NULL. */
void note_amax(int threads, const void *x, int64_t n, void *amax);

/* y (rows, out) = x (rows, in) · weight (out, in)ᵀ; x_amax NULL: of the operands as they are. What it takes of the
 * scratch is free again afterwards. */
status layer_forward(scratch s, int64_t rows, int64_t out, int64_t in, const void *x, const void *x_amax,
                     const void *weight, real *y);

/* dx (rows, in) = dy (rows, out) · weight (out, in); dweight = dyᵀ · x (rows, in). dx or dweight NULL: not wanted, nor
 * the operand that it alone needs. dy_amax NULL: dy's own is found. */
status layer_backward(scratch s, int64_t rows, int64_t out, int64_t in, const void *dy, const void *dy_amax,
                      const void *weight, const void *x, const void *x_amax, real *dx, real *dweight);

#endif
