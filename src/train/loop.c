#include "train/loop.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/activity.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/phase.h"
#include "report/console.h"
#include "train/memory.h"
#include "train/saves.h"
#include "train/spike.h"
#include "train/step.h"
#include "train/stragglers.h"
#include "watch/stop.h"

enum {
  SKIPS_IN_A_ROW = 100,   /* a run whose loss has left the finite numbers for so long will not come back */
  ROLLBACKS_IN_A_ROW = 5, /* to one checkpoint: then it isn't the data */
};

/* Why ranks stop; the largest one that a rank has is agreed on. A signal is STOP_SIGNAL + its number. */
enum { GO_ON, STOP_TIME, STOP_SIGNAL };

typedef struct {
  training *t;
  double started;             /* of the program */
  double began;               /* of the loop */
  double busy, interval_busy; /* seconds in steps: of this launch, since the last line */
  int64_t interval_steps;
  double tok_s, seconds_per_step; /* of the last interval */
  double shown;                   /* when the bar was last drawn */
  double loss;                    /* of the last reported step */
  int64_t skips;                  /* in a row */
  int64_t rollbacks;              /* in a row to the same checkpoint, */
  int64_t rolled_to;              /* that of this step */
  stragglers ranks;
  saves saves;
} loop;

static bool due(int64_t step, int64_t interval) {
  return interval > 0 && step % interval == 0;
}

static double tokens_per_step(const loop *l) {
  return (double)l->t->c->train.batch_tokens;
}

/* Report. */

static void update_pace(loop *l) {
  if (l->interval_steps > 0 && l->interval_busy > 0) {
    l->seconds_per_step = l->interval_busy / (double)l->interval_steps;
    l->tok_s = tokens_per_step(l) / l->seconds_per_step;
  }
}

static console_pace pace_of(const loop *l, int64_t step) {
  int64_t steps = training_steps(l->t);
  return (console_pace){.steps = steps,
                        .batch_tokens = l->t->c->train.batch_tokens,
                        .tok_s = l->tok_s,
                        .eta = (double)(steps - step) * l->seconds_per_step};
}

static void show(loop *l, const metrics_row *row) {
  enum { BAR_PER_SECOND = 8 };
  update_pace(l);
  console_pace pace = pace_of(l, row->step);
  if (due(row->step, l->t->c->log.interval) || row->step == l->t->first_step + 1 || row->step == training_steps(l->t)) {
    console_step(row, &pace);
    l->interval_busy = 0;
    l->interval_steps = 0;
  } else if (clock_seconds() - l->shown > 1.0 / BAR_PER_SECOND) {
    console_progress(row, &pace);
    l->shown = clock_seconds();
  }
}

static void report_loss_scale(const loop *l, const step_outcome *o) {
  double from = o->loss_scale, to = o->next_loss_scale;
  if (to == from) {
    return;
  }
  log_line("step %lld: loss scale %.17g -> %.17g%s", (long long)o->step, from, to,
           to < from ? ", since the gradient overflowed; its update is skipped" : "");
  if (l->t->metrics != NULL) {
    const metrics_number numbers[] = {{"loss_scale_before", from}, {"loss_scale", to}};
    metrics_event(l->t->metrics, o->step, "loss_scale", numbers, 2, "%s",
                  to < from ? "halved after an overflow" : "doubled after steps without overflow");
  }
}

static status give_up(const loop *l, const step_outcome *o) {
  const config *c = l->t->c;
  char scale[64] = "";
  if (c->train.precision == PRECISION_FP16 && c->train.loss_scale > 0) {
    snprintf(scale, sizeof scale, "train.loss_scale (%lld) or ", (long long)c->train.loss_scale);
  }
  FAIL(
      "the loss or its gradient has not been finite for %d steps in a row, up to step %lld; lower %strain.lr (%g) and "
      "continue from an earlier checkpoint in '%s', in "
      "another run.dir, with run.resume = its path",
      SKIPS_IN_A_ROW, (long long)o->step, scale, c->train.lr, l->t->checkpoints);
}

/* A step that is skipped while the loss scale still falls is no sign of a lost run. */
static status check_skip(loop *l, const step_outcome *o) {
  report_loss_scale(l, o);
  if (!o->skipped || o->spike) {
    l->skips = 0;
    return STATUS_OK;
  }
  bool falling = o->next_loss_scale < o->loss_scale;
  l->skips += !falling;
  if (!falling || !isfinite(o->loss)) {
    log_warning("step %lld: loss %g, gradient norm %g: not finite, so its update is skipped", (long long)o->step,
                o->loss, o->grad_norm);
  }
  if (l->t->metrics != NULL) {
    metrics_event(l->t->metrics, o->step, "skip", NULL, 0, "loss %g, gradient norm %g: the update is skipped", o->loss,
                  o->grad_norm);
  }
  return l->skips >= SKIPS_IN_A_ROW ? give_up(l, o) : STATUS_OK;
}

/* The lines of a step whose result is known; `val` is NULL when nothing was evaluated after it. */
static status report(loop *l, const step_outcome *o, const evaluation_result *val) {
  if (o->step == 0) {
    return STATUS_OK;
  }
  l->busy += o->seconds;
  l->interval_busy += o->seconds;
  l->interval_steps++;
  l->loss = o->loss;
  stragglers_count(&l->ranks, o->seconds - o->waited, o->waited);
  bool fp16 = l->t->c->train.precision == PRECISION_FP16;
  const metrics_row row = {.step = o->step,
                           .loss = o->loss,
                           .ppl = exp(o->loss),
                           .lr = o->lr,
                           .grad_norm = o->grad_norm,
                           .tok_s = tokens_per_step(l) / o->seconds,
                           .step_ms = 1000 * o->seconds,
                           .tokens = o->tokens,
                           .epoch = (double)o->sequences / (double)l->t->order.windows,
                           .skipped = o->skipped,
                           .val_loss = val != NULL ? val->loss : NAN,
                           .val_ppl = val != NULL ? val->ppl : NAN,
                           .val_bits_per_byte = val != NULL ? val->bits_per_byte : NAN,
                           .loss_scale = fp16 ? o->loss_scale : NAN};
  if (l->t->metrics != NULL) {
    metrics_step(l->t->metrics, &row);
    tensorboard_step(l->t->tensorboard, &row);
  }
  show(l, &row);
  if (row.step == l->t->first_step + 1) {
    memory_compare(l->t);
  }
  if (!spike_rolls_back(l->t, o)) { /* otherwise roll_back says it */
    spike_report(l->t, o);
  }
  return check_skip(l, o);
}

/* Evaluation. */

static status evaluate(loop *l, evaluation_result *val) {
  training *t = l->t;
  activity_enter(PHASE_EVALUATION);
  TRY(evaluation_run(t->eval, val, console_evaluating));
  activity_enter(PHASE_BETWEEN);
  t->state.val_loss = val->loss;
  saves_judge(t);
  return STATUS_OK;
}

static void report_evaluation(loop *l, const evaluation_result *val) {
  training *t = l->t;
  bool best = t->state.best_step == t->state.step;
  console_evaluation(t->state.step, val->tokens, val->loss, val->ppl, val->bits_per_byte, val->accuracy, val->seconds,
                     best);
  if (t->metrics != NULL) {
    const metrics_number numbers[] = {{"val_loss", val->loss},
                                      {"val_ppl", val->ppl},
                                      {"val_bits_per_byte", val->bits_per_byte},
                                      {"val_accuracy", val->accuracy},
                                      {"val_tokens", (double)val->tokens},
                                      {"seconds", val->seconds},
                                      {"peak_bytes", memory_peak(t)}};
    tensorboard_numbers(t->tensorboard, t->state.step, &numbers[3], 1); /* the losses are in the row */
    metrics_event(t->metrics, t->state.step, "evaluation", numbers, (int)(sizeof numbers / sizeof numbers[0]), "%s",
                  best ? "the best so far" : "");
  }
}

/* The loop. */

static status agree_on_stop(loop *l, int64_t *stop) {
  double limit = 60 * l->t->c->run.max_minutes;
  int64_t mine = GO_ON;
  if (stop_requested() != 0) {
    mine = STOP_SIGNAL + stop_requested();
  } else if (limit > 0 && clock_seconds() - l->started >= limit) {
    mine = STOP_TIME;
  }
  return stragglers_agree(&l->ranks, mine, stop);
}

/* `wait`: until it is written; that of the run's last checkpoint is waited for anyway. */
static status save(loop *l, bool last, bool wait) {
  activity_enter(PHASE_SAVE);
  TRY_PHASE("save", saves_start(&l->saves, last));
  if (wait) {
    TRY(saves_wait(&l->saves));
  }
  activity_enter(PHASE_BETWEEN);
  return STATUS_OK;
}

/* After a step whose result is a spike that sends the run back. That is saved at once, so that a run that is stopped
 * now does not read the data again. */
static status roll_back(loop *l, const step_outcome *o, bool *done) {
  training *t = l->t;
  activity_enter(PHASE_RETURN);
  TRY(saves_wait(&l->saves)); /* it may be the one to go back to */
  TRY(spike_roll_back(t, o, done));
  activity_enter(PHASE_BETWEEN);
  if (!*done) {
    spike_report(t, o);
    return STATUS_OK;
  }
  l->rollbacks = t->state.step == l->rolled_to ? l->rollbacks + 1 : 1;
  l->rolled_to = t->state.step;
  if (l->rollbacks > ROLLBACKS_IN_A_ROW) {
    FAIL(
        "the run has spiked %lld times in a row after step %lld, each time on other data; lower train.lr (%g) and "
        "continue from an earlier checkpoint in '%s', in another run.dir, with run.resume = its path, or raise "
        "watch.spike_zscore (%g)",
        (long long)l->rollbacks, (long long)l->rolled_to, t->c->train.lr, t->checkpoints, t->c->watch.spike_zscore);
  }
  return save(l, false, true);
}

/* One step and what is due after it. */
static status advance(loop *l, int64_t *stop) {
  training *t = l->t;
  const config *c = t->c;
  step_outcome outcome;
  TRY(train_step(t, &outcome));
  bool back = false;
  if (spike_rolls_back(t, &outcome)) {
    TRY(roll_back(l, &outcome, &back));
  }
  if (!back) {
    TRY(report(l, &outcome, NULL));
  }
  TRY(saves_advance(&l->saves));
  TRY(agree_on_stop(l, stop));
  if (back) {
    return STATUS_OK;
  }

  int64_t step = t->state.step;
  if (due(step, c->log.interval)) {
    stragglers_report(&l->ranks, t->metrics, step, clock_seconds());
  }
  bool last = step == training_steps(t);
  bool evaluating = t->eval != NULL && (due(step, c->eval.interval) || last);
  bool saving = due(step, c->checkpoint.interval) || last || *stop != GO_ON;
  t->state.val_loss = NAN;
  if (!evaluating && !saving && !due(step, c->log.interval)) {
    return STATUS_OK;
  }
  evaluation_result val;
  TRY(train_collect(t, &outcome));
  if (spike_rolls_back(t, &outcome)) {
    TRY(roll_back(l, &outcome, &back));
    if (back) {
      return STATUS_OK;
    }
  }
  if (evaluating) {
    TRY_PHASE("evaluate", evaluate(l, &val));
  }
  TRY(report(l, &outcome, evaluating ? &val : NULL));
  if (evaluating) {
    report_evaluation(l, &val);
  }
  bool best = evaluating && t->state.best_step == step;
  if (saving || best) {
    TRY(save(l, last || *stop != GO_ON, false));
  }
  return STATUS_OK;
}

static void summarize(const loop *l, int64_t stop) {
  const training *t = l->t;
  int64_t done = t->state.step - t->first_step;
  const console_summary s = {.ending = stop >= STOP_SIGNAL ? END_SIGNAL
                                       : stop == STOP_TIME ? END_TIME
                                       : done > 0          ? END_FINISHED
                                                           : END_NOTHING_TO_DO,
                             .step = t->state.step,
                             .steps = training_steps(t),
                             .launch_steps = done,
                             .seconds = clock_seconds() - l->started,
                             .tok_s = l->busy > 0 ? (double)done * tokens_per_step(l) / l->busy : 0,
                             .loss = l->loss,
                             .best_val_loss = t->state.best_val_loss,
                             .best_step = t->state.best_step,
                             .c = t->c,
                             .writes = strcmp(t->train_store->tokenizer, "external") != 0,
                             .ranks = t->d->ranks,
                             .argc = t->request->argc,
                             .argv = t->request->argv};
  console_end(&s);
  if (t->metrics != NULL) {
    const metrics_number numbers[] = {{"seconds", s.seconds}, {"tok_s", s.tok_s}, {"peak_bytes", memory_peak(l->t)}};
    metrics_event(t->metrics, s.step, "stop", numbers, 3, "%s",
                  stop == GO_ON       ? "finished"
                  : stop == STOP_TIME ? "run.max_minutes"
                                      : "signal");
  }
}

/* What a launcher reads. A run that was asked to stop at its last step is finished. */
static status mark_end(const loop *l, int64_t stop) {
  const training *t = l->t;
  if (t->state.step >= training_steps(t)) {
    return training_mark(t, RUN_FINISHED, "");
  }
  char reason[64];
  if (stop == STOP_TIME) {
    snprintf(reason, sizeof reason, "run.max_minutes = %.9g", t->c->run.max_minutes);
  } else {
    const char *name = sigabbrev_np((int)(stop - STOP_SIGNAL));
    snprintf(reason, sizeof reason, "signal SIG%s", name != NULL ? name : "?");
  }
  return training_mark(t, RUN_STOPPED, reason);
}

/* Ranks, parameters, the memory that is there, and the rows of the plan. */
static void report_start(const training *t) {
  char names[PLAN_ROWS][48];
  metrics_number numbers[PLAN_ROWS + 3] = {{"ranks", t->d->ranks},
                                           {"parameters", (double)t->m->parameters},
                                           {"available_bytes", t->memory_available > 0 ? t->memory_available : NAN}};
  for (int i = 0; i < t->plan.n_rows; i++) {
    snprintf(names[i], sizeof names[i], "%s %s", t->plan.rows[i].host ? "host" : "plan", t->plan.rows[i].what);
    numbers[i + 3] = (metrics_number){names[i], t->plan.rows[i].bytes};
  }
  metrics_event(t->metrics, t->state.step, "start", numbers, t->plan.n_rows + 3, "%s",
                t->resumed_from != NULL ? t->resumed_from : "");
}

status train_loop(training *t, double started) {
  loop l = {.t = t, .started = started, .began = clock_seconds(), .loss = NAN, .saves = saves_begin(t)};
  if (t->metrics != NULL) {
    report_start(t);
  }
  int64_t stop = GO_ON;
  status s = stragglers_init(&l.ranks, t->d);
  if (s == STATUS_OK) {
    s = agree_on_stop(&l, &stop);
  }
  while (s == STATUS_OK && stop == GO_ON && t->state.step < training_steps(t)) {
    s = advance(&l, &stop);
  }
  stragglers_free(&l.ranks);
  TRY(s);
  activity_enter(PHASE_END);
  summarize(&l, stop);
  return dist_agree(t->d, mark_end(&l, stop));
}
