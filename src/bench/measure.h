/* The speed of one model in one mode: the step that psann_train takes, or forward alone. */
#ifndef PSANN_BENCH_MEASURE_H
#define PSANN_BENCH_MEASURE_H

#include <stdbool.h>
#include <stdint.h>

#include "config/config.h"
#include "dist/dist.h"
#include "report/system.h"

typedef enum { BENCH_TRAIN, BENCH_FORWARD } bench_mode;

const char *bench_mode_name(bench_mode m); /* "train", "forward" */

enum { BENCH_REPEATS = 100 }; /* at most */

/* How long: `warmup` steps that are not timed, then `repeat` times `steps` steps. */
typedef struct {
  int64_t steps, warmup, repeat;
} bench_length;

/* Steps in all: what a config is resolved for. */
int64_t bench_total_steps(const bench_length *l);

/* A row of the report; field = JSON key where both exist. A number that is not known is NaN. */
typedef struct {
  char model[64];
  bench_mode mode;
  config_base base;
  config_precision precision;
  config_strategy strategy;
  config_offload offload; /* of training */
  config_recompute recompute;
  bool unordered; /* engine.h */
  int ranks;
  int64_t micro_batch, seq_len, vocab_size;
  int64_t accumulate; /* micro-batches of a rank in a step */
  int64_t parameters;
  double flop_per_token, flop_per_token_full; /* of this mode; causal, and attention counted as a full square */
  char error[512];                            /* not "": nothing was measured, and this is why */
  double tok_s;                               /* all ranks together */
  double ms, ms_min, ms_max;                  /* of a step: median, least and most of the repeats */
  double tflops;                              /* of a rank, causal count */
  double mfu, mfu_full;                       /* share of BENCH_PEAK_TFLOPS; NaN on the CPU */
  double peak_bytes;                          /* of the rank that takes most */
  double plan_bytes;                          /* what the memory plan says */
  double power_w;                             /* mean of a board during the timed steps, over the ranks */
  double sm_mhz;                              /* mean clock of a board near the end of each repeat, over the ranks */
  double loss;                                /* last step; forward: of the last rows */
  int64_t skipped;                            /* updates that were not applied: loss or gradient were not finite */
  int64_t logits_rows;                        /* forward: rows of logits written before the buffer is used again */
} bench_row;

/* Dense 16-bit products of an H100 SXM or H200, TFLOP/s: what MFU is a share of, in any precision. */
#define BENCH_PEAK_TFLOPS 989.4

/* Measures a config that config_resolve_measured has resolved for bench_total_steps(l) steps, on random tokens. What
 * does not fit into memory is a row with an error, and STATUS_OK. Collective; all ranks get the row. */
status bench_measure(const config *c, const char *name, bench_mode mode, bool unordered, const bench_length *l,
                     const system_facts *machine, const dist *d, bench_row *row);

#endif
