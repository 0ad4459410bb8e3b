/* Masks of dropout, counted and not drawn: see dropout_spec. */
#ifndef PSANN_ENGINE_CPU_DROPOUT_H
#define PSANN_ENGINE_CPU_DROPOUT_H

#include "engine/cpu/real.h"
#include "engine/engine.h"

#define dropout_mask ENGINE_NAME(dropout_mask)
#define dropout_rows ENGINE_NAME(dropout_rows)

/* mask[i] = 0 or 1/(1 − p) for elements first … first + n − 1 of sequence `sequence` (counted in the job). */
void dropout_mask(const dropout_spec *d, uint64_t seed, int64_t sequence, int64_t first, int64_t n, real *mask);

/* y = mask ⊙ x for x (B·T, D); y may be x. */
void dropout_rows(const engine *e, const dropout_spec *d, int64_t B, int64_t T, int64_t D, const real *x, real *y);

#endif
