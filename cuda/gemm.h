/* Matrix products through cuBLASLt, and in fp32 through split_gemm. A plan (algorithm) belongs to a shape, its types
 * and layouts; it is taken from a table, or chosen once: timed where the engine may time, otherwise the library's first
 * suggestion. Every product of a shape then uses the same algorithm, without the library's split-K, whether it
 * overwrites or accumulates, so its bits depend on the plan alone. A plan may cut the rows that a weight gradient sums
 * over into parts, whose products are added in order and then, where it accumulates, to the result: the same bits as
 * overwriting and adding.
 */
#ifndef PSANN_CUDA_GEMM_H
#define PSANN_CUDA_GEMM_H

#include <cuda_runtime_api.h>
#include <stdbool.h>

#include "engine/engine.h"

typedef enum {
  GEMM_FORWARD,     /* out (n, m) = x (n, k) · w (m, k)ᵀ */
  GEMM_DATA_GRAD,   /* out (n, m) = dy (n, k) · w (k, m) */
  GEMM_WEIGHT_GRAD, /* out (n, m) = dy (k, n)ᵀ · x (k, m) */
} gemm_kind;

/* MATH_SPLIT: fp32 arithmetic, or products on the tensor cores that are at least as accurate, whichever is faster.
 * MATH_PEDANTIC: fp32 arithmetic alone. The numbers are part of the table. */
typedef enum { MATH_PEDANTIC, MATH_TF32, MATH_HALF, MATH_SPLIT } gemm_math;

/* fp8: operands of 8 bits (engine/fp8.h), right e4m3, left e4m3 in the forward product and e5m2 in gradients, each to
 * be multiplied with its factor, and both stored with k as the last dimension, whatever the kind: left (n, k), right
 * (m, k). `in` is not read then. As is usual, forward products sum within the tensor core, gradients are carried over
 * to fp32 registers every few terms. */
typedef struct {
  gemm_kind kind;
  int64_t n, m, k;
  dtype in, out;
  bool fp8;
  const float *left_factor, *right_factor; /* device scalars, on 16 bytes; fp8 */
  const void *left, *right;                /* x, dy, dy | w, w, x */
  void *result;
  const float *alpha; /* device scalar; NULL: 1 */
  bool accumulate;    /* result += … */
} gemm_args;

typedef struct gemm gemm;

status gemm_create(size_t workspace_bytes, gemm_math math, gemm **out);
void gemm_free(gemm *g);
size_t gemm_workspace(const gemm *g);

/* The memory for split operands (NULL and 0 bytes in half precision), for other work in the same stream between
 * products. */
void *gemm_split_memory(const gemm *g, size_t *bytes);

/* Whether shapes that the table lacks are timed on the operands of their first call, or get the split product where it
 * serves and else the library's first suggestion, as a shape does whose first call accumulates. */
void gemm_allow_timing(gemm *g, bool allowed);

status gemm_run(gemm *g, cudaStream_t stream, const gemm_args *a);

/* The table as text, one plan a line, sorted; the caller frees it. Reading adds plans; a line of another GPU or library
 * version is passed over. */
status gemm_table_text(const gemm *g, char **text);
/* The lines of the plans that gemm_run has used, without their rates: equal text, equal bits. */
status gemm_used_text(const gemm *g, char **text);
status gemm_table_read(gemm *g, const char *text, const char *origin);

#endif
