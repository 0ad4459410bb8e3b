#include "train/spike.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"

enum { NUMBERS = 4 };

static void numbers_of(const step_outcome *o, metrics_number numbers[NUMBERS]) {
  const metrics_number all[NUMBERS] = {
      {"loss", o->loss}, {"grad_norm", o->grad_norm}, {"loss_zscore", o->loss_zscore}, {"norm_zscore", o->norm_zscore}};
  memcpy(numbers, all, sizeof all);
}

void spike_report(const training *t, const step_outcome *o) {
  if (!o->spike) {
    return;
  }
  const char *what =
      o->skipped ? "its update is skipped" : "its update is applied all the same (watch.on_spike = warn)";
  log_warning(
      "step %lld is a spike: loss %.6g (%.1f deviations above what was expected), gradient norm %.6g (%.1f); %s",
      (long long)o->step, o->loss, o->loss_zscore, o->grad_norm, o->norm_zscore, what);
  if (t->metrics != NULL) {
    metrics_number numbers[NUMBERS];
    numbers_of(o, numbers);
    metrics_event(t->metrics, o->step, "spike", numbers, NUMBERS, "%s", what);
  }
}

bool spike_rolls_back(const training *t, const step_outcome *o) {
  return o->step > 0 && o->spike && t->c->watch.on_spike == SPIKE_ROLLBACK;
}

/* What rank 0 finds and the others are told. */
typedef struct {
  bool found;
  run_state state;
} return_point;

static status find(const training *t, checkpoint **k, return_point *p) {
  char *path = NULL;
  TRY(checkpoint_newest(t->checkpoints, &path));
  if (path == NULL && t->resumed_from != NULL) {
    TRY(memory_format(&path, "%s", t->resumed_from));
  }
  if (path == NULL) {
    return STATUS_OK;
  }
  status s = checkpoint_open(path, false, k);
  free(path);
  TRY(s);
  p->found = true;
  p->state = (*k)->state;
  return STATUS_OK;
}

static status share(const dist *d, return_point *p) {
  void *bytes = p;
  size_t count = sizeof *p;
  TRY(dist_broadcast(d, &bytes, &count));
  if (d->rank != 0) {
    memcpy(p, bytes, sizeof *p);
    free(bytes);
  }
  return STATUS_OK;
}

/* Metrics and TensorBoard's events then read as if the undone steps had never been. */
static status rewind_metrics(training *t, const step_outcome *o, int64_t passed) {
  if (t->d->rank != 0) {
    return STATUS_OK;
  }
  metrics_close(t->metrics);
  t->metrics = NULL;
  TRY(metrics_open(t->c->run.dir, t->state.step, t->c->train.precision == PRECISION_FP16, &t->metrics));
  tensorboard_go_back(t->tensorboard, t->state.step);
  metrics_number numbers[NUMBERS + 3];
  numbers_of(o, numbers);
  numbers[NUMBERS] = (metrics_number){"from_step", (double)o->step};
  numbers[NUMBERS + 1] = (metrics_number){"sequences", (double)t->state.sequences};
  numbers[NUMBERS + 2] = (metrics_number){"sequences_passed", (double)passed};
  metrics_event(t->metrics, t->state.step, "rollback", numbers, NUMBERS + 3,
                "step %lld was a spike; its data and those since step %lld are passed over", (long long)o->step,
                (long long)t->state.step);
  return STATUS_OK;
}

status spike_roll_back(training *t, const step_outcome *o, bool *done) {
  checkpoint *k = NULL;
  return_point p = {.found = false};
  status s = dist_agree(t->d, t->d->rank == 0 ? find(t, &k, &p) : STATUS_OK);
  if (s == STATUS_OK) {
    s = share(t->d, &p);
  }
  *done = s == STATUS_OK && p.found;
  if (*done) {
    s = dist_agree(t->d, t->e->ops->synchronize(t->e));
  }
  if (*done && s == STATUS_OK) {
    s = checkpoint_load(k, t->m, t->w, true, t->d);
  }
  checkpoint_close(k);
  TRY(s);
  if (!*done) {
    return STATUS_OK;
  }
  int64_t rollbacks = t->state.rollbacks + 1, passed = o->sequences - p.state.sequences;
  t->pending = (step_outcome){0};
  t->state = p.state;
  memcpy(t->state.plans_digest, t->plans_digest, sizeof t->state.plans_digest);
  t->state.rollbacks = rollbacks;
  t->state.sequences = o->sequences;
  t->state.tokens = o->tokens;
  log_warning(
      "step %lld is a spike: loss %.6g (%.1f deviations above what was expected), gradient norm %.6g (%.1f); back to "
      "the "
      "checkpoint of step %lld, and on with the data after the spike (rollback %lld, %lld sequences passed over)",
      (long long)o->step, o->loss, o->loss_zscore, o->grad_norm, o->norm_zscore, (long long)t->state.step,
      (long long)rollbacks, (long long)passed);
  TRY(dist_agree(t->d, training_set_engine_state(t)));
  return dist_agree(t->d, rewind_metrics(t, o, passed));
}
