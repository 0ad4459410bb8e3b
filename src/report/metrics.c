#include "report/metrics.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "report/append_file.h"

struct metrics {
  append_file json, csv;
  bool loss_scale; /* the lines have it */
};

#define CSV_HEADER "step,loss,ppl,lr,grad_norm,tok_s,step_ms,tokens,epoch,skipped,val_loss,val_ppl,val_bits_per_byte"
static const char csv_header[] = CSV_HEADER, csv_header_fp16[] = CSV_HEADER ",loss_scale";

/* The step of a line, or −1 when the line is torn or not ours. */
static int64_t json_step(const char *line) {
  cJSON *object = cJSON_Parse(line);
  const cJSON *step = cJSON_GetObjectItemCaseSensitive(object, "step");
  int64_t number = cJSON_IsNumber(step) ? (int64_t)step->valuedouble : -1;
  cJSON_Delete(object);
  return number;
}

static int commas(const char *line) {
  int count = 0;
  for (; *line != 0; line++) {
    count += *line == ',';
  }
  return count;
}

static int64_t csv_step_under(const char *header, const char *line) {
  if (strcmp(line, header) == 0) {
    return 0;
  }
  char *end = NULL;
  long long step = strtoll(line, &end, 10);
  return end != line && *end == ',' && commas(line) == commas(header) ? (int64_t)step : -1;
}

static int64_t csv_step(const char *line) {
  return csv_step_under(csv_header, line);
}

static int64_t csv_step_fp16(const char *line) {
  return csv_step_under(csv_header_fp16, line);
}

/* Copies the whole lines of steps ≤ last_step. */
static status copy_lines(FILE *in, FILE *out, int64_t last_step, int64_t (*step_of)(const char *), bool *dropped) {
  char *line = NULL;
  size_t capacity = 0;
  ssize_t length;
  bool good = true;
  while (good && (length = getline(&line, &capacity, in)) > 0) {
    bool whole = line[length - 1] == '\n';
    if (whole) {
      line[length - 1] = 0;
    }
    int64_t step = whole ? step_of(line) : -1;
    if (step < 0 || step > last_step) {
      *dropped = true;
    } else {
      good = fprintf(out, "%s\n", line) > 0;
    }
  }
  free(line);
  if (ferror(in) || !good || fflush(out) != 0) {
    FAIL("%s", strerror(errno));
  }
  return STATUS_OK;
}

/* Leaves in `path` only what a run at last_step would have written. */
static status keep_until(const char *path, int64_t last_step, int64_t (*step_of)(const char *)) {
  if (!file_exists(path)) {
    return STATUS_OK;
  }
  int from = -1, to = -1;
  TRY(file_open_read(path, &from));
  FILE *in = fdopen(from, "r"), *out = NULL;
  char *temporary = NULL;
  bool dropped = false;
  status s = memory_format(&temporary, "%s.tmp", path);
  if (s == STATUS_OK) {
    s = file_create(temporary, &to);
    out = s == STATUS_OK ? fdopen(to, "w") : NULL;
  }
  if (s == STATUS_OK && (in == NULL || out == NULL)) {
    s = status_set(STATUS_FAILURE, __FILE__, __LINE__, "out of memory: '%s' can't be read", path);
  } else if (s == STATUS_OK) {
    s = copy_lines(in, out, last_step, step_of, &dropped);
    if (s != STATUS_OK) {
      status_prefix(s, "'%s' cannot be rewritten without the lines after step %lld", path, (long long)last_step);
    }
  }
  if (in != NULL) {
    fclose(in);
  }
  if (out != NULL) {
    fclose(out);
  }
  if (s == STATUS_OK && dropped) {
    s = file_commit(temporary, path);
  } else if (out != NULL) {
    unlink(temporary);
  }
  free(temporary);
  return s;
}

/* Opens a file of lines, of which those of steps ≤ last_step stay. */
static status open_lines(append_file *f, const char *folder, const char *name, int64_t last_step,
                         int64_t (*step_of)(const char *)) {
  char *path = NULL;
  TRY(file_join(&path, folder, name));
  status s = keep_until(path, last_step, step_of);
  if (s == STATUS_OK) {
    s = append_file_open(f, path, false);
  }
  free(path);
  return s;
}

static void add_line(append_file *f, const char *line) {
  append_file_add_line(f, line);
  append_file_flush(f);
}

status metrics_open(const char *folder, int64_t last_step, bool loss_scale, metrics **out) {
  metrics *m = NULL;
  TRY(memory_new(&m, 1, sizeof *m, "the metrics"));
  m->json.file = m->csv.file = -1;
  m->loss_scale = loss_scale;
  status s = open_lines(&m->json, folder, "metrics.jsonl", last_step > 0 ? last_step : -1, json_step);
  if (s == STATUS_OK) {
    s = open_lines(&m->csv, folder, "metrics.csv", last_step, loss_scale ? csv_step_fp16 : csv_step);
  }
  if (s != STATUS_OK) {
    metrics_close(m);
    return s;
  }
  if (m->csv.size == 0) {
    add_line(&m->csv, loss_scale ? csv_header_fp16 : csv_header);
  }
  *out = m;
  return STATUS_OK;
}

void metrics_close(metrics *m) {
  if (m == NULL) {
    return;
  }
  append_file_close(&m->json);
  append_file_close(&m->csv);
  free(m);
}

/* The shortest text that reads back as the same number: metrics of two runs are compared bit for bit. Room for 32
 * bytes. */
static const char *exact(double value, char *text) {
  if (isnan(value)) {
    return memcpy(text, "nan", sizeof "nan"); /* printf would show a sign */
  }
  for (int digits = 15; digits <= 17; digits++) {
    snprintf(text, 32, "%.*g", digits, value);
    if (strtod(text, NULL) == value) {
      break;
    }
  }
  return text;
}

/* cJSON itself prints doubles to 15 digits where that is close. What is not finite becomes null. */
static void add_exact(cJSON *object, const char *name, double value) {
  char text[32];
  if (isfinite(value)) {
    cJSON_AddRawToObject(object, name, exact(value, text));
  } else {
    cJSON_AddNullToObject(object, name);
  }
}

static void json_add(metrics *m, cJSON *object) {
  char *line = cJSON_PrintUnformatted(object);
  if (line != NULL) {
    add_line(&m->json, line);
  }
  cJSON_free(line);
  cJSON_Delete(object);
}

/* A row in the CSV file; fields without a value are empty. */
static void csv_add(metrics *m, const metrics_row *r) {
  const double values[] = {r->loss, r->ppl, r->lr, r->grad_norm, r->tok_s, r->step_ms};
  const double validation[] = {r->val_loss, r->val_ppl, r->val_bits_per_byte};
  char line[512], text[32];
  int used = snprintf(line, sizeof line, "%lld", (long long)r->step);
  for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
    used += snprintf(line + used, sizeof line - (size_t)used, ",%s", exact(values[i], text));
  }
  used += snprintf(line + used, sizeof line - (size_t)used, ",%lld,%s,%d", (long long)r->tokens, exact(r->epoch, text),
                   r->skipped);
  for (size_t i = 0; i < sizeof validation / sizeof validation[0]; i++) {
    used += snprintf(line + used, sizeof line - (size_t)used, ",%s",
                     isnan(validation[i]) ? "" : exact(validation[i], text));
  }
  if (m->loss_scale) {
    snprintf(line + used, sizeof line - (size_t)used, ",%s", exact(r->loss_scale, text));
  }
  add_line(&m->csv, line);
}

void metrics_step(metrics *m, const metrics_row *r) {
  cJSON *o = cJSON_CreateObject();
  cJSON_AddNumberToObject(o, "step", (double)r->step);
  add_exact(o, "loss", r->loss);
  add_exact(o, "ppl", r->ppl);
  add_exact(o, "lr", r->lr);
  add_exact(o, "grad_norm", r->grad_norm);
  add_exact(o, "tok_s", r->tok_s);
  add_exact(o, "step_ms", r->step_ms);
  cJSON_AddNumberToObject(o, "tokens", (double)r->tokens);
  add_exact(o, "epoch", r->epoch);
  cJSON_AddBoolToObject(o, "skipped", r->skipped);
  if (!isnan(r->val_loss)) {
    add_exact(o, "val_loss", r->val_loss);
    add_exact(o, "val_ppl", r->val_ppl);
    add_exact(o, "val_bits_per_byte", r->val_bits_per_byte); /* null when the store does not know its bytes */
  }
  if (m->loss_scale) {
    add_exact(o, "loss_scale", r->loss_scale);
  }
  json_add(m, o);
  csv_add(m, r);
}

void metrics_event(metrics *m, int64_t step, const char *event, const metrics_number *numbers, int n,
                   const char *format, ...) {
  char message[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(message, sizeof message, format, args);
  va_end(args);
  cJSON *o = cJSON_CreateObject();
  cJSON_AddStringToObject(o, "event", event);
  cJSON_AddNumberToObject(o, "step", (double)step);
  for (int i = 0; i < n; i++) {
    add_exact(o, numbers[i].name, numbers[i].value);
  }
  cJSON_AddStringToObject(o, "message", message);
  json_add(m, o);
}

static void add_milliseconds(cJSON *object, const char *name, const double *values, int n) {
  cJSON *array = cJSON_AddArrayToObject(object, name);
  for (int i = 0; i < n; i++) {
    cJSON_AddItemToArray(array, cJSON_CreateNumber(round(values[i] * 1000) / 1000));
  }
}

void metrics_of_ranks(metrics *m, int64_t step, const metrics_ranks *r) {
  cJSON *o = cJSON_CreateObject();
  cJSON_AddStringToObject(o, "event", "ranks");
  cJSON_AddNumberToObject(o, "step", (double)step);
  add_milliseconds(o, "busy_ms", r->busy_ms, r->ranks);
  add_milliseconds(o, "waiting_ms", r->waiting_ms, r->ranks);
  add_exact(o, "busy_ms_min", r->least);
  add_exact(o, "busy_ms_median", r->median);
  add_exact(o, "busy_ms_max", r->most);
  cJSON_AddNumberToObject(o, "slowest", r->slowest);
  json_add(m, o);
}

void metrics_sync(metrics *m) {
  append_file_sync(&m->json);
  append_file_sync(&m->csv);
}
