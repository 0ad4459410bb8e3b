/* collectives.h for an engine whose memory MPI can't read: slices travel through host memory. Slow; meant for tests of more ranks than GPUs, where NCCL won't serve. */
#ifndef PSANN_DIST_COLLECTIVES_STAGED_H
#define PSANN_DIST_COLLECTIVES_STAGED_H

#include "dist/collectives.h"

/* Takes `inner` (over host memory) and destroys it in the end, also on failure. */
status collectives_staged_create(const dist *d, engine *e, collectives *inner, collectives **out);

#endif
