/* status.ini of a run folder: where the run stands, for launchers and people. Written by rank 0, atomically.
 *
 *   state = running | finished | stopped | failed
 *   step = 120               steps done; of a run that finished or stopped, the step of its last checkpoint
 *   max_steps = 1000
 *   reason = signal SIGUSR1  stopped: "signal SIG…" or "run.max_minutes = …"; failed: the error; running: the
 * checkpoint that it continues from time = 2026-01-31T12:34:56Z
 *
 * A launch writes it when it is about to take its first step, and at its end. One that was killed leaves `running`, and
 * one that was refused leaves what was there; so the file tells how a launch ended only together with its exit code: 0
 * comes with finished or stopped. */
#ifndef PSANN_REPORT_RUN_MARK_H
#define PSANN_REPORT_RUN_MARK_H

#include <stdint.h>

#include "base/status.h"

#define RUN_MARK_FILE "status.ini"

typedef enum { RUN_RUNNING, RUN_FINISHED, RUN_STOPPED, RUN_FAILED } run_mark_state;

typedef struct {
  run_mark_state state;
  int64_t step, max_steps;
  const char *reason; /* line breaks in it become spaces */
} run_mark;

status run_mark_write(const char *folder, const run_mark *m);

#endif
