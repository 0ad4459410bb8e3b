/* How the watchdogs find each other at start: rank 0 listens, MPI tells the others where and with which keys, they
 * connect, and the listener closes. Both sides prove that they belong to this job by 16 random bytes each, so a
 * stranger gets nowhere. IPv4; over the loopback when all ranks are on one host. Like MPI's own connections it is not
 * encrypted.
 */
#ifndef PSANN_WATCH_MEET_H
#define PSANN_WATCH_MEET_H

#include "dist/dist.h"
#include "watch/process.h"
#include "watch/wire.h"

typedef struct {
  process_id process;
  char host[64];
} watch_peer;

/* Collective. wires and peers: (ranks). Rank 0 gets a wire to every other rank, others one to rank 0; the rest stays
 * closed. peers: what rank 0 knows of all, others of rank 0 and themselves. A failure when a rank can't be reached: it
 * names rank and address, and leaves no wire open. */
status watch_meet(const dist *d, wire *wires, watch_peer *peers);

#endif
