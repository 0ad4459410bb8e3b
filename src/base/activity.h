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
  PHASE_SAVE, /* a checkpoint, to where training goes on */
  PHASES,
} phase;

enum { COLLECTIVE_NAME = 32 };

typedef struct {
  phase phase;
  int64_t step;                     /* under way, or the last one; 0: before the first */
  int64_t steps_begun;              /* by this process */
  int64_t progress;                 /* signs of it */
  int64_t collectives;              /* entered */
  bool waiting;                     /* inside one, which may be for other ranks */
  char collective[COLLECTIVE_NAME]; /* that one, or the last one; "": none yet */
} activity;

/* The main thread's side. */
void activity_enter(phase p);
void activity_step(int64_t step);
void activity_tick(void); /* progress inside a phase; of other threads it is none, so that shared code may call it */
/* Around a call that other ranks take part in; `collective` is a string literal. Not nested. */
void activity_wait(const char *collective);
void activity_waited(void);

/* Seconds spent between wait and waited since the process began; the main thread's. */
double activity_waiting_seconds(void);

/* Any thread. A snapshot taken in the middle of a change may mix two neighbouring states. */
activity activity_now(void);

/* "loading data", "forward and backward", …: what stands in messages. */
const char *phase_name(phase p);

/* A hook for debugging and tests, off without the environment variable PSANN_DEBUG_HOLD = RANK:PHASE:STEP[:hang]. That
 * rank stays in that phase (start, load, pass, update, between, evaluation, save, or collective: inside the first one
 * of the step) once it has reached the step, after a line on standard error that says so. It goes on showing progress,
 * unless `hang` is given. Called once the rank is known; a value that isn't understood ends in a warning. */
void activity_hold_from_environment(int rank);

#endif
