/* Memory that all ranks of a communicator have registered with each other (NCCL's symmetric windows). Among GPUs that
 * reach each other's memory, under NCCL_CTA_POLICY_ZERO, all-gather of such memory runs on the copy engines; so does
 * our own exchange (peer_copies.h). */
#ifndef PSANN_CUDA_NCCL_MEMORY_H
#define PSANN_CUDA_NCCL_MEMORY_H

#include <cuda_runtime_api.h>
#include <nccl.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "dist/dist.h"

typedef struct {
  void *at;
  size_t bytes;
  ncclWindow_t window;
  void **peers; /* (ranks) where every rank's block stands here, this rank's too; as NCCL maps it, which is another
                   place than `at` */
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

/* The block that p lies in; NULL: none. */
const nccl_block *nccl_memory_block(const nccl_memory *m, const void *p);

/* Waits for what the device was given. Not collective: a rank whose exchanges are done has sent and received all. */
void nccl_memory_free(nccl_memory *m, ncclComm_t comm, void *p);

/* Before the communicator ends. Blocks that are still there stay the process's, which ends after a failure. */
void nccl_memory_close(nccl_memory *m, ncclComm_t comm);

/* nccl_peers.cu, on the stream 0: places[r] = where rank r's block of the window stands; device memory (ranks). */
cudaError_t launch_peer_places(ncclWindow_t window, int ranks, void **places);

#ifdef __cplusplus
}
#endif

#endif
