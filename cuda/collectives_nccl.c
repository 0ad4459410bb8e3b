/* NCCL moves, and adds for two ranks alone: other sums are made by our own kernels in tree order (shard/reduce.h), so
 * an exchange is sends and receives of slices. Before an exchange STREAM_COMM waits for what STREAM_MAIN has issued so
 * far; `wait` makes STREAM_MAIN wait for the exchanges. The host waits for neither.
 *
 * Among the GPUs of one host memory that `alloc` gave is moved by the copy engines, all-gather by NCCL (nccl_memory.h),
 * all-to-all by our own copies (peer_copies.h): NCCL's kernels would take multiprocessors from the products beside
 * them, whose last tiles then wait for as long as an exchange lasts.
 */
#include "collectives_nccl.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/activity.h"
#include "base/memory.h"
#include "check.h"
#include "cuda_engine.h"
#include "nccl_connect.h"
#include "nccl_memory.h"
#include "peer_copies.h"

enum {
  EVENT_DATA_READY = ENGINE_EVENTS - 2,
  EVENT_EXCHANGED = ENGINE_EVENTS - 1, /* of the engine's events */
  WAITS = 8,                           /* of a step, whose length is measured at most */
};

typedef struct {
  collectives base;
  engine *e;
  ncclComm_t comm;
  cudaStream_t stream, main;
  nccl_memory memory;
  peer_copies *copies; /* NULL: NCCL's all-to-all */
  atomic_bool aborted;
  /* How long STREAM_MAIN stands still in a wait: events before and after it. */
  cudaEvent_t before[WAITS], after[WAITS];
  int waits; /* since the last call of stalled */
} nccl_collectives;

static ncclDataType_t nccl_type(dtype t) {
  return t == DTYPE_F64 ? ncclFloat64 : t == DTYPE_F32 ? ncclFloat32 : t == DTYPE_BF16 ? ncclBfloat16 : ncclFloat16;
}

static status begin(nccl_collectives *c) {
  activity_issue();
  TRY(c->e->ops->record(c->e, STREAM_MAIN, EVENT_DATA_READY));
  return c->e->ops->wait(c->e, STREAM_COMM, EVENT_DATA_READY);
}

static bool equal_slices(const int64_t *starts, int ranks) {
  for (int r = 1; r < ranks; r++) {
    if (starts[r + 1] - starts[r] != starts[1] - starts[0]) {
      return false;
    }
  }
  return true;
}

static status all_gather(collectives *base, const void *own, void *buffer, dtype type, const int64_t *starts) {
  nccl_collectives *c = (nccl_collectives *)base;
  char *bytes = buffer;
  size_t size = dtype_size(type);
  TRY(begin(c));
  if (equal_slices(starts, base->d->ranks)) {
    NCCL(ncclAllGather(own, buffer, (size_t)(starts[1] - starts[0]), nccl_type(type), c->comm, c->stream));
    return STATUS_OK;
  }
  char *place = bytes + (size_t)starts[base->d->rank] * size;
  size_t own_bytes = (size_t)(starts[base->d->rank + 1] - starts[base->d->rank]) * size;
  if (own != place && own_bytes > 0) {
    TRY(c->e->ops->copy(c->e, STREAM_COMM, COPY_INSIDE, place, own, own_bytes));
  }
  NCCL(ncclGroupStart());
  for (int r = 0; r < base->d->ranks; r++) {
    char *slice = bytes + (size_t)starts[r] * size;
    if (starts[r + 1] > starts[r]) {
      NCCL(ncclBroadcast(slice, slice, (size_t)(starts[r + 1] - starts[r]), nccl_type(type), r, c->comm, c->stream));
    }
  }
  NCCL(ncclGroupEnd());
  return STATUS_OK;
}

static status all_to_all(collectives *base, const void *buffer, dtype type, const int64_t *starts, void *parts) {
  nccl_collectives *c = (nccl_collectives *)base;
  size_t size = dtype_size(type);
  int rank = base->d->rank;
  int64_t own = starts[rank + 1] - starts[rank];
  const nccl_block *block = c->copies == NULL ? NULL : nccl_memory_block(&c->memory, parts);
  TRY(begin(c));
  if (block != NULL) {
    return peer_copies_all_to_all(c->copies, block, buffer, size, starts, parts);
  }
  if (equal_slices(starts, base->d->ranks)) {
    NCCL(ncclAlltoAll(buffer, parts, (size_t)own, nccl_type(type), c->comm, c->stream)); /* copies the own part, too */
    return STATUS_OK;
  }
  NCCL(ncclGroupStart());
  for (int r = 0; r < base->d->ranks; r++) {
    if (r == rank) {
      continue;
    }
    if (starts[r + 1] > starts[r]) {
      NCCL(ncclSend((const char *)buffer + (size_t)starts[r] * size, (size_t)(starts[r + 1] - starts[r]),
                    nccl_type(type), r, c->comm, c->stream));
    }
    if (own > 0) {
      NCCL(ncclRecv((char *)parts + (size_t)(r * own) * size, (size_t)own, nccl_type(type), r, c->comm, c->stream));
    }
  }
  NCCL(ncclGroupEnd());
  return STATUS_OK;
}

static status reduce_pair(collectives *base, const void *buffer, dtype type, const int64_t *starts, void *sum) {
  nccl_collectives *c = (nccl_collectives *)base;
  REQUIRE(base->d->ranks == 2 && equal_slices(starts, 2), "a sum over a pair, by %d ranks", base->d->ranks);
  TRY(begin(c));
  NCCL(ncclReduceScatter(buffer, sum, (size_t)(starts[1] - starts[0]), nccl_type(type), ncclSum, c->comm, c->stream));
  return STATUS_OK;
}

static status wait_all(collectives *base) {
  nccl_collectives *c = (nccl_collectives *)base;
  bool measured = c->waits < WAITS;
  TRY(c->e->ops->record(c->e, STREAM_COMM, EVENT_EXCHANGED));
  if (measured) {
    CUDA(cudaEventRecord(c->before[c->waits], c->main));
  }
  TRY(c->e->ops->wait(c->e, STREAM_MAIN, EVENT_EXCHANGED));
  if (measured) {
    CUDA(cudaEventRecord(c->after[c->waits++], c->main));
  }
  return STATUS_OK;
}

/* Called once the step's result is there, so the waits before it have passed; one that has not is left out. */
static double stalled(collectives *base) {
  nccl_collectives *c = (nccl_collectives *)base;
  double milliseconds = 0;
  for (int i = 0; i < c->waits; i++) {
    float each = 0;
    if (cudaEventElapsedTime(&each, c->before[i], c->after[i]) == cudaSuccess) {
      milliseconds += each;
    } else {
      cudaGetLastError(); /* not ready is no failure; the next launch must not find it */
    }
  }
  c->waits = 0;
  return milliseconds / 1000;
}

/* The watchdog's thread. A communicator is aborted once, and destroyed by that. */

static status check(collectives *base) {
  nccl_collectives *c = (nccl_collectives *)base;
  ncclResult_t result = ncclSuccess;
  if (!atomic_load(&c->aborted) && ncclCommGetAsyncError(c->comm, &result) == ncclSuccess && result != ncclSuccess &&
      result != ncclInProgress) {
    FAIL("NCCL reports %s (%s); see the other ranks' messages, and with NCCL_DEBUG=WARN its own",
         ncclGetErrorString(result), ncclGetLastError(NULL));
  }
  return STATUS_OK;
}

static void abort_exchange(collectives *base) {
  nccl_collectives *c = (nccl_collectives *)base;
  if (!atomic_exchange(&c->aborted, true)) {
    peer_copies_abort(c->copies);
    ncclCommAbort(c->comm);
  }
}

static status allocate(collectives *base, size_t bytes, const char *what, void **out) {
  nccl_collectives *c = (nccl_collectives *)base;
  return nccl_memory_alloc(&c->memory, base->d, c->comm, bytes, what, out);
}

static void release(collectives *base, void *p) {
  nccl_collectives *c = (nccl_collectives *)base;
  nccl_memory_free(&c->memory, c->comm, p);
}

static void destroy(collectives *base) {
  nccl_collectives *c = (nccl_collectives *)base;
  if (!atomic_load(&c->aborted)) {
    peer_copies_destroy(c->copies, c->comm);
    nccl_memory_close(&c->memory, c->comm);
    if (c->comm != NULL) {
      ncclCommDestroy(c->comm);
    }
  }
  for (int i = 0; i < WAITS; i++) {
    if (c->before[i] != NULL) {
      cudaEventDestroy(c->before[i]);
    }
    if (c->after[i] != NULL) {
      cudaEventDestroy(c->after[i]);
    }
  }
  free(c);
}

static status create_events(nccl_collectives *c) {
  for (int i = 0; i < WAITS; i++) {
    CUDA(cudaEventCreate(&c->before[i]));
    CUDA(cudaEventCreate(&c->after[i]));
  }
  return STATUS_OK;
}

static const collectives_ops by_kernels = {.destroy = destroy,
                                           .all_gather = all_gather,
                                           .all_to_all = all_to_all,
                                           .reduce_pair = reduce_pair,
                                           .wait = wait_all,
                                           .check = check,
                                           .abort = abort_exchange,
                                           .stalled = stalled};
static const collectives_ops by_copies = {.destroy = destroy,
                                          .alloc = allocate,
                                          .free = release,
                                          .all_gather = all_gather,
                                          .all_to_all = all_to_all,
                                          .wait = wait_all,
                                          .check = check,
                                          .abort = abort_exchange,
                                          .stalled = stalled};

/* NCCL connects, and takes memory, at the first exchange of each kind: here, so that it is measured before the model is
 * laid out. */
static status first_exchanges(nccl_collectives *c) {
  void *plain = NULL, *shared = NULL;
  size_t count = 1024, ranks = (size_t)c->base.d->ranks, bytes = 2 * ranks * count;
  TRY(c->e->ops->alloc(c->e, bytes, "a first exchange", &plain));
  if (c->base.ops->alloc != NULL) {
    TRY(c->base.ops->alloc(&c->base, bytes, "a first exchange", &shared));
    char *half = (char *)shared + ranks * count;
    NCCL(ncclAllGather(shared, half, count, ncclInt8, c->comm, c->stream));
    if (c->copies == NULL) {
      NCCL(ncclAlltoAll(shared, half, count, ncclInt8, c->comm, c->stream));
    }
  } else {
    char *half = (char *)plain + ranks * count;
    NCCL(ncclAlltoAll(plain, half, count, ncclInt8, c->comm, c->stream));
    NCCL(ncclReduceScatter(plain, half, count, ncclInt8, ncclSum, c->comm, c->stream));
  }
  NCCL(ncclAllGather(plain, (char *)plain + ranks * count, count, ncclInt8, c->comm, c->stream));
  CUDA(cudaStreamSynchronize(c->stream));
  if (shared != NULL) {
    c->base.ops->free(&c->base, shared);
  }
  c->e->ops->free(c->e, plain);
  return STATUS_OK;
}

status collectives_nccl_create(const dist *d, engine *e, collectives **out) {
  *out = NULL;
  nccl_collectives *c;
  TRY(memory_new(&c, 1, sizeof *c, "collectives"));
  c->base.ops = &by_kernels;
  c->base.d = d;
  c->base.stream_ordered = true;
  c->e = e;
  c->stream = engine_cuda_stream(e, STREAM_COMM);
  c->main = engine_cuda_stream(e, STREAM_MAIN);
  bool copies = false;
  status s = nccl_connect(d, &c->comm);
  if (s == STATUS_OK) {
    s = create_events(c);
  }
  s = dist_agree(d, s);
  if (s == STATUS_OK) {
    s = nccl_memory_probe(&c->memory, d, c->comm, &copies);
  }
  if (s == STATUS_OK && copies) {
    s = peer_copies_create(d, &c->memory, c->comm, c->stream, &c->copies);
  }
  if (s == STATUS_OK) {
    c->base.ops = copies ? &by_copies : &by_kernels;
    s = first_exchanges(c);
  }
  if (s != STATUS_OK) {
    destroy(&c->base);
    return s;
  }
  int version = 0;
  ncclGetVersion(&version);
  snprintf(c->base.description, sizeof c->base.description, "NCCL %d.%d.%d%s", version / 10000, version / 100 % 100,
           version % 100, copies ? ", copy engines" : "");
  *out = &c->base;
  return STATUS_OK;
}
