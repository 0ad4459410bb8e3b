/* metrics.jsonl and metrics.csv of a run folder: one line per step in both, and event lines in the first. Written by
 * rank 0.
 *
 * A JSON line of a step has the keys of metrics_row; one of an event has "event", "step", "message", and what belongs
 * to it. A run that resumes from step k keeps lines up to k, so files read as if the run had never stopped.
 */
#ifndef PSANN_REPORT_METRICS_H
#define PSANN_REPORT_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef struct {
  int64_t step;
  double loss, ppl; /* mean over all sequences of the step */
  double lr;        /* that the update used */
  double grad_norm; /* before clipping */
  double tok_s;     /* all ranks */
  double step_ms;
  int64_t tokens;                              /* consumed since the run began */
  double epoch;                                /* passes over the training store since the run began */
  bool skipped;                                /* the weights did not change: loss or norm was not finite, or a spike */
  double val_loss, val_ppl, val_bits_per_byte; /* NaN: not evaluated after this step */
  double loss_scale;                           /* that the step was computed with; NaN but in fp16 runs */
} metrics_row;

typedef struct metrics metrics;

/* Opens both files of `folder` for appending; lines of steps after `last_step`, and torn ones, are dropped first (the
 * files are rewritten atomically). loss_scale: lines have that field, as the whole files of an fp16 run do. */
status metrics_open(const char *folder, int64_t last_step, bool loss_scale, metrics **out);
void metrics_close(metrics *m);

/* What cannot be written now (a full disk) is kept and tried again with the next line; a warning says so once. A run
 * does not end for it. */
void metrics_step(metrics *m, const metrics_row *row);

/* An event: "start", "evaluation", "save", "skip", "loss_scale", "ranks", "straggler", "spike", "rollback", "stop",
 * "warning". `numbers` are n (name, value) pairs; NULL and 0 when there are none. */
typedef struct {
  const char *name;
  double value;
} metrics_number;

void metrics_event(metrics *m, int64_t step, const char *event, const metrics_number *numbers, int n,
                   const char *format, ...) __attribute__((format(printf, 6, 7)));

/* How long the ranks took. An event "ranks" has arrays "busy_ms" and "waiting_ms" by rank, and "busy_ms_min",
 * "busy_ms_median", "busy_ms_max", "slowest". */
typedef struct {
  int ranks;
  const double *busy_ms,
      *waiting_ms;            /* (ranks) of a step: computing; in exchanges, for other ranks or for the network */
  double least, median, most; /* of busy_ms */
  int slowest;                /* rank */
} metrics_ranks;

void metrics_of_ranks(metrics *m, int64_t step, const metrics_ranks *r);

/* Everything written so far is on the disk afterwards; called before a checkpoint is named. */
void metrics_sync(metrics *m);

#endif
