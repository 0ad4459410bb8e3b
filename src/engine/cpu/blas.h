/* Matrix products of row-major matrices over `real`. Dimensions fit an int: cpu_prepare refuses limits that don't. */
#ifndef PSANN_ENGINE_CPU_BLAS_H
#define PSANN_ENGINE_CPU_BLAS_H

#include <cblas.h>

#include "engine/cpu/real.h"

typedef enum { PLAIN = CblasNoTrans, TRANSPOSED = CblasTrans } orientation;

/* C (m, n) = alpha · op(A) (m, k) · op(B) (k, n) + beta · C; lda, ldb and ldc are row strides as stored. */
static inline void gemm(orientation op_a, orientation op_b, int64_t m, int64_t n, int64_t k, real alpha, const real *A,
                        int64_t lda, const real *B, int64_t ldb, real beta, real *C, int64_t ldc) {
#if ENGINE_BITS == 64
  cblas_dgemm(CblasRowMajor, (CBLAS_TRANSPOSE)op_a, (CBLAS_TRANSPOSE)op_b, (int)m, (int)n, (int)k, alpha, A, (int)lda,
              B, (int)ldb, beta, C, (int)ldc);
#else
  cblas_sgemm(CblasRowMajor, (CBLAS_TRANSPOSE)op_a, (CBLAS_TRANSPOSE)op_b, (int)m, (int)n, (int)k, alpha, A, (int)lda,
              B, (int)ldb, beta, C, (int)ldc);
#endif
}

/* y (rows, out) = x (rows, in) · weight (out, in)ᵀ */
static inline void linear_forward(int64_t rows, int64_t out, int64_t in, const real *x, const real *weight, real *y) {
  gemm(PLAIN, TRANSPOSED, rows, out, in, 1, x, in, weight, in, 0, y, out);
}

/* dx (rows, in) = dy (rows, out) · weight (out, in) */
static inline void linear_backward_input(int64_t rows, int64_t out, int64_t in, const real *dy, const real *weight,
                                         real *dx) {
  gemm(PLAIN, PLAIN, rows, in, out, 1, dy, out, weight, in, 0, dx, in);
}

/* dweight (out, in) = dy (rows, out)ᵀ · x (rows, in) */
static inline void linear_backward_weight(int64_t rows, int64_t out, int64_t in, const real *dy, const real *x,
                                          real *dweight) {
  gemm(TRANSPOSED, PLAIN, out, in, rows, 1, dy, out, x, in, 0, dweight, in);
}

#endif
