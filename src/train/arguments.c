#include "train/arguments.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "report/version.h"

static const char usage[] =
    "usage: psann_train CONFIG [section.key=value …]\n"
    "       mpirun -np N psann_train CONFIG [section.key=value …]\n"
    "\n"
    "Trains a PSANN language model. CONFIG is an INI file; assignments after it win over the file. All files of the "
    "run go to\n"
    "run.dir; started again, a run continues from its newest checkpoint. Ctrl-C saves and ends; a second one ends at "
    "once.\n"
    "\n"
    "  --value KEY     print the value of section.key under this config, and stop; for scripts\n"
    "  --plan          print model, memory, data and work of this run for the given number of ranks, and stop\n"
    "  --help-config   every key with type, default, range and meaning\n"
    "  --help          this text\n"
    "  --version       version, commit, build options, libraries\n"
    "\n"
    "Exit codes: 0 trained, or stopped as requested, with a checkpoint; 1 a failure; 2 a mistake in what was given; "
    "130 a second Ctrl-C.\n";

bool arguments_inform(int argc, char **argv) {
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

status arguments_read(int argc, char **argv, char **overrides, train_request *r) {
  *r = (train_request){.overrides = overrides, .argc = argc, .argv = argv};
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--plan") == 0) {
      r->plan_only = true;
    } else if (strcmp(argv[i], "--value") == 0) {
      if (i + 1 == argc) {
        USER_ERROR("--value needs a key, such as psann_train --value run.dir CONFIG");
      }
      r->value_of = argv[++i];
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

status arguments_print_value(const train_request *r) {
  config *c = NULL;
  char *value = NULL;
  status s = training_config(r, &c);
  if (s == STATUS_OK) {
    s = config_value(c, r->value_of, &value);
  }
  if (s == STATUS_OK) {
    puts(value);
  } else {
    log_error("%s", status_message());
  }
  free(value);
  config_free(c);
  return s;
}
