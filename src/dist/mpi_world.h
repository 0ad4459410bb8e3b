/* What dist.c shares with the collectives over MPI. */
#ifndef PSANN_DIST_MPI_WORLD_H
#define PSANN_DIST_MPI_WORLD_H

#include <mpi.h>

#include "base/activity.h"
#include "dist/dist.h"

enum { MPI_CHUNK_BYTES = 1 << 30 }; /* MPI counts with int: longer messages go in pieces */

/* The communicator of control messages among these ranks; its errors are returned. MPI_COMM_NULL without MPI. */
MPI_Comm mpi_comm(const dist *d);

/* An MPI return code as a status; the message has `call` and MPI's own words. */
status mpi_status(int code, const char *call);

#define TRY_MPI(call) TRY(mpi_status((call), #call))

/* The same for a call that waits for other ranks; `name` is what messages call it. */
#define TRY_COLLECTIVE(name, call)            \
  do {                                        \
    activity_wait(name);                      \
    int collective_code_ = (call);            \
    activity_waited();                        \
    TRY(mpi_status(collective_code_, #call)); \
  } while (0)

#endif
