/* psann_bench exchange: how fast ranks exchange buffers of some sizes, by what training uses. The figures that
 * docs/scaling.md reckons with. */
#ifndef PSANN_BENCH_EXCHANGE_H
#define PSANN_BENCH_EXCHANGE_H

#include "dist/dist.h"

enum { EXCHANGE_SIZES = 16 };

typedef struct {
  int64_t mib[EXCHANGE_SIZES]; /* sizes of the whole buffer */
  int n_sizes;
  const char *device, *transport; /* values of run.device and parallel.transport */
  const char *out;                /* JSON file; NULL: none */
} exchange_job;

/* Reads what stands after "exchange". *print: a text to print instead of working; otherwise NULL. */
status exchange_arguments(int argc, char **argv, exchange_job *job, const char **print);

/* Collective. A table on the console: milliseconds, and bytes of the buffer over time. One rank: a user error. */
status exchange_run(const exchange_job *job, const dist *d);

#endif
