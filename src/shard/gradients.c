#include "shard/gradients.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "dist/exchange_memory.h"
#include "shard/events.h"
#include "shard/tree.h"

enum { POOL_BUFFERS = 2 }; /* one is written while the other is sent */

/* In rounds: buffers that units of the same layout take in turns, so that what no gradient is written to stays zero. */
typedef struct {
  void *buffers[POOL_BUFFERS];
  int events[POOL_BUFFERS]; /* recorded when a buffer has been sent and summed */
  int n, next;
} grad_pool;

typedef struct {
  void **sums;   /* the tree's buffers: whole units in blocks, slices in rounds; the step's sum ends in the first */
  int pool;      /* rounds */
  void *current; /* that this micro-batch's gradient goes to; NULL: not asked for */
  int64_t done;  /* micro-batches of this step whose gradient is in */
} unit_grads;

struct gradients {
  reduction *r;
  engine *e;
  const layout *l;
  bool everywhere;
  int64_t local, n_sums;
  int64_t current; /* j of the micro-batch under way; −1: none */
  int left;        /* units whose sum is not there, in the last micro-batch */
  int late;        /* unit whose sum is still to be handed out; −1: none */
  unit_grads *units;
  grad_pool *pools;
  int n_pools;
};

static const unit *unit_of(const gradients *g, int unit_index) {
  return &g->l->m->units[unit_index];
}

static bool alone(const gradients *g) {
  return g->r->ranks == 1;
}

/* Life. */

static collectives *exchanged_by(const gradients *g) {
  return g->r->g == NULL ? NULL : g->r->g->in_shard;
}

/* In blocks the step's sum travels; in rounds no sum does, but what the pool's buffers have. */
static collectives *sum_exchanged_by(const gradients *g, int64_t i) {
  return i == 0 && !g->r->rounds ? exchanged_by(g) : NULL;
}

/* Whether gradients are written to the same elements of both. */
static bool same_layout(const unit *a, const unit *b) {
  if (a->count != b->count || a->n_tensors != b->n_tensors) {
    return false;
  }
  for (int i = 0; i < a->n_tensors; i++) {
    const tensor *x = &a->tensors[i], *y = &b->tensors[i];
    if (x->offset != y->offset || x->count != y->count || x->trainable != y->trainable) {
      return false;
    }
  }
  return true;
}

/* Units that come before `unit_index` and have its layout. */
static int alike_before(const model *m, int unit_index, int *first) {
  int n = 0;
  *first = unit_index;
  for (int u = unit_index - 1; u >= 0; u--) {
    if (same_layout(&m->units[u], &m->units[unit_index])) {
      *first = u;
      n++;
    }
  }
  return n;
}

static status allocate_pool_buffer(gradients *g, int unit_index, grad_pool *p) {
  TRY(exchange_alloc(exchanged_by(g), g->e, (size_t)unit_of(g, unit_index)->count * dtype_size(g->e->state),
                     "gradients", &p->buffers[p->n]));
  p->events[p->n] = EVENT_GRADS + ((int)(p - g->pools) * POOL_BUFFERS + p->n) % GRAD_EVENTS;
  p->n++;
  return STATUS_OK;
}

static status join_pool(gradients *g, int unit_index) {
  int first, before = alike_before(g->l->m, unit_index, &first);
  g->units[unit_index].pool = before == 0 ? g->n_pools++ : g->units[first].pool;
  return before < POOL_BUFFERS ? allocate_pool_buffer(g, unit_index, &g->pools[g->units[unit_index].pool]) : STATUS_OK;
}

static status allocate(gradients *g, int unit_index) {
  unit_grads *u = &g->units[unit_index];
  int64_t count = g->r->rounds ? layout_count(g->l, unit_index) : unit_of(g, unit_index)->count;
  TRY(memory_new(&u->sums, (size_t)g->n_sums, sizeof *u->sums, "gradient buffers"));
  for (int64_t i = 0; i < g->n_sums; i++) {
    TRY(exchange_alloc(sum_exchanged_by(g, i), g->e, (size_t)count * dtype_size(g->e->state), "gradients",
                       &u->sums[i]));
  }
  return g->r->rounds ? join_pool(g, unit_index) : STATUS_OK;
}

static status build(gradients *g) {
  int units = g->l->m->n_units;
  g->local = reduction_local(g->r);
  g->n_sums = tree_buffers(g->local);
  TRY(memory_new(&g->units, (size_t)units, sizeof *g->units, "units"));
  TRY(memory_new(&g->pools, (size_t)units, sizeof *g->pools, "gradient buffers"));
  for (int u = 0; u < units; u++) {
    TRY(allocate(g, u));
  }
  return STATUS_OK;
}

status gradients_create(reduction *r, bool everywhere, gradients **out) {
  *out = NULL;
  REQUIRE(!r->rounds || !(everywhere || r->ranks == 1), "gradients in rounds are for slices on several ranks");
  gradients *g;
  TRY(memory_new(&g, 1, sizeof *g, "gradients"));
  *g = (gradients){.r = r, .e = r->e, .l = r->l, .everywhere = everywhere, .current = -1, .late = -1};
  status s = build(g);
  if (s != STATUS_OK) {
    gradients_destroy(g);
    return s;
  }
  *out = g;
  return STATUS_OK;
}

void gradients_destroy(gradients *g) {
  if (g == NULL) {
    return;
  }
  for (int u = 0; g->units != NULL && u < g->l->m->n_units; u++) {
    for (int64_t i = 0; g->units[u].sums != NULL && i < g->n_sums; i++) {
      exchange_free(sum_exchanged_by(g, i), g->e, g->units[u].sums[i]);
    }
    free(g->units[u].sums);
  }
  for (int p = 0; p < g->n_pools; p++) {
    for (int i = 0; i < g->pools[p].n; i++) {
      exchange_free(exchanged_by(g), g->e, g->pools[p].buffers[i]);
    }
  }
  free(g->units);
  free(g->pools);
  free(g);
}

void gradients_plan(const model *m, dtype state, int shard_ranks, int ranks, bool rounds, int64_t micro_batches,
                    memory_plan *p) {
  double whole = 0, own = 0, pools = 0;
  for (int u = 0; u < m->n_units; u++) {
    int first;
    whole += (double)m->units[u].count;
    own += (double)(m->units[u].leaf * layout_most_leaves(shard_ranks));
    pools += alike_before(m, u, &first) < POOL_BUFFERS ? (double)m->units[u].count : 0.0;
  }
  double sums = (double)tree_buffers(reduction_local_most(ranks, micro_batches)) * (rounds ? own : whole);
  plan_add(p, "gradients", (sums + (rounds ? pools : 0.0)) * (double)dtype_size(state));
  if (shard_ranks > 1) {
    plan_add(p, "gradient exchange", reduction_exchange_bytes(m, state, shard_ranks));
  }
  plan_add(p, "norms and losses", reduction_bytes(m, ranks, rounds, micro_batches));
}

/* A micro-batch. */

status gradients_begin(gradients *g, int64_t j) {
  REQUIRE(j >= 0 && j < g->local, "micro-batch %lld of %lld", (long long)j, (long long)g->local);
  for (int u = 0; u < g->l->m->n_units; u++) {
    if (j == 0) {
      g->units[u].done = 0;
    }
    REQUIRE(g->units[u].done == j, "micro-batch %lld begins, but unit %s has %lld gradients", (long long)j,
            unit_of(g, u)->name, (long long)g->units[u].done);
  }
  g->current = j;
  g->left = g->l->m->n_units;
  return STATUS_OK;
}

/* The next buffer of the pool, once what it had has been sent, and summed: the sum over ranks reads from it, too. */
static status pool_buffer(gradients *g, grad_pool *p, void **out) {
  void *buffer = p->buffers[p->next];
  if (g->r->busy && g->r->under_way.grad == buffer) {
    TRY(reduction_settle(g->r));
  }
  *out = buffer;
  return g->e->ops->wait(g->e, STREAM_MAIN, p->events[p->next]);
}

status gradients_buffer(gradients *g, int unit_index, void **out) {
  unit_grads *u = &g->units[unit_index];
  REQUIRE(g->current >= 0, "unit %s: a gradient outside of a micro-batch", unit_of(g, unit_index)->name);
  if (u->current == NULL) {
    if (g->r->rounds) {
      TRY(pool_buffer(g, &g->pools[u->pool], &u->current));
    } else {
      u->current = u->sums[tree_slot(g->current)];
    }
  }
  *out = u->current;
  return STATUS_OK;
}

typedef struct {
  gradients *g;
  int unit_index;
  stream_id stream;
  int64_t count;
} unit_sum;

static int add_sums(void *context, int64_t to, int64_t from) {
  const unit_sum *c = context;
  void **sums = c->g->units[c->unit_index].sums;
  return c->g->e->ops->add(c->g->e, c->stream, sums[to], sums[to], sums[from], c->count);
}

/* In rounds: the round's sum is in its place. Of a single one the squares were taken with it. */
static status merge_rounds(void *context, int unit_index, int64_t round) {
  gradients *g = context;
  unit_sum c = {g, unit_index, STREAM_COMM, layout_count(g->l, unit_index)};
  if (c.count == 0) {
    return STATUS_OK;
  }
  TRY(tree_merges(round, g->local, add_sums, &c));
  return g->local == 1 || round + 1 < g->local
             ? STATUS_OK
             : reduction_squares(g->r, STREAM_COMM, unit_index, gradients_own(g, unit_index));
}

static status gather_sum(gradients *g, int unit_index) {
  collectives *c = g->r->g->in_shard;
  return c->ops->all_gather(c, gradients_own(g, unit_index), g->units[unit_index].sums[0], g->e->state,
                            layout_slices(g->l, unit_index));
}

/* In blocks: this rank's slice of the sum is in its place, and the squares of its leaves. */
static status use_sum(void *context, int unit_index, int64_t round) {
  gradients *g = context;
  (void)round;
  if (--g->left == 0 && g->everywhere) {
    g->late = unit_index;
    return STATUS_OK;
  }
  return g->everywhere ? gather_sum(g, unit_index) : STATUS_OK;
}

/* Units' gradients come in the order of the backward. */
static bool more_follow(int unit_index) {
  return unit_index != 0;
}

static status done_in_rounds(gradients *g, int unit_index) {
  unit_grads *u = &g->units[unit_index];
  grad_pool *p = &g->pools[u->pool];
  const reduce_call call = {.unit_index = unit_index,
                            .round = g->current,
                            .grad = u->current,
                            .sum = u->sums[tree_slot(g->current)],
                            .last = g->local == 1,
                            .beside = more_follow(unit_index),
                            .sent = p->events[p->next],
                            .then = merge_rounds,
                            .context = g};
  p->next = (p->next + 1) % p->n;
  return reduction_start(g->r, &call);
}

static status done_in_blocks(gradients *g, int unit_index) {
  unit_sum c = {g, unit_index, STREAM_MAIN, unit_of(g, unit_index)->count};
  TRY(tree_merges(g->current, g->local, add_sums, &c));
  if (g->current + 1 < g->local) {
    return STATUS_OK;
  }
  if (alone(g)) {
    return reduction_squares(g->r, STREAM_MAIN, unit_index, gradients_own(g, unit_index));
  }
  return reduction_start(g->r, &(reduce_call){.unit_index = unit_index,
                                              .grad = g->units[unit_index].sums[0],
                                              .sum = gradients_own(g, unit_index),
                                              .last = true,
                                              .beside = more_follow(unit_index),
                                              .sent = -1,
                                              .then = use_sum,
                                              .context = g});
}

status gradients_done(gradients *g, int unit_index) {
  unit_grads *u = &g->units[unit_index];
  REQUIRE(g->current >= 0 && u->done == g->current, "unit %s: gradient number %lld is done during micro-batch %lld",
          unit_of(g, unit_index)->name, (long long)u->done, (long long)g->current);
  REQUIRE(u->current != NULL, "unit %s: a gradient is done that nobody had a buffer for", unit_of(g, unit_index)->name);
  TRY(g->r->rounds ? done_in_rounds(g, unit_index) : done_in_blocks(g, unit_index));
  u->current = NULL;
  u->done++;
  return STATUS_OK;
}

status gradients_finish(gradients *g) {
  REQUIRE(g->current == g->local - 1, "a step is finished after micro-batch %lld of %lld", (long long)g->current + 1,
          (long long)g->local);
  for (int u = 0; u < g->l->m->n_units; u++) {
    REQUIRE(g->units[u].done == g->local, "a step is finished, but unit %s has %lld of %lld gradients",
            unit_of(g, u)->name, (long long)g->units[u].done, (long long)g->local);
  }
  g->current = -1;
  return reduction_settle(g->r);
}

status gradients_hand_out(gradients *g) {
  return g->late < 0 ? STATUS_OK : gather_sum(g, g->late);
}

status gradients_arrived(gradients *g) {
  bool wait = g->late >= 0;
  g->late = -1;
  return wait ? reduction_wait(g->r) : STATUS_OK;
}

int gradients_late(const gradients *g) {
  return g->late;
}

status gradients_repeated(gradients *g, int64_t j) {
  if (j == g->local) { /* the step's end */
    g->current = -1;
    return STATUS_OK;
  }
  TRY(gradients_begin(g, j));
  for (int u = 0; u < g->l->m->n_units; u++) {
    g->units[u].done = j + 1;
  }
  return STATUS_OK;
}

void *gradients_own(const gradients *g, int unit_index) {
  void *sum = g->units[unit_index].sums[0];
  return g->r->rounds ? sum : (char *)sum + (size_t)layout_first(g->l, unit_index) * dtype_size(g->e->state);
}

void *gradients_whole(const gradients *g, int unit_index) {
  return g->units[unit_index].sums[0];
}
