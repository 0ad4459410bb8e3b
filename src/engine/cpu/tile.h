/* Small products for attention, whose operands lie in the first- and second-level cache: too small for a library's
 * packing to pay, and the causal triangle is left out group by group.
 */
#ifndef PSANN_ENGINE_CPU_TILE_H
#define PSANN_ENGINE_CPU_TILE_H

#include <stdbool.h>

#include "engine/cpu/real.h"

#define tile_rows ENGINE_NAME(tile_rows)
#define tile_columns ENGINE_NAME(tile_columns)

/* C (m, n) = A (m, k) · B (k, n), or += with `add`; m ≤ TILE_GROUP, row strides lda, ldb, ldc. */
void tile_rows(int64_t m, int64_t n, int64_t k, const real *A, int64_t lda, const real *B, int64_t ldb, bool add,
               real *C, int64_t ldc);

/* C (m, n) = Aᵀ · B for A (k, m): the same with the group's elements of A side by side. */
void tile_columns(int64_t m, int64_t n, int64_t k, const real *A, int64_t lda, const real *B, int64_t ldb, bool add,
                  real *C, int64_t ldc);

#endif
