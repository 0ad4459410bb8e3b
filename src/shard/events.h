/* Which of the engine's events the weight store uses. */
#ifndef PSANN_SHARD_EVENTS_H
#define PSANN_SHARD_EVENTS_H

/* Where there are more slots or units than events, several share one: waiting for the later of two recordings is never
 * too early. */
enum {
  EVENT_VECTORS = 0, /* all vectors that were published have arrived */
  EVENT_RING = 1,    /* a buffer of the ring holds its unit */
  EVENT_GRADS = 16,  /* a gradient buffer has been sent and summed */
  GRAD_EVENTS = 64,
  EVENT_UNITS = EVENT_GRADS + GRAD_EVENTS, /* a unit's new weights have arrived */
  UNIT_EVENTS = 128,
  OFFLOAD_SLOTS = 3,
  EVENT_FETCHED = EVENT_UNITS + UNIT_EVENTS,      /* a buffer holds a chunk of offloaded state, */
  EVENT_UPDATED = EVENT_FETCHED + OFFLOAD_SLOTS,  /* AdamW has been done with it, */
  EVENT_RETURNED = EVENT_UPDATED + OFFLOAD_SLOTS, /* and it is back in host memory */
};

#endif
