#include "shard/layout.h"

#include <stdlib.h>

#include "base/memory.h"

int64_t partition_start(int64_t count, int ranks, int rank) {
  return count * rank / ranks;
}

static status fill(layout *l) {
  size_t starts = (size_t)l->ranks + 1;
  TRY(memory_new(&l->leaves, starts, sizeof *l->leaves, "leaves of the ranks"));
  TRY(memory_new(&l->slices, starts * (size_t)l->m->n_units, sizeof *l->slices, "slices of the ranks"));
  for (int rank = 0; rank <= l->ranks; rank++) {
    l->leaves[rank] = partition_start(UNIT_LEAVES, l->ranks, rank);
    for (int u = 0; u < l->m->n_units; u++) {
      l->slices[(size_t)u * starts + (size_t)rank] = l->leaves[rank] * l->m->units[u].leaf;
    }
  }
  return STATUS_OK;
}

status layout_create(const model *m, int ranks, int rank, layout **out) {
  *out = NULL;
  layout *l;
  TRY(memory_new(&l, 1, sizeof *l, "slices of the units"));
  *l = (layout){.m = m, .ranks = ranks, .rank = rank};
  status s = fill(l);
  if (s != STATUS_OK) {
    layout_free(l);
    return s;
  }
  *out = l;
  return STATUS_OK;
}

void layout_free(layout *l) {
  if (l != NULL) {
    free(l->leaves);
    free(l->slices);
    free(l);
  }
}

const int64_t *layout_slices(const layout *l, int unit_index) {
  return l->slices + (size_t)unit_index * ((size_t)l->ranks + 1);
}

int64_t layout_first(const layout *l, int unit_index) {
  return layout_slices(l, unit_index)[l->rank];
}

int64_t layout_count(const layout *l, int unit_index) {
  const int64_t *own = layout_slices(l, unit_index) + l->rank;
  return own[1] - own[0];
}

int64_t layout_most_leaves(int ranks) {
  int64_t most = 0;
  for (int rank = 0; rank < ranks; rank++) {
    int64_t leaves = partition_start(UNIT_LEAVES, ranks, rank + 1) - partition_start(UNIT_LEAVES, ranks, rank);
    most = leaves > most ? leaves : most;
  }
  return most;
}
