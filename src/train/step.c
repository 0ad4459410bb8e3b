#include "train/step.h"

#include "base/activity.h"
#include "base/clock.h"
#include "base/phase.h"

static status load_batch(training *t, int64_t first_sequence) {
  engine *e = t->e;
  size_t bytes = (size_t)(t->host.B * t->host.T) * sizeof(int32_t);
  TRY(t->batches.load(t->batches.context, first_sequence, &t->host));
  TRY(e->ops->copy(e, STREAM_MAIN, COPY_TO_ENGINE, t->tokens, t->host.tokens, bytes));
  TRY(e->ops->copy(e, STREAM_MAIN, COPY_TO_ENGINE, t->labels, t->host.labels, bytes));
  return e->ops->copy(e, STREAM_MAIN, COPY_TO_ENGINE, t->rows, t->host.order, bytes);
}

static status set_step(training *t, int64_t first_sequence, double lr) {
  const step_state s = {.step = t->state.step + 1,
                        .updates = t->state.updates,
                        .first_sequence = first_sequence,
                        .lr = lr,
                        .loss_scale = 0, /* the engine's own: it may have changed after the step before */
                        .micro_batches = (double)t->micro_batches};
  return t->e->ops->set_step(t->e, &s);
}

static status issue_pass(void *context, int64_t j) {
  training *t = context;
  const model_batch batch = {.tokens = t->tokens, .labels = t->labels, .order = t->rows};
  TRY(t->w->ops->begin_micro_batch(t->w, j));
  return model_train(t->pass, &t->w->source, &batch, &t->losses[j]);
}

static status issue_finish(void *context, int64_t j) {
  training *t = context;
  (void)j;
  return t->w->ops->finish(t->w, t->losses, &t->update);
}

/* A part of the step, numbered as weight_store_ops.repeats does. */
static status run_part(training *t, int64_t j, graph_part issue) {
  const weight_store_ops *ops = t->w->ops;
  if (t->graphs == NULL || !ops->repeats(t->w, j)) {
    return issue(t, j);
  }
  bool launched;
  TRY(graph_set_run(t->graphs, j, issue, t, &launched));
  return launched ? ops->repeated(t->w, j) : STATUS_OK;
}

status train_step(training *t, step_outcome *previous) {
  const weight_store_ops *ops = t->w->ops;
  if (t->pending.step == 0) {
    t->counted = clock_seconds();
    t->counted_waits = activity_waiting_seconds();
  }
  if (t->e->host_memory) { /* it is there already, and the step's time ends here */
    TRY(train_collect(t, previous));
  }
  activity_step(t->state.step + 1);
  double lr = schedule_lr(&t->rate, t->state.step + 1);
  int64_t local = ops->local_micro_batches(t->w);

  for (int64_t j = 0; j < local; j++) {
    int64_t first = t->state.sequences + ops->micro_batch(t->w, j) * t->host.B;
    activity_enter(PHASE_LOAD);
    TRY_PHASE("load", load_batch(t, first));
    activity_enter(PHASE_PASS);
    TRY(set_step(t, first, lr));
    TRY(run_part(t, j, issue_pass));
  }
  if (!t->e->host_memory) { /* late, so that the device has the passes above to go on with */
    TRY(train_collect(t, previous));
  }
  activity_enter(PHASE_UPDATE);
  TRY(set_step(t, t->state.sequences, lr)); /* the count of updates is known only now */
  TRY_PHASE("update", run_part(t, local, issue_finish));
  activity_enter(PHASE_BETWEEN);

  t->state.step++;
  t->state.sequences += training_batch(t);
  t->state.tokens += t->c->train.batch_tokens;
  t->pending =
      (step_outcome){.step = t->state.step, .lr = lr, .tokens = t->state.tokens, .sequences = t->state.sequences};
  return STATUS_OK;
}

/* A device's result may wait for exchanges, and so for other ranks; on the CPU it is there. */
static status get_result(training *t, step_result *r) {
  bool waits = !t->e->host_memory && t->d->ranks > 1;
  if (waits) {
    activity_wait("the step on the device");
  }
  status s = t->e->ops->get_result(t->e, r);
  if (waits) {
    activity_waited();
  }
  return s;
}

/* What the step that was just read spent in exchanges. Where the device waits and not the host, it has measured that.
 */
static double waited(training *t) {
  double before = t->counted_waits, stalled = 0;
  bool measured = false;
  t->counted_waits = activity_waiting_seconds();
  collectives *const all[] = {t->groups.in_shard, t->groups.in_replicas};
  for (int i = 0; i < 2; i++) {
    if (all[i] != NULL && all[i]->ops->stalled != NULL) {
      stalled += all[i]->ops->stalled(all[i]);
      measured = true;
    }
  }
  return measured ? stalled : t->counted_waits - before;
}

status train_collect(training *t, step_outcome *outcome) {
  *outcome = (step_outcome){0};
  if (t->pending.step == 0) {
    return STATUS_OK;
  }
  step_result r;
  TRY(get_result(t, &r));
  double now = clock_seconds();
  *outcome = t->pending;
  outcome->seconds = now - t->counted;
  outcome->waited = waited(t);
  t->counted = now;
  outcome->loss = r.loss;
  outcome->grad_norm = r.grad_norm;
  outcome->skipped = r.skip != 0;
  outcome->loss_scale = r.loss_scale;
  outcome->next_loss_scale = t->state.loss_scale = r.next.scale;
  t->state.good_steps = r.next.good_steps;
  outcome->spike = r.spike != 0;
  outcome->loss_zscore = r.loss_zscore;
  outcome->norm_zscore = r.norm_zscore;
  t->state.spike_count = r.spikes.count;
  t->state.spike_loss_level = r.spikes.loss.level;
  t->state.spike_loss_mean = r.spikes.loss.mean;
  t->state.spike_loss_variance = r.spikes.loss.variance;
  t->state.spike_norm_level = r.spikes.norm.level;
  t->state.spike_norm_mean = r.spikes.norm.mean;
  t->state.spike_norm_variance = r.spikes.norm.variance;
  t->pending = (step_outcome){0};
  if (!outcome->skipped) {
    t->state.updates++;
  }
  return STATUS_OK;
}
