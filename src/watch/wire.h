/* Messages between the watchdogs of two ranks, over a connected TCP socket. Nothing here waits: a message that can't be
 * sent now goes on at the next call, and what does not fit behind it is refused. All buffers are of fixed size.
 */
#ifndef PSANN_WATCH_WIRE_H
#define PSANN_WATCH_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MESSAGE_BYTES = 1024 };

typedef enum {
  MESSAGE_BEAT,      /* an activity: alive, and this is what the main thread does */
  MESSAGE_END,       /* the sender comes to its end in order: no word after it means nothing */
  MESSAGE_FAULT,     /* text: the sender found a failure of its own */
  MESSAGE_VERDICT,   /* rank 0: the job ends */
  MESSAGE_INTERRUPT, /* int32: the sender ends at once, as its user asked, with this code, and so does the job */
  MESSAGE_TYPES,
} message_type;

typedef struct {
  uint32_t type;
  uint32_t bytes; /* of the payload */
  char payload[MESSAGE_BYTES];
} message;

typedef struct {
  int socket; /* −1: none */
  size_t in_bytes, out_bytes, out_sent;
  char in[sizeof(message)], out[sizeof(message)];
} wire;

/* Takes over a connected socket. */
void wire_open(wire *l, int socket);
void wire_close(wire *l);

/* False: an earlier message still fills the way out; this one is dropped. A payload of more than MESSAGE_BYTES is cut.
 */
bool wire_send(wire *l, message_type type, const void *payload, size_t bytes);
/* Whether nothing is left to send. */
bool wire_flush(wire *l);

typedef enum { WIRE_NOTHING, WIRE_MESSAGE, WIRE_CLOSED } wire_event;

/* The next whole message, if there is one. A malformed one closes the wire, as the other side's end does. */
wire_event wire_receive(wire *l, message *m);

#endif
