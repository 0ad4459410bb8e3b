#include "report/report_sources.h"

#include <cjson/cJSON.h>
#include <dirent.h>
#include <errno.h>
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

/* Whether it is what psann_bench writes under that name. */
static bool is_result(const cJSON *root, bool validation) {
  const cJSON *results = cJSON_GetObjectItemCaseSensitive(root, "results");
  return validation ? cJSON_GetObjectItemCaseSensitive(results != NULL ? results->child : NULL, "verdict") != NULL
                    : cJSON_IsArray(results);
}

/* A throughput.json that is something else is said and passed over; summary.json is a name that others use too. */
static status add_bench(report_sources *s, const char *path, bool validation) {
  char *text = NULL;
  size_t bytes;
  TRY(memory_grow(&s->benches, &s->benches_capacity, s->n_benches + 1, sizeof *s->benches, "the results of a report"));
  TRY(file_read(path, LARGEST_BENCH, &text, &bytes));
  cJSON *root = cJSON_Parse(text);
  free(text);
  if (!is_result(root, validation)) {
    if (!validation) {
      log_warning("'%s' is left out: it is no result of psann_bench throughput", path);
    }
    cJSON_Delete(root);
    return STATUS_OK;
  }
  bench_data *b = &s->benches[s->n_benches];
  *b = (bench_data){.root = root, .validation = validation};
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
    result = STATUS_OK; /* gone meanwhile */
  } else if (S_ISDIR(facts.st_mode)) {
    result = search(s, path, depth + 1);
  } else if (strcmp(name, "throughput.json") == 0) {
    result = add_bench(s, path, false);
  } else if (strcmp(name, "summary.json") == 0) {
    result = add_bench(s, path, true);
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
        "'%s' holds neither a run (metrics.jsonl) nor a result of psann_bench (throughput.json, summary.json); give "
        "the run.dir of a "
        "training run, or a folder with several",
        folder);
  }
  return STATUS_OK;
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
  free(s->runs);
  free(s->benches);
  *s = (report_sources){0};
}
