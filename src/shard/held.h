/* A run of a unit's elements that a rank holds, and how values get there and back. */
#ifndef PSANN_SHARD_HELD_H
#define PSANN_SHARD_HELD_H

#include "model/model.h"

/* In engine memory, or in the engine's memory of the host. */
typedef struct {
  void *at;
  dtype type;
  int64_t first, count; /* elements of the unit */
  bool host;
} held_run;

/* Takes the memory that `host` says, zeroed, for the run's elements; free: as soon as nothing moves there any more. */
status held_alloc(engine *e, held_run *r, const char *what);
/* Harmless where `at` is NULL. */
void held_free(engine *e, const held_run *r);

/* Elements [first, first + count) of the run, for the host's `values`: there after engine.synchronize, as they are at
 * this call's place in STREAM_MAIN. */
status held_read(engine *e, const held_run *from, int64_t first, int64_t count, void *values);

/* Writes that part of the host's values, which stand for elements [first, first + count) of the unit, that falls into
 * the run; converts where the types differ. Returns when it's done. */
status held_write(engine *e, const held_run *to, int64_t first, const void *values, dtype type, int64_t count);

/* Engine memory that is not yet there or was never made: nothing happens. */
void held_release(engine *e, void *p);

#endif
