/* Tables of the positional encodings. The angles are formed in fp32 and the tables are rounded to fp32 in every
 * precision: checkpoints of the reference were trained with such tables, and a more exact table would be another
 * function.
 */
#ifndef PSANN_ENGINE_CPU_POSITIONS_H
#define PSANN_ENGINE_CPU_POSITIONS_H

#include <stdint.h>

#include "base/status.h"

/* cos and sin of p · 10000^(−i/(h/2)), i < h/2, for positions p < `positions`. */
typedef struct {
  int64_t h, positions;
  float *cosines, *sines; /* (positions, h/2) */
} rope_table;

/* PE[p, 2i] = sin(p · 10000^(−2i/D)), PE[p, 2i+1] = cos of the same angle. */
typedef struct {
  int64_t D, positions;
  float *values; /* (positions, D) */
} sinusoid_table;

/* Makes the table hold at least `positions` positions for this head size or width; does nothing when it does. */
status rope_table_cover(rope_table *t, int64_t h, int64_t positions);
void rope_table_free(rope_table *t);
status sinusoid_table_cover(sinusoid_table *t, int64_t D, int64_t positions);
void sinusoid_table_free(sinusoid_table *t);

/* One past the last position of T columns whose first ones stand at past[b] (NULL: 0). */
int64_t positions_needed(const int32_t *past, int64_t B, int64_t T);

/* ALiBi's slope of head i of H. */
float alibi_slope(int64_t i, int64_t H);

/* Angle per position of pair i of a head with `half` pairs, and of elements i, i + 1 (i even) of the sinusoidal encoding: fp32 values formed as the reference forms them. */
float rope_frequency(int64_t i, int64_t half);
float sinusoid_frequency(int64_t i, int64_t D);

#endif
