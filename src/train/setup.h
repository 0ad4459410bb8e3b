/* Everything that a training run needs, from a config to loaded weights. Every stage is agreed on by all ranks before
 * the next one begins, so a mistake that one rank finds ends the job with one sentence. */
#ifndef PSANN_TRAIN_SETUP_H
#define PSANN_TRAIN_SETUP_H

#include <stdbool.h>
#include <stdint.h>

#include "ckpt/checkpoint.h"
#include "ckpt/writer.h"
#include "config/config.h"
#include "data/sampler.h"
#include "data/token_store.h"
#include "dist/groups.h"
#include "dist/dist.h"
#include "engine/graph_set.h"
#include "model/model.h"
#include "model/plan.h"
#include "optim/schedule.h"
#include "optim/update.h"
#include "report/memory_gauge.h"
#include "report/metrics.h"
#include "report/run_mark.h"
#include "report/system.h"
#include "report/tensorboard.h"
#include "shard/weight_store.h"
#include "train/evaluate.h"

/* What a command line asks for. */
typedef struct {
  const char *config; /* path of the INI file */
  char **overrides;   /* section.key=value */
  int n_overrides;
  bool plan_only;         /* --plan */
  const char *value_of;   /* --value: section.key; NULL: not asked */
  int argc;       /* the whole command line, for the record and for the next commands */
  char **argv;
} train_request;

/* What became of a step, known when the engine has finished it. */
typedef struct {
  int64_t step; /* 0: nothing to report */
  double loss, grad_norm, lr;
  bool skipped;
  bool spike;                         /* loss or norm lies far above the steps before */
  double loss_zscore, norm_zscore;    /* how far, in deviations */
  double loss_scale, next_loss_scale; /* of this step, and what it left to the next */
  double seconds;                     /* of this step, */
  double waited;                      /* of them in exchanges and for other ranks */
  int64_t tokens, sequences; /* consumed up to and with it */
} step_outcome;

typedef struct {
  const train_request *request;
  const dist *d;
  config *c;
  system_facts machine;
  token_store *train_store, *val_store; /* val_store: NULL without evaluation */
  char *checkpoints;                    /* folder */
  int lock;                             /* of the run folder; rank 0 */
  engine *e;
  model *m;
  rank_groups groups;    /* and their exchange */
  int shard_ranks;       /* that hold one copy of the state together */
  weight_store *w;
  model_run *pass;
  evaluation *eval;
  sampler order;
  batch_source batches; /* windows of train_store in that order, or what the caller of training_build chose */
  host_batch host;
  void *tokens, *labels, *rows; /* int32 (B·T), engine memory */
  graph_set *graphs;            /* of the step's parts; NULL: train.graphs is off */
  double *losses;               /* one per local micro-batch, engine memory */
  schedule rate;
  update_spec update;
  int64_t micro_batches; /* n of a step, over all ranks */
  memory_plan plan;
  double memory_available; /* to this rank */
  double host_available;   /* the same of the host's memory, where the engine has its own; 0: not known */
  double memory_rest;      /* rows of the plan that neither micro-batch nor recompute changes; NaN: another kind of plan */
  double memory_taken;     /* of a GPU since the engine was made, when it was last measured */
  char plans_digest[DIGEST_TEXT]; /* of the plans of the matrix products; "" where an engine has no choice */
  bool background;         /* checkpoints are written while training goes on: there is memory for it */
  checkpoint_writer *writer;
  run_state state;
  checkpoint *from;     /* rank 0, until it is loaded; NULL: a fresh start */
  char *resumed_from;   /* path, rank 0; NULL: a fresh start */
  int64_t first_step;   /* steps that were done when this launch began */
  step_outcome pending; /* issued, its result not yet read; step 0: none */
  double counted;       /* clock: up to here time belongs to steps whose result was read; */
  double counted_waits; /* the same of activity_waiting_seconds() */
  memory_gauge gauge;   /* of this rank */
  metrics *metrics;     /* rank 0 */
  /* Rank 0; NULL: log.tensorboard is off, or no file could be made. */
  tensorboard *tensorboard;
} training;

/* The three stages below are what training_open and training_start share with programs that measure a step without a
 * run folder, stores and checkpoints. They go by t->d, t->machine and the resolved t->c; without stores t->batches says
 * where tokens come from. Collective. */

/* The config that a command line asks for, resolved as far as that goes without ranks and data. The caller frees it. */
status training_config(const train_request *request, config **c);

/* Device, precision and transport of t->c. */
status training_resolve(training *t);

/* State before the first step; the store's digest is left empty without a store. */
run_state training_fresh_state(const training *t);

/* Model, engine, the micro-batch when the config leaves it open, and the memory plan. Nothing large is allocated. */
status training_build(training *t);

/* The groups of the ranks with their exchange, and the plans of the matrix products for passes of these limits. */
status training_connect(training *t, const engine_limits *limits);

/* That, and weights and buffers. */
status training_allocate(training *t);

/* Bytes that this rank may take of its device, its share where ranks share one; 0: not known. */
double training_memory_available(const training *t);

/* Config, ranks, stores, run folder, checkpoint to resume from, model, plan. Nothing large is allocated. With plan_only
 * no folder is made and no checkpoint is looked for. */
status training_open(training *t, const train_request *request, const dist *d);

/* A user error with the numbers when the plan does not fit into the memory of some rank. */
status training_check_memory(training *t);

/* Weights, buffers, the checkpoint's state, and the run folder's files. */
status training_start(training *t);

/* What t->state says of loss scale and spikes becomes the engine's, within the bounds of the config. */
status training_set_engine_state(training *t);

/* system.json of the run folder; on rank 0. */
status training_write_system(const training *t);

/* On rank 0, once its files are open, writes status.ini into the run folder. Elsewhere, and before, it does nothing: a
 * launch that is refused leaves what the one before it wrote. */
status training_mark(const training *t, run_mark_state state, const char *reason);

/* Harmless on what was never opened. */
void training_close(training *t);

/* Steps that the run has in all. */
static inline int64_t training_steps(const training *t) {
  return t->c->train.max_steps;
}

/* Sequences of a step, over all ranks. */
static inline int64_t training_batch(const training *t) {
  return t->c->train.batch_tokens / t->c->data.seq_len;
}

#endif
