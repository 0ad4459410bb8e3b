#include "shard/offload.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "shard/events.h"

enum {
  STATES = 3,           /* m, v, master */
  CHUNK_MOST = 4 << 20, /* elements: about a millisecond on a bus, long beside what starting a copy costs */
  CHUNK_MULTIPLE = 64,  /* elements: chunks stay aligned */
  PARTS = 4,            /* of the largest unit: small models don't need large buffers */
};

typedef struct {
  int unit_index;
  int64_t first, count; /* of this rank's elements of the unit */
} chunk;

/* Chunks are numbered through all updates: the n-th is chunks[n % n_chunks] and passes through slots[n % n_slots].
 * There are at most as many slots as chunks, so a chunk's way back ends before the slot that it comes to next is free.
 */
struct offload {
  engine *e;
  offloaded_unit *units;
  int n_states; /* that are in host memory */
  chunk *chunks;
  int64_t n_chunks;
  void *slots[OFFLOAD_SLOTS][STATES]; /* s */
  int n_slots;
  int64_t updated; /* chunks whose AdamW has been issued */
  int64_t fetched; /* chunks whose way into their slot has been issued; at most n_slots ahead */
};

/* At least one multiple, also for a rank that has nothing. */
static int64_t chunk_elements(int64_t largest) {
  int64_t most = (int64_t)PARTS * CHUNK_MULTIPLE, part = (largest / most + 1) * CHUNK_MULTIPLE;
  return part < CHUNK_MOST ? part : CHUNK_MOST;
}

static int states_of(bool master) {
  return master ? STATES : STATES - 1;
}

/* Life. */

static int64_t chunks_of(const offloaded_unit *u, int64_t size) {
  return (u->m.count + size - 1) / size;
}

static status cut(offload *o, int n_units, int begin, int64_t size) {
  for (int u = 0; u < n_units; u++) {
    o->n_chunks += chunks_of(&o->units[u], size);
  }
  TRY(memory_new(&o->chunks, (size_t)o->n_chunks + 1, sizeof *o->chunks, "chunks of the optimizer's state"));
  chunk *c = o->chunks;
  for (int i = 0; i < n_units; i++) {
    int u = (begin + i) % n_units;
    int64_t count = o->units[u].m.count;
    for (int64_t first = 0; first < count; first += size) {
      *c++ = (chunk){u, first, count - first < size ? count - first : size};
    }
  }
  return STATUS_OK;
}

static status build(offload *o, const offloaded_unit *units, int n_units, int begin) {
  int64_t largest = 0;
  TRY(memory_new(&o->units, (size_t)n_units, sizeof *o->units, "units"));
  memcpy(o->units, units, (size_t)n_units * sizeof *units);
  for (int u = 0; u < n_units; u++) {
    largest = units[u].m.count > largest ? units[u].m.count : largest;
  }
  TRY(cut(o, n_units, begin, chunk_elements(largest)));
  o->n_states = states_of(units[0].master.host);
  o->n_slots = o->n_chunks < OFFLOAD_SLOTS ? (int)o->n_chunks : OFFLOAD_SLOTS;
  size_t bytes = (size_t)chunk_elements(largest) * dtype_size(o->e->state);
  for (int i = 0; i < o->n_slots * o->n_states; i++) {
    void **slot = &o->slots[i / o->n_states][i % o->n_states];
    TRY(o->e->ops->alloc(o->e, bytes, "state on its way", slot));
  }
  return STATUS_OK;
}

status offload_create(engine *e, const offloaded_unit *units, int n_units, int begin, offload **out) {
  *out = NULL;
  offload *o;
  TRY(memory_new(&o, 1, sizeof *o, "state in host memory"));
  o->e = e;
  status s = build(o, units, n_units, begin);
  if (s != STATUS_OK) {
    offload_destroy(o);
    return s;
  }
  *out = o;
  return STATUS_OK;
}

void offload_destroy(offload *o) {
  if (o == NULL) {
    return;
  }
  o->e->ops->synchronize(o->e); /* host memory is freed after this, and copies may be under way */
  for (int i = 0; i < OFFLOAD_SLOTS * STATES; i++) {
    held_release(o->e, o->slots[i / STATES][i % STATES]);
  }
  free(o->chunks);
  free(o->units);
  free(o);
}

void offload_plan(dtype state, bool master, int64_t largest, memory_plan *p) {
  double elements = (double)OFFLOAD_SLOTS * states_of(master) * (double)chunk_elements(largest);
  plan_add(p, "state on its way", elements * (double)dtype_size(state));
}

/* The way in, the update, the way back. */

/* The chunk's place in host memory, in the order of the slots. */
static void *place_of(const offload *o, const chunk *c, int state) {
  const offloaded_unit *u = &o->units[c->unit_index];
  const held_run *run = state == 0 ? &u->m : state == 1 ? &u->v : &u->master;
  return (char *)run->at + (size_t)c->first * dtype_size(run->type);
}

static size_t bytes_of(const offload *o, const chunk *c) {
  return (size_t)c->count * dtype_size(o->e->state);
}

static status fetch_one(offload *o) {
  const engine_ops *ops = o->e->ops;
  const chunk *c = &o->chunks[o->fetched % o->n_chunks];
  int slot = (int)(o->fetched % o->n_slots);
  if (o->fetched >= o->n_slots) {
    TRY(ops->wait(o->e, STREAM_COPY, EVENT_RETURNED + slot));
  }
  for (int i = 0; i < o->n_states; i++) {
    TRY(ops->copy(o->e, STREAM_COPY, COPY_FROM_PINNED, o->slots[slot][i], place_of(o, c, i), bytes_of(o, c)));
  }
  TRY(ops->record(o->e, STREAM_COPY, EVENT_FETCHED + slot));
  o->fetched++;
  return STATUS_OK;
}

status offload_fetch(offload *o) {
  while (o->fetched < o->updated + o->n_slots) {
    TRY(fetch_one(o));
  }
  return STATUS_OK;
}

void offload_forget(offload *o) {
  o->fetched = o->updated;
}

static status send_back(offload *o, const chunk *c, int slot) {
  const engine_ops *ops = o->e->ops;
  TRY(ops->record(o->e, STREAM_MAIN, EVENT_UPDATED + slot));
  TRY(ops->wait(o->e, STREAM_BACK, EVENT_UPDATED + slot));
  for (int i = 0; i < o->n_states; i++) {
    TRY(ops->copy(o->e, STREAM_BACK, COPY_TO_HOST, place_of(o, c, i), o->slots[slot][i], bytes_of(o, c)));
  }
  return ops->record(o->e, STREAM_BACK, EVENT_RETURNED + slot);
}

/* The part of the chunk's master weights that are vectors goes where the model reads them. */
static status copy_vectors(const offload *o, const chunk *c, const void *master) {
  const held_run *to = &o->units[c->unit_index].vectors;
  int64_t first = o->units[c->unit_index].m.first + c->first, end = first + c->count;
  int64_t from = first > to->first ? first : to->first;
  size_t size = dtype_size(o->e->state);
  if (from >= end) {
    return STATUS_OK;
  }
  return o->e->ops->copy(o->e, STREAM_MAIN, COPY_INSIDE, (char *)to->at + (size_t)(from - to->first) * size,
                         (const char *)master + (size_t)(from - first) * size, (size_t)(end - from) * size);
}

static status update_chunk(offload *o, const chunk *c, int slot, const adamw_args *whole) {
  const engine *e = o->e;
  bool master = o->units[c->unit_index].master.host;
  adamw_args a = *whole;
  size_t before = (size_t)c->first * dtype_size(e->state);
  a.first += c->first;
  a.count = c->count;
  a.grad = (const char *)whole->grad + before;
  a.m = o->slots[slot][0];
  a.v = o->slots[slot][1];
  a.master = master ? o->slots[slot][2] : (char *)whole->master + before;
  a.weights = (char *)whole->weights + (size_t)c->first * dtype_size(e->compute);
  TRY(e->ops->wait(o->e, STREAM_MAIN, EVENT_FETCHED + slot));
  TRY(e->ops->adamw(o->e, &a));
  return master ? copy_vectors(o, c, a.master) : STATUS_OK;
}

status offload_adamw(offload *o, int unit_index, const adamw_args *a) {
  TRY(offload_fetch(o));
  for (int64_t done = 0; done < a->count;) {
    const chunk *c = &o->chunks[o->updated % o->n_chunks];
    int slot = (int)(o->updated % o->n_slots);
    REQUIRE(c->unit_index == unit_index && c->first == done, "unit %d is updated when unit %d is due", unit_index,
            c->unit_index);
    TRY(update_chunk(o, c, slot, a));
    TRY(send_back(o, c, slot));
    done += c->count;
    o->updated++;
    TRY(offload_fetch(o));
  }
  return STATUS_OK;
}
