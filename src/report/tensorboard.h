/* events.out.tfevents.* of a run folder: what TensorBoard shows. Written by rank 0.
 *
 * Each launch writes a file of its own, named so that it sorts after all that are there, and never touches another.
 * It begins with a session start at the first step that it will report: TensorBoard then forgets what a launch
 * that was killed had written from that step on.
 *
 * Tags are the fields of metrics.jsonl. A disk that is full costs a warning and nothing else.
 */
#ifndef PSANN_REPORT_TENSORBOARD_H
#define PSANN_REPORT_TENSORBOARD_H

#include "report/metrics.h"

typedef struct tensorboard tensorboard;

/* last_step: of the checkpoint that the run goes on from; 0: a fresh start. `host` becomes part of the name. When no
 * file can be made, a warning says so, and *out is NULL, which the functions below take. */
void tensorboard_open(const char *folder, int64_t last_step, const char *host, tensorboard **out);
void tensorboard_close(tensorboard *t);

/* The fields of a row that have a value. Reaches the file within a second or with the next call after it. */
void tensorboard_step(tensorboard *t, const metrics_row *row);

/* Further scalars of a step; those that are NaN are left out. */
void tensorboard_numbers(tensorboard *t, int64_t step, const metrics_number *numbers, int n);

/* The run goes back to last_step: TensorBoard then forgets what was written from the step after it on. */
void tensorboard_go_back(tensorboard *t, int64_t last_step);

/* Everything so far is in the file. */
void tensorboard_flush(tensorboard *t);

#endif
