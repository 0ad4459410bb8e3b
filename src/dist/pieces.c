#include "dist/pieces.h"

#include <stdlib.h>

#include "base/memory.h"
#include "dist/messages.h"
#include "dist/mpi_world.h"

struct pieces {
  MPI_Comm comm; /* of its own: pieces must not meet the messages of the step */
  messages lanes[PIECE_LANES];
};

status pieces_create(const dist *d, pieces **out) {
  TRY(memory_new(out, 1, sizeof **out, "pieces for rank 0"));
  pieces *p = *out;
  p->comm = MPI_COMM_NULL;
  status s = STATUS_OK;
  if (d->ranks > 1) {
    s = mpi_status(MPI_Comm_dup(mpi_comm(d), &p->comm), "MPI_Comm_dup");
  }
  for (int lane = 0; lane < PIECE_LANES; lane++) {
    p->lanes[lane] = (messages){.comm = p->comm, .chunk = MPI_CHUNK_BYTES};
  }
  if (s != STATUS_OK) {
    free(p);
    *out = NULL;
  }
  return s;
}

void pieces_destroy(pieces *p) {
  if (p == NULL) {
    return;
  }
  int ended = 0;
  MPI_Finalized(&ended);
  bool settled = true;
  for (int lane = 0; lane < PIECE_LANES; lane++) {
    settled = (ended || messages_settle(&p->lanes[lane])) && settled;
    free(p->lanes[lane].requests);
  }
  if (!ended && settled && p->comm != MPI_COMM_NULL) {
    MPI_Comm_free(&p->comm);
  }
  free(p);
}

status pieces_send(pieces *p, int lane, const void *data, int64_t bytes) {
  return messages_send(&p->lanes[lane], 0, data, bytes);
}

status pieces_receive(pieces *p, int lane, int from, void *data, int64_t bytes) {
  return messages_receive(&p->lanes[lane], from, data, bytes);
}

status pieces_test(pieces *p, int lane, bool *done) {
  return messages_test(&p->lanes[lane], done);
}
