#include "bench/bundle.h"

#include <getopt.h>
#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/json.h"
#include "infer/arguments.h"

/* Text that grows; sized for reports. */
typedef struct {
  char *text;
  size_t bytes, capacity;
  int rows;
} csv;

static status put(csv *c, const char *line) {
  size_t n = strlen(line);
  TRY(memory_grow(&c->text, &c->capacity, c->bytes + n + 1, 1, "a table"));
  memcpy(c->text + c->bytes, line, n + 1);
  c->bytes += n;
  return STATUS_OK;
}

/* A number for CSV: whole ones without a point, what is not known as an empty field. */
static const char *field(double value, char text[32]) {
  if (isfinite(value)) {
    snprintf(text, 32, value == floor(value) && fabs(value) < 1e15 ? "%.0f" : "%.6g", value);
  } else {
    text[0] = 0;
  }
  return text;
}

static const char *text_of(const cJSON *o, const char *key) {
  const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(o, key));
  return text != NULL ? text : "";
}

static const char *device_of(const cJSON *summary) {
  const cJSON *system = cJSON_GetObjectItem(summary, "system");
  const cJSON *gpu = cJSON_GetArrayItem(cJSON_GetObjectItem(system, "gpus"), 0);
  return gpu != NULL ? text_of(gpu, "name") : text_of(system, "cpu");
}

/* Commas would divide a field. */
static void without_commas(const char *from, char *to, size_t room) {
  snprintf(to, room, "%s", from);
  for (char *at = to; *at != 0; at++) {
    *at = *at == ',' ? ';' : *at;
  }
}

static status put_row(csv *c, const char *stamp, const char *device, const cJSON *row) {
  char line[1024], name[256], tokens[32], speed[32], B[32], T[32], published[32], ratio[32], mfu[32];
  without_commas(device, name, sizeof name);
  snprintf(line, sizeof line, "%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s,%s\n", stamp, text_of(row, "base"),
           field(json_get_number(row, "batch_tokens"), tokens), field(json_get_number(row, "tokens_per_s"), speed),
           text_of(row, "mode"), text_of(row, "precision"), field(json_get_number(row, "B"), B),
           field(json_get_number(row, "T"), T), name, field(json_get_number(row, "published_tokens_per_s"), published),
           field(json_get_number(row, "ratio"), ratio), field(json_get_number(row, "mfu"), mfu));
  c->rows++;
  return put(c, line);
}

/* `all`: every row; otherwise those that were measured as the published ones: forward, fp32. */
static status put_throughput(csv *c, const cJSON *summary, bool all) {
  const cJSON *step = cJSON_GetObjectItem(cJSON_GetObjectItem(summary, "results"), "GPU-03"), *row;
  cJSON_ArrayForEach(row, cJSON_GetObjectItem(step, "rows")) {
    bool published = strcmp(text_of(row, "mode"), "forward") == 0 && strcmp(text_of(row, "precision"), "fp32") == 0;
    if ((all || published) && isfinite(json_get_number(row, "tokens_per_s"))) {
      TRY(put_row(c, text_of(summary, "timestamp_utc"), device_of(summary), row));
    }
  }
  return STATUS_OK;
}

/* The reference's object of a GPU-04 that was measured, ours beside it; NULL where there was none. */
static cJSON *memory_of(const cJSON *summary) {
  static const char *const keys[] = {"grad_checkpoint",        "amp",       "max_memory_allocated_mb",
                                     "max_memory_reserved_mb", "elapsed_s", "shapes"};
  const cJSON *step = cJSON_GetObjectItem(cJSON_GetObjectItem(summary, "results"), "GPU-04");
  if (step == NULL || strcmp(text_of(step, "status"), "ok") != 0) {
    return NULL;
  }
  cJSON *o = cJSON_CreateObject();
  cJSON_AddStringToObject(o, "timestamp", text_of(summary, "timestamp_utc"));
  cJSON_AddStringToObject(o, "base", text_of(cJSON_GetObjectItem(step, "model"), "base"));
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    const cJSON *value = cJSON_GetObjectItem(step, keys[i]);
    cJSON_AddItemToObject(o, keys[i], value != NULL ? cJSON_Duplicate(value, true) : cJSON_CreateNull());
  }
  cJSON_AddStringToObject(o, "device", device_of(summary));
  return o;
}

typedef struct {
  csv published, all;
  cJSON *memory; /* the last one */
} bundle;

static status add_report(bundle *b, const char *path, int *found) {
  cJSON *summary = NULL;
  TRY(json_read(path, &summary));
  int before = b->all.rows;
  status s = put_throughput(&b->published, summary, false);
  s = s != STATUS_OK ? s : put_throughput(&b->all, summary, true);
  cJSON *memory = s == STATUS_OK ? memory_of(summary) : NULL;
  *found += b->all.rows > before || memory != NULL;
  if (memory != NULL) {
    cJSON_Delete(b->memory);
    b->memory = memory;
  }
  cJSON_Delete(summary);
  return s;
}

static status write_csv(const csv *c, const char *folder, const char *name) {
  char *path = NULL;
  if (c->rows == 0) {
    return STATUS_OK;
  }
  TRY(file_join(&path, folder, name));
  status s = file_write_atomic(path, c->text, c->bytes);
  free(path);
  return s;
}

static status write_files(const bundle *b, const char *out) {
  TRY(file_make_folder(out));
  TRY(write_csv(&b->published, out, "throughput.csv"));
  TRY(write_csv(&b->all, out, "throughput_all.csv"));
  if (b->memory == NULL) {
    return STATUS_OK;
  }
  char *path = NULL;
  TRY(file_join(&path, out, "memory.json"));
  status s = json_write(path, b->memory);
  free(path);
  return s;
}

static status gather(bundle *b, const char *pattern, int *found) {
  static const char header[] =
      "timestamp,base,batch_tokens,tokens_per_s,mode,precision,B,T,device,published_tokens_per_s,ratio,mfu\n";
  TRY(put(&b->published, header));
  TRY(put(&b->all, header));
  glob_t paths;
  int outcome = glob(pattern, 0, NULL, &paths); /* sorted */
  status s = STATUS_OK;
  for (size_t i = 0; outcome == 0 && i < paths.gl_pathc && s == STATUS_OK; i++) {
    s = add_report(b, paths.gl_pathv[i], found);
  }
  if (outcome == 0) {
    globfree(&paths);
  }
  return s;
}

status bundle_write(const char *reports, const char *stamp, const char *out, int *found) {
  bundle b = {0};
  char *pattern = NULL;
  *found = 0;
  TRY(memory_format(&pattern, "%s/gpu/%s/summary.json", reports, stamp != NULL ? stamp : "*"));
  status s = gather(&b, pattern, found);
  s = s != STATUS_OK ? s : write_files(&b, out);
  free(pattern);
  free(b.published.text);
  free(b.all.text);
  cJSON_Delete(b.memory);
  return s;
}

/* Command. */

static const char USAGE[] =
    "usage: psann_bench aggregate [option…]\n"
    "\n"
    "Gathers the validation reports of a folder, FOLDER/gpu/<UTC time>/summary.json, into throughput.csv (forward in\n"
    "fp32, as published), throughput_all.csv (every measured row) and memory.json (the last measured GPU-04).\n"
    "\n"
    "  --reports FOLDER  where reports lie (reports)\n"
    "  --out DIR         where the files go (FOLDER/benchmarks/<UTC time>)\n"
    "  --help\n";

static const struct option OPTIONS[] = {{"reports", required_argument, NULL, 'r'},
                                        {"out", required_argument, NULL, 'o'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};

static status run(const char *reports, const char *out) {
  char *folder = NULL, stamp[32];
  int found = 0;
  TRY(out != NULL ? memory_format(&folder, "%s", out)
                  : memory_format(&folder, "%s/benchmarks/%s", reports, clock_stamp(stamp)));
  status s = bundle_write(reports, NULL, folder, &found);
  if (s == STATUS_OK && found == 0) {
    s = status_set(STATUS_USER_ERROR, __FILE__, __LINE__,
                   "no report in '%s/gpu' has figures of GPU-03 or GPU-04; run psann_bench validate, or give another "
                   "folder with --reports",
                   reports);
  }
  if (s == STATUS_OK) {
    log_line("%d reports in %s", found, folder);
  }
  free(folder);
  return s;
}

status bundle_command(int argc, char **argv, const char **print) {
  const char *reports = "reports", *out = NULL;
  opterr = 0;
  optind = 2;
  for (int option; (option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1;) {
    if (option == '?' || option == ':') {
      return argument_refused("psann_bench aggregate", option, optopt, optind, argv);
    }
    if (option == 'h') {
      *print = USAGE;
      return STATUS_OK;
    }
    *(option == 'r' ? &reports : &out) = optarg;
  }
  if (optind < argc) {
    USER_ERROR("'%s' is not an option of psann_bench aggregate; reports are named by --reports", argv[optind]);
  }
  return run(reports, out);
}
