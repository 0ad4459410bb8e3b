/* Memory that all ranks of a communicator have registered with each other (NCCL's symmetric windows). Among GPUs that
 * reach each other's memory, under NCCL_CTA_POLICY_ZERO, all-gather and all-to-all of such memory run on the copy
 * engines. */
#ifndef PSANN_CUDA_NCCL_MEMORY_H
#define PSANN_CUDA_NCCL_MEMORY_H

#include <nccl.h>

#include "dist/dist.h"

typedef struct {
  void *at;
  ncclWindow_t window;
} nccl_block;

typedef struct {
  nccl_block *blocks;
  int n, room;
} nccl_memory; /* starts as {0} */

/* Collective: whether windows work here. No where ranks are on several hosts, their GPUs don't reach each other, or the
 * variable NCCL_CTA_POLICY asks for another policy. */
status nccl_memory_probe(nccl_memory *m, const dist *d, ncclComm_t comm, bool *works);

/* Collective, the same bytes on all ranks; zeroed. If one rank has not enough, all fail. */
status nccl_memory_alloc(nccl_memory *m, const dist *d, ncclComm_t comm, size_t bytes, const char *what, void **out);

/* Waits for what the device was given. Not collective: a rank whose exchanges are done has sent and received all. */
void nccl_memory_free(nccl_memory *m, ncclComm_t comm, void *p);

/* Before the communicator ends. Blocks that are still there stay the process's, which ends after a failure. */
void nccl_memory_close(nccl_memory *m, ncclComm_t comm);

#endif
