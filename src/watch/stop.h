/* Requests to stop. The first SIGINT, SIGTERM, SIGHUP or SIGUSR1 asks for a save and an end with 0 at the next step
 * boundary; a SIGINT after it ends the process at once with 130. (SIGUSR1 is what mpirun forwards to its ranks and what
 * batch systems send ahead of a time limit.) */
#ifndef PSANN_WATCH_STOP_H
#define PSANN_WATCH_STOP_H

#include <stdbool.h>

#include "base/status.h"

enum { STOP_EXIT_CODE = 130 }; /* of a second SIGINT: 128 + SIGINT, as shells have it */

/* Installs the handlers, and ignores SIGPIPE: a closed pager or pipe does not end a run. `announce`: the first signal
 * is acknowledged on standard error at once (rank 0's task). */
status stop_install(bool announce);

/* The signal that asked, or 0. Ranks agree on it after every step. */
int stop_requested(void);

#endif
