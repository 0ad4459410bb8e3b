#include "train/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "engine/select.h"
#include "train/micro_batch.h"

/* What NCCL and the kernels of cuBLASLt and cuDNN take until they are measured; seen on Hopper, rounded up. */
static const double EXPECTED[] = {512.0 * 1024 * 1024, 256.0 * 1024 * 1024};
const char *const memory_rows[] = {"NCCL", "kernels of the libraries"};

static const char CONTEXT_ROW[] = "context of the GPU";

/* Share of a GPU by which the plan may fall short: libraries take more when they need it, and must then get it. */
#define PLAN_ERROR 0.0075

/* The plan. */

static run_spec spec_of(const training *t, int64_t micro_batch, config_recompute recompute) {
  return (run_spec){.B = micro_batch,
                    .T = t->c->data.seq_len,
                    .recompute = recompute,
                    .label_smoothing = t->c->train.label_smoothing,
                    .training = true,
                    .fp8 = t->e->fp8};
}

/* How the weight store is shared. */
typedef struct {
  int ranks, shard_ranks;
  config_strategy strategy;
} sharing;

static const sharing alone = {1, 1, STRATEGY_DDP};

static sharing sharing_of(const training *t) {
  return (sharing){t->d->ranks, t->shard_ranks, t->c->parallel.strategy};
}

static void plan_weights(const training *t, int64_t micro_batch, sharing s, memory_plan *p) {
  *p = (memory_plan){0};
  weight_store_plan(t->m, t->e->compute, t->e->state, s.ranks, s.shard_ranks, s.strategy, t->c->parallel.offload,
                    training_batch(t) / micro_batch, true, p);
  if (t->e->host_memory) {
    plan_all_one(p);
  }
}

/* What weight_store_create, model_run_create, evaluation_create and training_allocate will take. */
static void plan_rows(const training *t, const run_spec *spec, sharing s, memory_plan *p) {
  engine_limits limits;
  model_limits(t->m, t->e, spec->B, spec->T, &limits);
  plan_weights(t, spec->B, s, p);
  plan_add(p, "activations", (double)model_run_bytes(t->m, t->e->compute, t->e->state, spec));
  if (t->val_store != NULL) {
    plan_add(p, "evaluation", (double)evaluation_bytes(t->m, t->e, spec->B, spec->T));
  }
  plan_add(p, "scratch", (double)t->e->ops->scratch_bytes(t->e, &limits));
  plan_add(p, "tokens", 3.0 * (double)(spec->B * spec->T) * (double)sizeof(int32_t));
}

static bool device_of(const training *t, device_usage *m) {
  return t->e->ops->memory != NULL && t->e->ops->memory(t->e, m) == STATUS_OK;
}

static int ranks_of_gpu(const training *t) {
  int gpus = engine_gpus() > 0 ? engine_gpus() : 1;
  return (t->d->local_ranks + gpus - 1) / gpus;
}

void memory_plan_device(training *t) {
  device_usage m;
  t->memory_available = training_memory_available(t);
  t->memory_rest = NAN;
  t->host_available = t->e->host_memory ? 0 : t->machine.memory_available / t->d->local_ranks;
  if (!device_of(t, &m)) {
    return;
  }
  t->memory_taken = m.taken;
  t->memory_available += m.taken / ranks_of_gpu(t); /* it is in the plan, and no longer free */
  t->memory_available *= 1 - PLAN_ERROR;
  plan_add(&t->plan, "workspace of the libraries", m.fixed);
  plan_add(&t->plan, CONTEXT_ROW, fmax(0, m.taken / ranks_of_gpu(t) - m.fixed));
  for (int i = t->d->ranks > 1 && t->c->parallel.transport == TRANSPORT_NCCL ? MEMORY_NCCL : MEMORY_KERNELS;
       i <= MEMORY_KERNELS; i++) {
    plan_add(&t->plan, memory_rows[i], EXPECTED[i]);
  }
}

void memory_plan_run(training *t) {
  run_spec spec = spec_of(t, t->c->train.micro_batch, t->c->train.recompute);
  plan_rows(t, &spec, sharing_of(t), &t->plan);
  double changing = plan_total(&t->plan);
  memory_plan_device(t);
  t->memory_rest = plan_total(&t->plan) - changing;
}

void memory_measured(training *t, const char *row) {
  device_usage m;
  if (device_of(t, &m) && ranks_of_gpu(t) == 1) {
    plan_set(&t->plan, row, fmax(0, m.taken - t->memory_taken));
    t->memory_taken = m.taken;
  }
}

/* The size of a micro-batch. */

double memory_reserve(double total) {
  return 2.0 * 1024 * 1024 * 1024 + total / 32; /* and what the plan may be wrong by */
}

typedef struct {
  const training *t;
  double bytes;
  bool with_weights; /* they count too */
} room;

static bool fits(void *context, int64_t micro_batch) {
  const room *r = context;
  run_spec spec = spec_of(r->t, micro_batch, r->t->c->train.recompute);
  memory_plan all, weights;
  plan_rows(r->t, &spec, alone, &all);
  plan_weights(r->t, micro_batch, alone, &weights);
  return plan_total(&all) - (r->with_weights ? 0 : plan_total(&weights)) <= r->bytes;
}

int64_t memory_micro_batch(training *t, double total) {
  double left = fmax(0, total - memory_reserve(total));
  room all = {t, left, true}, activations = {t, left / 2, false};
  int64_t s = micro_batch_largest(t->c->train.batch_tokens, t->c->data.seq_len, fits, &all);
  if (s == 0) {
    s = micro_batch_largest(t->c->train.batch_tokens, t->c->data.seq_len, fits, &activations);
  }
  return s > 0 ? s : 1;
}

status memory_resolve_micro_batch(training *t) {
  device_usage m;
  if (t->c->train.micro_batch > 0) {
    return STATUS_OK;
  }
  if (t->e->ops->memory == NULL) {
    t->c->train.micro_batch = micro_batch_auto(t->c->train.batch_tokens, t->c->data.seq_len);
    return STATUS_OK;
  }
  TRY(dist_agree(t->d, t->e->ops->memory(t->e, &m)));
  int64_t least, chosen;
  TRY(dist_max(t->d, -(int64_t)m.total, &least));
  TRY(dist_max(t->d, -memory_micro_batch(t, (double)-least), &chosen));
  t->c->train.micro_batch = -chosen;
  char text[32];
  log_line("micro-batch %lld sequences: the largest that the memory plan of one rank admits on a GPU of %s",
           (long long)-chosen, memory_text((double)-least, text));
  return STATUS_OK;
}

/* Too little memory. */

static double needed_with(const training *t, int64_t micro_batch, config_recompute recompute) {
  run_spec spec = spec_of(t, micro_batch, recompute);
  memory_plan p;
  plan_rows(t, &spec, sharing_of(t), &p);
  return plan_total(&p) + t->memory_rest;
}

/* What would fit into t->memory_available, as the end of a sentence: the same micro-batch with more recompute, which
 * gives the same bits, before a smaller one. */
static void remedy(const training *t, char *text, size_t room_of_text) {
  static const config_recompute modes[] = {RECOMPUTE_NONE, RECOMPUTE_CHEAP, RECOMPUTE_BLOCK};
  const config *c = t->c;
  char bytes[32];
  text[0] = 0;
  if (isnan(t->memory_rest)) {
    return;
  }
  for (int64_t B = c->train.micro_batch; B >= 1; B--) {
    for (size_t i = 0; training_batch(t) % B == 0 && i < sizeof modes / sizeof *modes; i++) {
      double need = modes[i] >= c->train.recompute ? needed_with(t, B, modes[i]) : INFINITY;
      if (need <= t->memory_available) {
        snprintf(text, room_of_text, "; train.micro_batch = %lld with train.recompute = %s would fit (%s)",
                 (long long)B, config_recompute_name(modes[i]), memory_text(need, bytes));
        return;
      }
    }
  }
  snprintf(text, room_of_text,
           "; not even one sequence with train.recompute = block would fit: a sharded "
           "parallel.strategy on more ranks divides the weights%s",
           t->e->host_memory || c->parallel.offload != OFFLOAD_NONE
               ? ""
               : ", parallel.offload = optimizer moves the optimizer's state into the host's memory");
}

static bool fits_device(const training *t) {
  return plan_total(&t->plan) <= t->memory_available || t->memory_available <= 0;
}

static bool fits_host(const training *t) {
  return plan_host(&t->plan) <= t->host_available || t->host_available <= 0;
}

bool memory_fits(const training *t) {
  return fits_device(t) && fits_host(t);
}

static status check_host(const training *t) {
  if (fits_host(t)) {
    return STATUS_OK;
  }
  char need[32], have[32];
  USER_ERROR(
      "parallel.offload = optimizer: each rank needs %s of the host's memory but has %s (what %s has free, shared by "
      "%d "
      "rank%s); start fewer ranks a host, take a parallel.strategy that shards the state, or set parallel.offload = "
      "none",
      memory_text(plan_host(&t->plan), need), memory_text(t->host_available, have), t->d->host, t->d->local_ranks,
      t->d->local_ranks == 1 ? "" : "s");
}

status memory_check(training *t) {
  if (fits_device(t)) {
    return check_host(t);
  }
  char need[32], have[32], fitting[320];
  remedy(t, fitting, sizeof fitting);
  USER_ERROR(
      "each rank needs %s but has %s (the free memory of %s shared by %d rank%s); lower train.micro_batch (%lld), "
      "data.seq_len (%lld) or the model, set train.recompute = block, or start fewer ranks a host%s",
      memory_text(plan_total(&t->plan), need), memory_text(t->memory_available, have), t->d->host, t->d->local_ranks,
      t->d->local_ranks == 1 ? "" : "s", (long long)t->c->train.micro_batch, (long long)t->c->data.seq_len, fitting);
}

/* What the device says. */

void memory_compare(training *t) {
  device_usage m;
  if (t->d->rank != 0 || !device_of(t, &m) || ranks_of_gpu(t) > 1 || !(m.taken > 0)) {
    return;
  }
  double planned = plan_total(&t->plan), off = (planned - m.taken) / m.taken;
  char plan[32], taken[32];
  log_line("memory    %s planned, %s taken as the GPU reports: %+.1f %%", memory_text(planned, plan),
           memory_text(m.taken, taken), 100 * off);
  bool wrong = fabs(off) > MEMORY_TOLERANCE && fabs(planned - m.taken) > MEMORY_LOADED_LATE;
  if (wrong) {
    log_warning("the memory plan is off by more than %g %%: what else runs on this GPU, or a library takes more",
                100 * MEMORY_TOLERANCE);
  }
  t->machine.memory_planned = planned;
  t->machine.memory_reported = m.taken;
  if (t->metrics != NULL) {
    const metrics_number numbers[] = {{"planned_bytes", planned}, {"reported_bytes", m.taken}, {"difference", off}};
    metrics_event(t->metrics, t->state.step, "memory", numbers, 3, "%s", wrong ? "the plan is off" : "");
  }
  if (training_write_system(t) != STATUS_OK) {
    log_warning("the memory that the GPU reports is not in system.json: %s", status_message());
  }
}

double memory_peak(training *t) {
  gauge_sample(&t->gauge);
  double peak = gauge_peak(&t->gauge);
  return peak > 0 ? peak : NAN;
}
