/* Trains a model: psann_train CONFIG [section.key=value …], alone or under mpirun. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "dist/dist.h"
#include "report/console.h"
#include "report/version.h"
#include "train/loop.h"
#include "train/setup.h"
#include "watch/stop.h"
#include "watch/terminal.h"
#include "watch/watchdog.h"

static const char usage[] =
    "usage: psann_train CONFIG [section.key=value …]\n"
    "       mpirun -np N psann_train CONFIG [section.key=value …]\n"
    "\n"
    "Trains a PSANN language model. CONFIG is an INI file; assignments after it win over the file. All files of the "
    "run go to\n"
    "run.dir; started again, a run continues from its newest checkpoint. Ctrl-C saves and ends; a second one ends at "
    "once.\n"
    "\n"
    "  --plan          print model, memory, data and work of this run for the given number of ranks, and stop\n"
    "  --help-config   every key with type, default, range and meaning\n"
    "  --help          this text\n"
    "  --version       version, commit, build options, libraries\n"
    "\n"
    "Exit codes: 0 trained, or stopped as requested, with a checkpoint; 1 a failure; 2 a mistake in what was given; "
    "130 a second Ctrl-C.\n";

/* What needs no run: prints it and returns true. */
static bool informed(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
      fputs(usage, stdout);
      return true;
    }
    if (strcmp(argv[i], "--help-config") == 0) {
      config_help(stdout);
      return true;
    }
    if (strcmp(argv[i], "--version") == 0) {
      puts(version_text());
      return true;
    }
  }
  return false;
}

/* `overrides` has room for argc pointers. */
static status read_arguments(int argc, char **argv, char **overrides, train_request *r) {
  *r = (train_request){.overrides = overrides, .argc = argc, .argv = argv};
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--plan") == 0) {
      r->plan_only = true;
    } else if (argv[i][0] == '-') {
      USER_ERROR("unknown option %s: psann_train --help lists the options", argv[i]);
    } else if (r->config == NULL) {
      r->config = argv[i];
    } else if (strchr(argv[i], '=') != NULL) {
      overrides[r->n_overrides++] = argv[i];
    } else {
      USER_ERROR(
          "'%s' is neither an option nor section.key=value, and the config '%s' is already given: psann_train --help",
          argv[i], r->config);
    }
  }
  if (r->config == NULL || (strchr(r->config, '=') != NULL && !file_exists(r->config))) {
    USER_ERROR("no config is given: psann_train CONFIG [section.key=value …]; psann_train --help tells more");
  }
  return STATUS_OK;
}

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
                         .first_step = t->first_step,
                         .resumed_from = t->resumed_from};
  console_start(&r);
}

static status train(training *t, const train_request *r, const dist *d, double started) {
  TRY(training_open(t, r, d));
  introduce(t);
  TRY(training_check_memory(t));
  if (r->plan_only) {
    return STATUS_OK;
  }
  TRY(stop_install(d->rank == 0));
  if (d->rank == 0) {
    terminal_take();
  }
  TRY(training_start(t));
  return train_loop(t, started);
}

int main(int argc, char **argv) {
  double started = clock_seconds();
  if (informed(argc, argv)) {
    return STATUS_OK;
  }
  dist d;
  train_request request;
  training t = {.lock = -1};
  char *overrides[argc > 0 ? argc : 1];
  status s = dist_start(&argc, &argv, &d);
  if (s == STATUS_OK) {
    s = read_arguments(argc, argv, overrides, &request);
  }
  if (s == STATUS_OK) {
    s = train(&t, &request, &d, started);
  }
  terminal_give_back();
  if (s != STATUS_OK) { /* other ranks may wait for this one: tell them before anything that could wait for them */
    watch_ending();
    dist_end(&d, s);
    watch_stop();
    training_close(&t);
    return s;
  }
  watch_stop();
  training_close(&t);
  dist_end(&d, s);
  return s;
}
