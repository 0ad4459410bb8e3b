/* Trains a model: psann_train CONFIG [section.key=value …], alone or under mpirun. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "dist/dist.h"
#include "report/console.h"
#include "train/arguments.h"
#include "train/loop.h"
#include "train/setup.h"
#include "watch/stop.h"
#include "watch/terminal.h"
#include "watch/watchdog.h"

enum { PATIENCE_S = 300 }; /* after a failure, until a save under way is whole and everything is freed */

static void introduce(const training *t) {
  const console_run r = {.c = t->c,
                         .d = t->d,
                         .machine = &t->machine,
                         .e = t->e,
                         .m = t->m,
                         .train = t->train_store,
                         .val = t->val_store,
                         .windows = t->order.windows,
                         .micro_batches = t->micro_batches,
                         .plan = &t->plan,
                         .memory_available = t->memory_available,
                         .host_available = t->host_available,
                         .first_step = t->first_step,
                         .resumed_from = t->resumed_from};
  console_start(&r);
}

static status train(training *t, const train_request *r, const dist *d, double started) {
  if (!r->plan_only) { /* first: a request to stop that comes early is kept for the first step */
    TRY(stop_install(d->rank == 0));
    if (d->rank == 0) {
      terminal_take();
    }
  }
  TRY(training_open(t, r, d));
  introduce(t);
  TRY(training_check_memory(t));
  if (r->plan_only) {
    return STATUS_OK;
  }
  TRY(training_start(t));
  return train_loop(t, started);
}

/* Leaves the message of the failure as it was. */
static void mark_failure(const training *t, status s) {
  char *message = strdup(status_message());
  if (message != NULL && training_mark(t, RUN_FAILED, message) != STATUS_OK) {
    status_set(s, __FILE__, __LINE__, "%s", message);
  }
  free(message);
}

int main(int argc, char **argv) {
  double started = clock_seconds();
  if (arguments_inform(argc, argv)) {
    return STATUS_OK;
  }
  dist d;
  train_request request;
  training t = {.lock = -1};
  char *overrides[argc > 0 ? argc : 1];
  status s = arguments_read(argc, argv, overrides, &request);
  if (s == STATUS_OK && request.value_of != NULL) {
    return arguments_print_value(&request);
  }
  status in_job = dist_start(&argc, &argv, &d);
  s = in_job != STATUS_OK ? in_job : s;
  if (s == STATUS_OK) {
    s = train(&t, &request, &d, started);
  }
  terminal_give_back();
  if (s != STATUS_OK) { /* other ranks may wait for this one: tell them before anything that could wait for them */
    watch_ending();
    mark_failure(&t, s);
    dist_end(&d, s);
    watch_stop();
    watch_end_within(PATIENCE_S, s);
    training_close(&t);
    return s;
  }
  training_close(&t);
  dist_end(&d, s);
  watch_stop(); /* last: a rank can hang on its way out too */
  return s;
}
