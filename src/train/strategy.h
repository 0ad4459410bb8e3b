/* How the ranks share the work when the config leaves it open. Results don't depend on it, so it may follow from the
 * memory that there is. */
#ifndef PSANN_TRAIN_STRATEGY_H
#define PSANN_TRAIN_STRATEGY_H

#include "train/setup.h"

/* Resolves parallel.strategy and t->shard_ranks, and makes the plan. auto: the fastest that fits into the memory of
 * every rank, and says which and why; when none fits, the one that takes least. Collective. */
status strategy_resolve(training *t);

#endif
