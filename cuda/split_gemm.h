/* fp32 products on the tensor cores: result (n, m) = alpha · left (n, k) · right (m, k)ᵀ, plus what was there when
 * accumulating. Operands are split into pairs of fp16 (split_layout.h); three products of the parts make one, summed in
 * fp32. The error in Frobenius norm is below that of fp32 arithmetic (cuBLAS's CUBLAS_COMPUTE_32F_PEDANTIC) from k = 32
 * on. Elements below 2^-18 of their row's largest lose bits: their absolute error is 2^-40 of the largest. An infinity
 * or NaN makes the row or column non-finite.
 *
 * A result depends on its row of left, its row of right, and k alone: not on n or m, and not on the workspace, in whose
 * size the operands are taken in slabs.
 */
#ifndef PSANN_CUDA_SPLIT_GEMM_H
#define PSANN_CUDA_SPLIT_GEMM_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { SPLIT_MMA, SPLIT_WGMMA, SPLIT_VARIANTS } split_variant;

typedef struct {
  int64_t n, m, k;
  const float *left, *right; /* (n, k), (m, k) */
  float *result;             /* (n, m) */
  const float *alpha;        /* device scalar; NULL: 1 */
  bool accumulate;           /* result += … */
} split_product_args;

/* Whether a workspace of so many bytes (256-byte aligned) is enough for rows of k elements. */
bool split_product_fits(int64_t k, size_t workspace_bytes);

/* Queues the product; the workspace is in use until it is done. cudaErrorInvalidValue where it does not fit. */
cudaError_t launch_split_product(cudaStream_t stream, split_variant variant, const split_product_args *a,
                                 void *workspace, size_t workspace_bytes);

#ifdef __cplusplus
}
#endif

#endif
