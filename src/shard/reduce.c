#include "shard/reduce.h"

#include <stdlib.h>

#include "base/memory.h"
#include "shard/tree.h"

int64_t partition_start(int64_t count, int ranks, int rank) {
  return count * rank / ranks;
}

double reduction_bytes(const model *m, int64_t micro_batches) {
  return (double)sizeof(double) * ((double)m->n_units * UNIT_LEAVES + (double)micro_batches);
}

static status fill(reduction *r) {
  int ranks = r->d->ranks;
  size_t starts = (size_t)ranks + 1;
  TRY(memory_new(&r->batches, starts, sizeof *r->batches, "micro-batches of the ranks"));
  TRY(memory_new(&r->leaves, starts, sizeof *r->leaves, "leaves of the ranks"));
  TRY(memory_new(&r->slices, starts * (size_t)r->m->n_units, sizeof *r->slices, "slices of the ranks"));
  for (int rank = 0; rank <= ranks; rank++) {
    r->batches[rank] = partition_start(r->micro_batches, ranks, rank);
    r->leaves[rank] = partition_start(UNIT_LEAVES, ranks, rank);
    for (int u = 0; u < r->m->n_units; u++) {
      r->slices[(size_t)u * starts + (size_t)rank] = r->leaves[rank] * r->m->units[u].leaf;
    }
  }
  size_t squares = (size_t)r->m->n_units * UNIT_LEAVES * sizeof(double);
  TRY(r->e->ops->alloc(r->e, squares, "squared norms", (void **)&r->squares));
  TRY(r->e->ops->alloc(r->e, (size_t)r->micro_batches * sizeof(double), "losses", (void **)&r->losses));
  return STATUS_OK;
}

status reduction_create(const model *m, engine *e, const dist *d, collectives *c, int64_t micro_batches,
                        reduction **out) {
  *out = NULL;
  REQUIRE(d->ranks == 1 || c != NULL, "%d ranks need collectives", d->ranks);
  reduction *r;
  TRY(memory_new(&r, 1, sizeof *r, "reduction"));
  r->m = m;
  r->e = e;
  r->d = d;
  r->c = d->ranks > 1 ? c : NULL;
  r->micro_batches = micro_batches;
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
  if (r->squares != NULL) {
    r->e->ops->free(r->e, r->squares);
  }
  if (r->losses != NULL) {
    r->e->ops->free(r->e, r->losses);
  }
  free(r->batches);
  free(r->leaves);
  free(r->slices);
  free(r);
}

const int64_t *reduction_slices(const reduction *r, int unit_index) {
  return r->slices + (size_t)unit_index * ((size_t)r->d->ranks + 1);
}

int64_t reduction_own_first(const reduction *r, int unit_index) {
  return reduction_slices(r, unit_index)[r->d->rank];
}

int64_t reduction_own_count(const reduction *r, int unit_index) {
  const int64_t *slices = reduction_slices(r, unit_index) + r->d->rank;
  return slices[1] - slices[0];
}

status reduction_start(reduction *r, int unit_index, const void *grad, void *parts) {
  return r->c->ops->all_to_all(r->c, grad, r->e->state, reduction_slices(r, unit_index), parts);
}

status reduction_wait(reduction *r) {
  return r->c == NULL ? STATUS_OK : r->c->ops->wait(r->c);
}

typedef struct {
  engine *e;
  char *parts;
  int64_t count;  /* elements of a part */
  int64_t at[64]; /* which part stands in a slot of the tree */
} part_sum;

static int add_part(void *context, int64_t to, int64_t from) {
  part_sum *p = context;
  int64_t bytes = p->count * (int64_t)dtype_size(p->e->state);
  return p->e->ops->add(p->e, STREAM_MAIN, p->parts + p->at[to] * bytes, p->parts + p->at[from] * bytes, p->count);
}

status reduction_sum(reduction *r, int unit_index, void *parts, void *sum) {
  part_sum p = {.e = r->e, .parts = parts, .count = reduction_own_count(r, unit_index)};
  if (p.count == 0) {
    return STATUS_OK;
  }
  for (int rank = 0; rank < r->d->ranks; rank++) {
    p.at[tree_slot(rank)] = rank;
    TRY(tree_merges(rank, r->d->ranks, add_part, &p));
  }
  return r->e->ops->copy(r->e, STREAM_MAIN, COPY_INSIDE, sum, parts, (size_t)p.count * dtype_size(r->e->state));
}

status reduction_squares(reduction *r, int unit_index, const void *own) {
  double *squares = r->squares + (size_t)unit_index * UNIT_LEAVES;
  int64_t first = r->leaves[r->d->rank], count = r->leaves[r->d->rank + 1] - first;
  if (count > 0) {
    TRY(r->e->ops->leaf_squares(r->e, own, r->m->units[unit_index].leaf, count, squares + first));
  }
  return r->c == NULL ? STATUS_OK : r->c->ops->all_gather(r->c, squares, DTYPE_F64, r->leaves);
}

status reduction_finish(reduction *r, const double *losses, double grad_clip) {
  int64_t first = r->batches[r->d->rank], count = r->batches[r->d->rank + 1] - first;
  TRY(r->e->ops->copy(r->e, STREAM_MAIN, COPY_INSIDE, r->losses + first, losses, (size_t)count * sizeof *losses));
  if (r->c != NULL) {
    TRY(r->c->ops->all_gather(r->c, r->losses, DTYPE_F64, r->batches));
    TRY(r->c->ops->wait(r->c));
  }
  return r->e->ops->finish_norm(r->e, r->squares, (int64_t)r->m->n_units * UNIT_LEAVES, r->losses, r->micro_batches,
                                grad_clip);
}
