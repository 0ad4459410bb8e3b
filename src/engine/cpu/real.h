/* The type that a variant of the operations computes with, and the suffix of its symbols.
 *
 * Every operation is written once over `real` and compiled once per variant: meson.build gives ENGINE_BITS (32 or 64),
 * ENGINE_VARIANT (f32_v3, …) and the instruction set. Functions shared between files of a variant are declared through
 * ENGINE_NAME, so that the variants live side by side in one program.
 */
#ifndef PSANN_ENGINE_CPU_REAL_H
#define PSANN_ENGINE_CPU_REAL_H

#include <stdint.h>

#define ENGINE_JOIN_(op, variant) op##_##variant
#define ENGINE_JOIN(op, variant) ENGINE_JOIN_(op, variant)
#define ENGINE_NAME(op) ENGINE_JOIN(op, ENGINE_VARIANT)

#if ENGINE_BITS == 64
typedef double real;
#else
typedef float real;
#endif

static inline int64_t min_i64(int64_t a, int64_t b) {
  return a < b ? a : b;
}
static inline int64_t max_i64(int64_t a, int64_t b) {
  return a > b ? a : b;
}
static inline int64_t blocks_of(int64_t n, int64_t block) {
  return (n + block - 1) / block;
}

#endif
