#include "dist/groups.h"

#include <string.h>

#include "dist/transport.h"

/* Who is in which group; where one group is the whole job no communicator is needed for it. */
static status cut(const dist *d, int shard_ranks, rank_groups *g) {
  dist_single(&g->shard);
  g->replicas = g->shard;
  if (shard_ranks == d->ranks) {
    g->shard = *d;
    return STATUS_OK;
  }
  TRY(dist_split(d, d->rank / shard_ranks, &g->shard));
  return dist_split(d, d->rank % shard_ranks, &g->replicas);
}

status groups_create(const dist *d, int shard_ranks, config_transport transport, engine *e, rank_groups *out) {
  memset(out, 0, sizeof *out);
  REQUIRE(shard_ranks >= 1 && d->ranks % shard_ranks == 0, "%d ranks are not shards of %d", d->ranks, shard_ranks);
  TRY(cut(d, shard_ranks, out));
  TRY(transport_create(&out->shard, transport, e, &out->in_shard));
  return transport_create(&out->replicas, transport, e, &out->in_replicas);
}

void groups_destroy(rank_groups *g) {
  if (g->in_replicas != NULL) {
    g->in_replicas->ops->destroy(g->in_replicas);
  }
  if (g->in_shard != NULL) {
    g->in_shard->ops->destroy(g->in_shard);
  }
  dist_part_free(&g->replicas);
  dist_part_free(&g->shard);
  memset(g, 0, sizeof *g);
}
