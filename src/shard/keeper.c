#include "shard/keeper.h"

#include <stdlib.h>

#include "base/memory.h"
#include "dist/exchange_memory.h"
#include "shard/events.h"

static const unit *unit_of(const keeper *k, int unit_index) {
  return &k->l->m->units[unit_index];
}

static bool narrow(const keeper *k) {
  return k->e->compute != k->e->state;
}

/* Life. */

static collectives *exchanged_by(const keeper *k) {
  return k->how.slice_state ? k->c : NULL;
}

/* The part of a run from `first` on. */
static held_run part_of(const held_run *whole, int64_t first, int64_t count) {
  return (held_run){.at = (char *)whole->at + (size_t)(first - whole->first) * dtype_size(whole->type),
                    .type = whole->type,
                    .first = first,
                    .count = count};
}

/* What is gathered, or gathered into. A slice takes as many bytes as the largest: exchange_alloc wants them equal. */
static status allocate_exchanged(keeper *k, kept_unit *u, const unit *x, int64_t first, int64_t count, held_run *out) {
  int64_t room = k->how.slice_weights ? x->leaf * layout_most_leaves(k->l->ranks) : x->count;
  *out = (held_run){.type = k->e->compute, .first = first, .count = count};
  TRY(exchange_alloc(exchanged_by(k), k->e, (size_t)room * dtype_size(k->e->compute), "weights", &out->at));
  u->travels = out->at;
  return STATUS_OK;
}

/* The runs that this rank must have memory for; the others are parts of them. */
static status allocate(keeper *k, int unit_index) {
  const unit *x = unit_of(k, unit_index);
  kept_unit *u = &k->units[unit_index];
  int64_t first = k->how.slice_state ? layout_first(k->l, unit_index) : 0;
  int64_t count = k->how.slice_state ? layout_count(k->l, unit_index) : x->count;
  u->own_master = narrow(k) && k->how.training;
  if (k->how.slice_weights) {
    TRY(allocate_exchanged(k, u, x, first, count, &u->compute));
  } else {
    TRY(allocate_exchanged(k, u, x, 0, x->count, &u->whole));
    u->compute = part_of(&u->whole, first, count);
  }
  u->master = narrow(k) ? (held_run){.first = first, .count = count} : u->compute;
  if (u->own_master) {
    u->master.type = k->e->state;
    u->master.host = k->how.offload;
    TRY(held_alloc(k->e, &u->master, "master weights"));
  }
  if (!k->how.slice_weights && !narrow(k)) {
    u->vectors = part_of(&u->whole, x->vectors, x->count - x->vectors);
    return STATUS_OK;
  }
  if (!k->how.slice_state && u->own_master && !u->master.host) {
    u->vectors = part_of(&u->master, x->vectors, x->count - x->vectors);
    return STATUS_OK;
  }
  u->vectors = (held_run){.type = k->e->state, .first = x->vectors, .count = x->count - x->vectors};
  u->own_vectors = true;
  return held_alloc(k->e, &u->vectors, "vectors");
}

static status build(keeper *k) {
  const model *m = k->l->m;
  TRY(memory_new(&k->units, (size_t)m->n_units, sizeof *k->units, "units"));
  TRY(memory_new(&k->vector_starts, (size_t)k->l->ranks + 1, sizeof *k->vector_starts, "slices of the vectors"));
  for (int u = 0; u < m->n_units; u++) {
    TRY(allocate(k, u));
  }
  if (!k->how.slice_weights) {
    return STATUS_OK;
  }
  return ring_create(k->c, k->e, (size_t)model_largest_unit(m) * dtype_size(k->e->compute), &k->ring);
}

status keeper_create(const layout *l, engine *e, collectives *c, keeping how, keeper **out) {
  *out = NULL;
  REQUIRE(!how.slice_weights || (how.slice_state && c != NULL),
          "weights are sliced among several ranks, with their state");
  keeper *k;
  TRY(memory_new(&k, 1, sizeof *k, "weights"));
  *k = (keeper){.l = l, .e = e, .c = c, .how = how};
  status s = build(k);
  if (s != STATUS_OK) {
    keeper_destroy(k);
    return s;
  }
  *out = k;
  return STATUS_OK;
}

void keeper_destroy(keeper *k) {
  if (k == NULL) {
    return;
  }
  for (int u = 0; k->units != NULL && u < k->l->m->n_units; u++) {
    const kept_unit *x = &k->units[u];
    exchange_free(exchanged_by(k), k->e, x->travels);
    if (x->own_master) {
      held_free(k->e, &x->master);
    }
    if (x->own_vectors) {
      held_free(k->e, &x->vectors);
    }
  }
  if (k->how.slice_weights) {
    ring_destroy(k->c, k->e, &k->ring);
  }
  free(k->units);
  free(k->vector_starts);
  free(k);
}

void keeper_plan(const model *m, dtype compute, dtype state, int ranks, keeping how, memory_plan *p) {
  double elements = 0, vectors = 0, own = 0;
  for (int u = 0; u < m->n_units; u++) {
    elements += (double)m->units[u].count;
    vectors += (double)(m->units[u].count - m->units[u].vectors);
    own += (double)(m->units[u].leaf * layout_most_leaves(ranks));
  }
  bool apart = compute != state;
  double held = how.slice_state ? own : elements;
  plan_add(p, "weights", (how.slice_weights ? own : elements) * (double)dtype_size(compute));
  if (apart && how.training) {
    (how.offload ? plan_add_host : plan_add)(p, "master weights", held * (double)dtype_size(state));
  }
  if (how.slice_weights || (apart && (how.slice_state || how.offload || !how.training))) {
    plan_add(p, "vectors", vectors * (double)dtype_size(state));
  }
  if (how.slice_weights) {
    plan_add(p, "gathered units", RING_SLOTS * (double)model_largest_unit(m) * (double)dtype_size(compute));
  }
}

/* What the model sees. */

/* Events tell one exchange from another where they go by streams. */
static status note(const keeper *k, int event) {
  return k->c->stream_ordered ? k->e->ops->record(k->e, STREAM_COMM, event) : STATUS_OK;
}

static status start_gather(keeper *k, int unit_index, ring_slot *slot) {
  slot->unit_index = unit_index;
  slot->pending = true;
  TRY(k->c->ops->all_gather(k->c, k->units[unit_index].compute.at, slot->buffer, k->e->compute,
                            layout_slices(k->l, unit_index)));
  return note(k, slot->event);
}

/* STREAM_MAIN sees what came by the exchange that `event` follows. */
static status wait_for(keeper *k, int event) {
  if (k->c->stream_ordered) {
    return k->e->ops->wait(k->e, STREAM_MAIN, event);
  }
  for (int u = 0; u < k->l->m->n_units; u++) {
    k->units[u].pending = false;
  }
  for (int i = 0; i < RING_SLOTS; i++) {
    k->ring.slots[i].pending = false;
  }
  k->vectors_pending = false;
  return k->c->ops->wait(k->c);
}

static status wait_if(keeper *k, bool *pending, int event) {
  bool wait = *pending;
  *pending = false;
  return wait ? wait_for(k, event) : STATUS_OK;
}

static status slot_arrived(keeper *k, ring_slot *slot) {
  return wait_if(k, &slot->pending, slot->event);
}

static status unit_arrived(keeper *k, int unit_index) {
  return wait_if(k, &k->units[unit_index].pending, EVENT_UNITS + unit_index % UNIT_EVENTS);
}

static status vectors_arrived(keeper *k) {
  return wait_if(k, &k->vectors_pending, EVENT_VECTORS);
}

/* Starts to fetch the units that follow, as far as there is room. The embedding's backward reads no weights. */
static status fetch_ahead(keeper *k, int unit_index, int direction) {
  int last = direction > 0 ? k->l->m->n_units - 1 : 1;
  for (int ahead = 1; direction != 0 && ahead < RING_SLOTS; ahead++) {
    int next = unit_index + ahead * direction;
    if ((last - next) * direction < 0) {
      break;
    }
    if (ring_find(&k->ring, next) != NULL) {
      continue;
    }
    ring_slot *slot = ring_spare(&k->ring, unit_index, direction);
    if (slot == NULL) {
      break;
    }
    TRY(start_gather(k, next, slot));
  }
  return STATUS_OK;
}

static status gather_from_ring(keeper *k, int unit_index, int direction, const void **out) {
  ring_slot *slot = ring_find(&k->ring, unit_index);
  if (slot == NULL) {
    slot = ring_spare(&k->ring, unit_index, direction);
    REQUIRE(slot != NULL, "unit %s: all %d buffers for gathered units are in use", unit_of(k, unit_index)->name,
            RING_SLOTS);
    TRY(start_gather(k, unit_index, slot));
  }
  slot->held++;
  TRY(fetch_ahead(k, unit_index, direction));
  *out = slot->buffer;
  return slot_arrived(k, slot);
}

status keeper_gather(keeper *k, int unit_index, int direction, unit_weights *out) {
  const kept_unit *u = &k->units[unit_index];
  out->matrices = u->whole.at;
  out->vectors = u->vectors.at;
  if (k->how.slice_weights) {
    TRY(gather_from_ring(k, unit_index, direction, &out->matrices));
  }
  TRY(unit_arrived(k, unit_index));
  return vectors_arrived(k);
}

status keeper_release(keeper *k, int unit_index) {
  if (!k->how.slice_weights) {
    return STATUS_OK;
  }
  ring_slot *slot = ring_find(&k->ring, unit_index);
  REQUIRE(slot != NULL && slot->held > 0, "unit %s is released but was not gathered", unit_of(k, unit_index)->name);
  slot->held--;
  return STATUS_OK;
}

/* Values from the host. */

static bool overlaps(const held_run *r, int64_t first, int64_t count) {
  return r->at != NULL && first < r->first + r->count && r->first < first + count;
}

bool keeper_holds(const keeper *k, int unit_index, int64_t first, int64_t count) {
  const kept_unit *u = &k->units[unit_index];
  return overlaps(&u->whole, first, count) || overlaps(&u->compute, first, count) ||
         overlaps(&u->vectors, first, count);
}

status keeper_write(keeper *k, int unit_index, int64_t first, const void *values, dtype type, int64_t count) {
  const kept_unit *u = &k->units[unit_index];
  TRY(keeper_stale(k));
  const held_run *runs[] = {u->whole.at != NULL ? &u->whole : &u->compute, &u->master, &u->vectors};
  for (size_t i = 0; i < sizeof runs / sizeof runs[0]; i++) {
    if (runs[i]->at != NULL) { /* some share memory, and get the same values twice */
      TRY(held_write(k->e, runs[i], first, values, type, count));
    }
  }
  return STATUS_OK;
}

/* After an update. */

/* What is on its way still reads the weights that are about to change. */
status keeper_stale(keeper *k) {
  for (int u = 0; u < k->l->m->n_units; u++) {
    TRY(unit_arrived(k, u));
  }
  TRY(vectors_arrived(k));
  if (!k->how.slice_weights) {
    return STATUS_OK;
  }
  for (int i = 0; i < RING_SLOTS; i++) {
    TRY(slot_arrived(k, &k->ring.slots[i]));
  }
  return ring_forget(&k->ring);
}

static bool vectors_apart(const keeper *k) {
  return k->how.slice_weights || narrow(k);
}

static status gather_vectors(keeper *k, int unit_index) {
  const kept_unit *u = &k->units[unit_index];
  const int64_t *slices = layout_slices(k->l, unit_index);
  int64_t vectors = unit_of(k, unit_index)->vectors;
  for (int rank = 0; rank <= k->l->ranks; rank++) {
    k->vector_starts[rank] = slices[rank] > vectors ? slices[rank] - vectors : 0;
  }
  int64_t from =
      u->master.first > vectors ? u->master.first : vectors; /* may lie behind the slice, which then has none */
  const held_run *at = u->master.host ? &u->vectors : &u->master;
  const char *own = (const char *)at->at + (size_t)(from - at->first) * dtype_size(k->e->state);
  return k->c->ops->all_gather(k->c, own, u->vectors.at, k->e->state, k->vector_starts);
}

status keeper_publish(keeper *k, int unit_index) {
  kept_unit *u = &k->units[unit_index];
  if (!k->how.slice_state || k->c == NULL) {
    return STATUS_OK;
  }
  if (vectors_apart(k)) {
    TRY(gather_vectors(k, unit_index));
  }
  if (k->how.slice_weights) { /* the next pass begins with the first units */
    k->vectors_pending = true;
    TRY(note(k, EVENT_VECTORS));
    return unit_index < RING_SLOTS ? start_gather(k, unit_index, &k->ring.slots[unit_index]) : STATUS_OK;
  }
  TRY(k->c->ops->all_gather(k->c, u->compute.at, u->whole.at, k->e->compute, layout_slices(k->l, unit_index)));
  u->pending = true;
  return note(k, EVENT_UNITS + unit_index % UNIT_EVENTS);
}
