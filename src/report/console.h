/* What a person sees of a training run, on rank 0. */
#ifndef PSANN_REPORT_CONSOLE_H
#define PSANN_REPORT_CONSOLE_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "data/token_store.h"
#include "dist/dist.h"
#include "engine/engine.h"
#include "model/model.h"
#include "model/plan.h"
#include "report/metrics.h"
#include "report/system.h"

/* A run before its first step. */
typedef struct {
  const config *c;
  const dist *d;
  const system_facts *machine;
  const engine *e;
  const model *m;
  const token_store *train, *val; /* val: NULL without evaluation */
  int64_t windows;                /* of the training store */
  int64_t micro_batches;          /* of a step */
  const memory_plan *plan;
  double memory_available, host_available;
  int64_t first_step;       /* steps done by earlier launches */
  const char *resumed_from; /* NULL: a fresh start */
} console_run;

/* Program, machine, ranks, engine, model, memory, data, schedule, work, and what the run's bits depend on. */
void console_start(const console_run *r);

/* Where the run stands. */
typedef struct {
  int64_t steps; /* of the whole run */
  int64_t batch_tokens;
  double tok_s; /* since the last line, all ranks */
  double eta;   /* seconds */
} console_pace;

/* The line of a step: the reference's fields, in its order, then throughput and what is left. */
void console_step(const metrics_row *row, const console_pace *pace);

/* The live bar of a terminal. */
void console_progress(const metrics_row *row, const console_pace *pace);
void console_evaluating(int64_t done, int64_t of);

/* The line of an evaluation. */
void console_evaluation(int64_t step, int64_t tokens, double loss, double ppl, double bits_per_byte, double accuracy,
                        double seconds, bool best);

typedef enum { END_FINISHED, END_SIGNAL, END_TIME, END_NOTHING_TO_DO } console_ending;

/* A run after its last step of this launch. */
typedef struct {
  console_ending ending;
  int64_t step, steps;
  int64_t launch_steps; /* done by this launch */
  double seconds;       /* of this launch */
  double tok_s;         /* over this launch, without evaluations and checkpoints */
  double loss;          /* of the last step; NaN: none */
  double best_val_loss; /* +inf: none */
  int64_t best_step;
  const config *c;
  bool writes; /* the tokenizer turns text into tokens and back */
  int ranks;
  int argc;
  char **argv;
} console_summary;

/* What came of it, and the next commands. */
void console_end(const console_summary *s);

#endif
