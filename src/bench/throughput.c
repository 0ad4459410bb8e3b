#include "bench/throughput.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "bench/report.h"
#include "engine/select.h"
#include "infer/arguments.h"

static const char USAGE[] =
    "usage: [mpirun -np N] psann_bench throughput [option…] [section.key=value …]\n"
    "\n"
    "Measures training steps (forward, backward, exchange, clipping, AdamW: what psann_train does) and forward alone\n"
    "(embedding to logits) on random tokens. Each rank has its own micro-batches, so more ranks do more work.\n"
    "\n"
    "  --models LIST     bench models, or paths of configs: tiny,small,124m,350m,1b3,1b5 (= all), 3b, 7b, cpu\n"
    "                    (all on a GPU, cpu elsewhere)\n"
    "  --mode M          train, forward, both (train)\n"
    "  --precision LIST  fp32,tf32,bf16,fp16,fp8 (the config's)\n"
    "  --micro-batch N   sequences of a rank (the config's)\n"
    "  --seq-len N       tokens of a sequence (the config's)\n"
    "  --accumulate N    micro-batches of a rank in a step (1)\n"
    "  --strategy LIST   ddp,shard_optimizer,shard_grad,full_shard,hybrid (the config's)\n"
    "  --offload LIST    none,optimizer: where master weights and moments lie (the config's); training alone\n"
    "  --unordered       sums in any order where that is faster (attention's backward on a GPU, but for heads of 64 "
    "and\n"
    "                    128): what the fixed order costs; such results are not repeatable, and psann_train never does "
    "it\n"
    "  --steps N         timed together (20)\n"
    "  --warmup N        before (5)\n"
    "  --repeat N        timings, of which the median is reported (3)\n"
    "  --out DIR         where throughput.json goes (reports/benchmarks/<UTC time>)\n"
    "  --help\n"
    "\n"
    "Assignments change the model, the optimizer or parallel.strategy of all models: model.base=waveresnet.\n";

/* The letters are names within this file; only the long forms are options. */
static const struct option OPTIONS[] = {{"models", required_argument, NULL, 'm'},
                                        {"mode", required_argument, NULL, 'd'},
                                        {"precision", required_argument, NULL, 'p'},
                                        {"micro-batch", required_argument, NULL, 'b'},
                                        {"seq-len", required_argument, NULL, 't'},
                                        {"accumulate", required_argument, NULL, 'a'},
                                        {"strategy", required_argument, NULL, 'S'},
                                        {"offload", required_argument, NULL, 'O'},
                                        {"unordered", no_argument, NULL, 'u'},
                                        {"steps", required_argument, NULL, 's'},
                                        {"warmup", required_argument, NULL, 'w'},
                                        {"repeat", required_argument, NULL, 'r'},
                                        {"out", required_argument, NULL, 'o'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};

static void free_list(char **items, int *n) {
  while (*n > 0) {
    free(items[--*n]);
  }
}

static status add_item(const char *option, const char *text, size_t length, char **items, int *n) {
  if (*n == BENCH_LIST) {
    USER_ERROR("%s names more than %d; measure them in several runs", option, BENCH_LIST);
  }
  TRY(memory_format(&items[*n], "%.*s", (int)length, text));
  (*n)++;
  return STATUS_OK;
}

static status add_all_models(const char *option, char **items, int *n) {
  for (const char *const *name = bench_models; *name != NULL; name++) {
    TRY(add_item(option, *name, strlen(*name), items, n));
  }
  return STATUS_OK;
}

/* A comma-separated list in place of what was there; `all` in a list of models stands for all of them. */
static status set_list(const char *option, const char *text, bool models, char **items, int *n) {
  free_list(items, n);
  for (const char *at = text; *at != 0;) {
    size_t length = strcspn(at, ",");
    bool all = models && length == 3 && strncmp(at, "all", 3) == 0;
    if (length > 0) {
      TRY(all ? add_all_models(option, items, n) : add_item(option, at, length, items, n));
    }
    at += length + (at[length] == ',');
  }
  if (*n == 0) {
    USER_ERROR("%s is empty; psann_bench throughput --help lists the choices", option);
  }
  return STATUS_OK;
}

static status set_mode(throughput_job *job, const char *text) {
  bool both = strcmp(text, "both") == 0;
  job->train = both || strcmp(text, "train") == 0;
  job->forward = both || strcmp(text, "forward") == 0;
  if (!job->train && !job->forward) {
    USER_ERROR("--mode is '%s': it must be train, forward or both", text);
  }
  return STATUS_OK;
}

static status set_option(throughput_job *job, int option, char *value) {
  switch (option) {
    case 'm':
      return set_list("--models", value, true, job->models, &job->n_models);
    case 'p':
      return set_list("--precision", value, false, job->precisions, &job->n_precisions);
    case 'S':
      return set_list("--strategy", value, false, job->strategies, &job->n_strategies);
    case 'O':
      return set_list("--offload", value, false, job->offloads, &job->n_offloads);
    case 'a':
      return argument_integer("--accumulate", value, 1, 65536, &job->changes.accumulate);
    case 'u':
      job->unordered = true;
      return STATUS_OK;
    case 'd':
      return set_mode(job, value);
    case 'b':
      return argument_integer("--micro-batch", value, 1, 65536, &job->changes.micro_batch);
    case 't':
      return argument_integer("--seq-len", value, 1, 1 << 20, &job->changes.seq_len);
    case 's':
      return argument_integer("--steps", value, 1, 1000000, &job->length.steps);
    case 'w':
      return argument_integer("--warmup", value, 0, 1000000, &job->length.warmup);
    case 'r':
      return argument_integer("--repeat", value, 1, BENCH_REPEATS, &job->length.repeat);
    default:
      job->out = value;
      return STATUS_OK;
  }
}

status throughput_arguments(int argc, char **argv, char **overrides, throughput_job *job, const char **print) {
  *job = (throughput_job){.train = true,
                          .length = {.steps = 20, .warmup = 5, .repeat = 3},
                          .changes = {.overrides = overrides},
                          .argc = argc,
                          .argv = argv};
  *print = NULL;
  opterr = 0;
  optind = 2;
  for (int option; (option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1;) {
    if (option == '?' || option == ':') {
      return argument_refused("psann_bench throughput", option, optopt, optind, argv);
    }
    if (option == 'h') {
      *print = USAGE;
      return STATUS_OK;
    }
    TRY(set_option(job, option, optarg));
  }
  for (int i = optind; i < argc; i++) {
    if (strchr(argv[i], '=') == NULL) {
      USER_ERROR("'%s' is neither an option nor section.key=value; models are named by --models", argv[i]);
    }
    overrides[job->changes.n_overrides++] = argv[i];
  }
  return STATUS_OK;
}

void throughput_free(throughput_job *job) {
  free_list(job->models, &job->n_models);
  free_list(job->precisions, &job->n_precisions);
  free_list(job->strategies, &job->n_strategies);
  free_list(job->offloads, &job->n_offloads);
}

/* One measurement of each model, precision, strategy, offload and mode. */
typedef struct {
  const char *model;
  bench_mode mode;
  config *c;
} measurement;

typedef struct {
  measurement *list;
  int n;
  bench_row *rows;
  system_facts machine;
  machine_peak peak;
  bench_report report;
} session;

/* The part of a model's name that a table has room for: a path's file, without ".ini". */
static void short_name(const char *name, char *out, size_t room) {
  const char *slash = strrchr(name, '/');
  snprintf(out, room, "%s", slash != NULL ? slash + 1 : name);
  char *end = strrchr(out, '.');
  if (end != NULL && strcmp(end, ".ini") == 0) {
    *end = 0;
  }
}

static status add_measurements(session *s, const throughput_job *job, const dist *d, const char *model,
                               const bench_choice *choice, bool forward) {
  for (bench_mode mode = BENCH_TRAIN; mode <= BENCH_FORWARD; mode++) {
    bool fp8 = choice->precision != NULL && strcmp(choice->precision, "fp8") == 0;
    if (mode == BENCH_FORWARD && forward && fp8) { /* only training has such products */
      if (!job->train) {
        USER_ERROR("--mode forward has no fp8: products in 8 bits are for training; give bf16, fp16, tf32 or fp32");
      }
      continue;
    }
    if (mode == BENCH_TRAIN ? job->train : forward) {
      measurement *m = &s->list[s->n];
      *m = (measurement){.model = model, .mode = mode};
      TRY(bench_model_config(model, choice, &job->changes, &job->length, d->ranks, &m->c));
      s->n++;
      config_device device = m->c->run.device; /* checked now, resolved when it is measured */
      config_precision resolved = m->c->train.precision;
      TRY(engine_resolve(&device, &resolved));
    }
  }
  return STATUS_OK;
}

/* NULL: the list was not given. */
static const char *word(char *const *items, int n, int i) {
  return n > 0 ? items[i] : NULL;
}

static status plan_session(session *s, throughput_job *job, const dist *d) {
  if (job->n_models == 0) {
    TRY(set_list("--models", engine_gpus() > 0 ? "all" : BENCH_CPU_MODEL, true, job->models, &job->n_models));
  }
  int precisions = job->n_precisions > 0 ? job->n_precisions : 1;
  int strategies = job->n_strategies > 0 ? job->n_strategies : 1;
  int offloads = job->n_offloads > 0 ? job->n_offloads : 1;
  size_t most = 2 * (size_t)job->n_models * (size_t)precisions * (size_t)strategies * (size_t)offloads;
  TRY(memory_new(&s->list, most, sizeof *s->list, "list of measurements"));
  TRY(memory_new(&s->rows, most, sizeof *s->rows, "results"));
  for (int i = 0; i < job->n_models; i++) {
    for (int p = 0; p < precisions * strategies * offloads; p++) {
      const bench_choice choice = {
          .precision = word(job->precisions, job->n_precisions, p / offloads / strategies),
          .strategy = word(job->strategies, job->n_strategies, p / offloads % strategies),
          .offload = word(job->offloads, job->n_offloads, p % offloads),
      };
      /* forward has no state that could be elsewhere */
      TRY(add_measurements(s, job, d, job->models[i], &choice, job->forward && p % offloads == 0));
    }
  }
  return STATUS_OK;
}

/* Files may differ from host to host. */
static status compare_configs(const session *s, const dist *d) {
  for (int i = 0; i < s->n; i++) {
    char *text = NULL;
    status made = dist_agree(d, config_text(s->list[i].c, &text));
    status same = made == STATUS_OK ? dist_same(d, "the config of a model", text) : made;
    free(text);
    if (same != STATUS_OK) {
      return status_prefix(same, "model '%s'", s->list[i].model);
    }
  }
  return STATUS_OK;
}

static status start(session *s, const throughput_job *job, const dist *d) {
  system_read(&s->machine);
  TRY(machine_peak_measure(s->list[0].c, d, &s->peak));
  log_line("%s", s->peak.engine);
  log_line("product %lld³ in %s: %.4g TFLOP/s, copy: %.4g GB/s", (long long)s->peak.gemm_size, s->peak.precision,
           s->peak.gemm_peak_tflops, s->peak.copy_gb_s);
  return dist_agree(d, report_open(job->out, d, &s->machine, &s->peak, &job->length, job->argc, job->argv, &s->report));
}

static status measure_all(session *s, const throughput_job *job, const dist *d, int *measured) {
  *measured = 0;
  for (int i = 0; i < s->n; i++) {
    char name[sizeof s->rows[i].model];
    short_name(s->list[i].model, name, sizeof name);
    log_progress("%d of %d: %s %s", i + 1, s->n, name, bench_mode_name(s->list[i].mode));
    TRY(bench_measure(s->list[i].c, name, s->list[i].mode, job->unordered, &job->length, &s->machine, d, &s->rows[i]));
    *measured += s->rows[i].error[0] == 0;
    report_line(&s->rows[i]);
    TRY(dist_agree(d, report_add(&s->report, &s->rows[i])));
  }
  return STATUS_OK;
}

static status run(session *s, throughput_job *job, const dist *d) {
  int measured;
  TRY(dist_agree(d, plan_session(s, job, d)));
  TRY(compare_configs(s, d));
  TRY(start(s, job, d));
  TRY(measure_all(s, job, d, &measured));
  report_table(s->rows, s->n);
  if (d->rank == 0) {
    log_line("%s", s->report.path);
  }
  if (measured == 0) {
    FAIL("nothing could be measured: %s", s->rows[0].error);
  }
  return STATUS_OK;
}

status throughput_run(throughput_job *job, const dist *d) {
  session s = {0};
  status result = run(&s, job, d);
  report_close(&s.report);
  for (int i = 0; i < s.n; i++) {
    config_free(s.list[i].c);
  }
  free(s.list);
  free(s.rows);
  return result;
}
