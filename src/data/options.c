#include "data/options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static status append(option_list *list, const char *item) {
  TRY(memory_grow(&list->items, &list->capacity, list->count + 1, sizeof *list->items, "the command line"));
  list->items[list->count++] = item;
  return STATUS_OK;
}

/* Edits that turn one text into the other. */
static size_t distance(const char *a, const char *b) {
  enum { LONGEST = 64 };
  size_t row[LONGEST + 1], n = strlen(a), m = strlen(b);
  if (n > LONGEST || m > LONGEST) {
    return LONGEST;
  }
  for (size_t j = 0; j <= m; j++) {
    row[j] = j;
  }
  for (size_t i = 1; i <= n; i++) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= m; j++) {
      size_t above = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
      best = above + 1 < best ? above + 1 : best;
      best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
      diagonal = above;
      row[j] = best;
    }
  }
  return row[m];
}

static status unknown(const option *table, size_t count, const char *name) {
  const char *nearest = NULL;
  size_t best = 4; /* farther ones are no help */
  for (size_t i = 0; i < count; i++) {
    if (table[i].name != NULL && distance(name, table[i].name) < best) {
      best = distance(name, table[i].name);
      nearest = table[i].name;
    }
  }
  if (nearest != NULL) {
    USER_ERROR("there is no option %s; did you mean %s?", name, nearest);
  }
  USER_ERROR("there is no option %s; --help lists them", name);
}

static status read_number(const option *o, const char *text, double *value) {
  char *end;
  errno = 0;
  *value = strtod(text, &end);
  if (end == text || *end != '\0' || errno == ERANGE || !isfinite(*value)) {
    USER_ERROR("%s is '%s', which is not a number; give one from %g to %g", o->name, text, o->least, o->most);
  }
  if (*value < o->least || *value > o->most) {
    USER_ERROR("%s is %s, out of range; give a number from %g to %g", o->name, text, o->least, o->most);
  }
  return STATUS_OK;
}

static status read_integer(const option *o, const char *text, int64_t *value) {
  char *end;
  errno = 0;
  long long read = strtoll(text, &end, 10);
  if (end == text || *end != '\0') {
    USER_ERROR("%s is '%s', which is not a whole number; give one from %.0f to %.0f", o->name, text, o->least, o->most);
  }
  if (errno == ERANGE || (double)read < o->least || (double)read > o->most) {
    USER_ERROR("%s is %s, out of range; give a whole number from %.0f to %.0f", o->name, text, o->least, o->most);
  }
  *value = read;
  return STATUS_OK;
}

static status set(option *o, const char *text) {
  if (o->given && o->kind != OPTION_LIST && o->kind != OPTION_FLAG) {
    USER_ERROR("%s is given twice; give it once", o->name);
  }
  o->given = true;
  switch (o->kind) {
    case OPTION_FLAG:
      *(bool *)o->to = true;
      return STATUS_OK;
    case OPTION_TEXT:
      if (text[0] == '\0') {
        USER_ERROR("%s has an empty value; give %s", o->name, o->value);
      }
      *(const char **)o->to = text;
      return STATUS_OK;
    case OPTION_INTEGER:
      return read_integer(o, text, o->to);
    case OPTION_NUMBER:
      return read_number(o, text, o->to);
    case OPTION_LIST:
      return append(o->to, text);
  }
  FAIL("option %s has no kind", o->name);
}

status options_read(option *table, size_t count, int argc, char *const *argv, option_list *rest) {
  for (int i = 0; i < argc; i++) {
    if (strncmp(argv[i], "--", 2) != 0) {
      if (argv[i][0] == '-' && argv[i][1] != '\0') {
        USER_ERROR("there is no option %s; options start with --, and --help lists them", argv[i]);
      }
      TRY(append(rest, argv[i]));
      continue;
    }
    if (argv[i][2] == '\0') { /* what follows are no options */
      while (++i < argc) {
        TRY(append(rest, argv[i]));
      }
      break;
    }
    const char *equals = strchr(argv[i], '=');
    char name[80];
    snprintf(name, sizeof name, "%.*s", equals == NULL ? 79 : (int)(equals - argv[i]), argv[i]);
    option *o = NULL;
    for (size_t k = 0; k < count; k++) {
      o = table[k].name != NULL && strcmp(table[k].name, name) == 0 ? &table[k] : o;
    }
    if (o == NULL) {
      return unknown(table, count, name);
    }
    if (o->kind == OPTION_FLAG && equals != NULL) {
      USER_ERROR("%s takes no value; leave '%s' away", name, equals);
    }
    if (o->kind != OPTION_FLAG && equals == NULL && i + 1 == argc) {
      USER_ERROR("%s needs a value; give %s after it", name, o->value);
    }
    const char *text = equals != NULL ? equals + 1 : o->kind == OPTION_FLAG ? NULL : argv[++i];
    TRY(set(o, text));
  }
  return STATUS_OK;
}

bool options_given(const option *table, size_t count, const char *name) {
  for (size_t i = 0; i < count; i++) {
    if (table[i].name != NULL && strcmp(table[i].name, name) == 0) {
      return table[i].given;
    }
  }
  return false;
}

void options_help(const char *usage, const option *table, size_t count) {
  enum { COLUMN = 28 };
  fputs(usage, stdout);
  for (size_t i = 0; i < count; i++) {
    const option *o = &table[i];
    if (o->name == NULL) {
      printf("\n%s\n", o->help);
      continue;
    }
    int used = printf("  %s%s%s", o->name, o->value != NULL ? " " : "", o->value != NULL ? o->value : "");
    for (const char *line = o->help; line != NULL;) {
      const char *end = strchr(line, '\n');
      printf("%*s%.*s\n", used < COLUMN ? COLUMN - used : 1, "", end != NULL ? (int)(end - line) : (int)strlen(line),
             line);
      line = end != NULL ? end + 1 : NULL;
      used = 0;
    }
  }
}
