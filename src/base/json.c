#include "base/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

static const size_t LARGEST = (size_t)256 << 20;

void json_number(cJSON *o, const char *key, double value) {
  if (isfinite(value)) {
    cJSON_AddNumberToObject(o, key, value);
  } else {
    cJSON_AddNullToObject(o, key);
  }
}

double json_get_number(const cJSON *o, const char *key) {
  const cJSON *item = cJSON_GetObjectItem(o, key);
  return cJSON_IsNumber(item) ? item->valuedouble : NAN;
}

status json_write(const char *path, const cJSON *o) {
  char *json = cJSON_Print(o), *text = NULL;
  REQUIRE(json != NULL, "no memory for '%s'", path);
  status s = memory_format(&text, "%s\n", json);
  cJSON_free(json);
  if (s == STATUS_OK) {
    s = file_write_atomic(path, text, strlen(text));
  }
  free(text);
  return s;
}

status json_read(const char *path, cJSON **out) {
  char *text = NULL;
  size_t bytes;
  TRY(file_read(path, LARGEST, &text, &bytes));
  *out = cJSON_ParseWithLength(text, bytes);
  free(text);
  if (*out == NULL) {
    USER_ERROR("'%s' is not JSON; remove it, or write it anew", path);
  }
  return STATUS_OK;
}
