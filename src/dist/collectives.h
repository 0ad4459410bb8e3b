/* Exchange of bulk data between ranks: the table behind which MPI (CPU ranks) and NCCL (GPUs) stand. A buffer
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
  /* Both NULL where the engine's memory serves as well as any: memory that this transport reaches best, zeroed, for whoever exchanges it often
   * (exchange_memory.h). Collective: calls in the same order on all ranks, with the same number of bytes. */
  status (*alloc)(collectives *c, size_t bytes, const char *what, void **out);
  void (*free)(collectives *c, void *p);
  /* Every rank has its slice at `own`, which may be its place in `buffer`; afterwards all hold all of `buffer`. */
  status (*all_gather)(collectives *c, const void *own, void *buffer, dtype type, const int64_t *starts);
  /* Every rank's slice s goes to rank s; parts: (ranks, own slice) in rank order. The own part is read from
   * `buffer`: its place in `parts` is scratch, which an exchange may write anything to. */
  status (*all_to_all)(collectives *c, const void *buffer, dtype type, const int64_t *starts, void *parts);
  /* NULL where there is none, or all_to_all and a sum of our own are faster. Two ranks, equal slices: rank r gets slice r of the sum of both buffers in `sum`, which may be that slice's place in
   * `buffer`. It needs no order, since a + b = b + a. */
  status (*reduce_pair)(collectives *c, const void *buffer, dtype type, const int64_t *starts, void *sum);
  /* All may return before the exchange is done; after `wait` STREAM_MAIN sees the results of all that were issued. */
  status (*wait)(collectives *c);
  /* For the watchdog's thread, between create and destroy; NULL where the transport has no such thing. check: a failure
   * that came up behind the calls' backs. abort: gives up what is under way, so that no device waits for a rank that
   * is gone; it may never return, nothing else may be called afterwards, and what was under way is no result. */
  status (*check)(collectives *c);
  void (*abort)(collectives *c);
  /* Seconds for which computation has stood still for exchanges since the last call, as far as that is known by now;
   * NULL where the host itself waits and so knows. The main thread's. */
  double (*stalled)(collectives *c);
} collectives_ops;

struct collectives {
  const collectives_ops *ops;
  const dist *d;
  /* An exchange sees what STREAM_MAIN was given before it, and what STREAM_COMM is given after it sees the exchange's
   * result: work on it needs no wait. Otherwise only `wait` ends an exchange. */
  bool stream_ordered;
  char description[96];
};

status collectives_mpi_create(const dist *d, engine *e, collectives **out);

#endif
