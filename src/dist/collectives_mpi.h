/* Exchange over MPI with a given message length, so that tests reach the chunked path without gigabytes. */
#ifndef PSANN_DIST_COLLECTIVES_MPI_H
#define PSANN_DIST_COLLECTIVES_MPI_H

#include "dist/collectives.h"

/* Messages carry at most `chunk` bytes, 8 ≤ chunk ≤ INT_MAX; otherwise as collectives_mpi_create. */
status collectives_mpi_create_chunked(const dist *d, engine *e, int64_t chunk, collectives **out);

#endif
