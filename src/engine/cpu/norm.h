/* The norms, row by row, for the operations that end in one. */
#ifndef PSANN_ENGINE_CPU_NORM_H
#define PSANN_ENGINE_CPU_NORM_H

#include "engine/cpu/real.h"
#include "engine/engine.h"

#define norm_row ENGINE_NAME(norm_row)
#define norm_amax ENGINE_NAME(norm_amax)

/* norm.y[row] = norm(x) and the row's statistics, for a row of N; x (D). Does nothing for NORM_NONE. */
void norm_row(const norm_spec *norm, int64_t N, int64_t D, int64_t row, const real *x);

/* norm.y_amax, once all N rows of norm.y (N, D) are there. */
void norm_amax(int threads, const norm_spec *norm, int64_t N, int64_t D);

#endif
