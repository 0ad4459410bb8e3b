#include "bench/validation.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "bench/child.h"
#include "bench/models.h"
#include "engine/select.h"

enum { MOST_RANKS = 8, MOST_WORDS = 64 };

static const double DATA_LIMIT_S = 600;
static const size_t LARGEST_METRICS = (size_t)256 << 20;

/* Folders. */

static status make_folders(validation *v) {
  const char *out = v->o->out != NULL ? v->o->out : "reports";
  clock_stamp(v->stamp);
  TRY(memory_format(&v->reports, "%s/gpu/%s", out, v->stamp));
  TRY(memory_format(&v->figures, "%s/benchmarks/%s", out, v->stamp));
  TRY(file_join(&v->work, v->reports, "work"));
  TRY(file_make_folder(v->work));
  TRY(file_make_folder(v->figures));
  char *log = NULL;
  TRY(file_join(&log, v->reports, "stdout.log"));
  status s = log_open_file(log);
  free(log);
  return s;
}

status validation_open(const validation_options *o, validation *v) {
  *v = (validation){.o = o};
  TRY(dist_alone("psann_bench validate", &v->d));
  config *c;
  TRY(config_new(&c));
  status s = config_set(c, "run", "device", o->device, "--device");
  if (s == STATUS_OK) {
    s = engine_resolve(&c->run.device, &c->train.precision);
  }
  v->gpu = c->run.device == DEVICE_CUDA;
  v->gpus = v->gpu ? engine_gpus() : 0;
  config_free(c);
  TRY(s);
  system_read(&v->machine);
  TRY(child_programs(&v->programs));
  return make_folders(v);
}

void validation_close(validation *v) {
  if (v->work != NULL && !v->o->keep) {
    const char *const remove[] = {"rm", "-rf", v->work, NULL};
    int code;
    if (child_run(remove, "/dev/null", DATA_LIMIT_S, &code) != STATUS_OK || code != 0) {
      log_warning("'%s' could not be removed", v->work);
    }
  }
  log_close_file();
  free(v->reports);
  free(v->figures);
  free(v->work);
  free(v->programs);
  free(v->train_store);
  free(v->val_store);
  free(v->config);
  free(v->baseline);
}

/* Text and common config. */

static status build_stores(validation *v, const char *train, const char *val) {
  char *program = NULL, *log = NULL, *text = NULL, *held_out = NULL;
  status s = file_join(&program, v->programs, "psann_data");
  s = s != STATUS_OK ? s : file_join(&log, v->work, "psann_data.log");
  s = s != STATUS_OK ? s : file_join(&text, v->o->text, "train");
  s = s != STATUS_OK ? s : file_join(&held_out, v->o->text, "val");
  if (s == STATUS_OK) {
    bool divided = file_is_folder(text) && file_is_folder(held_out), one_file = !file_is_folder(v->o->text);
    const char *words[MOST_WORDS] = {program, "build", "--tokenizer", "bytes", "--train-out", train, "--val-out", val};
    int n = 8;
    words[n++] = divided ? "--val-input" : "--val-fraction";
    words[n++] = divided ? held_out : "0.05";
    if (one_file) { /* so that some of it can be held out */
      words[n++] = "--split-documents";
      words[n++] = "blank-line";
    }
    words[n++] = divided ? text : v->o->text;
    s = child_expect(words, log, DATA_LIMIT_S);
  }
  free(program);
  free(log);
  free(text);
  free(held_out);
  return s;
}

/* Small enough for a CPU, where T is short. */
static status write_config(const validation *v) {
  char *text = NULL;
  TRY(memory_format(&text,
                    "[run]\ndevice = %s\n"
                    "[model]\nd_model = 128\nn_layers = 2\nn_heads = 4\nd_mlp = 512\n"
                    "[data]\ntrain = %s\nseq_len = %d\n"
                    "[train]\nmicro_batch = 4\nbatch_tokens = %d\nmax_steps = %d\nlr = 0.001\nwarmup_steps = 5\n"
                    "[checkpoint]\ninterval = %d\nkeep_last = 100\n"
                    "[log]\ninterval = 5\n",
                    v->gpu ? "cuda" : "cpu", v->train_store, v->gpu ? 128 : 32, 8 * 4 * (v->gpu ? 128 : 32),
                    VALIDATION_STEPS, VALIDATION_STEPS / 2));
  status s = file_write_atomic(v->config, text, strlen(text));
  free(text);
  return s;
}

status validation_stores(validation *v) {
  if (v->train_store != NULL) {
    return STATUS_OK;
  }
  if (!file_exists(v->o->text)) {
    USER_ERROR(
        "there is no text at '%s': launch/run_gpu_validation.sh makes it, or give --text a text file or a folder of "
        "them",
        v->o->text);
  }
  char *train = NULL, *val = NULL;
  status s = file_join(&train, v->work, "train.h5");
  s = s != STATUS_OK ? s : file_join(&val, v->work, "val.h5");
  s = s != STATUS_OK ? s : build_stores(v, train, val);
  s = s != STATUS_OK ? s : file_join(&v->config, v->work, "common.ini");
  if (s != STATUS_OK) {
    free(train);
    free(val);
    return s;
  }
  v->train_store = train;
  v->val_store = val;
  return write_config(v);
}

/* Runs. */

int validation_ranks(const validation *v) {
  int ranks = 2;
  while (2 * ranks <= v->gpus && ranks < MOST_RANKS) {
    ranks *= 2;
  }
  return ranks;
}

const char *validation_transport(const validation *v, int ranks) {
  return v->gpu && v->gpus < ranks ? "parallel.transport=mpi" : "parallel.transport=auto";
}

/* Words of `mpirun` as launch/lib.sh has them: no network between ranks of one machine, and more ranks than cores are
 * allowed and then not bound. */
static int mpirun_words(const validation *v, int ranks, char count[16], const char **words) {
  static const char *const common[] = {"mpirun", "--mca", "btl", "^tcp"};
  static const char *const crowded[] = {"--oversubscribe", "--bind-to", "none"};
  int n = 0;
  for (size_t i = 0; i < sizeof common / sizeof *common; i++) {
    words[n++] = common[i];
  }
  for (size_t i = 0; i < sizeof crowded / sizeof *crowded && v->machine.cores < ranks; i++) {
    words[n++] = crowded[i];
  }
  snprintf(count, 16, "%d", ranks);
  words[n++] = "-np";
  words[n++] = count;
  if (geteuid() == 0) { /* Open MPI refuses to run as root unless told twice */
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
  }
  return n;
}

typedef struct {
  char *program, *log, *folder, *dir;
} run_paths;

static status start_run(validation *v, const run_paths *p, int ranks, const char *const *overrides, double limit) {
  const char *words[MOST_WORDS];
  char count[16];
  int n = ranks > 1 ? mpirun_words(v, ranks, count, words) : 0;
  words[n++] = p->program;
  words[n++] = v->config;
  for (; overrides != NULL && *overrides != NULL; overrides++) {
    REQUIRE(n < MOST_WORDS - 2, "a command of more than %d words", MOST_WORDS);
    words[n++] = *overrides;
  }
  words[n++] = p->dir;
  words[n] = NULL;
  return child_expect(words, p->log, limit);
}

status validation_train(validation *v, const char *name, int ranks, const char *const *overrides, double limit,
                        char **run) {
  run_paths p = {0};
  TRY(validation_stores(v));
  status s = file_join(&p.program, v->programs, "psann_train");
  s = s != STATUS_OK ? s : file_join(&p.folder, v->work, name);
  s = s != STATUS_OK ? s : memory_format(&p.log, "%s.log", p.folder);
  s = s != STATUS_OK ? s : memory_format(&p.dir, "run.dir=%s", p.folder);
  s = s != STATUS_OK ? s : start_run(v, &p, ranks, overrides, limit);
  if (s == STATUS_OK && run != NULL) {
    *run = p.folder;
    p.folder = NULL;
  }
  free(p.program);
  free(p.folder);
  free(p.log);
  free(p.dir);
  return s;
}

status validation_baseline(validation *v) {
  enum { LIMIT_S = 300 };
  return v->baseline != NULL ? STATUS_OK : validation_train(v, "one_rank", 1, NULL, LIMIT_S, &v->baseline);
}

/* Measured models. */

status validation_model(const validation *v, const char *model, const char *precision, const char *const *changes,
                        int64_t steps, config **out) {
  char *words[MOST_WORDS];
  model_changes m = {.overrides = words};
  char *device = NULL;
  TRY(memory_format(&device, "run.device=%s", v->gpu ? "cuda" : "cpu"));
  words[m.n_overrides++] = device;
  for (; *changes != NULL; changes++) {
    words[m.n_overrides++] = (char *)*changes;
  }
  const bench_length length = {.steps = steps, .warmup = 0, .repeat = 1};
  status s = bench_model_config(model, &(bench_choice){.precision = precision}, &m, &length, 1, out);
  free(device);
  return s;
}

/* metrics.csv. */

/* The field number `column` of a line, as a number. */
static double field_number(const char *line, int column) {
  for (; column > 0 && line != NULL; column--) {
    size_t n = strcspn(line, ",\n");
    line = line[n] == ',' ? line + n + 1 : NULL;
  }
  return line == NULL || strchr(",\n", *line) != NULL ? NAN : strtod(line, NULL);
}

static int column_of(const char *header, const char *name) {
  size_t length = strlen(name);
  int column = 0;
  for (const char *at = header; at != NULL && *at != 0 && *at != '\n'; column++) {
    size_t n = strcspn(at, ",\n");
    if (n == length && strncmp(at, name, n) == 0) {
      return column;
    }
    at = at[n] == ',' ? at + n + 1 : NULL;
  }
  return -1;
}

static status read_column(const char *path, char *text, const char *name, double **values, int64_t *count) {
  int column = column_of(text, name);
  size_t capacity = 0;
  REQUIRE(column >= 0, "'%s' has no column '%s'", path, name);
  for (const char *line = strchr(text, '\n'); line != NULL && line[1] != 0; line = strchr(line + 1, '\n')) {
    TRY(memory_grow(values, &capacity, (size_t)*count + 1, sizeof **values, "metrics of a run"));
    (*values)[(*count)++] = field_number(line + 1, column);
  }
  REQUIRE(*count > 0, "'%s' holds no step", path);
  return STATUS_OK;
}

status run_column(const char *run, const char *name, double **values, int64_t *count) {
  char *path = NULL, *text = NULL;
  size_t bytes;
  *values = NULL;
  *count = 0;
  TRY(file_join(&path, run, "metrics.csv"));
  status s = file_read(path, LARGEST_METRICS, &text, &bytes);
  s = s != STATUS_OK ? s : read_column(path, text, name, values, count);
  if (s != STATUS_OK) {
    free(*values);
    *values = NULL;
  }
  free(path);
  free(text);
  return s;
}
