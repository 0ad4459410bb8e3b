#include "report/run_data.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "report/run_mark.h"

enum { LARGEST_FILE = 1 << 24 }; /* config.ini, system.json, status.ini */

/* Times of ranks are those of whole steps (step_ms_…) or of the part without waiting (busy_ms_…), whichever a run has.
 */
static const struct {
  const char *name, *other; /* other: NULL where there is one name */
} run_fields[RUN_FIELDS] = {
    [RUN_LOSS] = {"loss", NULL},
    [RUN_PPL] = {"ppl", NULL},
    [RUN_LR] = {"lr", NULL},
    [RUN_GRAD_NORM] = {"grad_norm", NULL},
    [RUN_TOK_S] = {"tok_s", NULL},
    [RUN_STEP_MS] = {"step_ms", NULL},
    [RUN_TOKENS] = {"tokens", NULL},
    [RUN_EPOCH] = {"epoch", NULL},
    [RUN_SKIPPED] = {"skipped", NULL},
    [RUN_LOSS_SCALE] = {"loss_scale", NULL},
    [RUN_VAL_LOSS] = {"val_loss", NULL},
    [RUN_VAL_PPL] = {"val_ppl", NULL},
    [RUN_VAL_BITS_PER_BYTE] = {"val_bits_per_byte", NULL},
    [RUN_VAL_ACCURACY] = {"val_accuracy", NULL},
    [RUN_PEAK_BYTES] = {"peak_bytes", NULL},
    [RUN_RANK_MS_MIN] = {"busy_ms_min", "step_ms_min"},
    [RUN_RANK_MS_MEDIAN] = {"busy_ms_median", "step_ms_median"},
    [RUN_RANK_MS_MAX] = {"busy_ms_max", "step_ms_max"},
    [RUN_SLOWEST] = {"slowest", "slowest_rank"},
};

/* metrics.jsonl. */

static status series_add(run_series *s, double step, double value) {
  TRY(memory_grow(&s->steps, &s->steps_capacity, s->n + 1, sizeof *s->steps, "the steps of a run"));
  TRY(memory_grow(&s->values, &s->values_capacity, s->n + 1, sizeof *s->values, "the values of a run"));
  s->steps[s->n] = step;
  s->values[s->n++] = value;
  return STATUS_OK;
}

static status add_fields(run_data *r, const cJSON *line, double step, int first) {
  for (int f = first; f < RUN_FIELDS; f++) {
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(line, run_fields[f].name);
    if (item == NULL && run_fields[f].other != NULL) {
      item = cJSON_GetObjectItemCaseSensitive(line, run_fields[f].other);
    }
    if (cJSON_IsNumber(item) || cJSON_IsNull(item) || cJSON_IsBool(item)) {
      double value = cJSON_IsNumber(item) ? item->valuedouble
                     : cJSON_IsBool(item) ? (double)cJSON_IsTrue(item)
                                          : (double)NAN;
      TRY(series_add(&r->fields[f], step, value));
    }
  }
  return STATUS_OK;
}

/* Takes `line`, unless it has no step. */
static status add_line(run_data *r, cJSON *line, bool *taken) {
  const cJSON *step = cJSON_GetObjectItemCaseSensitive(line, "step");
  if (!cJSON_IsNumber(step) || !(fabs(step->valuedouble) < 1e15)) {
    r->unread++;
    return STATUS_OK;
  }
  if (cJSON_IsString(cJSON_GetObjectItemCaseSensitive(line, "event"))) {
    TRY(add_fields(r, line, step->valuedouble, RUN_VAL_ACCURACY));
    TRY(memory_grow(&r->events, &r->events_capacity, r->n_events + 1, sizeof *r->events, "the events of a run"));
    r->events[r->n_events++] = (run_event){(int64_t)step->valuedouble, line};
    *taken = true;
    return STATUS_OK;
  }
  r->steps++;
  r->last_step = (int64_t)step->valuedouble;
  return add_fields(r, line, step->valuedouble, 0);
}

static status read_lines(run_data *r, FILE *in) {
  char *text = NULL;
  size_t capacity = 0;
  status s = STATUS_OK;
  while (s == STATUS_OK && getline(&text, &capacity, in) > 0) {
    cJSON *line = cJSON_Parse(text);
    bool taken = false;
    if (line == NULL) {
      r->unread++;
      continue;
    }
    s = add_line(r, line, &taken);
    if (!taken) {
      cJSON_Delete(line);
    }
  }
  free(text);
  return s;
}

static status read_metrics(run_data *r) {
  char *path = NULL;
  TRY(file_join(&path, r->folder, "metrics.jsonl"));
  int handle = -1;
  FILE *in = NULL;
  status s = file_open_read(path, &handle);
  if (s == STATUS_OK && (in = fdopen(handle, "r")) == NULL) {
    s = status_set(STATUS_FAILURE, __FILE__, __LINE__, "no memory to read '%s'", path);
    close(handle);
  }
  if (s == STATUS_OK) {
    s = read_lines(r, in);
  }
  if (in != NULL) {
    fclose(in);
  }
  free(path);
  return s;
}

/* config.ini, system.json, status.ini. */

static void add_key(run_data *r, const char *section, const char *name, const char *value) {
  if (memory_grow(&r->keys, &r->keys_capacity, r->n_keys + 1, sizeof *r->keys, "the keys of a run") != STATUS_OK) {
    return;
  }
  run_key k = {strdup(section), strdup(name), strdup(value)};
  if (k.section == NULL || k.name == NULL || k.value == NULL) {
    free(k.section);
    free(k.name);
    free(k.value);
    return;
  }
  r->keys[r->n_keys++] = k;
}

static void add_mark(run_data *r, const char *section, const char *name, const char *value) {
  char **field = strcmp(name, "state") == 0 ? &r->state : strcmp(name, "reason") == 0 ? &r->reason : NULL;
  if (section[0] == 0 && field != NULL && *field == NULL) {
    *field = strdup(value);
  }
}

static char *trimmed(char *text) {
  text += strspn(text, " \t\r");
  for (size_t n = strlen(text); n > 0 && strchr(" \t\r", text[n - 1]) != NULL; n--) {
    text[n - 1] = 0;
  }
  return text;
}

/* Files that the program wrote: "[section]" and "name = value" in lines of any length, of which inih takes 200 bytes.
 * NULL: no file. */
static void read_keys(run_data *r, char *text, void (*take)(run_data *, const char *, const char *, const char *)) {
  const char *section = "";
  for (char *line = text, *next; line != NULL; line = next) {
    next = strchr(line, '\n');
    if (next != NULL) {
      *next++ = 0;
    }
    line = trimmed(line);
    char *sign = strchr(line, '=');
    if (line[0] == '[' && strrchr(line, ']') != NULL) {
      *strrchr(line, ']') = 0;
      section = line + 1;
    } else if (sign != NULL && strchr(";#", line[0]) == NULL) {
      *sign = 0;
      take(r, section, trimmed(line), trimmed(sign + 1));
    }
  }
}

/* The whole text of a file of the folder; NULL when it is not there or cannot be read. */
static char *text_of(const run_data *r, const char *name) {
  char *path = NULL, *text = NULL;
  size_t bytes;
  if (file_join(&path, r->folder, name) != STATUS_OK || !file_exists(path) ||
      file_read(path, LARGEST_FILE, &text, &bytes) != STATUS_OK) {
    text = NULL;
  }
  free(path);
  return text;
}

static void read_rest(run_data *r) {
  char *config = text_of(r, "config.ini"), *system = text_of(r, "system.json"), *mark = text_of(r, RUN_MARK_FILE);
  read_keys(r, config, add_key);
  read_keys(r, mark, add_mark);
  r->system = system != NULL ? cJSON_Parse(system) : NULL;
  free(config);
  free(system);
  free(mark);
}

bool run_data_is_run(const char *folder) {
  char *path = NULL;
  bool is = file_join(&path, folder, "metrics.jsonl") == STATUS_OK && file_exists(path);
  free(path);
  return is;
}

status run_data_name(const char *folder, char **name) {
  char *whole = realpath(folder, NULL);
  const char *from = whole != NULL ? whole : folder;
  const char *slash = strrchr(from, '/');
  status s = memory_format(name, "%s", slash != NULL && slash[1] != 0 ? slash + 1 : from);
  free(whole);
  return s;
}

status run_data_read(const char *folder, run_data *r) {
  *r = (run_data){0};
  status s = memory_format(&r->folder, "%s", folder);
  if (s == STATUS_OK) {
    s = run_data_name(folder, &r->name);
  }
  if (s == STATUS_OK) {
    s = read_metrics(r);
  }
  if (s == STATUS_OK) {
    read_rest(r);
  } else {
    run_data_free(r);
  }
  return s;
}

void run_data_free(run_data *r) {
  for (int f = 0; f < RUN_FIELDS; f++) {
    free(r->fields[f].steps);
    free(r->fields[f].values);
  }
  for (size_t i = 0; i < r->n_events; i++) {
    cJSON_Delete(r->events[i].line);
  }
  for (size_t i = 0; i < r->n_keys; i++) {
    free(r->keys[i].section);
    free(r->keys[i].name);
    free(r->keys[i].value);
  }
  free(r->events);
  free(r->keys);
  free(r->state);
  free(r->reason);
  cJSON_Delete(r->system);
  free(r->folder);
  free(r->name);
  *r = (run_data){0};
}

/* Looking things up. */

static const char *string_of(const cJSON *object, const char *name) {
  return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

const char *run_event_kind(const run_event *e) {
  return string_of(e->line, "event");
}

const char *run_event_message(const run_event *e) {
  const char *message = string_of(e->line, "message");
  return message != NULL ? message : "";
}

const char *run_system_text(const run_data *r, const char *name) {
  return string_of(r->system, name);
}

const char *run_config_value(const run_data *r, const char *section, const char *name) {
  for (size_t i = 0; i < r->n_keys; i++) {
    const run_key *k = &r->keys[i];
    if (strcmp(k->section, section) == 0 && strcmp(k->name, name) == 0) {
      return k->value;
    }
  }
  return NULL;
}

bool run_series_has_values(const run_series *s) {
  return isfinite(run_series_last(s));
}

double run_series_last(const run_series *s) {
  for (size_t i = s->n; i > 0; i--) {
    if (isfinite(s->values[i - 1])) {
      return s->values[i - 1];
    }
  }
  return NAN;
}

double run_series_lowest(const run_series *s, double *step) {
  double lowest = NAN;
  for (size_t i = 0; i < s->n; i++) {
    if (isfinite(s->values[i]) && !(s->values[i] >= lowest)) {
      lowest = s->values[i];
      if (step != NULL) {
        *step = s->steps[i];
      }
    }
  }
  return lowest;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double run_series_median(const run_series *s) {
  double *sorted = NULL, median = NAN;
  size_t n = 0;
  if (s->n == 0 || memory_new(&sorted, s->n, sizeof *sorted, "a median") != STATUS_OK) {
    return NAN;
  }
  for (size_t i = 0; i < s->n; i++) {
    if (isfinite(s->values[i])) {
      sorted[n++] = s->values[i];
    }
  }
  qsort(sorted, n, sizeof *sorted, by_value);
  if (n > 0) {
    median = 0.5 * (sorted[(n - 1) / 2] + sorted[n / 2]);
  }
  free(sorted);
  return median;
}
