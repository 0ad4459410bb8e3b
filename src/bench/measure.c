#include "bench/measure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/board.h"
#include "base/clock.h"
#include "base/memory.h"
#include "bench/forward.h"
#include "bench/random_tokens.h"
#include "engine/select.h"
#include "report/memory_gauge.h"
#include "train/step.h"

typedef struct {
  training t; /* model, engine, weights and buffers, also of forward */
  forward_pass forward;
  random_tokens tokens;
  memory_gauge gauge;
  board *power;
  bench_mode mode;
  bool unordered;
  double sm_mhz; /* when the last steps had been issued, and the device was at work on them */
  double loss;
  int64_t skipped;
} bench;

const char *bench_mode_name(bench_mode m) {
  return m == BENCH_TRAIN ? "train" : "forward";
}

int64_t bench_total_steps(const bench_length *l) {
  return l->warmup + l->steps * l->repeat;
}

/* Setup. */

static status build(bench *b, const config *c, const system_facts *machine, const dist *d) {
  training *t = &b->t;
  *t = (training){.d = d, .lock = -1, .machine = *machine};
  TRY(dist_agree(d, config_copy(c, &t->c)));
  TRY(dist_agree(d, training_resolve(t)));
  bool gpu = t->c->run.device == DEVICE_CUDA;
  int number = gpu ? d->local_rank % engine_gpus() : 0;
  char address[32] = "";
  gauge_start(&b->gauge, gpu, number);
  if (gpu) {
    engine_gpu_address(number, address);
    b->power = board_open(address);
  }
  TRY(dist_agree(d, random_tokens_create(c->model.vocab_size, c->data.seq_len, (uint64_t)c->run.seed, &b->tokens)));
  t->batches = random_tokens_source(&b->tokens);
  t->state = training_fresh_state(t);
  TRY(training_build(t));
  t->e->unordered = b->unordered;
  return b->mode == BENCH_FORWARD ? forward_plan(t, &b->forward) : STATUS_OK;
}

/* Large memory; what fails here is that the model does not fit. */
static status allocate(bench *b) {
  TRY(training_check_memory(&b->t));
  return b->mode == BENCH_FORWARD ? forward_allocate(&b->t, &b->forward) : training_allocate(&b->t);
}

static void bench_close(bench *b) {
  forward_free(&b->t, &b->forward);
  training_close(&b->t);
  random_tokens_free(&b->tokens);
  board_close(b->power);
}

/* Timing. */

static void take(bench *b, const step_outcome *o) {
  if (o->step > 0) {
    b->loss = o->loss;
    b->skipped += o->skipped;
  }
}

/* Issues `steps` steps as training does, and waits for the last one. */
static status run_steps(bench *b, int64_t steps) {
  step_outcome o;
  for (int64_t i = 0; i < steps; i++) {
    if (b->mode == BENCH_FORWARD) {
      TRY(forward_step(&b->t, &b->forward));
    } else {
      TRY(train_step(&b->t, &o));
      take(b, &o);
    }
  }
  b->sm_mhz = board_sm_mhz(b->power);
  if (b->mode == BENCH_TRAIN) {
    TRY(train_collect(&b->t, &o));
    take(b, &o);
  }
  return b->t.e->ops->synchronize(b->t.e);
}

/* Seconds of the slowest rank. */
static status time_steps(bench *b, int64_t steps, double *seconds) {
  const dist *d = b->t.d;
  int64_t nanoseconds;
  TRY(dist_barrier(d));
  double start = clock_seconds();
  TRY(run_steps(b, steps));
  TRY(dist_max(d, (int64_t)(1e9 * (clock_seconds() - start)), &nanoseconds));
  *seconds = 1e-9 * (double)nanoseconds;
  return STATUS_OK;
}

static int by_size(const void *x, const void *y) {
  double a = *(const double *)x, b = *(const double *)y;
  return (a > b) - (a < b);
}

static void summarize(const bench *b, const double *seconds, const bench_length *l, bench_row *row) {
  double sorted[BENCH_REPEATS];
  int n = (int)l->repeat;
  memcpy(sorted, seconds, (size_t)n * sizeof *sorted);
  qsort(sorted, (size_t)n, sizeof *sorted, by_size);
  double scale = 1000 / (double)l->steps;
  row->ms = scale * (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
  row->ms_min = scale * sorted[0];
  row->ms_max = scale * sorted[n - 1];
  double tokens = (double)(row->micro_batch * row->seq_len * row->accumulate); /* of a rank */
  row->tok_s = tokens * row->ranks / row->ms * 1000;
  row->tflops = tokens * row->flop_per_token / row->ms * 1e-9;
  if (b->gauge.on_gpu) {
    row->mfu = row->tflops / BENCH_PEAK_TFLOPS;
    row->mfu_full = row->mfu * row->flop_per_token_full / row->flop_per_token;
  }
}

/* Peak, power and clock come from every rank: the most of the first, means of the others. */
static status gather_device(bench *b, double watts, double mhz, bench_row *row) {
  const dist *d = b->t.d;
  const double mine[] = {watts, mhz};
  int64_t most;
  TRY(dist_max(d, (int64_t)gauge_peak(&b->gauge), &most));
  row->peak_bytes = (double)most;
  double *all = NULL;
  if (d->rank == 0) {
    TRY(memory_new(&all, 2 * (size_t)d->ranks, sizeof *all, "power of the ranks"));
    row->power_w = row->sm_mhz = 0;
  }
  status s = dist_gather(d, mine, 2, all);
  for (size_t r = 0; d->rank == 0 && r < (size_t)d->ranks; r++) {
    row->power_w += all[2 * r] / d->ranks;
    row->sm_mhz += all[2 * r + 1] / d->ranks;
  }
  free(all);
  return s;
}

static status measure(bench *b, const bench_length *l, bench_row *row) {
  double seconds[BENCH_REPEATS], mhz = 0;
  gauge_sample(&b->gauge);
  TRY(run_steps(b, l->warmup));
  gauge_sample(&b->gauge);
  double joules = board_joules(b->power), start = clock_seconds();
  for (int64_t i = 0; i < l->repeat; i++) {
    TRY(time_steps(b, l->steps, &seconds[i]));
    mhz += b->sm_mhz / (double)l->repeat;
  }
  double watts = (board_joules(b->power) - joules) / (clock_seconds() - start);
  gauge_sample(&b->gauge);
  if (b->mode == BENCH_FORWARD) {
    TRY(forward_loss(&b->t, &b->forward, b->t.host.labels, &b->loss));
  }
  row->loss = b->loss;
  row->skipped = b->skipped;
  summarize(b, seconds, l, row);
  return gather_device(b, watts, mhz, row);
}

/* Row. */

static void describe(const bench *b, const char *name, bench_row *row) {
  const training *t = &b->t;
  const config *c = t->c;
  double T = (double)c->data.seq_len, share = b->mode == BENCH_FORWARD ? 1.0 / 3 : 1;
  double flop = plan_flop_per_token(t->m, c->data.seq_len);
  double other_half = 6.0 * (double)c->model.n_layers * T * (double)c->model.d_model; /* of attention's square */
  *row = (bench_row){.mode = b->mode,
                     .base = c->model.base,
                     .precision = c->train.precision,
                     .strategy = c->parallel.strategy,
                     .offload = b->mode == BENCH_TRAIN ? c->parallel.offload : OFFLOAD_NONE,
                     .recompute = c->train.recompute,
                     .unordered = b->unordered,
                     .ranks = t->d->ranks,
                     .micro_batch = c->train.micro_batch,
                     .seq_len = c->data.seq_len,
                     .accumulate = b->mode == BENCH_FORWARD ? 1 : t->micro_batches / t->d->ranks,
                     .vocab_size = c->model.vocab_size,
                     .parameters = t->m->parameters,
                     .flop_per_token = share * flop,
                     .flop_per_token_full = share * (flop + other_half),
                     .mfu = NAN,
                     .mfu_full = NAN,
                     .plan_bytes = plan_total(&t->plan),
                     .power_w = NAN,
                     .sm_mhz = NAN,
                     .loss = NAN,
                     .logits_rows = b->forward.rows};
  snprintf(row->model, sizeof row->model, "%s", name);
}

status bench_measure(const config *c, const char *name, bench_mode mode, bool unordered, const bench_length *l,
                     const system_facts *machine, const dist *d, bench_row *row) {
  REQUIRE(l->steps > 0 && l->warmup >= 0 && l->repeat > 0 && l->repeat <= BENCH_REPEATS,
          "%lld warm-up steps and %lld times %lld steps", (long long)l->warmup, (long long)l->repeat,
          (long long)l->steps);
  bench b = {.mode = mode, .unordered = unordered, .t.lock = -1, .loss = NAN};
  status s = build(&b, c, machine, d);
  if (s == STATUS_OK) {
    describe(&b, name, row);
    if (allocate(&b) != STATUS_OK) {
      snprintf(row->error, sizeof row->error, "%s", status_message());
    } else {
      row->plan_bytes = plan_total(&b.t.plan); /* with what the libraries took, measured meanwhile */
      TRY(measure(&b, l,
                  row)); /* a failure ends the program, and closing could wait for ranks that wait for this one */
    }
  }
  bench_close(&b);
  return s;
}
