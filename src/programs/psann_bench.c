/* Measures what the programs do on this machine: psann_bench COMMAND, alone or under mpirun. */
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "bench/bundle.h"
#include "bench/exchange.h"
#include "bench/throughput.h"
#include "bench/validate.h"
#include "dist/dist.h"
#include "report/version.h"

static const char usage[] =
    "usage: [mpirun -np N] psann_bench COMMAND [options]\n"
    "\n"
    "  throughput    speed, MFU, memory and power of training and of forward alone, for the bench models\n"
    "  exchange      how fast ranks exchange buffers\n"
    "  validate      the validation steps, each with a threshold (starts ranks itself: not under mpirun)\n"
    "  aggregate     gathers the figures of validation reports\n"
    "\n"
    "  psann_bench COMMAND --help    options of a command\n"
    "  psann_bench --version         what this build is\n";

static void show(const dist *d, const char *text) {
  if (d->rank == 0) {
    printf("%s%s", text, text[strlen(text) - 1] == '\n' ? "" : "\n");
  }
}

static status command_throughput(int argc, char **argv, const dist *d) {
  throughput_job job;
  const char *print;
  char *overrides[argc];
  status s = throughput_arguments(argc, argv, overrides, &job, &print);
  if (s == STATUS_OK && print != NULL) {
    show(d, print);
  } else if (s == STATUS_OK) {
    s = throughput_run(&job, d);
  }
  throughput_free(&job);
  return s;
}

static status command_exchange(int argc, char **argv, const dist *d) {
  exchange_job job;
  const char *print;
  TRY(exchange_arguments(argc, argv, &job, &print));
  if (print != NULL) {
    show(d, print);
    return STATUS_OK;
  }
  return exchange_run(&job, d);
}

static const struct {
  const char *name;
  status (*run)(int argc, char **argv, const dist *d);
} commands[] = {{"throughput", command_throughput}, {"exchange", command_exchange}};

/* Commands of one process, which never start MPI: what they start does. */
static const struct {
  const char *name;
  status (*run)(int argc, char **argv, const char **print);
} alone[] = {{"validate", validate_command}, {"aggregate", bundle_command}};

/* *done: it was one of those. */
static status run_alone(int argc, char **argv, bool *done) {
  *done = false;
  for (size_t i = 0; argc > 1 && i < sizeof alone / sizeof *alone; i++) {
    if (strcmp(argv[1], alone[i].name) == 0) {
      const char *print = NULL;
      *done = true;
      TRY(alone[i].run(argc, argv, &print));
      printf("%s", print != NULL ? print : "");
    }
  }
  return STATUS_OK;
}

static status run(int argc, char **argv, const dist *d) {
  const char *name = argc < 2 ? "" : argv[1];
  if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
    show(d, usage);
    return STATUS_OK;
  }
  if (strcmp(name, "--version") == 0) {
    show(d, version_text());
    return STATUS_OK;
  }
  for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
    if (strcmp(name, commands[i].name) == 0) {
      return commands[i].run(argc, argv, d);
    }
  }
  if (argc < 2) {
    USER_ERROR("no command is given; choose throughput, exchange, validate or aggregate (psann_bench --help)");
  }
  USER_ERROR("there is no command '%s'; choose throughput, exchange, validate or aggregate (psann_bench --help)", name);
}

int main(int argc, char **argv) {
  dist d;
  bool done;
  status s = run_alone(argc, argv, &done);
  if (done) {
    if (s != STATUS_OK) {
      log_error("%s", status_message());
    }
    return s;
  }
  s = dist_start(&argc, &argv, &d);
  if (s == STATUS_OK) {
    s = run(argc, argv, &d);
  }
  dist_end(&d, s);
  return s;
}
