/* Exchange of bulk data between ranks: the table behind which MPI (CPU ranks) and, later, NCCL (GPUs) stand. A buffer
 * is cut into one slice a rank: slice r is elements [starts[r], starts[r + 1]). Calls are issued in the same order on
 * all ranks, on STREAM_COMM.
 */
#ifndef PSANN_DIST_COLLECTIVES_H
#define PSANN_DIST_COLLECTIVES_H

#include "dist/dist.h"
#include "engine/engine.h"

typedef struct collectives collectives;

typedef struct {
  /* After a failure exchanges may be under way: then it comes before the memory that they use is freed. */
  void (*destroy)(collectives *c);
  /* Every rank holds slice `rank` of buffer; afterwards all hold all of it. */
  status (*all_gather)(collectives *c, void *buffer, dtype type, const int64_t *starts);
  /* Every rank's slice s goes to rank s; parts: (ranks, own slice) in rank order, own part included. */
  status (*all_to_all)(collectives *c, const void *buffer, dtype type, const int64_t *starts, void *parts);
  /* Both may return before the exchange is done; wait completes all that were issued. */
  status (*wait)(collectives *c);
  /* For the watchdog's thread, between create and destroy; NULL where the transport has no such thing. check: a failure
   * that came up behind the calls' backs. abort: gives up what is under way, so that no device waits for a rank that
   * is gone; nothing else may be called afterwards. */
  status (*check)(collectives *c);
  void (*abort)(collectives *c);
  /* Seconds for which computation has stood still for exchanges since the last call, as far as that is known by now;
   * NULL where the host itself waits and so knows. The main thread's. */
  double (*stalled)(collectives *c);
} collectives_ops;

struct collectives {
  const collectives_ops *ops;
  const dist *d;
  char description[96];
};

status collectives_mpi_create(const dist *d, engine *e, collectives **out);

#endif
