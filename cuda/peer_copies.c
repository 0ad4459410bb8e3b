#include "peer_copies.h"

#include <cuda.h>
#include <cudaTypedefs.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/memory.h"
#include "check.h"
#include "upload.h"

enum { CUDA_12 = 12000, GIVEN_UP = 1 << 30 }; /* turns ahead of any that is waited for */

/* A rank's flags: turns that the others have reached, each written by one of them. */
typedef enum { MAY_BE_WRITTEN, HAS_BEEN_WRITTEN, FLAGS } flag;

struct peer_copies {
  const dist *d;
  nccl_memory *memory;
  cudaStream_t stream;
  uint32_t *flags;       /* (FLAGS, ranks) of this rank, */
  void *const *at_peers; /* and where every rank's stand here */
  atomic_uint turn;      /* the watchdog's thread reads it */
  int device;
  PFN_cuStreamWriteValue32_v11070 write;
  PFN_cuStreamWaitValue32_v11070 wait;
};

static status driver_function(const char *name, void *out) {
  enum cudaDriverEntryPointQueryResult found;
  CUDA(cudaGetDriverEntryPointByVersion(name, out, CUDA_12, cudaEnableDefault, &found));
  REQUIRE(found == cudaDriverEntryPointSuccess, "the driver has no %s: it is too old for this CUDA", name);
  return STATUS_OK;
}

static size_t flag_place(const peer_copies *p, flag f, int rank) {
  return (size_t)f * (size_t)p->d->ranks + (size_t)rank;
}

/* Flag f of every other rank, where this rank has its place, becomes the turn. */
static status tell(const peer_copies *p, flag f) {
  for (int step = 1; step < p->d->ranks; step++) {
    int to = (p->d->rank + step) % p->d->ranks;
    uint32_t *at = (uint32_t *)p->at_peers[to] + flag_place(p, f, p->d->rank);
    REQUIRE(p->write(p->stream, (CUdeviceptr)at, p->turn, CU_STREAM_WRITE_VALUE_DEFAULT) == CUDA_SUCCESS,
            "a flag at rank %d can't be written", to);
  }
  return STATUS_OK;
}

/* Until all others have come to this turn. */
static status wait_for(const peer_copies *p, flag f) {
  for (int step = 1; step < p->d->ranks; step++) {
    int from = (p->d->rank + step) % p->d->ranks;
    const uint32_t *at = p->flags + flag_place(p, f, from);
    REQUIRE(p->wait(p->stream, (CUdeviceptr)at, p->turn, CU_STREAM_WAIT_VALUE_GEQ) == CUDA_SUCCESS,
            "a flag of rank %d can't be waited for", from);
  }
  return STATUS_OK;
}

status peer_copies_all_to_all(peer_copies *p, const nccl_block *block, const void *buffer, size_t size,
                              const int64_t *starts, void *parts) {
  size_t offset = (size_t)((char *)parts - (char *)block->at);
  int own = p->d->rank, ranks = p->d->ranks;
  p->turn++;
  TRY(tell(p, MAY_BE_WRITTEN));
  TRY(wait_for(p, MAY_BE_WRITTEN));
  for (int step = 1; step < ranks; step++) {
    int to = (own + step) % ranks;
    size_t bytes = (size_t)(starts[to + 1] - starts[to]) * size;
    if (bytes > 0) { /* a part of rank `to` is as long as its slice */
      CUDA(cudaMemcpyAsync((char *)block->peers[to] + offset + (size_t)own * bytes,
                           (const char *)buffer + (size_t)starts[to] * size, bytes, cudaMemcpyDeviceToDevice,
                           p->stream));
    }
  }
  TRY(tell(p, HAS_BEEN_WRITTEN));
  return wait_for(p, HAS_BEEN_WRITTEN);
}

void peer_copies_abort(peer_copies *p) {
  cudaStream_t aside;
  if (p == NULL || cudaSetDevice(p->device) != cudaSuccess ||
      cudaStreamCreateWithFlags(&aside, cudaStreamNonBlocking) != cudaSuccess) {
    return;
  }
  uint32_t turn = p->turn + GIVEN_UP;
  for (size_t i = 0; i < (size_t)FLAGS * (size_t)p->d->ranks; i++) {
    p->write(aside, (CUdeviceptr)(p->flags + i), turn, CU_STREAM_WRITE_VALUE_DEFAULT);
  }
}

/* Whether every rank's flags are where they are said to be: each writes its number to the others, who read it. */
static status try_peers(peer_copies *p, bool *works) {
  int ranks = p->d->ranks, failures = 0;
  int64_t most;
  for (int to = 0; to < ranks; to++) {
    uint32_t number = (uint32_t)(p->d->rank + 1);
    void *at = (uint32_t *)p->at_peers[to] + flag_place(p, MAY_BE_WRITTEN, p->d->rank);
    failures += cudaMemcpy(at, &number, sizeof number, cudaMemcpyHostToDevice) != cudaSuccess;
  }
  failures += cudaDeviceSynchronize() != cudaSuccess;
  TRY(dist_barrier(p->d));
  for (int from = 0; from < ranks; from++) {
    uint32_t number = 0;
    const void *at = p->flags + flag_place(p, MAY_BE_WRITTEN, from);
    failures +=
        cudaMemcpy(&number, at, sizeof number, cudaMemcpyDeviceToHost) != cudaSuccess || number != (uint32_t)(from + 1);
  }
  cudaGetLastError(); /* an answer, no failure */
  TRY(dist_max(p->d, failures, &most));
  *works = most == 0;
  return cuda_clear(p->flags, (size_t)FLAGS * (size_t)ranks * sizeof *p->flags);
}

static status fill(peer_copies *p, ncclComm_t comm, bool *works) {
  void *flags;
  size_t bytes = (size_t)FLAGS * (size_t)p->d->ranks * sizeof *p->flags;
  CUDA(cudaGetDevice(&p->device));
  TRY(nccl_memory_alloc(p->memory, p->d, comm, bytes, "the flags of exchanges", &flags));
  p->flags = flags;
  p->at_peers = nccl_memory_block(p->memory, flags)->peers;
  status s = driver_function("cuStreamWriteValue32", &p->write);
  if (s == STATUS_OK) {
    s = driver_function("cuStreamWaitValue32", &p->wait);
  }
  TRY(dist_agree(p->d, s));
  TRY(try_peers(p, works));
  return dist_barrier(p->d); /* no flag is cleared after another rank's first turn */
}

status peer_copies_create(const dist *d, nccl_memory *m, ncclComm_t comm, cudaStream_t stream, peer_copies **out) {
  *out = NULL;
  bool works = false;
  peer_copies *p;
  TRY(dist_agree(d, memory_new(&p, 1, sizeof *p, "exchanges by copies")));
  p->d = d;
  p->memory = m;
  p->stream = stream;
  status s = fill(p, comm, &works);
  if (s != STATUS_OK || !works) {
    peer_copies_destroy(p, comm);
    return s;
  }
  *out = p;
  return STATUS_OK;
}

void peer_copies_destroy(peer_copies *p, ncclComm_t comm) {
  if (p == NULL) {
    return;
  }
  if (p->flags != NULL) {
    nccl_memory_free(p->memory, comm, p->flags);
  }
  free(p);
}
