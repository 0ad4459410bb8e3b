#include "engine/cpu/tile.h"

#include <string.h>

#include "engine/cpu/cpu_engine.h"

#define INLINE static inline __attribute__((always_inline))

/* GCC's vectors of the widest kind that the instruction set has, at least 16 bytes. */
#if defined(__AVX512F__)
#define LANE_BYTES 64
#elif defined(__AVX__)
#define LANE_BYTES 32
#else
#define LANE_BYTES 16
#endif
typedef real lanes __attribute__((vector_size(LANE_BYTES)));
enum { LANES = LANE_BYTES / sizeof(real) };

INLINE lanes load(const real *p) {
  lanes v;
  memcpy(&v, p, sizeof v);
  return v;
}

INLINE void store(real *p, lanes v) {
  memcpy(p, &v, sizeof v);
}

/* One tile of `rows` × (vectors · LANES), kept in registers over the whole sum of k ≥ 1 terms. A's element (i, k) is
 * A[i · a_row + k · a_step]. */
INLINE void tile(int rows, int vectors, int64_t k, const real *A, int64_t a_row, int64_t a_step, const real *B,
                 int64_t ldb, bool add, real *C, int64_t ldc) {
  lanes sum[TILE_GROUP][2];
#pragma GCC unroll 6
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) {
      sum[i][v] = (lanes){0};
    }
  }
  int64_t step = 0;
  do { /* a test before the loop would cost a copy of all sums */
    lanes b[2];
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) {
      b[v] = load(B + step * ldb + v * LANES);
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++) {
      real a = A[i * a_row + step * a_step];
#pragma GCC unroll 2
      for (int v = 0; v < vectors; v++) {
        sum[i][v] += a * b[v];
      }
    }
  } while (++step < k);
#pragma GCC unroll 6
  for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
    for (int v = 0; v < vectors; v++) {
      real *c = C + i * ldc + v * LANES;
      store(c, add ? load(c) + sum[i][v] : sum[i][v]);
    }
  }
}

/* A row group: tiles of two vectors, of one, and single columns. */
INLINE void group(int rows, int64_t n, int64_t k, const real *A, int64_t a_row, int64_t a_step, const real *B,
                  int64_t ldb, bool add, real *C, int64_t ldc) {
  int64_t j = 0;
  for (; j + 2 * LANES <= n; j += 2 * LANES) {
    tile(rows, 2, k, A, a_row, a_step, B + j, ldb, add, C + j, ldc);
  }
  for (; j + LANES <= n; j += LANES) {
    tile(rows, 1, k, A, a_row, a_step, B + j, ldb, add, C + j, ldc);
  }
  for (; j < n; j++) {
    for (int i = 0; i < rows; i++) {
      real sum = 0;
      for (int64_t step = 0; step < k; step++) {
        sum += A[i * a_row + step * a_step] * B[step * ldb + j];
      }
      C[i * ldc + j] = add ? C[i * ldc + j] + sum : sum;
    }
  }
}

void tile_rows(int64_t m, int64_t n, int64_t k, const real *A, int64_t lda, const real *B, int64_t ldb, bool add,
               real *C, int64_t ldc) {
  if (m == TILE_GROUP) {
    group(TILE_GROUP, n, k, A, lda, 1, B, ldb, add, C, ldc);
    return;
  }
  for (int64_t i = 0; i < m; i++) {
    group(1, n, k, A + i * lda, lda, 1, B, ldb, add, C + i * ldc, ldc);
  }
}

void tile_columns(int64_t m, int64_t n, int64_t k, const real *A, int64_t lda, const real *B, int64_t ldb, bool add,
                  real *C, int64_t ldc) {
  if (m == TILE_GROUP) {
    group(TILE_GROUP, n, k, A, 1, lda, B, ldb, add, C, ldc);
    return;
  }
  for (int64_t i = 0; i < m; i++) {
    group(1, n, k, A + i, 1, lda, B, ldb, add, C + i * ldc, ldc);
  }
}
