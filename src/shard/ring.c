#include "shard/ring.h"

#include "dist/exchange_memory.h"
#include "shard/events.h"

status ring_create(collectives *c, engine *e, size_t bytes, unit_ring *r) {
  *r = (unit_ring){0};
  for (int i = 0; i < RING_SLOTS; i++) {
    r->slots[i] = (ring_slot){.unit_index = NO_UNIT, .event = EVENT_RING + i};
    TRY(exchange_alloc(c, e, bytes, "gathered units", &r->slots[i].buffer));
  }
  return STATUS_OK;
}

void ring_destroy(collectives *c, engine *e, unit_ring *r) {
  for (int i = 0; i < RING_SLOTS; i++) {
    exchange_free(c, e, r->slots[i].buffer);
  }
}

ring_slot *ring_find(unit_ring *r, int unit_index) {
  for (int i = 0; i < RING_SLOTS; i++) {
    if (r->slots[i].unit_index == unit_index) {
      return &r->slots[i];
    }
  }
  return NULL;
}

static bool wanted(int candidate, int unit_index, int direction) {
  int ahead = (candidate - unit_index) * direction;
  return candidate == unit_index || (ahead > 0 && ahead < RING_SLOTS);
}

ring_slot *ring_spare(unit_ring *r, int unit_index, int direction) {
  for (int i = 0; i < RING_SLOTS; i++) {
    ring_slot *s = &r->slots[i];
    if (s->held == 0 && (s->unit_index == NO_UNIT || !wanted(s->unit_index, unit_index, direction))) {
      return s;
    }
  }
  return NULL;
}

status ring_forget(unit_ring *r) {
  for (int i = 0; i < RING_SLOTS; i++) {
    REQUIRE(r->slots[i].held == 0, "the weights of unit %d change while they are in use", r->slots[i].unit_index);
    r->slots[i].unit_index = NO_UNIT;
    r->slots[i].pending = false;
  }
  return STATUS_OK;
}
