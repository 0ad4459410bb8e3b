/* Verdicts and what results have in common. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "bench/validation.h"

static void set_text(cJSON *o, const char *key, const char *text) {
  cJSON_DeleteItemFromObject(o, key);
  cJSON_AddStringToObject(o, key, text);
}

/* "before; text" under the key. */
static void append_text(cJSON *o, const char *key, const char *text) {
  char joined[2048];
  const char *before = cJSON_GetStringValue(cJSON_GetObjectItem(o, key));
  snprintf(joined, sizeof joined, "%s%s%s", before != NULL ? before : "", before != NULL ? "; " : "", text);
  set_text(o, key, joined);
}

void judge(cJSON *result, bool pass, const char *threshold, const char *format, ...) {
  char figure[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(figure, sizeof figure, format, arguments);
  va_end(arguments);
  const char *before = cJSON_GetStringValue(cJSON_GetObjectItem(result, "verdict"));
  bool failed = !pass || (before != NULL && strcmp(before, "fail") == 0);
  set_text(result, "status", failed ? "failed" : "ok");
  set_text(result, "verdict", failed ? "fail" : "pass");
  const char *thresholds = cJSON_GetStringValue(cJSON_GetObjectItem(result, "threshold"));
  if (thresholds == NULL || strstr(thresholds, threshold) == NULL) { /* several figures may have one */
    append_text(result, "threshold", threshold);
  }
  append_text(result, "figure", figure);
}

void judge_skipped(cJSON *result, const char *reason) {
  set_text(result, "status", "skipped");
  set_text(result, "verdict", "skipped");
  set_text(result, "reason", reason);
}

void judge_error(cJSON *result, const char *message) {
  set_text(result, "status", "error");
  set_text(result, "verdict", "fail");
  set_text(result, "reason", message);
}

void result_model(cJSON *result, const config_model *m) {
  cJSON *o = cJSON_AddObjectToObject(result, "model");
  cJSON_AddStringToObject(o, "base", config_base_name(m->base));
  json_number(o, "d_model", (double)m->d_model);
  json_number(o, "n_layers", (double)m->n_layers);
  json_number(o, "n_heads", (double)m->n_heads);
  json_number(o, "d_mlp", (double)m->d_mlp);
}
