/* Pieces of host memory that go from all ranks to rank 0 while the ranks do other work: nothing here waits. Lanes keep
 * pieces apart, so that rank 0 can tell which of them are there. Called by the main thread alone. On one rank there is
 * nothing to send, and all calls return at once.
 */
#ifndef PSANN_DIST_PIECES_H
#define PSANN_DIST_PIECES_H

#include <stdbool.h>
#include <stdint.h>

#include "dist/dist.h"

enum { PIECE_LANES = 2 };

typedef struct pieces pieces;

/* Collective. */
status pieces_create(const dist *d, pieces **out);

/* May be called after MPI has ended. Collective otherwise, unless pieces are still under way, as after a failure: these
 * are called off. */
void pieces_destroy(pieces *p);

/* On a rank above 0: starts to send `bytes` to rank 0. On rank 0: starts to receive them from `from`. All pieces
 * between two ranks are received in the order in which they are sent, whatever their lanes. `data` must stay where it
 * is until the lane is done; nothing happens for 0 bytes. */
status pieces_send(pieces *p, int lane, const void *data, int64_t bytes);
status pieces_receive(pieces *p, int lane, int from, void *data, int64_t bytes);

/* Pushes what is under way on a lane; *done: all of it is there, or was taken. */
status pieces_test(pieces *p, int lane, bool *done);

#endif
