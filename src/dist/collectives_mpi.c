/* Slices go point to point: lengths and places are then 64 bit, empty and uneven slices are no special case, and the
 * order of calls alone matches sends with receives (MPI keeps the order of messages between two ranks of one
 * communicator).
 */
#include "dist/collectives_mpi.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "dist/mpi_world.h"

static const double SETTLE_PATIENCE_S = 2.0;

typedef struct {
  collectives base;
  engine *e;
  MPI_Comm comm;
  int64_t chunk;    /* bytes of a message */
  const char *last; /* exchange that was started: what `wait` waits for */
  MPI_Request *requests;
  size_t n_requests, capacity;
} mpi_collectives;

static status new_request(mpi_collectives *c, MPI_Request **out) {
  TRY(memory_grow(&c->requests, &c->capacity, c->n_requests + 1, sizeof *c->requests, "MPI requests"));
  *out = &c->requests[c->n_requests];
  return STATUS_OK;
}

static status start_receive(mpi_collectives *c, int from, char *data, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += c->chunk) {
    int count = (int)(bytes - at < c->chunk ? bytes - at : c->chunk);
    MPI_Request *request;
    TRY(new_request(c, &request));
    TRY_MPI(MPI_Irecv(data + at, count, MPI_BYTE, from, 0, c->comm, request));
    c->n_requests++;
  }
  return STATUS_OK;
}

static status start_send(mpi_collectives *c, int to, const char *data, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += c->chunk) {
    int count = (int)(bytes - at < c->chunk ? bytes - at : c->chunk);
    MPI_Request *request;
    TRY(new_request(c, &request));
    TRY_MPI(MPI_Isend(data + at, count, MPI_BYTE, to, 0, c->comm, request));
    c->n_requests++;
  }
  return STATUS_OK;
}

/* Before new messages: the data must be there, and what is under way gets a push, since MPI moves it only inside calls.
 */
static status begin(mpi_collectives *c) {
  TRY(c->e->ops->synchronize(c->e));
  if (c->n_requests > 0) {
    int done;
    TRY_MPI(MPI_Testall((int)c->n_requests, c->requests, &done, MPI_STATUSES_IGNORE));
    if (done) {
      c->n_requests = 0;
    }
  }
  return STATUS_OK;
}

static status all_gather(collectives *base, void *buffer, dtype type, const int64_t *starts) {
  mpi_collectives *c = (mpi_collectives *)base;
  int rank = base->d->rank, ranks = base->d->ranks;
  int64_t size = (int64_t)dtype_size(type);
  char *bytes = buffer;
  TRY(begin(c));
  c->last = "all_gather";
  for (int step = 1; step < ranks; step++) {
    int from = (rank - step + ranks) % ranks;
    TRY(start_receive(c, from, bytes + starts[from] * size, (starts[from + 1] - starts[from]) * size));
  }
  for (int step = 1; step < ranks;
       step++) { /* each rank starts with its neighbour, so that not all send to rank 0 first */
    TRY(start_send(c, (rank + step) % ranks, bytes + starts[rank] * size, (starts[rank + 1] - starts[rank]) * size));
  }
  return STATUS_OK;
}

static status all_to_all(collectives *base, const void *buffer, dtype type, const int64_t *starts, void *parts) {
  mpi_collectives *c = (mpi_collectives *)base;
  int rank = base->d->rank, ranks = base->d->ranks;
  int64_t size = (int64_t)dtype_size(type);
  int64_t own = (starts[rank + 1] - starts[rank]) * size;
  const char *from_bytes = buffer;
  char *to_bytes = parts;
  TRY(begin(c));
  c->last = "all_to_all";
  for (int step = 1; step < ranks; step++) {
    int from = (rank - step + ranks) % ranks;
    TRY(start_receive(c, from, to_bytes + from * own, own));
  }
  for (int step = 1; step < ranks; step++) {
    int to = (rank + step) % ranks;
    TRY(start_send(c, to, from_bytes + starts[to] * size, (starts[to + 1] - starts[to]) * size));
  }
  if (own > 0) {
    memcpy(to_bytes + rank * own, from_bytes + starts[rank] * size, (size_t)own);
  }
  return STATUS_OK;
}

static status wait_all(collectives *base) {
  mpi_collectives *c = (mpi_collectives *)base;
  size_t n = c->n_requests;
  c->n_requests = 0;
  TRY_COLLECTIVE(c->last, MPI_Waitall((int)n, c->requests, MPI_STATUSES_IGNORE));
  return STATUS_OK;
}

/* After a failure exchanges may still be under way into memory that is about to be freed. Their partners mostly follow
 * within the step, so they get a moment; what is left then is called off. */
static bool settle(mpi_collectives *c) {
  double start = clock_seconds();
  int done = c->n_requests == 0;
  while (!done && clock_seconds() - start < SETTLE_PATIENCE_S) {
    if (MPI_Testall((int)c->n_requests, c->requests, &done, MPI_STATUSES_IGNORE) != MPI_SUCCESS) {
      break;
    }
  }
  for (size_t i = 0; !done && i < c->n_requests; i++) {
    if (c->requests[i] != MPI_REQUEST_NULL) {
      MPI_Cancel(&c->requests[i]);
      MPI_Request_free(&c->requests[i]);
    }
  }
  return done;
}

static void destroy(collectives *base) {
  mpi_collectives *c = (mpi_collectives *)base;
  int ended = 0;
  MPI_Finalized(&ended);
  if (!ended && c->comm != MPI_COMM_NULL && settle(c)) {
    MPI_Comm_free(&c->comm); /* collective, so only when nothing is left undone */
  }
  free(c->requests);
  free(c);
}

static const collectives_ops mpi_ops = {
    .destroy = destroy, .all_gather = all_gather, .all_to_all = all_to_all, .wait = wait_all};

status collectives_mpi_create_chunked(const dist *d, engine *e, int64_t chunk, collectives **out) {
  *out = NULL;
  REQUIRE(chunk >= 8 && chunk <= INT32_MAX, "messages of %lld bytes: MPI takes 8 to %d", (long long)chunk, INT32_MAX);
  REQUIRE(d->ranks > 1 && mpi_world() != MPI_COMM_NULL, "collectives over MPI need MPI and several ranks, not %d",
          d->ranks);
  mpi_collectives *c;
  TRY(memory_new(&c, 1, sizeof *c, "collectives"));
  c->base.ops = &mpi_ops;
  c->base.d = d;
  c->e = e;
  c->chunk = chunk;
  c->comm = MPI_COMM_NULL;
  c->last = "exchange";
  status s = mpi_status(MPI_Comm_dup(mpi_world(), &c->comm), "MPI_Comm_dup");
  if (s != STATUS_OK) {
    destroy(&c->base);
    return s;
  }
  char version[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  MPI_Get_library_version(version, &length);
  version[strcspn(version, ",\n")] = '\0';
  snprintf(c->base.description, sizeof c->base.description, "MPI over host memory (%.60s)", version);
  *out = &c->base;
  return STATUS_OK;
}

status collectives_mpi_create(const dist *d, engine *e, collectives **out) {
  return collectives_mpi_create_chunked(d, e, MPI_CHUNK_BYTES, out);
}
