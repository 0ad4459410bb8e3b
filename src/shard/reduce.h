/* The sum over ranks in tree order, squared norms and losses of the whole job. Nothing here knows where weights and
 * moments live.
 *
 * Who computes which micro-batches: in blocks, rank r takes n/R neighbouring ones and sums them before anything
 * travels; in rounds, it takes number j·R + r in round j, and each round is summed over the ranks. Both walk the same
 * tree (shard/tree.h). In the last round some ranks may have none left: they compute one for nothing, since exchanges
 * are collective, and it is left out of the sum.
 */
#ifndef PSANN_SHARD_REDUCE_H
#define PSANN_SHARD_REDUCE_H

#include "dist/groups.h"
#include "shard/layout.h"

/* The sum of one unit's gradient over the ranks. */
typedef struct {
  int unit_index;
  int64_t round;    /* in rounds: which */
  const void *grad; /* s (unit.count) of this rank; stays as it is until `sent` */
  void *sum;        /* s (own slice) out; may be its place in grad */
  bool last;        /* this is the step's sum of the unit: the squared norms of its leaves follow */
  bool beside;      /* backward goes on meanwhile, in this micro-batch */
  int sent;         /* event that STREAM_COMM records once grad has been sent and summed; −1: none */
  /* What follows on STREAM_COMM when the sum is there; NULL: nothing. */
  status (*then)(void *context, int unit_index, int64_t round);
  void *context;
} reduce_call;

typedef struct {
  const layout *l;
  engine *e;
  const rank_groups *g; /* NULL: one rank */
  bool rounds;
  int rank, ranks; /* of the job */
  int64_t micro_batches;
  double *squares; /* engine memory (UNIT_LEAVES, n_units) */
  double *losses;  /* engine memory, one a micro-batch, those for nothing included */
  void *parts;     /* s: a unit's slice of every other rank of the shard, and sums of such */
  /* First elements of the ranks' or replicas' places, as collectives take them. */
  int64_t *sub_slices;    /* (replicas + 1) in a slice */
  int64_t *shards;        /* (replicas + 1) in the losses of a round */
  int64_t *blocks, *ones; /* (shard.ranks + 1) in the losses of blocks, of a shard's round */
  int64_t *square_starts; /* (shard.ranks + 1) in the squares */
  reduce_call under_way;  /* exchange that was started, its sum not */
  bool busy;
  bool summed; /* by the exchange itself */
} reduction;

status reduction_create(const layout *l, engine *e, const rank_groups *g, bool rounds, int64_t micro_batches,
                        reduction **out);
void reduction_destroy(reduction *r);
/* Engine memory that reduction_create takes for norms and losses, and for the exchange. */
double reduction_bytes(const model *m, int ranks, bool rounds, int64_t micro_batches);
double reduction_exchange_bytes(const model *m, dtype state, int shard_ranks);

/* Micro-batches that this rank computes, and which of the step's the j-th is; ≥ n: one that is left out. */
int64_t reduction_local(const reduction *r);
int64_t reduction_micro_batch(const reduction *r, int64_t j);
/* Of the rank that has the most. */
int64_t reduction_local_most(int ranks, int64_t micro_batches);

/* Starts a sum; at most one is under way, so the one before it is completed first. */
status reduction_start(reduction *r, const reduce_call *call);
/* Completes the sum that is under way, if there is one, as far as STREAM_COMM is concerned. */
status reduction_settle(reduction *r);
/* Completes everything: STREAM_MAIN sees all sums, and what followed them. */
status reduction_wait(reduction *r);
/* Squared norms of this rank's leaves, where no sum took them (reduce_call.last); `own` is the summed gradient of its
 * slice, there as far as the stream is concerned. */
status reduction_squares(reduction *r, stream_id stream, int unit_index, const void *own);
/* Gathers the squared norms of all units, and losses: engine memory, this rank's micro-batches. STREAM_MAIN sees them,
 * and all sums with what followed them. */
status reduction_gather(reduction *r, const double *losses);
/* Lets the engine decide on clipping and skipping. */
status reduction_decide(reduction *r, double grad_clip);

#endif
