/* Verifies and compares checkpoints and token stores, and runs parity cases. */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "check/golden.h"
#include "check/inspect.h"
#include "ckpt/checkpoint.h"
#include "infer/arguments.h"
#include "report/version.h"

static const char USAGE[] =
    "usage: psann_check checkpoint PATH…\n"
    "       psann_check store FILE…\n"
    "       psann_check diff A B\n"
    "       psann_check golden [--device D] [--precision P] FILE…\n"
    "\n"
    "  checkpoint  verifies every digest of a checkpoint and prints what is in it; a run folder stands for its last "
    "one\n"
    "  store       the same for a token store\n"
    "  diff        compares two checkpoints by digest; says which tensors, state fields and keys differ, and by how "
    "much\n"
    "  golden      runs parity cases; prints a line a case with the largest errors against the recorded values\n"
    "\n"
    "  --device D     auto, cpu, cuda (auto)\n"
    "  --precision P  fp32, fp64 (the CPU alone), tf32, bf16, fp16 (a GPU alone); fp32\n"
    "  --help, --version\n"
    "\n"
    "All files are looked at, also after one that fails. Ends with 0 when all is well, 1 when checkpoints differ or a "
    "case\n"
    "is past its tolerance, 2 when a file is missing or damaged.\n";

static const struct option OPTIONS[] = {{"device", required_argument, NULL, 'd'},
                                        {"precision", required_argument, NULL, 'p'},
                                        {"help", no_argument, NULL, 'h'},
                                        {"version", no_argument, NULL, 'v'},
                                        {NULL, 0, NULL, 0}};

typedef struct {
  const char *command;
  const char *device, *precision; /* NULL: not given */
  int n_files;
  char **files;
  const char *print; /* what to print instead of working */
} arguments;

static status read_arguments(int argc, char **argv, arguments *a) {
  opterr = 0;
  for (int option; (option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1;) {
    if (option == '?' || option == ':') {
      argument_refused("psann_check", option, optopt, optind, argv);
      return STATUS_USER_ERROR;
    }
    if (option == 'h' || option == 'v') {
      a->print = option == 'v' ? version_text() : USAGE;
      return STATUS_OK;
    }
    *(option == 'd' ? &a->device : &a->precision) = optarg;
  }
  if (optind >= argc) {
    USER_ERROR("no command given: checkpoint, store, diff or golden; psann_check --help tells more");
  }
  a->command = argv[optind];
  a->files = argv + optind + 1;
  a->n_files = argc - optind - 1;
  if ((a->device != NULL || a->precision != NULL) && strcmp(a->command, "golden") != 0) {
    USER_ERROR("--device and --precision belong to psann_check golden, not to psann_check %s; leave them out",
               a->command);
  }
  return STATUS_OK;
}

/* All files, also after one that fails; the result is the worst one. */
static status each_file(const arguments *a, status (*inspect)(const char *path)) {
  status worst = STATUS_OK;
  for (int i = 0; i < a->n_files; i++) {
    status result = inspect(a->files[i]);
    if (result != STATUS_OK) {
      log_error("%s", status_message());
    }
    worst = result > worst ? result : worst;
  }
  return worst;
}

static status golden(const arguments *a, bool *good) {
  config *c;
  bool fp64 = a->precision != NULL && strcmp(a->precision, "fp64") == 0; /* no value of the key: parity cases alone know it */
  TRY(config_new(&c));
  status result = config_set(c, "run", "device", a->device != NULL ? a->device : "auto", "--device");
  if (result == STATUS_OK && !fp64 && a->precision != NULL) {
    result = config_set(c, "train", "precision", a->precision, "--precision");
  }
  if (result == STATUS_OK && c->train.precision == PRECISION_FP8) {
    result = status_set(STATUS_USER_ERROR, __FILE__, __LINE__,
                        "--precision fp8 is for training runs: parity cases have no values of it; give one of the others");
  }
  config_device device = fp64 && a->device == NULL ? DEVICE_CPU : c->run.device;
  config_precision precision = fp64 ? PRECISION_FP64 : a->precision != NULL ? c->train.precision : PRECISION_FP32;
  config_free(c);
  return result == STATUS_OK ? golden_run(a->n_files, a->files, device, precision, good) : result;
}

/* *reported: the failures were printed when they happened. */
static status run(const arguments *a, bool *good, bool *reported) {
  static const char *const commands[] = {"checkpoint", "store", "diff", "golden"};
  bool known = false;
  for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
    known = known || strcmp(a->command, commands[i]) == 0;
  }
  if (!known) {
    USER_ERROR("there is no command '%s'; give checkpoint, store, diff or golden", a->command);
  }
  if (strcmp(a->command, "diff") == 0) {
    if (a->n_files != 2) {
      USER_ERROR("psann_check diff takes two checkpoints, %d given; psann_check --help tells more", a->n_files);
    }
    return checkpoint_diff(a->files[0], a->files[1], good);
  }
  if (a->n_files == 0) {
    USER_ERROR("psann_check %s takes at least one file; psann_check --help tells more", a->command);
  }
  if (strcmp(a->command, "golden") == 0) {
    return golden(a, good);
  }
  *reported = true;
  return each_file(a, strcmp(a->command, "store") == 0 ? inspect_store : inspect_checkpoint);
}

int main(int argc, char **argv) {
  arguments a = {0};
  bool good = true, reported = false;
  status result = read_arguments(argc, argv, &a);
  if (result == STATUS_OK && a.print != NULL) {
    printf("%s%s", a.print, a.print[strlen(a.print) - 1] == '\n' ? "" : "\n");
    return EXIT_SUCCESS;
  }
  if (result == STATUS_OK && a.command != NULL) {
    result = run(&a, &good, &reported);
  }
  if (result != STATUS_OK && !reported) {
    log_error("%s", status_message());
  }
  return result == STATUS_OK && !good ? EXIT_FAILURE : result;
}
