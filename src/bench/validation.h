/* What the steps of psann_bench validate share: where things lie, training runs that are started, and verdicts. */
#ifndef PSANN_BENCH_VALIDATION_H
#define PSANN_BENCH_VALIDATION_H

#include <cjson/cJSON.h>
#include <stdbool.h>

#include "config/config.h"
#include "dist/dist.h"
#include "report/system.h"

typedef struct {
  const char *device; /* value of run.device */
  const char *text;   /* text file or folder; a folder with train/ and val/ in it is taken as divided so */
  double seconds;     /* of GPU-07's training; 0: 60 on a GPU, 10 elsewhere */
  const char *out;    /* folder of the reports; NULL: reports */
  bool keep;          /* the folder with runs and stores */
  int argc;           /* the whole command line, for the record */
  char **argv;
} validation_options;

typedef struct {
  const validation_options *o;
  dist d; /* this process alone */
  system_facts machine;
  bool gpu; /* the engine is the GPU's */
  int gpus;
  char stamp[32];
  char *reports;                 /* <out>/gpu/<stamp> */
  char *figures;                 /* <out>/benchmarks/<stamp> */
  char *work;                    /* reports/work: runs, stores, logs of what is started */
  char *programs;                /* folder of psann_train and its like */
  char *train_store, *val_store; /* NULL until validation_stores */
  char *config;                  /* of the runs; NULL until then */
  char *baseline;                /* folder of the run on one rank; NULL until validation_baseline */
} validation;

/* Resolves the device and makes the folders. */
status validation_open(const validation_options *o, validation *v);
/* Removes what was for work only, unless it is to be kept. */
void validation_close(validation *v);

/* Makes the token stores (bytes) and the common config once: a model of D 128, L 2, H 4, M 512; 8 micro-batches a
 * step, VALIDATION_STEPS steps, a checkpoint at half of them. */
enum { VALIDATION_STEPS = 20 };
status validation_stores(validation *v);

/* Trains with psann_train under the name `name`: the common config with `overrides` (NULL at the end, or NULL) on so
 * many ranks. *run (may be NULL) is the run folder, the caller's. */
status validation_train(validation *v, const char *name, int ranks, const char *const *overrides, double limit,
                        char **run);

/* The same run on one rank, once for all steps that compare with it. */
status validation_baseline(validation *v);

/* Ranks of a run on several: a power of two, at most 8, one a GPU; 2 where there is one GPU or none. */
int validation_ranks(const validation *v);

/* "parallel.transport=mpi" where so many ranks share GPUs, otherwise "parallel.transport=auto". */
const char *validation_transport(const validation *v, int ranks);

/* A copy of the config of a bench model, resolved for that length, on the validation's device. `changes`:
 * section.key=value, NULL at the end. `precision` may be NULL. */
status validation_model(const validation *v, const char *model, const char *precision, const char *const *changes,
                        int64_t steps, config **out);

/* Verdicts. Every result has `status` ("ok", "failed", "skipped", "error"), `verdict` ("pass", "fail", "skipped"),
 * `threshold` and `figure`, or `reason`. judge may be called several times: one failure fails the step, and figures are
 * put in a row. */
void judge(cJSON *result, bool pass, const char *threshold, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
void judge_skipped(cJSON *result, const char *reason);
/* A step that ended with an error. */
void judge_error(cJSON *result, const char *message);

/* The reference's description of a model: base, d_model, n_layers, n_heads; and what else says which it is. */
void result_model(cJSON *result, const config_model *m);

/* Column `name` of a run's metrics.csv: one number a step. *values is the caller's; an empty field is NaN. */
status run_column(const char *run, const char *name, double **values, int64_t *count);

#endif
