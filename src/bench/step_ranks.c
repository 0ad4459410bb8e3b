/* GPU-05 and GPU-06: the same run on several ranks, each with micro-batches of its own, under every strategy. Were
 * gradients not exchanged, or summed otherwise, the parameters would differ from those of one rank, which has all the
 * micro-batches. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/json.h"
#include "bench/steps.h"
#include "ckpt/checkpoint.h"

static const double RUN_LIMIT_S = 300;

typedef struct {
  double single, ours; /* loss of the last step, on one rank and here */
  double rel_diff;     /* the largest over the steps */
  int64_t steps, equal_losses;
  bool same; /* checkpoints */
} comparison;

static status compare_losses(const char *one, const char *other, comparison *r) {
  double *a = NULL, *b = NULL;
  int64_t n, m = 0;
  status s = run_column(one, "loss", &a, &n);
  s = s != STATUS_OK ? s : run_column(other, "loss", &b, &m);
  for (int64_t i = 0; s == STATUS_OK && i < n && i < m; i++) {
    r->rel_diff = fmax(r->rel_diff, fabs(a[i] - b[i]) / fabs(a[i]));
    r->equal_losses += a[i] == b[i]; /* NaN is equal to nothing */
  }
  if (s == STATUS_OK) {
    r->steps = n > m ? n : m;
    r->single = a[n - 1];
    r->ours = b[m - 1];
  }
  free(a);
  free(b);
  return s;
}

static status compare_runs(const char *one, const char *other, comparison *r) {
  *r = (comparison){0};
  TRY(compare_losses(one, other, r));
  log_line("checkpoints after step %d:", VALIDATION_STEPS);
  return checkpoint_diff(one, other, &r->same);
}

/* `average`: the reference's name for the loss on several ranks. */
static void write_comparison(cJSON *o, const comparison *r, const char *average, const char *strategy, int ranks) {
  json_number(o, "single_loss", r->single);
  json_number(o, average, r->ours);
  json_number(o, "rel_diff", r->rel_diff);
  json_number(o, "world_size", ranks);
  json_number(o, "steps", (double)r->steps);
  json_number(o, "steps_with_equal_loss", (double)r->equal_losses);
  cJSON_AddBoolToObject(o, "checkpoints_equal", r->same);
  bool pass = r->same && r->steps == VALIDATION_STEPS && r->equal_losses == r->steps;
  judge(o, pass, "bitwise equal: loss of every step, parameters and moments after the last",
        "%s on %d ranks: %lld of %lld losses equal, largest relative difference %.3g, checkpoints %s", strategy, ranks,
        (long long)r->equal_losses, (long long)r->steps, r->rel_diff, r->same ? "equal" : "differ");
}

/* `divided`: hybrid's groups are of two ranks, so that there are several of them. */
static status run_strategy(validation *v, const char *strategy, bool divided, const char *average, cJSON *o) {
  int ranks = validation_ranks(v);
  ranks = divided && ranks < 4 ? 4 : ranks;
  char name[64], with[64], *run = NULL;
  comparison r;
  snprintf(name, sizeof name, "%s_%d_ranks", strategy, ranks);
  snprintf(with, sizeof with, "parallel.strategy=%s", strategy);
  const char *const overrides[] = {with, validation_transport(v, ranks), divided ? "parallel.shard_ranks=2" : NULL,
                                   NULL};
  TRY(validation_baseline(v));
  TRY(validation_train(v, name, ranks, overrides, RUN_LIMIT_S, &run));
  status s = compare_runs(v->baseline, run, &r);
  free(run);
  TRY(s);
  write_comparison(o, &r, average, strategy, ranks);
  return STATUS_OK;
}

status step_ddp(validation *v, cJSON *result) {
  return run_strategy(v, "ddp", false, "ddp_avg_loss", result);
}

/* Whether this build's configuration knows the strategy; otherwise the message says what it knows. */
static bool known(const char *strategy) {
  config *c;
  if (config_new(&c) != STATUS_OK) {
    return false;
  }
  bool good = config_set(c, "parallel", "strategy", strategy, "GPU-06") == STATUS_OK;
  config_free(c);
  return good;
}

/* full_shard is what the step is named after: its keys stand in the result itself, those of the others under
 * `strategies`. */
status step_full_shard(validation *v, cJSON *result) {
  static const char *const others[] = {"shard_optimizer", "shard_grad", "hybrid"};
  cJSON_AddStringToObject(result, "engine", "psann.full_shard");
  if (!known("full_shard")) {
    judge_skipped(result, status_message());
    return STATUS_OK;
  }
  TRY(run_strategy(v, "full_shard", false, "fsdp_avg_loss", result));
  cJSON *strategies = cJSON_AddObjectToObject(result, "strategies");
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    cJSON *o = cJSON_AddObjectToObject(strategies, others[i]);
    if (!known(others[i])) {
      judge_skipped(o, status_message());
      continue;
    }
    TRY(run_strategy(v, others[i], strcmp(others[i], "hybrid") == 0, "fsdp_avg_loss", o));
    judge(result, strcmp(cJSON_GetStringValue(cJSON_GetObjectItem(o, "verdict")), "pass") == 0, "so is every strategy",
          "%s", cJSON_GetStringValue(cJSON_GetObjectItem(o, "figure")));
  }
  return STATUS_OK;
}
