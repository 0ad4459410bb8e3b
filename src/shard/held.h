/* A run of a unit's elements that a rank holds in engine memory, and how values get there from the host. */
#ifndef PSANN_SHARD_HELD_H
#define PSANN_SHARD_HELD_H

#include "model/model.h"

/* A run of a unit's elements in engine memory. */
typedef struct {
  void *at;
  dtype type;
  int64_t first, count; /* elements of the unit */
} held_run;

/* Writes that part of the host's values, which stand for elements [first, first + count) of the unit, that falls into
 * the run; converts where the types differ. Returns when it's done. */
status held_write(engine *e, const held_run *to, int64_t first, const void *values, dtype type, int64_t count);

/* Engine memory that is not yet there or was never made: nothing happens. */
void held_release(engine *e, void *p);

#endif
