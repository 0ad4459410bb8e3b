/* A few buffers, each large enough for any unit, that whole units pass through under full_shard. */
#ifndef PSANN_SHARD_RING_H
#define PSANN_SHARD_RING_H

#include "dist/collectives.h"

/* A pass holds two units at a time, the one at work and the one whose norm ends its work; the third is on its way
 * meanwhile. */
enum { RING_SLOTS = 3, NO_UNIT = -1 };

typedef struct {
  void *buffer;
  int unit_index; /* NO_UNIT: nothing of worth */
  int held;       /* times gathered and not yet released */
  bool pending;   /* its exchange has been started, nobody has waited for it */
  int event;      /* recorded when it's done */
} ring_slot;

typedef struct {
  ring_slot slots[RING_SLOTS];
} unit_ring;

/* c gathers into it. */
status ring_create(collectives *c, engine *e, size_t bytes, unit_ring *r);
/* Harmless on {0}. */
void ring_destroy(collectives *c, engine *e, unit_ring *r);
/* The slot that has the unit, or NULL. */
ring_slot *ring_find(unit_ring *r, int unit_index);
/* A slot to put another unit into: nobody holds it, and its unit is none of those that a pass at `unit_index` in
 * `direction` wants next. NULL: none. */
ring_slot *ring_spare(unit_ring *r, int unit_index, int direction);
/* The weights have changed: what the slots have is worth nothing. */
status ring_forget(unit_ring *r);

#endif
