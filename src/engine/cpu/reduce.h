/* Sums over rows in a fixed order: blocks of ROW_BLOCK rows first, then the blocks in order, in fp64. */
#ifndef PSANN_ENGINE_CPU_REDUCE_H
#define PSANN_ENGINE_CPU_REDUCE_H

#include "engine/cpu/real.h"

#define sum_blocks ENGINE_NAME(sum_blocks)
#define column_sums ENGINE_NAME(column_sums)

/* out[j] = factor[j] · Σ over blocks of partial[block · stride + j], j < n; factor NULL: 1. Does nothing when out is
 * NULL. */
void sum_blocks(const real *partial, int64_t blocks, int64_t stride, int64_t n, const real *factor, real *out);

/* out[j] = scale · Σ over rows of x (rows, n); partial has room for (⌈rows/ROW_BLOCK⌉, n). */
void column_sums(int threads, const real *x, int64_t rows, int64_t n, real scale, real *partial, real *out);

#endif
