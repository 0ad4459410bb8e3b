/* Strategy `ddp`, and one rank: every rank holds all weights, moments and gradients. */
#ifndef PSANN_SHARD_REPLICATED_H
#define PSANN_SHARD_REPLICATED_H

#include "shard/weight_store.h"

status replicated_create(const model *m, engine *e, const dist *d, collectives *c, int64_t micro_batches, uint64_t seed,
                         bool training, weight_store **out);

/* Adds the rows of rank `rank`; −1: the largest of each row over all ranks. */
void replicated_plan(const model *m, dtype compute, dtype state, int ranks, int rank, int64_t micro_batches,
                     bool training, memory_plan *p);

#endif
