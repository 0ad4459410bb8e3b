/* Calls of CUDA's libraries as statuses. */
#ifndef PSANN_CUDA_CHECK_H
#define PSANN_CUDA_CHECK_H

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include "base/status.h"

#define CUDA(call)                                                                                \
  do {                                                                                            \
    cudaError_t cuda_error_ = (call);                                                             \
    if (cuda_error_ != cudaSuccess) {                                                             \
      FAIL("%s: %s (%s)", #call, cudaGetErrorString(cuda_error_), cudaGetErrorName(cuda_error_)); \
    }                                                                                             \
  } while (0)

#define CUBLAS(call)                                                  \
  do {                                                                \
    cublasStatus_t cublas_status_ = (call);                           \
    if (cublas_status_ != CUBLAS_STATUS_SUCCESS) {                    \
      FAIL("%s: %s", #call, cublasLtGetStatusString(cublas_status_)); \
    }                                                                 \
  } while (0)

#endif
