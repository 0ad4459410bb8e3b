/* AdamW on state that lies in host memory. Chunks of it pass through a few buffers of engine memory: while one is
 * updated on STREAM_MAIN, the one before is on its way back on STREAM_BACK and the next ones come on STREAM_COPY. State
 * depends on no gradient, so a buffer that becomes free takes the next chunk at once: the first chunks of an update
 * have come before it begins, while the passes run.
 */
#ifndef PSANN_SHARD_OFFLOAD_H
#define PSANN_SHARD_OFFLOAD_H

#include "model/plan.h"
#include "shard/held.h"

/* What a rank has of a unit; all but the vectors of the same elements. */
typedef struct {
  held_run m, v;    /* in host memory */
  held_run master;  /* in host memory or, where it is what the model reads, not */
  held_run vectors; /* master in host memory: the unit's vectors in engine memory, which follow it; otherwise unused */
} offloaded_unit;

typedef struct offload offload;

/* Copies `units`; the memory that they name must outlive it. An update comes to unit `begin` first, then to those
 * behind it, then to those before it. Events EVENT_OFFLOAD … (events.h) are its own. */
status offload_create(engine *e, const offloaded_unit *units, int n_units, int begin, offload **out);
void offload_destroy(offload *o);

/* Starts to fetch what there is room for. Harmless when that is under way. */
status offload_fetch(offload *o);
/* AdamW over this rank's part of a unit; in `a` only m and v are missing, and master where it is in host memory. Units
 * come in the order of an update, those that this rank has nothing of left out, then again. */
status offload_adamw(offload *o, int unit_index, const adamw_args *a);
/* The host has changed state in host memory (held_write): what was fetched is worth nothing. */
void offload_forget(offload *o);

/* A row for the buffers of the rank whose largest part of a unit has `largest` elements. */
void offload_plan(dtype state, bool master, int64_t largest, memory_plan *p);

#endif
