/* The CPU engine as a GPU would run it: operations are put into the queues of the streams, and are done later, in any
 * order that streams and events allow. Which one is chosen at random, so a missing or misplaced event shows as a wrong
 * number on some seed. With it an exchange that goes by streams, as NCCL's does.
 */
#ifndef PSANN_TESTS_SHARD_DEFERRED_ENGINE_H
#define PSANN_TESTS_SHARD_DEFERRED_ENGINE_H

#include "dist/groups.h"
#include "engine/engine.h"

/* Over the CPU engine in fp32. As on a GPU, the host may read engine memory only after `synchronize`, and must write it
 * by `copy`. */
status deferred_engine_create(uint64_t order_seed, uint64_t dropout_seed, engine **out);

/* Over `real`, an engine whose operations are done when they return; it is destroyed with this one. */
status deferred_engine_over(uint64_t order_seed, engine *real, engine **out);

/* groups_create for such an engine. Its exchanges run inside the queues and wait there for the other ranks, so between
 * two control messages (dist.h) all ranks must synchronize. */
status deferred_groups_create(const dist *d, int shard_ranks, engine *e, rank_groups *out);

#endif
