/* Which leaves of every unit belong to which rank of a shard: contiguous blocks, as even as possible. */
#ifndef PSANN_SHARD_LAYOUT_H
#define PSANN_SHARD_LAYOUT_H

#include "model/model.h"

/* First of `count` things of rank `rank` when they are dealt out in contiguous blocks, as even as possible;
 * partition_start(count, ranks, ranks) is count. */
int64_t partition_start(int64_t count, int ranks, int rank);

typedef struct {
  const model *m;
  int ranks, rank;
  int64_t *leaves; /* (ranks + 1) first leaf of each rank */
  int64_t *slices; /* (n_units, ranks + 1) the same in elements of each unit */
} layout;

/* The model must outlive it. */
status layout_create(const model *m, int ranks, int rank, layout **out);
void layout_free(layout *l);

/* (ranks + 1) first elements of the ranks' slices of a unit, as collectives take them. */
const int64_t *layout_slices(const layout *l, int unit_index);
/* This rank's slice of a unit. */
int64_t layout_first(const layout *l, int unit_index);
int64_t layout_count(const layout *l, int unit_index);

/* Leaves of the rank that has the most of them. */
int64_t layout_most_leaves(int ranks);

#endif
