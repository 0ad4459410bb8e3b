#include "nccl_memory.h"

#include <stdlib.h>

#include "base/activity.h"
#include "base/memory.h"
#include "check.h"
#include "nccl_connect.h"
#include "upload.h"

enum { GRANULARITY = 2 << 20 }; /* bytes: NCCL allocates pages of this size */

static status room_for_one(nccl_memory *m) {
  if (m->n < m->room) {
    return STATUS_OK;
  }
  int room = m->room == 0 ? 64 : 2 * m->room;
  nccl_block *blocks = realloc(m->blocks, (size_t)room * sizeof *blocks);
  REQUIRE(blocks != NULL, "no memory to remember %d blocks of GPU memory", room);
  m->blocks = blocks;
  m->room = room;
  return STATUS_OK;
}

static status take(size_t bytes, const char *what, void **out) {
  ncclResult_t result = ncclMemAlloc(out, bytes);
  if (result != ncclSuccess) {
    *out = NULL;
    return cuda_no_memory(bytes, what, ncclGetErrorString(result));
  }
  return cuda_clear(*out, bytes);
}

/* The window's own word for it is device code's. */
static status find_peers(const dist *d, nccl_block *b) {
  void **places = NULL;
  size_t bytes = (size_t)d->ranks * sizeof *places;
  TRY(memory_new(&b->peers, (size_t)d->ranks, sizeof *b->peers, "places of the ranks' memory"));
  CUDA(cudaMalloc((void **)&places, bytes));
  cudaError_t error = launch_peer_places(b->window, d->ranks, places);
  if (error == cudaSuccess) {
    error = cudaMemcpy(b->peers, places, bytes, cudaMemcpyDeviceToHost);
  }
  cudaFree(places);
  CUDA(error);
  return STATUS_OK;
}

static status register_block(nccl_memory *m, const dist *d, ncclComm_t comm, size_t bytes, const char *what,
                             nccl_block *out) {
  *out = (nccl_block){0};
  bytes = (bytes + GRANULARITY - 1) / GRANULARITY * GRANULARITY;
  status s = room_for_one(m);
  if (s == STATUS_OK) {
    s = take(bytes, what, &out->at);
  }
  s = dist_agree(d, s); /* the registration waits for all ranks */
  if (s != STATUS_OK && out->at != NULL) {
    ncclMemFree(out->at);
  }
  TRY(s);
  activity_wait("the registration of memory");
  ncclResult_t result = ncclCommWindowRegister(comm, out->at, bytes, &out->window, NCCL_WIN_COLL_SYMMETRIC);
  activity_waited();
  NCCL(result);
  out->bytes = bytes;
  return STATUS_OK;
}

static void drop(ncclComm_t comm, const nccl_block *b) {
  cudaDeviceSynchronize();
  if (b->window != NULL) {
    ncclCommWindowDeregister(comm, b->window);
  }
  if (b->at != NULL) {
    ncclMemFree(b->at);
  }
  free(b->peers);
}

/* Where one rank fails, all do, and nothing stays. */
static status allocate(nccl_memory *m, const dist *d, ncclComm_t comm, size_t bytes, const char *what,
                       nccl_block *out) {
  TRY(register_block(m, d, comm, bytes, what, out));
  status s = dist_agree(d, out->window == NULL ? STATUS_OK : find_peers(d, out));
  if (s != STATUS_OK) {
    drop(comm, out);
  }
  return s;
}

static bool policy_is_ours(void) {
  const char *policy = getenv("NCCL_CTA_POLICY");
  return policy == NULL || atoi(policy) == NCCL_CTA_POLICY_ZERO;
}

status nccl_memory_probe(nccl_memory *m, const dist *d, ncclComm_t comm, bool *works) {
  nccl_block block;
  int64_t refused = 1;
  *works = false;
  if (d->hosts != 1) {
    return STATUS_OK;
  }
  TRY(allocate(m, d, comm, GRANULARITY, "a first exchange", &block));
  TRY(dist_max(d, block.window == NULL || !policy_is_ours(), &refused));
  drop(comm, &block);
  *works = refused == 0;
  return STATUS_OK;
}

status nccl_memory_alloc(nccl_memory *m, const dist *d, ncclComm_t comm, size_t bytes, const char *what, void **out) {
  *out = NULL;
  nccl_block block;
  TRY(allocate(m, d, comm, bytes, what, &block));
  m->blocks[m->n++] = block;
  *out = block.at;
  return STATUS_OK;
}

const nccl_block *nccl_memory_block(const nccl_memory *m, const void *p) {
  for (int i = 0; i < m->n; i++) {
    const char *at = m->blocks[i].at;
    if ((const char *)p >= at && (const char *)p < at + m->blocks[i].bytes) {
      return &m->blocks[i];
    }
  }
  return NULL;
}

void nccl_memory_free(nccl_memory *m, ncclComm_t comm, void *p) {
  const nccl_block *b = nccl_memory_block(m, p);
  if (b != NULL) {
    drop(comm, b);
    m->blocks[b - m->blocks] = m->blocks[--m->n];
  }
}

void nccl_memory_close(nccl_memory *m, ncclComm_t comm) {
  for (int i = 0; i < m->n; i++) {
    if (m->blocks[i].window != NULL) {
      ncclCommWindowDeregister(comm, m->blocks[i].window);
    }
    free(m->blocks[i].peers);
  }
  free(m->blocks);
  *m = (nccl_memory){0};
}
