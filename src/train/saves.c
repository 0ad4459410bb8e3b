#include "train/saves.h"

#include <stdio.h>

#include "base/log.h"
#include "ckpt/writer.h"
#include "train/memory.h"

saves saves_begin(training *t) {
  return (saves){
      .t = t, .saved_step = t->first_step, .best_step = t->state.best_step, .best_val_loss = t->state.best_val_loss};
}

void saves_judge(training *t) {
  if (t->state.val_loss < t->state.best_val_loss) { /* not where it is NaN: not evaluated */
    t->state.best_val_loss = t->state.val_loss;
    t->state.best_step = t->state.step;
  }
}

static status written(saves *s, const checkpoint_outcome *o) {
  training *t = s->t;
  s->failures = 0;
  s->saved_step = o->state.step;
  if (o->state.best_step == o->state.step) {
    s->best_step = o->state.best_step;
    s->best_val_loss = o->state.best_val_loss;
  }
  char copy[48] = "";
  if (o->copied > 0) {
    snprintf(copy, sizeof copy, ", for the copy %.2fs", o->copied);
  }
  log_line("[save] step=%lld dt=%.1fs, training waited %.2fs%s", (long long)o->state.step, o->seconds, o->waited, copy);
  if (t->metrics != NULL) {
    const metrics_number numbers[] = {{"seconds", o->seconds}, {"waited", o->waited}, {"copied", o->copied}};
    metrics_event(t->metrics, o->state.step, "save", numbers, 3, "%s/step_%08lld.h5", t->checkpoints,
                  (long long)o->state.step);
  }
  return STATUS_OK;
}

static status failed(saves *s, const checkpoint_outcome *o, bool last, bool another_follows) {
  training *t = s->t;
  long long step = (long long)o->state.step;
  s->failures++;
  if (t->state.best_step == o->state.step) { /* `best` still names the checkpoint before it */
    t->state.best_step = s->best_step;
    t->state.best_val_loss = s->best_val_loss;
  }
  if (last || (s->failures > t->c->checkpoint.max_failures && !another_follows)) {
    char newest[64] = "none was written before";
    if (s->saved_step > 0) {
      snprintf(newest, sizeof newest, "the newest one is of step %lld", (long long)s->saved_step);
    }
    return status_prefix(STATUS_FAILURE, "%s (step %lld) could not be written, failure %lld in a row; %s",
                         last ? "the run's last checkpoint" : "training stopped: the checkpoint", step,
                         (long long)s->failures, newest);
  }
  log_warning("the checkpoint of step %lld could not be written (failure %lld in a row, %lld are outlived): %s", step,
              (long long)s->failures, (long long)t->c->checkpoint.max_failures, status_message());
  if (t->metrics != NULL) {
    metrics_event(t->metrics, o->state.step, "warning", NULL, 0, "the checkpoint could not be written: %s",
                  status_message());
  }
  return STATUS_OK;
}

/* `last`: of the save that is looked at; `another_follows`: the run's last one comes next, and decides. */
static status look(saves *s, bool wait, bool last, bool another_follows) {
  checkpoint_outcome o;
  TRY(checkpoint_writer_advance(s->t->writer, wait, &o));
  if (o.state.step < 0) {
    return STATUS_OK;
  }
  return o.result == STATUS_OK ? written(s, &o) : failed(s, &o, last, another_follows);
}

status saves_advance(saves *s) {
  return look(s, false, false, false);
}

status saves_wait(saves *s) {
  return look(s, true, false, false);
}

status saves_start(saves *s, bool last) {
  training *t = s->t;
  int64_t busy = checkpoint_writer_busy(t->writer);
  if (busy >= 0) {
    log_line("[save] step=%lld waits for the checkpoint of step %lld, which is still being written",
             (long long)t->state.step, (long long)busy);
  }
  TRY(look(s, true, false, last));
  saves_judge(t); /* again: a failure may just have taken back what was the best */
  tensorboard_numbers(t->tensorboard, t->state.step, &(metrics_number){"peak_bytes", memory_peak(t)}, 1);
  tensorboard_flush(t->tensorboard); /* a run that goes on from this checkpoint has all steps before it */
  TRY(checkpoint_writer_start(t->writer, &t->state));
  bool goes_on = checkpoint_writer_busy(t->writer) >= 0 && !last;
  return goes_on ? STATUS_OK : look(s, last, last, false);
}
