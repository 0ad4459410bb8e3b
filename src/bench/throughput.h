/* psann_bench throughput: the speed of training and of forward alone. */
#ifndef PSANN_BENCH_THROUGHPUT_H
#define PSANN_BENCH_THROUGHPUT_H

#include "bench/models.h"
#include "dist/dist.h"

enum { BENCH_LIST = 32 }; /* models, precisions, strategies or offloads on one command line, at most */

typedef struct {
  char *models[BENCH_LIST];
  int n_models; /* 0: all on a GPU, the CPU model elsewhere */
  char *precisions[BENCH_LIST];
  int n_precisions; /* 0: the config's */
  char *strategies[BENCH_LIST];
  int n_strategies; /* 0: the config's */
  char *offloads[BENCH_LIST];
  int n_offloads; /* 0: the config's */
  bool train, forward, unordered;
  bench_length length;
  model_changes changes;
  const char *out; /* folder; NULL: reports/benchmarks/<UTC stamp> */
  int argc;        /* the whole command line, for the record */
  char **argv;
} throughput_job;

/* Reads what stands after "throughput" (argv[2] …). *print: a text to print instead of working; otherwise NULL.
 * `overrides` has room for argc pointers. throughput_free also after a failure. */
status throughput_arguments(int argc, char **argv, char **overrides, throughput_job *job, const char **print);
void throughput_free(throughput_job *job);

/* Collective. Configs are checked before anything is measured; then models × precisions × strategies ×
 * offloads × modes, one row each. A failure when no row could be measured. */
status throughput_run(throughput_job *job, const dist *d);

#endif
