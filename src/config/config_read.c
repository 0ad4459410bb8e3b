/* INI files, by way of inih. inih takes lines of under 200 bytes: a longer one (a deep path) goes to it in pieces,
 * which it hands back as continuations of one value. */
#include <ctype.h>
#include <ini.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "config/config_keys.h"

enum { LINE_LIMIT = 8192, FILE_LIMIT = 1 << 20, PLACE_LIMIT = 4200, LONGEST_NAME = 48 };

typedef struct {
  config *c;
  const char *origin;
  const char *at;         /* the rest of the text */
  int line;               /* number of the current line, from 1 */
  char clean[LINE_LIMIT]; /* the current line without comment, indent and line end */
  size_t length, sent;    /* of it, and how much of it inih has */
  char value[LINE_LIMIT]; /* pieces of the current line's value */
  char place[PLACE_LIMIT];
  int *seen; /* line of each key in this text; 0: not yet */
  status result;
} reader;

static bool space(char letter) {
  return isspace((unsigned char)letter) != 0;
}

static bool begins_comment(char letter) {
  return letter == ';' || letter == '#';
}

static const char *place_of(reader *r, int line) {
  snprintf(r->place, sizeof r->place, "%s:%d", r->origin, line);
  return r->place;
}

/* Copies the next line without indent (which inih would take for a continuation), comment and white space at the end.
 */
static status clean_line(reader *r) {
  const char *end = strchr(r->at, '\n');
  const char *next = end != NULL ? end + 1 : r->at + strlen(r->at);
  const char *from = r->at;
  end = end != NULL ? end : next;
  r->at = next;
  r->line++;
  while (from < end && space(*from)) {
    from++;
  }
  for (const char *i = from; i < end; i++) {
    if (begins_comment(*i) && (i == from || space(i[-1]))) {
      end = i;
    }
  }
  while (end > from && space(end[-1])) {
    end--;
  }
  r->length = (size_t)(end - from);
  r->sent = 0;
  if (r->length >= LINE_LIMIT) {
    USER_ERROR("the line at %s has %zu bytes, more than the %d that a line may have; is this an INI file?",
               place_of(r, r->line), r->length, LINE_LIMIT - 1);
  }
  memcpy(r->clean, from, r->length);
  r->clean[r->length] = '\0';
  r->value[0] = '\0';
  return STATUS_OK;
}

/* What inih would report by a number of its own, or silently accept: told with the line's text. */
static status check_line(reader *r) {
  if (r->length == 0) {
    return STATUS_OK;
  }
  if (r->clean[0] != '[') {
    if (strpbrk(r->clean, "=:") == NULL) {
      USER_ERROR("'%.60s' at %s is neither [section], key = value, nor a comment", r->clean, place_of(r, r->line));
    }
    if (strcspn(r->clean, "=:") > LONGEST_NAME) { /* inih would cut it */
      USER_ERROR("'%.60s...' at %s is too long for the name of a key", r->clean, place_of(r, r->line));
    }
    return STATUS_OK;
  }
  char *end = strchr(r->clean, ']');
  if (end == NULL || end[1] != '\0') {
    USER_ERROR("'%.60s' at %s should be a section, such as [train], alone on its line", r->clean, place_of(r, r->line));
  }
  *end = '\0';
  status result = STATUS_OK;
  if (!config_has_section(r->clean + 1)) {
    result = config_unknown_section(r->clean + 1, place_of(r, r->line));
  }
  *end = ']';
  return result;
}

/* Where a piece of at most `most` bytes may end: a piece is trimmed, and one that begins with ';' or '#' is a comment.
 */
static size_t piece_length(const reader *r, size_t most) {
  size_t left = r->length - r->sent;
  if (left <= most) {
    return left;
  }
  size_t n = most;
  while (n > 1 &&
         (space(r->clean[r->sent + n - 1]) || space(r->clean[r->sent + n]) || begins_comment(r->clean[r->sent + n]))) {
    n--;
  }
  return n;
}

/* inih's fgets: a line or a piece of one into `out`; NULL at the end or after an error. */
static char *next_line(char *out, int size, void *user) {
  reader *r = user;
  if (r->result != STATUS_OK) {
    return NULL;
  }
  bool begins = r->sent >= r->length;
  if (begins) {
    if (*r->at == '\0') {
      return NULL;
    }
    r->result = clean_line(r);
    if (r->result == STATUS_OK) {
      r->result = check_line(r);
    }
    if (r->result != STATUS_OK) {
      return NULL;
    }
  }
  size_t n = piece_length(r, (size_t)size - 4);
  snprintf(out, (size_t)size, "%s%.*s\n", begins ? "" : " ", (int)n, r->clean + r->sent);
  r->sent += n;
  return out;
}

static status set_key(reader *r, const char *section, const char *name) {
  const char *place = place_of(r, r->line);
  if (section[0] == '\0') {
    status result = config_unknown_key("", name, place);
    return status_prefix(result, "a key stands before any [section]");
  }
  int i = config_find(section, name);
  if (i >= 0 && r->seen[i] != 0) {
    USER_ERROR("%s.%s stands twice in %s, on lines %d and %d; remove one of them", section, name, r->origin, r->seen[i],
               r->line);
  }
  TRY(config_set(r->c, section, name, r->value, place));
  r->seen[i] = r->line;
  return STATUS_OK;
}

static int take_value(void *user, const char *section, const char *name, const char *value) {
  reader *r = user;
  if (r->result != STATUS_OK) {
    return 0;
  }
  strncat(r->value, value, sizeof r->value - strlen(r->value) - 1);
  if (r->sent >= r->length) { /* the last piece */
    r->result = set_key(r, section, name);
  }
  return r->result == STATUS_OK;
}

status config_read_text(config *c, const char *text, const char *origin) {
  reader *r;
  TRY(memory_new(&r, 1, sizeof *r, "the reader of a configuration"));
  r->c = c;
  r->origin = origin;
  r->at = strncmp(text, "\xEF\xBB\xBF", 3) == 0 ? text + 3 : text; /* a byte order mark */
  r->result = memory_new(&r->seen, (size_t)config_n_keys, sizeof *r->seen, "the reader of a configuration");
  if (r->result == STATUS_OK) {
    int failed = ini_parse_stream(next_line, r, take_value, r);
    if (failed != 0 && r->result == STATUS_OK) {
      r->result = status_set(STATUS_USER_ERROR, __FILE__, __LINE__, "cannot read %s as an INI file", origin);
    }
  }
  status result = r->result;
  free(r->seen);
  free(r);
  return result;
}

status config_read(config *c, const char *path) {
  char *text;
  size_t bytes;
  TRY(file_read(path, FILE_LIMIT, &text, &bytes));
  status result;
  if (strlen(text) != bytes) {
    result = status_set(STATUS_USER_ERROR, __FILE__, __LINE__,
                        "'%s' is not a text file (it holds a zero byte); give the path of an INI file", path);
  } else {
    result = config_read_text(c, text, path);
  }
  free(text);
  return result;
}
