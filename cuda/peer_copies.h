/* An exchange by the copy engines, among GPUs that map each other's memory (nccl_memory.h). NCCL's own all-to-all on
 * the copy engines copies a rank's own part too: at the rate of the memory, so that the products beside it wait. Here
 * ranks only push what others need. A flag of every rank at every other one says that its memory may be written, a
 * second one that it has been: streams write and wait for them, no kernel runs, and the host waits for nothing.
 */
#ifndef PSANN_CUDA_PEER_COPIES_H
#define PSANN_CUDA_PEER_COPIES_H

#include "nccl_memory.h"

typedef struct peer_copies peer_copies;

/* Collective; the ranks share a host, and windows work there. stream: what all exchanges are issued to. *out is NULL,
 * on all ranks, where a rank can't write to another's memory. */
status peer_copies_create(const dist *d, nccl_memory *m, ncclComm_t comm, cudaStream_t stream, peer_copies **out);
/* The exchanges are over. */
void peer_copies_destroy(peer_copies *p, ncclComm_t comm);

/* As all_to_all of collectives.h, elements of `size` bytes; `parts` lies in one block of the memory, at the same place
 * of it on all ranks. */
status peer_copies_all_to_all(peer_copies *p, const nccl_block *block, const void *buffer, size_t size,
                              const int64_t *starts, void *parts);

/* Any thread: lets the stream run on without the others. What is under way is no result then. */
void peer_copies_abort(peer_copies *p);

#endif
