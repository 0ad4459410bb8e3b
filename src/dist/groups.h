/* How the ranks of a job are cut for sharding. `shard`: ranks that hold one copy of weights and state together;
 * `replicas`: ranks that hold the same slice of different copies. Neighbouring ranks form a shard: rank = replicas.rank
 * · shard.ranks + shard.rank. */
#ifndef PSANN_DIST_GROUPS_H
#define PSANN_DIST_GROUPS_H

#include "config/config.h"
#include "dist/collectives.h"

typedef struct {
  dist shard, replicas;
  collectives *in_shard, *in_replicas; /* NULL where the group has one rank */
} rank_groups;

/* Shards of `shard_ranks` ranks each, which divides d->ranks, and their exchange over a resolved transport. Collective;
 * must be destroyed also after a failure. The groups must not move in memory while they live. */
status groups_create(const dist *d, int shard_ranks, config_transport transport, engine *e, rank_groups *out);

/* Harmless on {0}. */
void groups_destroy(rank_groups *g);

#endif
