/* Slices go point to point: lengths and places are then 64 bit, empty and uneven slices are no special case. */
#include "dist/collectives_mpi.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "dist/messages.h"
#include "dist/mpi_world.h"

typedef struct {
  collectives base;
  engine *e;
  messages under_way;
} mpi_collectives;

/* Before new messages: the data must be there, and what is under way gets a push. */
static status begin(mpi_collectives *c) {
  bool done;
  TRY(c->e->ops->synchronize(c->e));
  return messages_test(&c->under_way, &done);
}

static status all_gather(collectives *base, const void *own, void *buffer, dtype type, const int64_t *starts) {
  mpi_collectives *c = (mpi_collectives *)base;
  int rank = base->d->rank, ranks = base->d->ranks;
  int64_t size = (int64_t)dtype_size(type);
  char *bytes = buffer, *place = bytes + starts[rank] * size;
  TRY(begin(c));
  c->under_way.what = "all_gather";
  if (own != place && starts[rank + 1] > starts[rank]) {
    memcpy(place, own, (size_t)((starts[rank + 1] - starts[rank]) * size));
  }
  for (int step = 1; step < ranks; step++) {
    int from = (rank - step + ranks) % ranks;
    TRY(messages_receive(&c->under_way, from, bytes + starts[from] * size, (starts[from + 1] - starts[from]) * size));
  }
  for (int step = 1; step < ranks;
       step++) { /* each rank starts with its neighbour, so that not all send to rank 0 first */
    TRY(messages_send(&c->under_way, (rank + step) % ranks, bytes + starts[rank] * size,
                      (starts[rank + 1] - starts[rank]) * size));
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
  c->under_way.what = "all_to_all";
  for (int step = 1; step < ranks; step++) {
    int from = (rank - step + ranks) % ranks;
    TRY(messages_receive(&c->under_way, from, to_bytes + from * own, own));
  }
  for (int step = 1; step < ranks; step++) {
    int to = (rank + step) % ranks;
    TRY(messages_send(&c->under_way, to, from_bytes + starts[to] * size, (starts[to + 1] - starts[to]) * size));
  }
  return STATUS_OK;
}

static status wait_all(collectives *base) {
  return messages_wait(&((mpi_collectives *)base)->under_way);
}

static void destroy(collectives *base) {
  mpi_collectives *c = (mpi_collectives *)base;
  int ended = 0;
  MPI_Finalized(&ended);
  if (!ended && c->under_way.comm != MPI_COMM_NULL && messages_settle(&c->under_way)) {
    MPI_Comm_free(&c->under_way.comm); /* collective, so only when nothing is left undone */
  }
  free(c->under_way.requests);
  free(c);
}

static const collectives_ops mpi_ops = {
    .destroy = destroy, .all_gather = all_gather, .all_to_all = all_to_all, .wait = wait_all};

status collectives_mpi_create_chunked(const dist *d, engine *e, int64_t chunk, collectives **out) {
  *out = NULL;
  REQUIRE(chunk >= 8 && chunk <= INT32_MAX, "messages of %lld bytes: MPI takes 8 to %d", (long long)chunk, INT32_MAX);
  REQUIRE(d->ranks > 1 && mpi_comm(d) != MPI_COMM_NULL, "collectives over MPI need MPI and several ranks, not %d",
          d->ranks);
  mpi_collectives *c;
  TRY(memory_new(&c, 1, sizeof *c, "collectives"));
  c->base.ops = &mpi_ops;
  c->base.d = d;
  c->e = e;
  c->under_way = (messages){.comm = MPI_COMM_NULL, .chunk = chunk};
  status s = mpi_status(MPI_Comm_dup(mpi_comm(d), &c->under_way.comm), "MPI_Comm_dup");
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
