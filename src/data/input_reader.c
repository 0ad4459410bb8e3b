#include "data/input_reader.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

/* What of a document is looked at to decide where it is cut: what a cut looks at is never the result of how reads
 * happened to fall. */
static const size_t LONGEST = 2 * (size_t)INPUT_CUT; /* of a segment */
enum { VIEW = 2 * INPUT_CUT + 1 };

struct input_reader {
  input_list *list;
  const input_options *options;
  size_t next_file;
  input_file *file; /* NULL: none is open */
  int handle;
  digest *digest;
  char *buffer; /* data is buffer[start … end − 1] */
  size_t capacity, start, end;
  bool at_end; /* of the file: nothing comes after the data */
  bool inside; /* a document has started and not ended */
  bool inside_line;
  int64_t line; /* of JSON, from 1 */
  cJSON *row;   /* the JSON line whose text is being given */
  const char *value;
  size_t value_bytes;
  int64_t file_bytes, bytes, bad_lines;
};

status input_reader_open(input_list *list, const input_options *options, input_reader **out) {
  *out = NULL;
  input_reader *r;
  TRY(memory_new(&r, 1, sizeof *r, "a reader of inputs"));
  *r = (input_reader){.list = list, .options = options, .handle = -1};
  status s = memory_grow(&r->buffer, &r->capacity, 4 * (size_t)VIEW, 1, "the buffer of an input");
  if (s != STATUS_OK) {
    input_reader_close(r);
    return s;
  }
  *out = r;
  return STATUS_OK;
}

static void close_file(input_reader *r) {
  if (r->handle >= 0) {
    close(r->handle);
  }
  digest_free(r->digest);
  cJSON_Delete(r->row);
  r->handle = -1;
  r->digest = NULL;
  r->row = NULL;
  r->file = NULL;
}

void input_reader_close(input_reader *r) {
  if (r != NULL) {
    close_file(r);
    free(r->buffer);
    free(r);
  }
}

int64_t input_reader_bytes(const input_reader *r) {
  return r->bytes;
}

int64_t input_reader_bad_lines(const input_reader *r) {
  return r->bad_lines;
}

static status open_next(input_reader *r) {
  r->file = &r->list->files[r->next_file++];
  r->start = r->end = 0;
  r->at_end = r->inside = r->inside_line = false;
  r->line = r->file_bytes = 0;
  TRY(file_open_read(r->file->source.path, &r->handle));
  return digest_new(&r->digest);
}

static void finish_file(input_reader *r) {
  digest_text(r->digest, r->file->source.digest);
  r->file->source.bytes = r->file_bytes;
  close_file(r);
}

/* Reads on until `wanted` bytes are there, or the file's end. */
static status fill(input_reader *r, size_t wanted) {
  if (r->end - r->start >= wanted || r->at_end) {
    return STATUS_OK;
  }
  if (r->start + wanted > r->capacity) {
    memmove(r->buffer, r->buffer + r->start, r->end - r->start);
    r->end -= r->start;
    r->start = 0;
  }
  TRY(memory_grow(&r->buffer, &r->capacity, wanted, 1, "the buffer of an input"));
  while (r->end - r->start < wanted) {
    ssize_t got = read(r->handle, r->buffer + r->end, r->capacity - r->end);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      FAIL("cannot read '%s': %s; check the disk", r->file->source.path, strerror(errno));
    }
    if (got == 0) {
      r->at_end = true;
      break;
    }
    digest_add(r->digest, r->buffer + r->end, (size_t)got);
    r->end += (size_t)got;
    r->file_bytes += got;
    r->bytes += got;
  }
  return STATUS_OK;
}

/* Length of the next segment of a text of which `bytes` are in view; `all`: no more come. */
static size_t cut(const char *text, size_t bytes, bool all) {
  size_t limit = bytes < LONGEST ? bytes : LONGEST;
  if (all && bytes <= INPUT_CUT) {
    return bytes;
  }
  const char *newline = memchr(text + INPUT_CUT, '\n', limit - INPUT_CUT);
  if (newline != NULL) {
    return (size_t)(newline - text) + 1;
  }
  if (all && bytes <= LONGEST) {
    return bytes;
  }
  const char *space = memrchr(text + INPUT_CUT, ' ', limit - INPUT_CUT);
  if (space != NULL) {
    return (size_t)(space - text);
  }
  for (size_t back = 0; back < 3 && ((unsigned char)text[limit] & 0xC0) == 0x80; back++) {
    limit--;
  }
  return limit;
}

/* Fills the segment with what the current document has next, and notes whether it goes on. */
static void give(input_reader *r, const char *text, size_t bytes, bool ends, input_segment *segment) {
  *segment = (input_segment){.text = text, .bytes = bytes, .starts = !r->inside, .ends = ends, .role = r->file->role};
  r->inside = !ends;
}

static bool separates(const input_options *o, const char *line, size_t bytes) {
  if (o->split == SPLIT_MARK) {
    size_t trimmed = bytes > 0 && line[bytes - 1] == '\r' ? bytes - 1 : bytes;
    return trimmed == strlen(o->mark) && memcmp(line, o->mark, trimmed) == 0;
  }
  for (size_t i = 0; i < bytes; i++) {
    if (strchr(" \t\r\f\v", line[i]) == NULL || line[i] == '\0') {
      return false;
    }
  }
  return true;
}

/* Walks the lines in view up to a separator. *given: a segment came out; else what was passed over had no text. */
static void next_of_lines(input_reader *r, const char *text, size_t bytes, bool all, input_segment *segment,
                          bool *given) {
  size_t at = 0;
  *given = true;
  while (at < bytes) {
    const char *newline = memchr(text + at, '\n', bytes - at);
    if (newline == NULL && !all) { /* the line goes on beyond the view */
      size_t length = at > 0 ? at : cut(text, bytes, false);
      r->inside_line = at == 0 && text[length - 1] != '\n';
      r->start += length;
      give(r, text, length, false, segment);
      return;
    }
    size_t line_end = newline == NULL ? bytes : (size_t)(newline - text);
    size_t next = newline == NULL ? bytes : line_end + 1;
    bool whole_line = !r->inside_line;
    r->inside_line = false;
    if (r->options->split == SPLIT_LINE || (whole_line && separates(r->options, text + at, line_end - at))) {
      size_t length = r->options->split == SPLIT_LINE ? line_end : at;
      r->start += next;
      *given = length > 0 || r->inside;
      if (*given) {
        give(r, text, length, true, segment);
      }
      return;
    }
    at = next;
    if (at >= INPUT_CUT && at < bytes) {
      r->start += at;
      give(r, text, at, false, segment);
      return;
    }
  }
  /* Everything in view is of this document: it ends here only with the file. */
  r->start += bytes;
  give(r, text, bytes, all, segment);
}

static status next_of_text(input_reader *r, input_segment *segment, bool *given) {
  for (*given = false; !*given;) {
    TRY(fill(r, VIEW));
    const char *text = r->buffer + r->start;
    size_t bytes = r->end - r->start < VIEW ? r->end - r->start : VIEW;
    bool all = r->at_end && r->end - r->start <= VIEW;
    if (bytes == 0 && !r->inside) {
      return STATUS_OK; /* the file's end */
    }
    if (r->options->split == SPLIT_NONE || bytes == 0) {
      size_t length = cut(text, bytes, all);
      r->start += length;
      give(r, text, length, all && length == bytes, segment);
      *given = true;
    } else {
      next_of_lines(r, text, bytes, all, segment, given);
    }
  }
  return STATUS_OK;
}

/* The next line of JSON lines, without its newline; *bytes 0 at the end or for an empty line. */
static status next_line(input_reader *r, const char **line, size_t *bytes, bool *there) {
  const char *newline = NULL;
  size_t looked = 0;
  for (size_t wanted = 1 << 16; newline == NULL; wanted *= 2) {
    if (wanted > INPUT_JSON_LINE_LIMIT) {
      USER_ERROR("'%s' has more than %d MiB in line %" PRId64
                 "; JSON lines hold one document a line: split the file up",
                 r->file->source.path, INPUT_JSON_LINE_LIMIT >> 20, r->line + 1);
    }
    TRY(fill(r, wanted));
    size_t held = r->end - r->start;
    newline = held == looked ? NULL : memchr(r->buffer + r->start + looked, '\n', held - looked);
    looked = held;
    if (r->at_end) {
      break;
    }
  }
  *line = r->buffer + r->start;
  *bytes = newline == NULL ? r->end - r->start : (size_t)(newline - *line);
  *there = r->end > r->start;
  r->start += *bytes + (newline == NULL ? 0 : 1);
  r->line++;
  return STATUS_OK;
}

/* cJSON ends texts at NUL, so an escaped one would silently cut the text. */
static bool has_escaped_nul(const char *line, size_t bytes) {
  for (const char *at = line; (at = memmem(at, bytes - (size_t)(at - line), "\\u0000", 6)) != NULL; at += 6) {
    size_t backslashes = 1;
    while (at - backslashes >= line && at[-(ptrdiff_t)backslashes] == '\\') {
      backslashes++;
    }
    if (backslashes % 2 == 1) {
      return true;
    }
  }
  return false;
}

static bool only_space(const char *text, const char *end) {
  while (text < end && strchr(" \t\r", *text) != NULL && *text != '\0') {
    text++;
  }
  return text >= end;
}

/* The library makes a node of 64 bytes for each value of a line, so a line of nothing but brackets and commas would take
 * twenty times its size. What stands in quotes is one value. */
static bool too_many_values(const char *line, size_t bytes) {
  enum { MOST = 1 << 22 };
  size_t values = 0;
  bool quoted = false;
  for (size_t i = 0; i < bytes && values <= MOST; i++) {
    if (quoted && line[i] == '\\') {
      i++;
    } else if (line[i] == '"') {
      quoted = !quoted;
    } else if (!quoted) {
      values += line[i] == ',' || line[i] == '[' || line[i] == '{';
    }
  }
  return values > MOST;
}

/* Parses a line into r->row and r->value. */
static status read_row(input_reader *r, const char *line, size_t bytes) {
  const char *path = r->file->source.path, *key = r->options->text_key, *end = line;
  static const char advice[] = "mend the line, or pass over such lines with --skip-bad-lines";
  if (too_many_values(line, bytes)) {
    USER_ERROR("'%s' line %" PRId64 " holds millions of values; JSON lines hold one document a line, %s", path, r->line,
               advice);
  }
  r->row = cJSON_ParseWithLengthOpts(line, bytes, &end, false);
  if (!cJSON_IsObject(r->row) || !only_space(end, line + bytes)) {
    USER_ERROR("'%s' line %" PRId64 " is not a JSON object (wrong near character %td); %s", path, r->line,
               end - line + 1, advice);
  }
  const cJSON *text = cJSON_GetObjectItemCaseSensitive(r->row, key);
  if (!cJSON_IsString(text)) {
    USER_ERROR("'%s' line %" PRId64 " %s the key \"%s\"; name the right key with --text-key, or %s", path, r->line,
               text == NULL ? "does not have" : "has something other than a text under", key, advice);
  }
  if (has_escaped_nul(line, bytes)) {
    USER_ERROR("'%s' line %" PRId64 " holds an escaped NUL character (\\u0000), which JSON texts can't carry here; %s",
               path, r->line, advice);
  }
  r->value = text->valuestring;
  r->value_bytes = strlen(text->valuestring);
  return STATUS_OK;
}

static status next_of_json(input_reader *r, input_segment *segment, bool *given) {
  *given = false;
  while (r->value_bytes == 0) {
    const char *line = NULL;
    size_t bytes = 0;
    bool there = false;
    cJSON_Delete(r->row);
    r->row = NULL;
    TRY(next_line(r, &line, &bytes, &there));
    if (!there) {
      return STATUS_OK;
    }
    if (only_space(line, line + bytes)) {
      continue;
    }
    status s = read_row(r, line, bytes);
    if (s == STATUS_USER_ERROR && r->options->skip_bad_lines) {
      r->bad_lines++;
    } else if (s != STATUS_OK) {
      return s;
    }
  }
  size_t bytes = r->value_bytes < VIEW ? r->value_bytes : VIEW;
  bool all = r->value_bytes <= VIEW;
  size_t length = cut(r->value, bytes, all);
  give(r, r->value, length, all && length == bytes, segment);
  r->value += length;
  r->value_bytes -= length;
  *given = true;
  return STATUS_OK;
}

status input_reader_next(input_reader *r, input_segment *segment, bool *there) {
  *there = false;
  for (;;) {
    if (r->file == NULL) {
      if (r->next_file == r->list->count) {
        return STATUS_OK;
      }
      TRY(open_next(r));
    }
    TRY(r->file->json_lines ? next_of_json(r, segment, there) : next_of_text(r, segment, there));
    if (*there) {
      return STATUS_OK;
    }
    finish_file(r);
  }
}
