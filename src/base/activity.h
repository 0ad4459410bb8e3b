/* What the main thread of this process is doing, for whoever watches it from another thread or another rank: phase,
 * step, the collective that it waits in, and a count that grows with every sign of progress. Written by the main thread
 * alone, without a lock; read by any. One a process, as MPI's world is.
 */
#ifndef PSANN_BASE_ACTIVITY_H
#define PSANN_BASE_ACTIVITY_H

#include <stdbool.h>
#include <stdint.h>

typedef enum {
  PHASE_START,   /* set-up until the first step: stores, checkpoint, plans, buffers */
  PHASE_LOAD,    /* tokens of a micro-batch */
  PHASE_PASS,    /* forward and backward */
  PHASE_UPDATE,  /* exchange of gradients, norm, AdamW */
  PHASE_BETWEEN, /* log, metrics and what ranks agree on between steps */
  PHASE_EVALUATION,
  PHASE_SAVE,   /* a checkpoint, to where training goes on */
  PHASE_RETURN, /* to a checkpoint: it is looked for, verified and read */
  PHASE_END,    /* from the last step to the end of the process */
  PHASES,
} phase;

enum { COLLECTIVE_NAME = 32 };

typedef struct {
  phase phase;
  int64_t step;                     /* under way, or the last one; 0: before the first */
  int64_t steps_begun;              /* by this process */
  int64_t progress;                 /* signs of it */
  int64_t collectives;              /* begun; ranks begin the same ones in the same order */
  bool waiting;                     /* inside one, which may be for other ranks */
  char collective[COLLECTIVE_NAME]; /* that one, or the last one; "": none yet */
} activity;

/* The main thread's side. */
void activity_enter(phase p);
void activity_step(int64_t step);
/* Progress inside a phase. From another thread it counts only while the main thread leans on that. */
void activity_tick(void);
/* Around a call that other ranks take part in; `collective` is a string literal. Inside another such pair, or inside
 * the next one, it changes nothing. */
void activity_wait(const char *collective);
void activity_waited(void);
/* A collective that goes on by itself, on a device, was begun. */
void activity_issue(void);
/* Around a stretch in which the main thread waits for another thread of this process, while other ranks may wait for
 * this one: it counts as one of their collectives. What that thread does is the progress. */
void activity_lean(void);
void activity_stand(void);

/* Any thread: the main thread stays where it next shows a sign of life, for good. Before a process ends by another
 * thread's hand, since an exchange that is given up returns as if it had been done: nothing may go on with what it
 * left.
 */
void activity_halt(void);

/* Seconds spent between wait and waited since the process began; the main thread's. */
double activity_waiting_seconds(void);

/* Any thread. A snapshot taken in the middle of a change may mix two neighbouring states. */
activity activity_now(void);

/* "loading data", "forward and backward", …: what stands in messages. */
const char *phase_name(phase p);

/* A hook for debugging and tests, off without the environment variable PSANN_DEBUG_HOLD = RANK:PHASE:STEP[:hang]. That
 * rank stays in that phase (start, load, pass, update, between, evaluation, save, return, end, or collective: inside
 * the first one of the step) once it has reached the step, after a line on standard error that says so. It goes on
 * showing progress, unless `hang` is given. Called once the rank is known; a value that isn't understood ends in a
 * warning. */
void activity_hold_from_environment(int rank);

#endif
