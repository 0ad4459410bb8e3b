#include "dist/messages.h"

#include "base/clock.h"
#include "base/memory.h"
#include "dist/mpi_world.h"

static const double SETTLE_PATIENCE_S = 2.0;

static status new_request(messages *m, MPI_Request **out) {
  TRY(memory_grow(&m->requests, &m->capacity, m->count + 1, sizeof *m->requests, "MPI requests"));
  *out = &m->requests[m->count];
  return STATUS_OK;
}

status messages_receive(messages *m, int from, void *data, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += m->chunk) {
    int count = (int)(bytes - at < m->chunk ? bytes - at : m->chunk);
    MPI_Request *request;
    TRY(new_request(m, &request));
    TRY_MPI(MPI_Irecv((char *)data + at, count, MPI_BYTE, from, 0, m->comm, request));
    m->count++;
  }
  return STATUS_OK;
}

status messages_send(messages *m, int to, const void *data, int64_t bytes) {
  for (int64_t at = 0; at < bytes; at += m->chunk) {
    int count = (int)(bytes - at < m->chunk ? bytes - at : m->chunk);
    MPI_Request *request;
    TRY(new_request(m, &request));
    TRY_MPI(MPI_Isend((const char *)data + at, count, MPI_BYTE, to, 0, m->comm, request));
    m->count++;
  }
  return STATUS_OK;
}

status messages_test(messages *m, bool *done) {
  int all = 1;
  if (m->count > 0) {
    TRY_MPI(MPI_Testall((int)m->count, m->requests, &all, MPI_STATUSES_IGNORE));
  }
  *done = all != 0;
  m->count = *done ? 0 : m->count;
  return STATUS_OK;
}

status messages_wait(messages *m) {
  size_t n = m->count;
  m->count = 0;
  TRY_COLLECTIVE(m->what != NULL ? m->what : "messages", MPI_Waitall((int)n, m->requests, MPI_STATUSES_IGNORE));
  return STATUS_OK;
}

bool messages_settle(messages *m) {
  double start = clock_seconds();
  int done = m->count == 0;
  while (!done && clock_seconds() - start < SETTLE_PATIENCE_S) {
    if (MPI_Testall((int)m->count, m->requests, &done, MPI_STATUSES_IGNORE) != MPI_SUCCESS) {
      break;
    }
  }
  for (size_t i = 0; !done && i < m->count; i++) {
    if (m->requests[i] != MPI_REQUEST_NULL) {
      MPI_Cancel(&m->requests[i]);
      MPI_Request_free(&m->requests[i]);
    }
  }
  m->count = 0;
  return done;
}
