/* Which ranks hold the others up: seconds that each spends computing and waiting in a step, gathered with what the
 * ranks agree on after every step anyway. */
#ifndef PSANN_TRAIN_STRAGGLERS_H
#define PSANN_TRAIN_STRAGGLERS_H

#include <stdbool.h>

#include "dist/dist.h"
#include "report/metrics.h"

enum { RANK_HOST = 64 };

typedef struct {
  const dist *d;
  double *all;                    /* (ranks, 3) of a gather: flag, busy, waiting */
  double *busy, *waiting;         /* (ranks) milliseconds of a step; between reports sums of seconds */
  char (*hosts)[RANK_HOST];       /* (ranks) */
  double mine_busy, mine_waiting; /* not yet gathered */
  int64_t mine_steps, steps;      /* not yet gathered; gathered since the last report */
  int slow;                       /* that was too slow in the last reports; −1: none */
  int reports;                    /* in a row that it was */
  double since;                   /* clock of the first of them */
  bool told;
} stragglers;

/* Collective. */
status stragglers_init(stragglers *s, const dist *d);
void stragglers_free(stragglers *s);

/* This rank has finished a step. */
void stragglers_count(stragglers *s, double busy, double waiting);

/* Collective: the largest flag of all ranks, as dist_max gives it, and everybody's seconds. */
status stragglers_agree(stragglers *s, int64_t flag, int64_t *largest);

/* On rank 0, at a line of the log: an event "ranks" with the mean milliseconds of a step since the last one, and a
 * warning and an event "straggler" when the same rank has computed for 1.3 times the median of the others in
 * SLOW_REPORTS reports and SLOW_SECONDS on end. `now`: clock_seconds(). m may be NULL. */
enum { SLOW_REPORTS = 3, SLOW_SECONDS = 30 };
void stragglers_report(stragglers *s, metrics *m, int64_t step, double now);

/* The rank that computes longest, and whether that is too long; fills min, median and max of `busy`. */
bool stragglers_slowest(const double *busy, int ranks, metrics_ranks *r);

#endif
