#include "shard/reduce.h"

#include <stdlib.h>

#include "base/memory.h"
#include "dist/exchange_memory.h"
#include "shard/held.h"
#include "shard/tree.h"

static int shard_ranks(const reduction *r) {
  return r->g == NULL ? 1 : r->g->shard.ranks;
}

static int replicas(const reduction *r) {
  return r->g == NULL ? 1 : r->g->replicas.ranks;
}

static collectives *in_shard(const reduction *r) {
  return r->g == NULL ? NULL : r->g->in_shard;
}

/* Life. */

static int64_t rounds_of(int ranks, int64_t micro_batches) {
  return (micro_batches + ranks - 1) / ranks;
}

static int64_t losses_of(int ranks, bool rounds, int64_t micro_batches) {
  return rounds ? rounds_of(ranks, micro_batches) * ranks : micro_batches;
}

double reduction_bytes(const model *m, int ranks, bool rounds, int64_t micro_batches) {
  return (double)sizeof(double) * ((double)m->n_units * UNIT_LEAVES + (double)losses_of(ranks, rounds, micro_batches));
}

double reduction_exchange_bytes(const model *m, dtype state, int ranks) {
  if (ranks == 1) {
    return 0;
  }
  double leaf = (double)(model_largest_unit(m) / UNIT_LEAVES);
  return (double)ranks * (double)layout_most_leaves(ranks) * leaf * (double)dtype_size(state);
}

static status new_starts(int ranks, int64_t **out) {
  return memory_new(out, (size_t)ranks + 1, sizeof **out, "places of the ranks");
}

static status fill_starts(reduction *r) {
  int ranks = shard_ranks(r);
  TRY(new_starts(replicas(r), &r->sub_slices));
  TRY(new_starts(replicas(r), &r->shards));
  TRY(new_starts(ranks, &r->blocks));
  TRY(new_starts(ranks, &r->ones));
  TRY(new_starts(ranks, &r->square_starts));
  for (int i = 0; i <= replicas(r); i++) {
    r->shards[i] = (int64_t)i * ranks;
  }
  for (int i = 0; i <= ranks; i++) {
    r->blocks[i] = partition_start(r->micro_batches, ranks, i);
    r->ones[i] = i;
    r->square_starts[i] = r->l->leaves[i] * r->l->m->n_units;
  }
  return STATUS_OK;
}

static status fill(reduction *r) {
  const model *m = r->l->m;
  size_t squares = (size_t)m->n_units * UNIT_LEAVES * sizeof(double);
  size_t losses = (size_t)losses_of(r->ranks, r->rounds, r->micro_batches) * sizeof(double);
  TRY(fill_starts(r));
  TRY(r->e->ops->alloc(r->e, squares, "squared norms", (void **)&r->squares));
  TRY(r->e->ops->alloc(r->e, losses, "losses", (void **)&r->losses));
  size_t parts = (size_t)reduction_exchange_bytes(m, r->e->state, shard_ranks(r));
  return parts == 0 ? STATUS_OK : exchange_alloc(in_shard(r), r->e, parts, "gradient exchange", &r->parts);
}

status reduction_create(const layout *l, engine *e, const rank_groups *g, bool rounds, int64_t micro_batches,
                        reduction **out) {
  *out = NULL;
  reduction *r;
  TRY(memory_new(&r, 1, sizeof *r, "reduction"));
  r->l = l;
  r->e = e;
  r->g = g;
  r->rounds = rounds;
  r->micro_batches = micro_batches;
  r->ranks = shard_ranks(r) * replicas(r);
  r->rank = g == NULL ? 0 : g->replicas.rank * g->shard.ranks + g->shard.rank;
  status s = fill(r);
  if (s != STATUS_OK) {
    reduction_destroy(r);
    return s;
  }
  *out = r;
  return STATUS_OK;
}

void reduction_destroy(reduction *r) {
  if (r == NULL) {
    return;
  }
  held_release(r->e, r->squares);
  held_release(r->e, r->losses);
  exchange_free(in_shard(r), r->e, r->parts);
  free(r->sub_slices);
  free(r->shards);
  free(r->blocks);
  free(r->ones);
  free(r->square_starts);
  free(r);
}

/* Who computes what. */

int64_t reduction_local(const reduction *r) {
  if (r->rounds) {
    return rounds_of(r->ranks, r->micro_batches);
  }
  return partition_start(r->micro_batches, r->ranks, r->rank + 1) -
         partition_start(r->micro_batches, r->ranks, r->rank);
}

int64_t reduction_micro_batch(const reduction *r, int64_t j) {
  return r->rounds ? j * r->ranks + r->rank : partition_start(r->micro_batches, r->ranks, r->rank) + j;
}

/* In blocks too: there the last round is for nothing where a block is shorter. */
int64_t reduction_local_most(int ranks, int64_t micro_batches) {
  return rounds_of(ranks, micro_batches);
}

/* Ranks of this shard whose part counts, and shards that have one. In blocks all do. */
static int parts_in_shard(const reduction *r, int64_t round) {
  int64_t left = r->micro_batches - round * r->ranks - (int64_t)r->g->replicas.rank * shard_ranks(r);
  int64_t most = shard_ranks(r);
  return !r->rounds || left > most ? (int)most : left < 0 ? 0 : (int)left;
}

static int shards_with_parts(const reduction *r, int64_t round) {
  int64_t left = (r->micro_batches - round * r->ranks + shard_ranks(r) - 1) / shard_ranks(r);
  return !r->rounds || left > replicas(r) ? replicas(r) : (int)left;
}

/* Squared norms of this rank's leaves. */

/* Where the first of a unit is; how many there are, and how far apart. */
static double *squares_of(const reduction *r, int unit_index, int64_t *leaves, int64_t *stride) {
  int64_t first = r->l->leaves[r->l->rank];
  *leaves = r->l->leaves[r->l->rank + 1] - first;
  *stride = r->l->m->n_units;
  return r->squares + first * *stride + unit_index;
}

status reduction_squares(reduction *r, stream_id stream, int unit_index, const void *own) {
  int64_t leaves, stride;
  double *squares = squares_of(r, unit_index, &leaves, &stride);
  return leaves == 0
             ? STATUS_OK
             : r->e->ops->leaf_squares(r->e, stream, own, r->l->m->units[unit_index].leaf, leaves, squares, stride);
}

/* The sum over ranks. */

/* A sum of parts, all but this rank's own in their places in r->parts. */
typedef struct {
  int ranks;       /* whose parts count: the first so many */
  int rank;        /* this one */
  const void *own; /* its part, which stays as it is but where it is `sum` */
  int64_t count;   /* elements of a part */
  void *sum;
  const reduce_call *squared; /* whose leaves' squares are taken with the last node; NULL: none */
} part_sum;

/* What stands in a slot of the tree, and its place in r->parts, which is that of its first part. */
typedef struct {
  const void *values;
  char *place;
} tree_node;

typedef struct {
  const reduction *r;
  const part_sum *p;
  tree_node nodes[64];
  int merges; /* that are left */
} part_tree;

static status add_squared(const reduction *r, const part_sum *p, const void *a, const void *b) {
  int u = p->squared->unit_index;
  int64_t leaves, stride;
  double *squares = squares_of(r, u, &leaves, &stride);
  return r->e->ops->add_leaf_squares(r->e, STREAM_COMM, p->sum, a, b, r->l->m->units[u].leaf, leaves, squares, stride,
                                     p->squared->beside);
}

static int add_part(void *context, int64_t to, int64_t from) {
  part_tree *t = context;
  tree_node *a = &t->nodes[to];
  const tree_node *b = &t->nodes[from];
  bool last = --t->merges == 0;
  void *sum = last ? t->p->sum : a->place;
  TRY(last && t->p->squared != NULL ? add_squared(t->r, t->p, a->values, b->values)
                                    : t->r->e->ops->add(t->r->e, STREAM_COMM, sum, a->values, b->values, t->p->count));
  a->values = sum;
  return STATUS_OK;
}

static tree_node leaf_of(const reduction *r, const part_sum *p, int rank) {
  char *place = (char *)r->parts + (size_t)rank * (size_t)p->count * dtype_size(r->e->state);
  return (tree_node){rank == p->rank ? p->own : place, place};
}

static status copy_only_part(const reduction *r, const part_sum *p) {
  const void *part = leaf_of(r, p, 0).values;
  return part == p->sum ? STATUS_OK
                        : r->e->ops->copy(r->e, STREAM_COMM, COPY_INSIDE, p->sum, part,
                                          (size_t)p->count * dtype_size(r->e->state));
}

/* In tree order. The others' parts are used up. */
static status sum_parts(reduction *r, const part_sum *p) {
  if (p->count == 0 || p->ranks == 0) {
    return STATUS_OK;
  }
  if (p->ranks == 1) {
    return copy_only_part(r, p);
  }
  part_tree t = {.r = r, .p = p, .merges = p->ranks - 1};
  for (int rank = 0; rank < p->ranks; rank++) {
    t.nodes[tree_slot(rank)] = leaf_of(r, p, rank);
    TRY(tree_merges(rank, p->ranks, add_part, &t));
  }
  return STATUS_OK;
}

static status completed(collectives *c) {
  return c->stream_ordered ? STATUS_OK : c->ops->wait(c);
}

/* Whether an exchange among these ranks, of which so many have a part, makes the sum as well. */
static bool sums_pairs(const collectives *c, int parts) {
  return c->ops->reduce_pair != NULL && c->d->ranks == 2 && parts == 2;
}

/* The slice's sums of all shards: each replica adds its part of the slice and hands it round. */
static status sum_over_replicas(reduction *r, int unit_index, int64_t round, void *sum) {
  collectives *c = r->g->in_replicas;
  int own = r->g->replicas.rank, n = replicas(r);
  int64_t leaf = r->l->m->units[unit_index].leaf, leaves = layout_count(r->l, unit_index) / leaf;
  for (int i = 0; i <= n; i++) {
    r->sub_slices[i] = partition_start(leaves, n, i) * leaf;
  }
  char *place = (char *)sum + (size_t)r->sub_slices[own] * dtype_size(r->e->state);
  const part_sum p = {.ranks = shards_with_parts(r, round),
                      .rank = own,
                      .own = place,
                      .count = r->sub_slices[own + 1] - r->sub_slices[own],
                      .sum = place};
  TRY(c->ops->all_to_all(c, sum, r->e->state, r->sub_slices, r->parts));
  TRY(completed(c));
  TRY(sum_parts(r, &p));
  TRY(c->ops->all_gather(c, place, sum, r->e->state, r->sub_slices));
  return completed(c);
}

/* Whether the last node of the sum over the shard is the step's sum, and made by a kernel of ours. */
static bool sum_takes_squares(const reduction *r, const reduce_call *call) {
  return call->last && replicas(r) == 1 && !r->summed && parts_in_shard(r, call->round) > 1;
}

static status sum_over_shard(reduction *r, const reduce_call *call) {
  int64_t first = layout_first(r->l, call->unit_index);
  const part_sum p = {.ranks = parts_in_shard(r, call->round),
                      .rank = r->g->shard.rank,
                      .own = (const char *)call->grad + (size_t)first * dtype_size(r->e->state),
                      .count = layout_count(r->l, call->unit_index),
                      .sum = call->sum,
                      .squared = sum_takes_squares(r, call) ? call : NULL};
  return sum_parts(r, &p);
}

status reduction_settle(reduction *r) {
  if (!r->busy) {
    return STATUS_OK;
  }
  const reduce_call call = r->under_way;
  r->busy = false;
  TRY(completed(in_shard(r)));
  if (!r->summed) {
    TRY(sum_over_shard(r, &call));
  }
  if (call.sent >= 0) { /* not earlier: the sum reads this rank's own part from grad */
    TRY(r->e->ops->record(r->e, STREAM_COMM, call.sent));
  }
  if (replicas(r) > 1) {
    TRY(sum_over_replicas(r, call.unit_index, call.round, call.sum));
  }
  if (call.last && !sum_takes_squares(r, &call)) {
    TRY(reduction_squares(r, STREAM_COMM, call.unit_index, call.sum));
  }
  return call.then == NULL ? STATUS_OK : call.then(call.context, call.unit_index, call.round);
}

status reduction_start(reduction *r, const reduce_call *call) {
  collectives *c = in_shard(r);
  REQUIRE(c != NULL, "one rank has nothing to exchange");
  TRY(reduction_settle(r));
  const int64_t *slices = layout_slices(r->l, call->unit_index);
  r->summed = sums_pairs(c, parts_in_shard(r, call->round));
  TRY(r->summed ? c->ops->reduce_pair(c, call->grad, r->e->state, slices, call->sum)
                : c->ops->all_to_all(c, call->grad, r->e->state, slices, r->parts));
  r->under_way = *call;
  r->busy = true;
  return c->stream_ordered ? reduction_settle(r) : STATUS_OK;
}

status reduction_wait(reduction *r) {
  TRY(reduction_settle(r));
  if (in_shard(r) != NULL) {
    TRY(in_shard(r)->ops->wait(in_shard(r)));
  }
  return replicas(r) == 1 ? STATUS_OK : r->g->in_replicas->ops->wait(r->g->in_replicas);
}

/* Losses and norms of all ranks. */

/* Rank i's doubles stand at [starts[i], starts[i + 1]) of `values`; afterwards all ranks of the group have all. */
static status gather_doubles(collectives *c, double *values, const int64_t *starts) {
  return c->ops->all_gather(c, values + starts[c->d->rank], values, DTYPE_F64, starts);
}

static status copy_losses(reduction *r, int64_t to, const double *losses, int64_t n) {
  return r->e->ops->copy(r->e, STREAM_MAIN, COPY_INSIDE, r->losses + to, losses, (size_t)n * sizeof *losses);
}

static status gather_losses(reduction *r, const double *losses) {
  int64_t local = reduction_local(r);
  if (!r->rounds) {
    TRY(copy_losses(r, reduction_micro_batch(r, 0), losses, local));
    return in_shard(r) == NULL ? STATUS_OK : gather_doubles(in_shard(r), r->losses, r->blocks);
  }
  for (int64_t j = 0; j < local; j++) {
    TRY(copy_losses(r, reduction_micro_batch(r, j), losses + j, 1));
  }
  for (int64_t j = 0; j < local; j++) { /* first inside the shards, whose ranks' losses are neighbours */
    TRY(gather_doubles(in_shard(r), r->losses + j * r->ranks + (int64_t)r->g->replicas.rank * shard_ranks(r), r->ones));
  }
  if (replicas(r) == 1) {
    return STATUS_OK;
  }
  TRY(completed(in_shard(r)));
  for (int64_t j = 0; j < local; j++) {
    TRY(gather_doubles(r->g->in_replicas, r->losses + j * r->ranks, r->shards));
  }
  return STATUS_OK;
}

status reduction_gather(reduction *r, const double *losses) {
  TRY(gather_losses(r, losses));
  if (in_shard(r) != NULL) {
    TRY(gather_doubles(in_shard(r), r->squares, r->square_starts));
  }
  return reduction_wait(r);
}

status reduction_decide(reduction *r, double grad_clip) {
  return r->e->ops->finish_norm(r->e, r->squares, (int64_t)r->l->m->n_units * UNIT_LEAVES, r->losses, r->micro_batches,
                                grad_clip);
}
