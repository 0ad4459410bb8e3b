/* The weight store: weights (keeper.h), gradients (gradients.h), moments, and the order in which a step ends. What the
 * strategies shard is a row of a table; the code is one. */
#include <omp.h>
#include <stdlib.h>

#include "base/activity.h"
#include "base/memory.h"
#include "shard/gradients.h"
#include "shard/keeper.h"
#include "shard/offload.h"
#include "shard/strategies.h"

enum {
  INITIAL_CHUNK = 1 << 20, /* elements: bounds the host memory of initialisation */
};

typedef struct {
  held_run m, v; /* s: of the elements of the keeper's master weights */
} unit_moments;

typedef struct {
  weight_store base;
  sharding shards;
  layout *l;
  keeper *k;
  reduction *r; /* this and what follows only when training */
  gradients *grads;
  unit_moments *moments;
  offload *o; /* NULL: all of the state is in engine memory */
} store;

static status check_unit(const weight_store *w, int unit_index) {
  REQUIRE(unit_index >= 0 && unit_index < w->m->n_units, "unit %d of a model of %d units", unit_index, w->m->n_units);
  return STATUS_OK;
}

static status check_trains(const store *s) {
  REQUIRE(s->grads != NULL, "a weight store without gradients can't train");
  return STATUS_OK;
}

/* The model's side. */

static status gather(weight_source *source, int unit_index, int direction, unit_weights *out) {
  store *s = (store *)source;
  TRY(check_unit(&s->base, unit_index));
  activity_tick(); /* a pass goes on from unit to unit */
  return keeper_gather(s->k, unit_index, direction, out);
}

static status release(weight_source *source, int unit_index) {
  store *s = (store *)source;
  TRY(check_unit(&s->base, unit_index));
  return keeper_release(s->k, unit_index);
}

static status grad(weight_source *source, int unit_index, void **out) {
  store *s = (store *)source;
  TRY(check_trains(s));
  TRY(check_unit(&s->base, unit_index));
  return gradients_buffer(s->grads, unit_index, out);
}

static status grad_done(weight_source *source, int unit_index) {
  store *s = (store *)source;
  TRY(check_trains(s));
  TRY(check_unit(&s->base, unit_index));
  return gradients_done(s->grads, unit_index);
}

/* The step's side. */

static int64_t local_micro_batches(const weight_store *w) {
  return reduction_local(((const store *)w)->r);
}

static int64_t micro_batch(const weight_store *w, int64_t j) {
  return reduction_micro_batch(((const store *)w)->r, j);
}

static status begin_micro_batch(weight_store *w, int64_t j) {
  store *s = (store *)w;
  TRY(check_trains(s));
  return gradients_begin(s->grads, j);
}

static status update_unit(store *s, int unit_index, const update_spec *u) {
  const unit *x = &s->base.m->units[unit_index];
  const kept_unit *k = &s->k->units[unit_index];
  const adamw_args a = {
      .first = k->master.first,
      .count = k->master.count,
      .runs = x->runs,
      .n_runs = x->n_runs,
      .beta1 = u->beta1,
      .beta2 = u->beta2,
      .eps = u->eps,
      .weight_decay = u->weight_decay,
      .grad = s->shards.state ? gradients_own(s->grads, unit_index) : gradients_whole(s->grads, unit_index),
      .master = k->master.at,
      .m = s->moments[unit_index].m.at,
      .v = s->moments[unit_index].v.at,
      .weights = k->compute.at};
  if (a.count == 0) {
    return STATUS_OK;
  }
  return s->o != NULL ? offload_adamw(s->o, unit_index, &a) : s->base.e->ops->adamw(s->base.e, &a);
}

static status finish(weight_store *w, const double *losses, const update_spec *u) {
  store *s = (store *)w;
  TRY(check_trains(s));
  if (s->o != NULL) {
    TRY(offload_fetch(s->o));
  }
  TRY(gradients_finish(s->grads));
  TRY(reduction_gather(s->r, losses));
  TRY(gradients_hand_out(s->grads));
  TRY(reduction_decide(s->r, u->grad_clip));
  TRY(keeper_stale(s->k));
  int late = gradients_late(s->grads);
  for (int unit_index = 0; unit_index < w->m->n_units; unit_index++) {
    if (unit_index != late) {
      TRY(update_unit(s, unit_index, u));
      TRY(keeper_publish(s->k, unit_index));
    }
  }
  TRY(gradients_arrived(s->grads));
  return late < 0 ? STATUS_OK : update_unit(s, late, u); /* every rank has all of it: nothing to publish */
}

/* Exchanges, and state in host memory, go by other streams. In blocks only a rank's last micro-batch has some; its
 * first waits for weights that the update before it has sent. */
static bool repeats(const weight_store *w, int64_t j) {
  const store *s = (const store *)w;
  if (s->r->ranks == 1) {
    return s->o == NULL || j < reduction_local(s->r);
  }
  return !s->r->rounds && !s->shards.weights && j + 1 < reduction_local(s->r) && (j > 0 || !s->shards.state);
}

static status repeated(weight_store *w, int64_t j) {
  store *s = (store *)w;
  TRY(check_trains(s));
  return gradients_repeated(s->grads, j);
}

/* State in and out. */

static void own_range(const weight_store *w, int unit_index, int64_t *first, int64_t *count) {
  const store *s = (const store *)w;
  *first = layout_first(s->l, unit_index);
  *count = w->g == NULL || w->g->replicas.rank == 0 ? layout_count(s->l, unit_index) : 0;
}

/* A run that has this rank's own range of a state. */
static status own_state(const store *s, int unit_index, state_kind what, held_run *out) {
  TRY(check_unit(&s->base, unit_index));
  const kept_unit *k = &s->k->units[unit_index];
  REQUIRE(s->grads != NULL || (what == STATE_WEIGHTS && k->master.at != NULL),
          "a weight store that doesn't train has neither gradients nor moments nor master weights of its own");
  switch (what) {
    case STATE_WEIGHTS:
      *out = k->master;
      break;
    case STATE_M:
      *out = s->moments[unit_index].m;
      break;
    case STATE_V:
      *out = s->moments[unit_index].v;
      break;
    case STATE_GRADS:
      *out = (held_run){.at = gradients_own(s->grads, unit_index), .type = s->base.e->state};
      out->first = layout_first(s->l, unit_index);
      break;
  }
  return STATUS_OK;
}

static status read_own(weight_store *w, int unit_index, state_kind what, void *values) {
  held_run from;
  int64_t first, count;
  TRY(own_state((const store *)w, unit_index, what, &from));
  own_range(w, unit_index, &first, &count);
  return count == 0 ? STATUS_OK : held_read(w->e, &from, first, count, values);
}

static status read_state(weight_store *w, int unit_index, state_kind what, void *values) {
  TRY(check_unit(w, unit_index));
  int64_t first, count;
  size_t size = dtype_size(w->e->state);
  void *own = NULL;
  own_range(w, unit_index, &first, &count);
  status s = memory_new(&own, count > 0 ? (size_t)count : 1, size, "a slice of a unit");
  if (s == STATUS_OK) {
    s = read_own(w, unit_index, what, own);
  }
  if (s == STATUS_OK) {
    s = w->e->ops->synchronize(w->e);
  }
  s = dist_agree(w->d, s);
  if (s == STATUS_OK) {
    s = dist_collect(w->d, own, (size_t)count * size, values, (size_t)w->m->units[unit_index].count * size);
  }
  free(own);
  return s;
}

static status place_state(store *s, int unit_index, state_kind what, const void *values) {
  engine *e = s->base.e;
  int64_t count = s->base.m->units[unit_index].count;
  if (s->o != NULL) {
    offload_forget(s->o);
  }
  if (what == STATE_WEIGHTS) {
    return keeper_write(s->k, unit_index, 0, values, e->state, count);
  }
  const unit_moments *moments = &s->moments[unit_index];
  return held_write(e, what == STATE_M ? &moments->m : &moments->v, 0, values, e->state, count);
}

static status write_state(weight_store *w, int unit_index, state_kind what, const void *values) {
  store *s = (store *)w;
  TRY(check_unit(w, unit_index));
  REQUIRE(what != STATE_GRADS, "gradients are computed, not written");
  REQUIRE(s->grads != NULL || what == STATE_WEIGHTS, "a weight store that doesn't train has no moments");
  size_t bytes = (size_t)w->m->units[unit_index].count * dtype_size(w->e->state);
  void *data = w->d->rank == 0 ? (void *)(uintptr_t)values : NULL; /* only read on rank 0 */
  TRY(dist_broadcast(w->d, &data, &bytes));
  status result = place_state(s, unit_index, what, data);
  if (w->d->rank != 0) {
    free(data);
  }
  return result;
}

/* Life. */

/* This rank's share of the processors that it may run on. */
static int initial_threads(const dist *d) {
  int threads = omp_get_num_procs() / d->local_ranks, most = omp_get_max_threads();
  threads = threads < most ? threads : most;
  return threads > 1 ? threads : 1;
}

static status initialise(store *s, int unit_index, uint64_t seed, float *values) {
  int threads = initial_threads(s->base.d);
  int64_t count = s->base.m->units[unit_index].count;
  for (int64_t first = 0; first < count; first += INITIAL_CHUNK) {
    int64_t n = count - first < INITIAL_CHUNK ? count - first : INITIAL_CHUNK;
    if (keeper_holds(s->k, unit_index, first, n)) {
      TRY(model_initial_parallel(s->base.m, unit_index, seed, first, n, threads, values));
      TRY(keeper_write(s->k, unit_index, first, values, DTYPE_F32, n));
    }
  }
  return STATUS_OK;
}

static status initialise_all(store *s, uint64_t seed) {
  float *values;
  TRY(memory_new(&values, INITIAL_CHUNK, sizeof *values, "initial weights"));
  status result = STATUS_OK;
  for (int u = 0; u < s->base.m->n_units && result == STATUS_OK; u++) {
    activity_tick();
    result = initialise(s, u, seed, values);
  }
  free(values);
  return result;
}

static status make_moments(store *s) {
  engine *e = s->base.e;
  TRY(memory_new(&s->moments, (size_t)s->base.m->n_units, sizeof *s->moments, "moments of the units"));
  for (int u = 0; u < s->base.m->n_units; u++) {
    const held_run *master = &s->k->units[u].master;
    unit_moments *x = &s->moments[u];
    x->m = (held_run){.type = e->state, .first = master->first, .count = master->count, .host = s->shards.offload};
    x->v = x->m;
    activity_tick(); /* pinning takes its time */
    TRY(held_alloc(e, &x->m, "first moments"));
    TRY(held_alloc(e, &x->v, "second moments"));
  }
  return STATUS_OK;
}

/* ddp updates the unit whose sum comes last after all others: the one where the backward pass ends. */
static int updated_first(const store *s) {
  return s->r->ranks > 1 && !s->shards.state ? 1 : 0;
}

static status make_offload(store *s) {
  int n = s->base.m->n_units;
  offloaded_unit *units;
  TRY(memory_new(&units, (size_t)n, sizeof *units, "units"));
  for (int u = 0; u < n; u++) {
    const kept_unit *k = &s->k->units[u];
    units[u] = (offloaded_unit){s->moments[u].m, s->moments[u].v, k->master, k->vectors};
  }
  status result = offload_create(s->base.e, units, n, updated_first(s), &s->o);
  free(units);
  return result;
}

static keeping keeping_of(sharding shards, bool training) {
  return (keeping){
      .slice_state = shards.state, .slice_weights = shards.weights, .training = training, .offload = shards.offload};
}

static status build(store *s, uint64_t seed, bool training) {
  weight_store *w = &s->base;
  int ranks = w->g == NULL ? 1 : w->g->shard.ranks, rank = w->g == NULL ? 0 : w->g->shard.rank;
  TRY(layout_create(w->m, ranks, rank, &s->l));
  TRY(keeper_create(s->l, w->e, w->g == NULL ? NULL : w->g->in_shard, keeping_of(s->shards, training), &s->k));
  if (training) {
    TRY(reduction_create(s->l, w->e, w->g, s->shards.gradients, w->micro_batches, &s->r));
    TRY(make_moments(s));
    if (s->shards.offload) {
      TRY(make_offload(s));
    }
    TRY(gradients_create(s->r, !s->shards.state, &s->grads));
  }
  return initialise_all(s, seed);
}

static void destroy(weight_store *w) {
  store *s = (store *)w;
  offload_destroy(s->o);
  gradients_destroy(s->grads);
  for (int u = 0; s->moments != NULL && u < w->m->n_units; u++) {
    held_free(w->e, &s->moments[u].m);
    held_free(w->e, &s->moments[u].v);
  }
  free(s->moments);
  reduction_destroy(s->r);
  keeper_destroy(s->k);
  layout_free(s->l);
  free(s);
}

static const weight_store_ops store_ops = {
    destroy,  local_micro_batches, micro_batch, begin_micro_batch, finish,      repeats,
    repeated, read_state,          own_range,   read_own,          write_state,
};

status store_create(const model *m, engine *e, const dist *d, const rank_groups *g, sharding shards,
                    int64_t micro_batches, uint64_t seed, bool training, weight_store **out) {
  *out = NULL;
  store *s;
  TRY(memory_new(&s, 1, sizeof *s, "weight store"));
  s->base = (weight_store){.source = {gather, release, grad, grad_done},
                           .ops = &store_ops,
                           .m = m,
                           .e = e,
                           .d = d,
                           .g = g,
                           .micro_batches = micro_batches};
  s->shards = shards;
  status result = build(s, seed, training);
  if (result != STATUS_OK) {
    destroy(&s->base);
    return result;
  }
  *out = &s->base;
  return STATUS_OK;
}

void store_plan(const model *m, dtype compute, dtype state, int shard_ranks, int ranks, sharding shards,
                int64_t micro_batches, bool training, memory_plan *p) {
  double held = 0;
  int64_t largest = 0;
  for (int u = 0; u < m->n_units; u++) {
    int64_t count = shards.state ? m->units[u].leaf * layout_most_leaves(shard_ranks) : m->units[u].count;
    held += (double)count;
    largest = count > largest ? count : largest;
  }
  keeper_plan(m, compute, state, shard_ranks, keeping_of(shards, training), p);
  if (training) {
    (shards.offload ? plan_add_host : plan_add)(p, "moments", 2 * held * (double)dtype_size(state));
    if (shards.offload) {
      offload_plan(state, compute != state, largest, p);
    }
    gradients_plan(m, state, shard_ranks, ranks, shards.gradients, micro_batches, p);
  }
}
