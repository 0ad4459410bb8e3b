#include "report/report_sources.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"

enum { DEEPEST = 6, LARGEST_BENCH = 1 << 26 };

static status add_run(report_sources *s, const char *folder) {
  run_data *r = NULL;
  TRY(memory_grow(&s->runs, &s->runs_capacity, s->n_runs + 1, sizeof *s->runs, "the runs of a report"));
  TRY(memory_new(&r, 1, sizeof *r, "a run"));
  status read = run_data_read(folder, r);
  if (read != STATUS_OK) {
    free(r);
    return read;
  }
  s->runs[s->n_runs++] = r;
  return STATUS_OK;
}

static const struct {
  const char *file, *program;
  bool unique; /* the name says what is in the file: others use it rarely, and are told */
} kinds[RESULT_KINDS] = {
    [RESULT_THROUGHPUT] = {"throughput.json", "psann_bench throughput", true},
    [RESULT_VALIDATION] = {"summary.json", "psann_bench validate", false},
    [RESULT_TINY_CORPUS] = {"metrics.json", "launch/tiny_corpus.sh", false},
};

static bool is_result(const cJSON *root, result_kind kind) {
  const cJSON *results = cJSON_GetObjectItemCaseSensitive(root, "results");
  switch (kind) {
    case RESULT_THROUGHPUT:
      return cJSON_IsArray(results);
    case RESULT_VALIDATION:
      return cJSON_GetObjectItemCaseSensitive(results != NULL ? results->child : NULL, "verdict") != NULL;
    default:
      return cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(root, "published")) &&
             cJSON_IsNumber(cJSON_GetObjectItemCaseSensitive(root, "val_ppl"));
  }
}

static status add_bench(report_sources *s, const char *path, result_kind kind) {
  char *text = NULL;
  size_t bytes;
  TRY(memory_grow(&s->benches, &s->benches_capacity, s->n_benches + 1, sizeof *s->benches, "the results of a report"));
  TRY(file_read(path, LARGEST_BENCH, &text, &bytes));
  cJSON *root = cJSON_Parse(text);
  free(text);
  if (!is_result(root, kind)) {
    if (kinds[kind].unique) {
      log_warning("'%s' is left out: it is no result of %s", path, kinds[kind].program);
    }
    cJSON_Delete(root);
    return STATUS_OK;
  }
  bench_data *b = &s->benches[s->n_benches];
  *b = (bench_data){.root = root, .kind = kind};
  s->n_benches++;
  return memory_format(&b->path, "%s", path);
}

static status search(report_sources *s, const char *folder, int depth);

static status visit(report_sources *s, const char *folder, const char *name, int depth) {
  char *path = NULL;
  struct stat facts;
  TRY(file_join(&path, folder, name));
  status result = STATUS_OK;
  if (lstat(path, &facts) != 0) {
    facts.st_mode = 0; /* gone meanwhile */
  } else if (S_ISDIR(facts.st_mode)) {
    result = search(s, path, depth + 1);
  }
  for (int kind = 0; kind < RESULT_KINDS && result == STATUS_OK && S_ISREG(facts.st_mode); kind++) {
    if (strcmp(name, kinds[kind].file) == 0) {
      result = add_bench(s, path, (result_kind)kind);
    }
  }
  free(path);
  return result;
}

static int wanted(const struct dirent *entry) {
  return entry->d_name[0] != '.' && strcmp(entry->d_name, "checkpoints") != 0;
}

static status search(report_sources *s, const char *folder, int depth) {
  if (run_data_is_run(folder)) {
    return add_run(s, folder);
  }
  struct dirent **entries = NULL;
  int n = depth < DEEPEST ? scandir(folder, &entries, wanted, alphasort) : 0;
  if (n < 0) {
    USER_ERROR("cannot read the folder '%s': %s; give the run.dir of a training run, or a folder with several", folder,
               strerror(errno));
  }
  status result = STATUS_OK;
  for (int i = 0; i < n; i++) {
    result = result == STATUS_OK ? visit(s, folder, entries[i]->d_name, depth) : result;
    free(entries[i]);
  }
  free(entries);
  return result;
}

status report_sources_add(report_sources *s, const char *folder) {
  size_t before = s->n_runs + s->n_benches;
  TRY(search(s, folder, 0));
  if (s->n_runs + s->n_benches == before) {
    USER_ERROR(
        "'%s' holds neither a run (metrics.jsonl) nor a result (throughput.json, summary.json, metrics.json) of "
        "psann_bench or launch/tiny_corpus.sh; give the run.dir of a training run, or a folder with several",
        folder);
  }
  return s->name == NULL ? run_data_name(folder, &s->name) : STATUS_OK;
}

size_t report_sources_count(const report_sources *s, result_kind kind) {
  size_t n = 0;
  for (size_t i = 0; i < s->n_benches; i++) {
    n += s->benches[i].kind == kind;
  }
  return n;
}

void report_sources_line(const report_sources *s, char *text, size_t room) {
  const struct {
    size_t n;
    const char *what;
  } parts[] = {{s->n_runs, "run"},
               {report_sources_count(s, RESULT_VALIDATION), "validation"},
               {s->n_benches - report_sources_count(s, RESULT_VALIDATION), "benchmark"}};
  size_t used = 0;
  text[0] = 0;
  for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
    if (parts[i].n > 0 && used < room) {
      used += (size_t)snprintf(text + used, room - used, "%s%zu %s%s", used > 0 ? ", " : "", parts[i].n, parts[i].what,
                               parts[i].n == 1 ? "" : "s");
    }
  }
}

void report_sources_free(report_sources *s) {
  for (size_t i = 0; i < s->n_runs; i++) {
    run_data_free(s->runs[i]);
    free(s->runs[i]);
  }
  for (size_t i = 0; i < s->n_benches; i++) {
    cJSON_Delete(s->benches[i].root);
    free(s->benches[i].path);
  }
  free(s->name);
  free(s->runs);
  free(s->benches);
  *s = (report_sources){0};
}
