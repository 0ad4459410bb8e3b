/* What all strategies share: who computes which micro-batches and owns which leaves, the sum over ranks in tree order,
 * squared norms and losses of the whole job. Nothing here knows where weights and moments live.
 */
#ifndef PSANN_SHARD_REDUCE_H
#define PSANN_SHARD_REDUCE_H

#include "dist/collectives.h"
#include "model/model.h"

/* First of `count` things of rank `rank` when they are dealt out in contiguous blocks, as even as possible;
 * partition_start(count, ranks, ranks) is count. */
int64_t partition_start(int64_t count, int ranks, int rank);

typedef struct {
  const model *m;
  engine *e;
  const dist *d;
  collectives *c; /* NULL on one rank */
  int64_t micro_batches;
  int64_t *batches; /* (ranks + 1) first micro-batch of each rank */
  int64_t *leaves;  /* (ranks + 1) first leaf of each rank */
  int64_t *slices;  /* (n_units, ranks + 1) the same in elements of each unit */
  double *squares;  /* engine memory (n_units, UNIT_LEAVES) */
  double *losses;   /* engine memory (micro_batches) */
} reduction;

status reduction_create(const model *m, engine *e, const dist *d, collectives *c, int64_t micro_batches,
                        reduction **out);
void reduction_destroy(reduction *r);
/* Engine memory that reduction_create takes. */
double reduction_bytes(const model *m, int64_t micro_batches);

/* The slices of a unit, for collectives. */
const int64_t *reduction_slices(const reduction *r, int unit_index);
/* First element and length of this rank's slice of a unit. */
int64_t reduction_own_first(const reduction *r, int unit_index);
int64_t reduction_own_count(const reduction *r, int unit_index);

/* Starts the exchange of a unit's gradient (state type, unit.count elements): parts becomes (ranks, own slice). */
status reduction_start(reduction *r, int unit_index, const void *grad, void *parts);
/* Completes all exchanges that were started. */
status reduction_wait(reduction *r);
/* Sums the parts over ranks in tree order into `sum` (own slice). parts is used up. */
status reduction_sum(reduction *r, int unit_index, void *parts, void *sum);
/* Squared norms of this rank's leaves; `own` is the summed gradient of its slice. On several ranks it starts their
 * exchange. */
status reduction_squares(reduction *r, int unit_index, const void *own);
/* losses: engine memory, this rank's micro-batches. Completes all exchanges, gathers the losses and lets the engine
 * decide on clipping and skipping. */
status reduction_finish(reduction *r, const double *losses, double grad_clip);

#endif
