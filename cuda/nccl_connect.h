/* The start of NCCL: a communicator over all ranks, or a sentence within a time limit. */
#ifndef PSANN_CUDA_NCCL_CONNECT_H
#define PSANN_CUDA_NCCL_CONNECT_H

#include <nccl.h>

#include "dist/dist.h"

#define NCCL(call)                                                                          \
  do {                                                                                      \
    ncclResult_t nccl_result_ = (call);                                                     \
    if (nccl_result_ != ncclSuccess) {                                                      \
      FAIL("%s: %s (%s)", #call, ncclGetErrorString(nccl_result_), ncclGetLastError(NULL)); \
    }                                                                                       \
  } while (0)

enum { NCCL_PATIENCE_S = 180 };

/* Collective; MPI hands round NCCL's id. The current device is the rank's GPU. A failure where a peer does not answer
 * within NCCL_PATIENCE_S: NCCL itself would wait for it without end. The communicator is a blocking one; on one host it leaves
 * exchanges of registered memory to the copy engines (NCCL_CTA_POLICY_ZERO). */
status nccl_connect(const dist *d, ncclComm_t *out);

#endif
