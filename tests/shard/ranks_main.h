/* The main of a test that runs under mpirun: ranks start, agree on a seed, prepare, and end together. */
#ifndef PSANN_TESTS_SHARD_RANKS_MAIN_H
#define PSANN_TESTS_SHARD_RANKS_MAIN_H

#include <stdlib.h>
#include <string.h>

#include "dist/dist.h"
#include "random_values.h"
#include "unit.h"

/* Rank 0's seed to all. */
static inline status share_seed(const dist *d, uint64_t *seed) {
  *seed = test_seed();
  void *data = seed;
  size_t bytes = sizeof *seed;
  TRY(dist_broadcast(d, &data, &bytes));
  if (d->rank != 0) {
    memcpy(seed, data, sizeof *seed);
    free(data);
  }
  return STATUS_OK;
}

/* `prepare` may be NULL. The exit code; a failed test on any rank is a failure of the job. */
static inline int ranks_main(int argc, char **argv, dist *d, uint64_t *seed, status (*prepare)(void), const char *name,
                             const struct CMUnitTest *tests, size_t n) {
  status s = dist_start(&argc, &argv, d);
  if (s == STATUS_OK) {
    s = share_seed(d, seed);
  }
  if (s == STATUS_OK && prepare != NULL) {
    s = prepare();
  }
  if (s == STATUS_OK) {
    print_message("seed %llu, rank %d of %d\n", (unsigned long long)*seed, d->rank, d->ranks);
    int failed = _cmocka_run_group_tests(name, tests, n, NULL, NULL);
    s = failed == 0 ? STATUS_OK
                    : status_set(STATUS_FAILURE, __FILE__, __LINE__, "%d tests failed on rank %d", failed, d->rank);
  }
  dist_end(d, s);
  return s;
}

#define RANKS_MAIN(prepare, tests) \
  ranks_main(argc, argv, &d, &seed, prepare, #tests, tests, sizeof(tests) / sizeof((tests)[0]))

#endif
