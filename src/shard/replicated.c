/* Rank r computes a contiguous block of the step's micro-batches and sums it as a binary counter, unit by unit. When
 * the last of them has passed a unit backward, the unit's exchange starts and overlaps with the units still to come:
 * every rank gets all ranks' sums of its own slice, adds them in tree order, and the slices are gathered again. AdamW
 * then runs on whole units everywhere.
 */
#include "shard/replicated.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "base/activity.h"
#include "base/memory.h"
#include "shard/reduce.h"
#include "shard/tree.h"

enum {
  INITIAL_CHUNK = 1 << 20, /* elements: bounds the host memory of initialisation */
};

typedef struct {
  void *master;  /* s (unit.count) */
  void *weights; /* c (unit.count); master where the types are equal */
  void *m, *v;   /* s (unit.count) */
  void **grads;  /* s (n_grads buffers of unit.count); the step's sum ends in the first */
  void *parts;   /* s (ranks, own slice) */
  int64_t done;  /* micro-batches of this step whose gradient is in */
} replicated_unit;

typedef struct {
  weight_store base;
  reduction *r;
  replicated_unit *units;
  int64_t first, local; /* this rank's micro-batches */
  int64_t n_grads;
  int64_t current; /* j of the micro-batch under way; −1: none */
  bool training;
} replicated;

static const unit *unit_of(const replicated *s, int unit_index) {
  return &s->base.m->units[unit_index];
}

static size_t state_bytes(const replicated *s, int64_t elements) {
  return (size_t)elements * dtype_size(s->base.e->state);
}

static status check_unit(const replicated *s, int unit_index) {
  REQUIRE(unit_index >= 0 && unit_index < s->base.m->n_units, "unit %d of a model of %d units", unit_index,
          s->base.m->n_units);
  return STATUS_OK;
}

/* The model's side. */

static status gather(weight_source *source, int unit_index, int direction, unit_weights *out) {
  (void)direction; /* everything is here already */
  replicated *s = (replicated *)source;
  TRY(check_unit(s, unit_index));
  activity_tick(); /* a pass goes on from unit to unit */
  out->matrices = s->units[unit_index].weights;
  out->vectors = (const char *)s->units[unit_index].master + state_bytes(s, unit_of(s, unit_index)->vectors);
  return STATUS_OK;
}

static status release(weight_source *source, int unit_index) {
  return check_unit((replicated *)source, unit_index);
}

static status grad(weight_source *source, int unit_index, void **out) {
  replicated *s = (replicated *)source;
  TRY(check_unit(s, unit_index));
  REQUIRE(s->current >= 0, "unit %s: a gradient outside of a micro-batch", unit_of(s, unit_index)->name);
  *out = s->units[unit_index].grads[tree_slot(s->current)];
  return STATUS_OK;
}

typedef struct {
  replicated *s;
  int unit_index;
} unit_sum;

static int add_grads(void *context, int64_t to, int64_t from) {
  unit_sum *c = context;
  engine *e = c->s->base.e;
  void **grads = c->s->units[c->unit_index].grads;
  return e->ops->add(e, STREAM_MAIN, grads[to], grads[from], unit_of(c->s, c->unit_index)->count);
}

static status grad_done(weight_source *source, int unit_index) {
  replicated *s = (replicated *)source;
  TRY(check_unit(s, unit_index));
  replicated_unit *u = &s->units[unit_index];
  REQUIRE(s->current >= 0 && u->done == s->current, "unit %s: gradient number %lld is done during micro-batch %lld",
          unit_of(s, unit_index)->name, (long long)u->done, (long long)s->current);
  TRY(tree_merges(s->current, s->local, add_grads, &(unit_sum){s, unit_index}));
  u->done++;
  if (u->done == s->local && s->base.d->ranks > 1) {
    TRY(reduction_start(s->r, unit_index, u->grads[0], u->parts));
  }
  return STATUS_OK;
}

/* The step's side. */

static int64_t local_micro_batches(const weight_store *w) {
  return ((const replicated *)w)->local;
}

static int64_t micro_batch(const weight_store *w, int64_t j) {
  return ((const replicated *)w)->first + j;
}

static status begin_micro_batch(weight_store *w, int64_t j) {
  replicated *s = (replicated *)w;
  REQUIRE(s->training, "a weight store without gradients can't train");
  REQUIRE(j >= 0 && j < s->local, "micro-batch %lld of %lld", (long long)j, (long long)s->local);
  for (int unit_index = 0; unit_index < w->m->n_units; unit_index++) {
    if (j == 0) {
      s->units[unit_index].done = 0;
    }
    REQUIRE(s->units[unit_index].done == j, "micro-batch %lld begins, but unit %s has %lld gradients", (long long)j,
            w->m->units[unit_index].name, (long long)s->units[unit_index].done);
  }
  s->current = j;
  return STATUS_OK;
}

/* The gradient's sum over all ranks, whole on every rank, and its squared norms. */
static status exchange(replicated *s) {
  TRY(reduction_wait(s->r));
  for (int unit_index = 0; unit_index < s->base.m->n_units; unit_index++) {
    replicated_unit *u = &s->units[unit_index];
    char *own = (char *)u->grads[0] + state_bytes(s, reduction_own_first(s->r, unit_index));
    if (s->base.d->ranks > 1) {
      TRY(reduction_sum(s->r, unit_index, u->parts, own));
      TRY(s->base.c->ops->all_gather(s->base.c, u->grads[0], s->base.e->state, reduction_slices(s->r, unit_index)));
    }
    TRY(reduction_squares(s->r, unit_index, own));
  }
  return STATUS_OK;
}

static status finish(weight_store *w, const double *losses, const update_spec *u) {
  replicated *s = (replicated *)w;
  REQUIRE(s->training && s->current == s->local - 1, "a step is finished after micro-batch %lld of %lld",
          (long long)s->current + 1, (long long)s->local);
  for (int unit_index = 0; unit_index < w->m->n_units; unit_index++) {
    REQUIRE(s->units[unit_index].done == s->local, "a step is finished, but unit %s has %lld of %lld gradients",
            w->m->units[unit_index].name, (long long)s->units[unit_index].done, (long long)s->local);
  }
  s->current = -1;
  TRY(exchange(s));
  TRY(reduction_finish(s->r, losses, u->grad_clip));
  for (int unit_index = 0; unit_index < w->m->n_units; unit_index++) {
    const replicated_unit *r = &s->units[unit_index];
    const adamw_args a = {.first = 0,
                          .count = w->m->units[unit_index].count,
                          .runs = w->m->units[unit_index].runs,
                          .n_runs = w->m->units[unit_index].n_runs,
                          .beta1 = u->beta1,
                          .beta2 = u->beta2,
                          .eps = u->eps,
                          .weight_decay = u->weight_decay,
                          .grad = r->grads[0],
                          .master = r->master,
                          .m = r->m,
                          .v = r->v,
                          .weights = r->weights};
    TRY(w->e->ops->adamw(w->e, &a));
  }
  return STATUS_OK;
}

/* State in and out. */

static status state_buffer(const replicated *s, int unit_index, state_kind what, void **out) {
  TRY(check_unit(s, unit_index));
  REQUIRE(s->training || what == STATE_WEIGHTS, "a weight store that doesn't train has neither gradients nor moments");
  const replicated_unit *u = &s->units[unit_index];
  switch (what) {
    case STATE_WEIGHTS:
      *out = u->master;
      return STATUS_OK;
    case STATE_M:
      *out = u->m;
      return STATUS_OK;
    case STATE_V:
      *out = u->v;
      return STATUS_OK;
    case STATE_GRADS:
      *out = u->grads[0];
      return STATUS_OK;
  }
  FAIL("state %d doesn't exist", (int)what);
}

static status read_state(weight_store *w, int unit_index, state_kind what, void *values) {
  replicated *s = (replicated *)w;
  void *from = NULL;
  TRY(state_buffer(s, unit_index, what, &from));
  if (w->d->rank != 0) {
    return STATUS_OK;
  }
  TRY(w->e->ops->copy(w->e, STREAM_MAIN, COPY_TO_HOST, values, from, state_bytes(s, w->m->units[unit_index].count)));
  return w->e->ops->synchronize(w->e);
}

static void own_range(const weight_store *w, int unit_index, int64_t *first, int64_t *count) {
  int64_t leaf = w->m->units[unit_index].leaf, start = partition_start(UNIT_LEAVES, w->d->ranks, w->d->rank);
  *first = start * leaf;
  *count = (partition_start(UNIT_LEAVES, w->d->ranks, w->d->rank + 1) - start) * leaf;
}

static status read_own(weight_store *w, int unit_index, state_kind what, void *values) {
  const replicated *s = (const replicated *)w;
  void *from = NULL;
  int64_t first, count;
  TRY(state_buffer(s, unit_index, what, &from));
  own_range(w, unit_index, &first, &count);
  if (count == 0) {
    return STATUS_OK;
  }
  return w->e->ops->copy(w->e, STREAM_MAIN, COPY_TO_HOST, values, (const char *)from + state_bytes(s, first),
                         state_bytes(s, count));
}

static double value_of(const void *values, dtype type, int64_t i) {
  return type == DTYPE_F64 ? ((const double *)values)[i] : (double)((const float *)values)[i];
}

/* To the nearest bf16, ties to even; not-a-number stays one. */
static uint16_t to_bf16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  if (x != x) {
    return (uint16_t)(bits >> 16 | 0x40);
  }
  return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static void convert(void *to, dtype to_type, const void *from, dtype from_type, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    double x = value_of(from, from_type, i);
    switch (to_type) {
      case DTYPE_F64:
        ((double *)to)[i] = x;
        break;
      case DTYPE_F32:
        ((float *)to)[i] = (float)x;
        break;
      case DTYPE_BF16:
        ((uint16_t *)to)[i] = to_bf16((float)x);
        break;
      case DTYPE_F16:
        ((_Float16 *)to)[i] = (_Float16)x;
        break;
    }
  }
}

/* Host values of `type` into elements [first, first + count) of an engine buffer of `to_type`. */
static status upload(engine *e, void *to, dtype to_type, int64_t first, const void *values, dtype type, int64_t count) {
  void *converted = NULL;
  if (to_type != type) {
    TRY(memory_new(&converted, (size_t)count, dtype_size(to_type), "converted weights"));
    convert(converted, to_type, values, type, count);
  }
  size_t size = dtype_size(to_type);
  status s = e->ops->copy(e, STREAM_MAIN, COPY_TO_ENGINE, (char *)to + (size_t)first * size,
                          to_type != type ? converted : values, (size_t)count * size);
  if (s == STATUS_OK) {
    s = e->ops->synchronize(e);
  }
  free(converted);
  return s;
}

static status upload_weights(replicated *s, int unit_index, int64_t first, const void *values, dtype type,
                             int64_t count) {
  const replicated_unit *u = &s->units[unit_index];
  engine *e = s->base.e;
  TRY(upload(e, u->master, e->state, first, values, type, count));
  return u->weights == u->master ? STATUS_OK : upload(e, u->weights, e->compute, first, values, type, count);
}

static status write_state(weight_store *w, int unit_index, state_kind what, const void *values) {
  replicated *s = (replicated *)w;
  void *to = NULL;
  TRY(state_buffer(s, unit_index, what, &to));
  REQUIRE(what != STATE_GRADS, "gradients are computed, not written");
  int64_t count = w->m->units[unit_index].count;
  size_t bytes = state_bytes(s, count);
  void *data = w->d->rank == 0 ? (void *)(uintptr_t)values : NULL; /* only read on rank 0 */
  TRY(dist_broadcast(w->d, &data, &bytes));
  status result = what == STATE_WEIGHTS ? upload_weights(s, unit_index, 0, data, w->e->state, count)
                                        : upload(w->e, to, w->e->state, 0, data, w->e->state, count);
  if (w->d->rank != 0) {
    free(data);
  }
  return result;
}

/* Life. */

static void plan(const weight_store *w, memory_plan *p) {
  const replicated *s = (const replicated *)w;
  replicated_plan(w->m, w->e->compute, w->e->state, w->d->ranks, w->d->rank, w->micro_batches, s->training, p);
}

void replicated_plan(const model *m, dtype compute, dtype state, int ranks, int rank, int64_t micro_batches,
                     bool training, memory_plan *p) {
  double elements = 0, leaf_elements = 0;
  for (int unit_index = 0; unit_index < m->n_units; unit_index++) {
    elements += (double)m->units[unit_index].count;
    leaf_elements += (double)m->units[unit_index].leaf;
  }
  double size = (double)dtype_size(state);
  plan_add(p, "weights", elements * size);
  if (compute != state) {
    plan_add(p, "weights in compute type", elements * (double)dtype_size(compute));
  }
  if (!training) {
    return;
  }
  int64_t local = 0, leaves = 0;
  for (int r = 0; r < ranks; r++) {
    if (rank < 0 || r == rank) {
      int64_t batches = partition_start(micro_batches, ranks, r + 1) - partition_start(micro_batches, ranks, r);
      int64_t own = partition_start(UNIT_LEAVES, ranks, r + 1) - partition_start(UNIT_LEAVES, ranks, r);
      local = batches > local ? batches : local;
      leaves = own > leaves ? own : leaves;
    }
  }
  plan_add(p, "moments", 2 * elements * size);
  plan_add(p, "gradients", (double)tree_buffers(local) * elements * size);
  if (ranks > 1) {
    plan_add(p, "gradient exchange", (double)ranks * (double)leaves * leaf_elements * size);
  }
  plan_add(p, "norms and losses", reduction_bytes(m, micro_batches));
}

static status allocate(replicated *s, int unit_index) {
  engine *e = s->base.e;
  replicated_unit *u = &s->units[unit_index];
  int64_t count = unit_of(s, unit_index)->count;
  TRY(e->ops->alloc(e, state_bytes(s, count), "weights", &u->master));
  if (e->compute == e->state) {
    u->weights = u->master;
  } else {
    TRY(e->ops->alloc(e, (size_t)count * dtype_size(e->compute), "weights in compute type", &u->weights));
  }
  if (!s->training) {
    return STATUS_OK;
  }
  TRY(e->ops->alloc(e, state_bytes(s, count), "first moments", &u->m));
  TRY(e->ops->alloc(e, state_bytes(s, count), "second moments", &u->v));
  TRY(memory_new(&u->grads, (size_t)s->n_grads, sizeof *u->grads, "gradient buffers"));
  for (int64_t i = 0; i < s->n_grads; i++) {
    TRY(e->ops->alloc(e, state_bytes(s, count), "gradients", &u->grads[i]));
  }
  int64_t parts = s->base.d->ranks > 1 ? s->base.d->ranks * reduction_own_count(s->r, unit_index) : 0;
  return parts == 0 ? STATUS_OK : e->ops->alloc(e, state_bytes(s, parts), "gradient exchange", &u->parts);
}

/* This rank's share of the processors that it may run on. */
static int initial_threads(const dist *d) {
  int threads = omp_get_num_procs() / d->local_ranks, most = omp_get_max_threads();
  threads = threads < most ? threads : most;
  return threads > 1 ? threads : 1;
}

static status initialise(replicated *s, int unit_index, uint64_t seed, float *values) {
  int threads = initial_threads(s->base.d);
  int64_t count = unit_of(s, unit_index)->count;
  for (int64_t first = 0; first < count; first += INITIAL_CHUNK) {
    int64_t n = count - first < INITIAL_CHUNK ? count - first : INITIAL_CHUNK;
    TRY(model_initial_parallel(s->base.m, unit_index, seed, first, n, threads, values));
    TRY(upload_weights(s, unit_index, first, values, DTYPE_F32, n));
  }
  return STATUS_OK;
}

static status build(replicated *s, collectives *c, uint64_t seed) {
  const model *m = s->base.m;
  if (s->training) {
    TRY(reduction_create(m, s->base.e, s->base.d, c, s->base.micro_batches, &s->r));
    s->first = s->r->batches[s->base.d->rank];
    s->local = s->r->batches[s->base.d->rank + 1] - s->first;
    s->n_grads = tree_buffers(s->local);
  }
  TRY(memory_new(&s->units, (size_t)m->n_units, sizeof *s->units, "units"));
  float *values;
  TRY(memory_new(&values, INITIAL_CHUNK, sizeof *values, "initial weights"));
  status result = STATUS_OK;
  for (int unit_index = 0; unit_index < m->n_units && result == STATUS_OK; unit_index++) {
    result = allocate(s, unit_index);
    if (result == STATUS_OK) {
      result = initialise(s, unit_index, seed, values);
    }
  }
  free(values);
  return result;
}

static void release_memory(engine *e, void *p) {
  if (p != NULL) {
    e->ops->free(e, p);
  }
}

static void destroy(weight_store *w) {
  replicated *s = (replicated *)w;
  engine *e = w->e;
  for (int unit_index = 0; s->units != NULL && unit_index < w->m->n_units; unit_index++) {
    replicated_unit *u = &s->units[unit_index];
    if (u->weights != u->master) {
      release_memory(e, u->weights);
    }
    release_memory(e, u->master);
    release_memory(e, u->m);
    release_memory(e, u->v);
    for (int64_t i = 0; u->grads != NULL && i < s->n_grads; i++) {
      release_memory(e, u->grads[i]);
    }
    free(u->grads);
    release_memory(e, u->parts);
  }
  free(s->units);
  reduction_destroy(s->r);
  free(s);
}

static const weight_store_ops replicated_ops = {
    destroy, local_micro_batches, micro_batch, begin_micro_batch, finish, read_state, own_range, read_own, write_state, plan,
};

status replicated_create(const model *m, engine *e, const dist *d, collectives *c, int64_t micro_batches, uint64_t seed,
                         bool training, weight_store **out) {
  replicated *s;
  TRY(memory_new(&s, 1, sizeof *s, "weight store"));
  s->base = (weight_store){.source = {gather, release, grad, grad_done},
                           .ops = &replicated_ops,
                           .m = m,
                           .e = e,
                           .d = d,
                           .c = d->ranks > 1 ? c : NULL,
                           .micro_batches = micro_batches};
  s->current = -1;
  s->training = training;
  status result = build(s, c, seed);
  if (result != STATUS_OK) {
    destroy(&s->base);
    return result;
  }
  *out = &s->base;
  return STATUS_OK;
}
