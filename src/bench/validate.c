#include "bench/validate.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "bench/bundle.h"
#include "base/json.h"
#include "bench/steps.h"
#include "bench/validate_system.h"
#include "infer/arguments.h"

static const char USAGE[] =
    "usage: psann_bench validate [option…]\n"
    "\n"
    "The validation steps, each with a threshold and a verdict: pass, fail, or skipped with the reason. On a machine\n"
    "with GPUs they run there, elsewhere on the CPU with small shapes. Ranks are started by this program: don't start\n"
    "it with mpirun.\n"
    "\n"
    "  GPU-01  forward and backward: an update lowers the loss\n"
    "  GPU-02  bf16 against fp32\n"
    "  GPU-03  throughput: forward in fp32 as published, forward and training in bf16\n"
    "  GPU-04  memory and time with and without recompute\n"
    "  GPU-05  data parallel: several ranks against one, bit for bit\n"
    "  GPU-06  sharded: the same\n"
    "  GPU-07  trains on text and writes; cached generation against full\n"
    "  GPU-08  save, load, continue, bit for bit\n"
    "\n"
    "  --only STEP…      these steps alone\n"
    "  --text PATH       text file, or folder of them; with train/ and val/ in it, divided so (data/bible)\n"
    "  --seconds X       of training in GPU-07 (60 on a GPU, 10 elsewhere)\n"
    "  --device D        auto, cpu, cuda (auto)\n"
    "  --out DIR         reports go to DIR/gpu/<UTC time> and DIR/benchmarks/<UTC time> (reports)\n"
    "  --keep            leave the folder with runs and token stores\n"
    "  --help\n";

static const struct option OPTIONS[] = {
    {"only", required_argument, NULL, 'y'},    {"text", required_argument, NULL, 't'},
    {"seconds", required_argument, NULL, 's'}, {"device", required_argument, NULL, 'd'},
    {"out", required_argument, NULL, 'o'},     {"keep", no_argument, NULL, 'k'},
    {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};

static const struct {
  const char *name;
  status (*run)(validation *v, cJSON *result);
} STEPS[] = {
    {"GPU-01", step_learns}, {"GPU-02", step_precision},  {"GPU-03", step_throughput}, {"GPU-04", step_recompute},
    {"GPU-05", step_ddp},    {"GPU-06", step_full_shard}, {"GPU-07", step_writes},     {"GPU-08", step_continues},
};

enum { N_STEPS = sizeof STEPS / sizeof *STEPS };

typedef struct {
  validation v;
  bool chosen[N_STEPS];
  cJSON *summary, *results; /* the second is part of the first */
  char *path;               /* of summary.json */
  int passed, failed, skipped;
} session;

/* Arguments. */

static status choose(bool chosen[N_STEPS], const char *name) {
  for (int i = 0; i < N_STEPS; i++) {
    if (strcasecmp(name, STEPS[i].name) == 0) {
      chosen[i] = true;
      return STATUS_OK;
    }
  }
  USER_ERROR("there is no step '%s'; choose among GPU-01 to GPU-08", name);
}

static status read_arguments(int argc, char **argv, validation_options *o, bool chosen[N_STEPS], const char **print) {
  bool only = false;
  opterr = 0;
  optind = 2;
  for (int option; (option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1;) {
    switch (option) {
      case '?':
      case ':':
        return argument_refused("psann_bench validate", option, optopt, optind, argv);
      case 'h':
        *print = USAGE;
        return STATUS_OK;
      case 'y':
        only = true;
        TRY(choose(chosen, optarg));
        break;
      case 's':
        TRY(argument_number("--seconds", optarg, 0.1, 86400, &o->seconds));
        break;
      case 'k':
        o->keep = true;
        break;
      default:
        *(option == 't' ? &o->text : option == 'd' ? &o->device : &o->out) = optarg;
    }
  }
  for (int i = optind; i < argc; i++) {
    if (!only) {
      USER_ERROR("'%s' is not an option of psann_bench validate; steps are named by --only", argv[i]);
    }
    TRY(choose(chosen, argv[i]));
  }
  for (int i = 0; i < N_STEPS && !only; i++) {
    chosen[i] = true;
  }
  return STATUS_OK;
}

/* Running. */

static status write_summary(const session *s) {
  return json_write(s->path, s->summary);
}

static status start(session *s) {
  cJSON *system = NULL;
  TRY(file_join(&s->path, s->v.reports, "summary.json"));
  TRY(validate_system(&s->v, &system));
  s->summary = cJSON_CreateObject();
  cJSON_AddStringToObject(s->summary, "timestamp_utc", s->v.stamp);
  cJSON_AddItemToObject(s->summary, "system", system);
  s->results = cJSON_AddObjectToObject(s->summary, "results");
  REQUIRE(s->results != NULL, "no memory for '%s'", s->path);
  log_line("validation on %s: %s", s->v.gpu ? "GPU" : "CPU",
           cJSON_GetStringValue(cJSON_GetObjectItem(system, "engine")));
  return write_summary(s);
}

static const char *text_of(const cJSON *o, const char *key) {
  const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(o, key));
  return text != NULL ? text : "";
}

static void show(const char *name, const cJSON *result) {
  const char *reason = text_of(result, "reason");
  log_line("%s  %-7s  %s%s%s", name, text_of(result, "verdict"), text_of(result, "figure"),
           reason[0] != 0 && text_of(result, "figure")[0] != 0 ? "; " : "", reason);
}

static status run_step(session *s, int i) {
  cJSON *result = cJSON_AddObjectToObject(s->results, STEPS[i].name);
  REQUIRE(result != NULL, "no memory for a result");
  double began = clock_seconds();
  log_line("-- %s", STEPS[i].name);
  if (STEPS[i].run(&s->v, result) != STATUS_OK) {
    judge_error(result, status_message());
  }
  json_number(result, "step_seconds", clock_seconds() - began);
  show(STEPS[i].name, result);
  const char *verdict = text_of(result, "verdict");
  s->passed += strcmp(verdict, "pass") == 0;
  s->failed += strcmp(verdict, "fail") == 0;
  s->skipped += strcmp(verdict, "skipped") == 0;
  return write_summary(s);
}

static status finish(session *s) {
  const char *out = s->v.o->out != NULL ? s->v.o->out : "reports";
  int found;
  json_number(s->summary, "passed", s->passed);
  json_number(s->summary, "failed", s->failed);
  json_number(s->summary, "skipped", s->skipped);
  TRY(write_summary(s));
  TRY(bundle_write(out, s->v.stamp, s->v.figures, &found));
  log_line("-- %d passed, %d failed, %d skipped", s->passed, s->failed, s->skipped);
  for (const cJSON *result = s->results->child; result != NULL; result = result->next) {
    show(result->string, result);
  }
  log_line("%s", s->path);
  if (s->failed > 0) {
    FAIL("%d of %d validation steps failed; '%s' tells which and why", s->failed, s->passed + s->failed + s->skipped,
         s->path);
  }
  return STATUS_OK;
}

static status run(session *s) {
  TRY(start(s));
  for (int i = 0; i < N_STEPS; i++) {
    if (s->chosen[i]) {
      TRY(run_step(s, i));
    }
  }
  return finish(s);
}

status validate_command(int argc, char **argv, const char **print) {
  validation_options o = {.device = "auto", .text = "data/bible", .argc = argc, .argv = argv};
  session s = {0};
  TRY(read_arguments(argc, argv, &o, s.chosen, print));
  if (*print != NULL) {
    return STATUS_OK;
  }
  status result = validation_open(&o, &s.v);
  if (result == STATUS_OK) {
    result = run(&s);
  }
  validation_close(&s.v);
  cJSON_Delete(s.summary);
  free(s.path);
  return result;
}
