/* Messages between two ranks that are under way: what the collectives over MPI and the pieces for rank 0 have in
 * common. Longer ones than `chunk` bytes go in several. The order of calls alone matches sends with receives: MPI keeps
 * the order of messages between two ranks of one communicator.
 */
#ifndef PSANN_DIST_MESSAGES_H
#define PSANN_DIST_MESSAGES_H

#include <mpi.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct {
  MPI_Comm comm;
  int64_t chunk; /* bytes of a message */
  const char *what; /* a string literal: what they are, while somebody waits for them; NULL: messages */
  MPI_Request *requests;
  size_t count, capacity;
} messages;

/* The data must stay where it is until the messages are done. */
status messages_receive(messages *m, int from, void *data, int64_t bytes);
status messages_send(messages *m, int to, const void *data, int64_t bytes);

/* Pushes what is under way, since MPI moves it only inside calls; *done: all of it is there. */
status messages_test(messages *m, bool *done);
status messages_wait(messages *m);

/* After a failure, messages may still be under way into memory that is about to be freed. Their partners mostly follow
 * soon, so they get a moment; what is left then is called off. False when something was. */
bool messages_settle(messages *m);

#endif
