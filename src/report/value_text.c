#include "report/value_text.h"

#include <string.h>

#include "base/memory.h"
#include "report/numbers.h"

static void single(html *h, const cJSON *item, bool rounded) {
  char text[32];
  size_t length = item->string != NULL ? strlen(item->string) : 0;
  if (cJSON_IsString(item)) {
    html_text(h, item->valuestring);
  } else if (cJSON_IsNumber(item) && length > 6 && strcmp(item->string + length - 6, "_bytes") == 0) {
    html_text(h, memory_text(item->valuedouble, text));
  } else if (cJSON_IsNumber(item) && rounded) {
    html_text(h, number_short(item->valuedouble, text));
  } else if (cJSON_IsNumber(item)) {
    html_format(h, "%.15g", item->valuedouble);
  } else if (cJSON_IsBool(item)) {
    html_add(h, cJSON_IsTrue(item) ? "yes" : "no");
  }
}

void value_text(html *h, const cJSON *item, bool rounded) {
  enum { PARTS = 64 };
  int n = 0;
  single(h, item, rounded);
  for (const cJSON *part = item->child; part != NULL; part = part->next) {
    if (cJSON_IsNull(part)) {
      continue;
    }
    html_add(h, n == 0 ? "" : cJSON_IsArray(item) ? " " : "; ");
    if (++n > PARTS) {
      html_add(h, "…");
      return;
    }
    if (part->string != NULL) {
      html_text(h, part->string);
      html_add(h, " ");
    }
    single(h, part, rounded);
  }
}
