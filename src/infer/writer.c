#include "infer/writer.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "infer/display.h"

enum { STREAM_WINDOW = 64 }; /* ids that are decoded again at most, so that a long text costs linear time */

static status put(FILE *out, const char *text, size_t bytes) {
  if (fwrite(text, 1, bytes, out) != bytes) {
    FAIL("can't write the text: %s", strerror(errno));
  }
  return STATUS_OK;
}

/* The last id stays in the window: a tokenizer may treat the beginning of a text in its own way. */
static status move_window(text_stream *s, const generate_row *row) {
  char *text;
  size_t bytes;
  TRY(tokenizer_decode(s->t, row->ids + row->count - 1, 1, &text, &bytes));
  free(text);
  s->from = row->count - 1;
  s->shown = bytes;
  return STATUS_OK;
}

status text_stream_show(text_stream *s, const generate_row *row, bool last) {
  char *text;
  size_t bytes;
  TRY(tokenizer_decode(s->t, row->ids + s->from, row->count - s->from, &text, &bytes));
  size_t whole = last ? bytes : display_whole(text, bytes);
  status result = STATUS_OK;
  if (whole > s->shown) {
    result = put(s->out, text + s->shown, whole - s->shown);
    s->shown = whole;
  }
  if (whole == bytes && row->count - s->from >= STREAM_WINDOW) {
    result = result == STATUS_OK ? move_window(s, row) : result;
  }
  free(text);
  if (result == STATUS_OK && fflush(s->out) != 0) {
    FAIL("can't write the text: %s", strerror(errno));
  }
  return result;
}

static status write_text(FILE *out, tokenizer *t, const generate_row *row, bool several) {
  if (several) {
    fprintf(out, "=== text %" PRId64 " ===\n", row->number + 1);
  }
  char *text;
  size_t bytes;
  TRY(tokenizer_decode(t, row->ids, row->count, &text, &bytes));
  status result = put(out, text, bytes);
  free(text);
  TRY(result);
  return put(out, several ? "\n\n" : "\n", several ? 2 : 1);
}

static status write_ids(FILE *out, const generate_row *row) {
  for (size_t i = row->prompt; i < row->count; i++) {
    fprintf(out, "%s%d", i > row->prompt ? " " : "", (int)row->ids[i]);
  }
  return put(out, "\n", 1);
}

static status decode_clean(tokenizer *t, const int32_t *ids, size_t count, char **clean) {
  char *text;
  size_t bytes;
  TRY(tokenizer_decode(t, ids, count, &text, &bytes));
  status result = display_clean(text, bytes, clean);
  free(text);
  return result;
}

static status add_string(cJSON *object, const char *name, const char *text, size_t bytes) {
  char *clean;
  TRY(display_clean(text, bytes, &clean));
  cJSON *added = cJSON_AddStringToObject(object, name, clean);
  free(clean);
  REQUIRE(added != NULL, "out of memory: a JSON line of %zu bytes", bytes);
  return STATUS_OK;
}

static status fill_object(cJSON *object, tokenizer *t, const generate_row *row, const char *prompt) {
  bool added = cJSON_AddNumberToObject(object, "index", (double)row->number) != NULL;
  if (prompt != NULL) {
    TRY(add_string(object, "prompt", prompt, strlen(prompt)));
  }
  if (t != NULL) {
    char *text;
    TRY(decode_clean(t, row->ids + row->prompt, row->count - row->prompt, &text));
    added = added && cJSON_AddStringToObject(object, "text", text) != NULL;
    free(text);
  }
  static const int none = 0; /* cJSON takes no NULL, even for an empty array */
  const int *ids = row->ids != NULL ? row->ids : &none;
  added = added && cJSON_AddItemToObject(object, "prompt_tokens", cJSON_CreateIntArray(ids, (int)row->prompt));
  added = added && cJSON_AddItemToObject(object, "tokens",
                                         cJSON_CreateIntArray(ids + row->prompt, (int)(row->count - row->prompt)));
  added = added && cJSON_AddStringToObject(object, "end", generate_end_name(row->end)) != NULL;
  REQUIRE(added, "out of memory: a JSON line for text %" PRId64, row->number + 1);
  return STATUS_OK;
}

static status write_json(FILE *out, tokenizer *t, const generate_row *row, const char *prompt) {
  cJSON *object = cJSON_CreateObject();
  REQUIRE(object != NULL, "out of memory: a JSON object");
  status result = fill_object(object, t, row, prompt);
  char *line = result == STATUS_OK ? cJSON_PrintUnformatted(object) : NULL;
  cJSON_Delete(object);
  TRY(result);
  REQUIRE(line != NULL, "out of memory: a JSON line for text %" PRId64, row->number + 1);
  result = put(out, line, strlen(line));
  free(line);
  TRY(result);
  return put(out, "\n", 1);
}

status write_row(FILE *out, write_form form, tokenizer *t, const generate_row *row, const char *prompt, bool several) {
  switch (form) {
    case WRITE_IDS:
      TRY(write_ids(out, row));
      break;
    case WRITE_JSON:
      TRY(write_json(out, t, row, prompt));
      break;
    default:
      TRY(write_text(out, t, row, several));
  }
  if (fflush(out) != 0) {
    FAIL("can't write the text: %s", strerror(errno));
  }
  return STATUS_OK;
}
