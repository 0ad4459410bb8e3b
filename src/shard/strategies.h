/* What each strategy shards among the ranks of a shard, and the one store that serves them all (store.c). What a rank
 * has of the state lies in engine memory or, with `offload`, in the host's. */
#ifndef PSANN_SHARD_STRATEGIES_H
#define PSANN_SHARD_STRATEGIES_H

#include "shard/weight_store.h"

typedef struct {
  bool state;     /* master weights and moments: each rank has those of its leaves */
  bool gradients; /* exchanged after every micro-batch, so that only slices of sums stay; needs state */
  bool weights;   /* gathered unit by unit when the model asks; needs state */
  bool offload;   /* of no strategy: parallel.offload = optimizer */
} sharding;

/* One rank shards nothing, whatever the strategy. */
sharding strategy_sharding(config_strategy strategy, int shard_ranks);

/* As weight_store_create and weight_store_plan. */
status store_create(const model *m, engine *e, const dist *d, const rank_groups *g, sharding shards,
                    int64_t micro_batches, uint64_t seed, bool training, weight_store **out);
void store_plan(const model *m, dtype compute, dtype state, int shard_ranks, int ranks, sharding shards,
                int64_t micro_batches, bool training, memory_plan *p);

#endif
