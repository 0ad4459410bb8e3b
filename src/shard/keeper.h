/* Where the weights of all units live on this rank: master weights, what the model reads, and how the second follows
 * from the first after an update.
 *
 *   state whole, weights whole      ddp, or one rank: nothing travels
 *   state sliced, weights whole     shard_optimizer, shard_grad: after AdamW on its slice every rank gathers the
 * others' state sliced, weights sliced    full_shard, hybrid: a unit is gathered when the model asks for it, the ones
 * after it ahead of time
 */
#ifndef PSANN_SHARD_KEEPER_H
#define PSANN_SHARD_KEEPER_H

#include "dist/groups.h"
#include "model/plan.h"
#include "shard/held.h"
#include "shard/layout.h"
#include "shard/ring.h"

/* Runs may share memory: all do where the types are equal and nothing is sliced. */
typedef struct {
  held_run master;  /* s: what AdamW updates; at NULL where nothing is trained and the model doesn't read it. In host
                       memory when asked for, where it is apart from what the model reads */
  held_run compute; /* c: the same elements as the model reads them */
  held_run whole;   /* c: the unit; at NULL where weights are sliced */
  held_run vectors; /* s: the unit's vectors, on every rank */
  void *travels;    /* memory of what the model reads: whole or compute, and what shares it */
  bool own_master, own_vectors; /* these have memory of their own */
  bool pending;                 /* gathered after an update, and nobody has waited for it */
} kept_unit;

/* What of the weights a rank keeps, and where. */
typedef struct {
  bool slice_state, slice_weights;
  bool training;
  bool offload; /* master weights that are apart lie in host memory */
} keeping;

typedef struct {
  const layout *l;
  engine *e;
  collectives *c; /* of the shard; NULL: one rank */
  keeping how;
  kept_unit *units;
  unit_ring ring;
  int64_t *vector_starts; /* (ranks + 1) */
  bool vectors_pending;
} keeper;

/* Layout and collectives must outlive it. Weights start as zeros. */
status keeper_create(const layout *l, engine *e, collectives *c, keeping how, keeper **out);
void keeper_destroy(keeper *k);

/* As weight_source. */
status keeper_gather(keeper *k, int unit_index, int direction, unit_weights *out);
status keeper_release(keeper *k, int unit_index);

/* Host values of elements [first, first + count) of a unit go wherever this rank holds them. Whether there is such a
 * place: keeper_holds. */
bool keeper_holds(const keeper *k, int unit_index, int64_t first, int64_t count);
status keeper_write(keeper *k, int unit_index, int64_t first, const void *values, dtype type, int64_t count);

/* All weights are about to change. */
status keeper_stale(keeper *k);
/* AdamW has been issued for this rank's part of the unit; where master weights are in host memory, what it made of this
 * rank's vectors is in `vectors`. Units come in forward order after keeper_stale. */
status keeper_publish(keeper *k, int unit_index);

/* Rows of the plan of the rank with the most. */
void keeper_plan(const model *m, dtype compute, dtype state, int ranks, keeping how, memory_plan *p);

#endif
