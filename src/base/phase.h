/* Marks on the time line of a step, for profilers: load, forward, head, backward, exchange, update, evaluate, save.
 * They cost nothing until an engine says who listens. */
#ifndef PSANN_BASE_PHASE_H
#define PSANN_BASE_PHASE_H

#include "base/status.h"

/* `begin` and `end` nest; names are string constants. Both NULL: nobody listens, as at the start. */
void phase_listen(void (*begin)(const char *name), void (*end)(void));

void phase_begin(const char *name);
void phase_end(void);

/* TRY on a call that is a phase. */
#define TRY_PHASE(name, call)      \
  do {                             \
    phase_begin(name);             \
    status phase_status_ = (call); \
    phase_end();                   \
    TRY(phase_status_);            \
  } while (0)

#endif
