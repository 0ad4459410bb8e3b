/* The table as INI text, as help and as Markdown. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "config/config_keys.h"

static bool begins_section(int i) {
  return i == 0 || strcmp(config_keys[i].section, config_keys[i - 1].section) != 0;
}

static status print_rows(const config *c, FILE *out) {
  for (int i = 0; i < config_n_keys; i++) {
    const config_key *k = &config_keys[i];
    char *value;
    TRY(config_value_text(k, config_field_const(c, k), &value));
    const char *reason = config_no_effect(c, i);
    if (begins_section(i)) {
      fprintf(out, "%s[%s]\n", i == 0 ? "" : "\n", k->section);
    }
    const char *gap = value[0] == '\0' ? "" : " ";
    if (reason == NULL) {
      fprintf(out, "%s =%s%s\n", k->name, gap, value);
    } else {
      fprintf(out, "; %s =%s%s  (no effect: %s)\n", k->name, gap, value, reason);
    }
    free(value);
  }
  return STATUS_OK;
}

status config_text(const config *c, char **text) {
  *text = NULL;
  char *buffer = NULL;
  size_t bytes = 0;
  FILE *out = open_memstream(&buffer, &bytes);
  if (out == NULL) {
    FAIL("out of memory: cannot write the configuration as text");
  }
  status result = print_rows(c, out);
  if (fclose(out) != 0 && result == STATUS_OK) {
    result = status_set(STATUS_FAILURE, __FILE__, __LINE__, "out of memory: cannot write the configuration as text");
  }
  if (result != STATUS_OK) {
    free(buffer);
    return result;
  }
  *text = buffer;
  return STATUS_OK;
}

static const char *default_of(const config_key *k) {
  return k->kind == KIND_TEXT && k->initial[0] == '\0' ? "empty" : k->initial;
}

/* Prints `text` in lines of at most `width` columns, each after `indent` spaces. */
static void print_wrapped(FILE *out, const char *text, int indent, int width) {
  int column = 0;
  while (*text != '\0') {
    int length = (int)strcspn(text, " ");
    if (column > 0 && column + 1 + length > width) {
      fputc('\n', out);
      column = 0;
    }
    column += fprintf(out, column == 0 ? "%*s%.*s" : "%*s %.*s", column == 0 ? indent : 0, "", length, text);
    text += length;
    text += strspn(text, " ");
  }
  fputc('\n', out);
}

void config_help(FILE *out) {
  enum { WIDTH = 100, INDENT = 6 };
  fprintf(out,
          "Keys of a configuration: an INI file of [section] and key = value lines, with ';' or '#' before a\n"
          "comment. On the command line: section.key=value.\n");
  for (int i = 0; i < config_n_keys; i++) {
    const config_key *k = &config_keys[i];
    char range[400];
    if (begins_section(i)) {
      fprintf(out, "\n[%s]\n", k->section);
    }
    fprintf(out, "  %s =%s%s\n", k->name, k->initial[0] == '\0' ? "" : " ", k->initial);
    char line[512];
    snprintf(line, sizeof line, "(%s%s%s)", config_value_range(k, range), k->unit[0] == '\0' ? "" : "; ", k->unit);
    print_wrapped(out, line, INDENT, WIDTH);
    print_wrapped(out, k->meaning, INDENT, WIDTH);
  }
}

/* '|' would end a cell of the table. */
static void print_cell(FILE *out, const char *text) {
  for (; *text != '\0'; text++) {
    if (*text == '|') {
      fputc('\\', out);
    }
    fputc(*text, out);
  }
}

void config_markdown(FILE *out) {
  static const char *const rules[] = {[CHANGE_FREE] = "may change", [CHANGE_WARN] = "warns", [CHANGE_REFUSE] = "fixed"};
  fprintf(
      out,
      "# Keys of a configuration\n\n"
      "This page is generated from the table in `src/config/config_keys.c`; `psann_train --help-config` prints the "
      "same.\n\n"
      "A configuration is an INI file: `[section]`, then `key = value` lines. `;` or `#` begins a comment at the start "
      "of\na line or after white space. On the command line a key is `section.key=value` and wins over the file. An "
      "unknown\nkey, a wrong value, and a given key that has no effect under the others are errors.\n\n"
      "The column *resume* tells what a run that continues from a checkpoint says to another value: *may change*, "
      "*warns*\n(the run goes on with the new value), or *fixed* (the run is refused, since it would be another "
      "run).\n");
  for (int i = 0; i < config_n_keys; i++) {
    const config_key *k = &config_keys[i];
    char range[400];
    if (begins_section(i)) {
      fprintf(out, "\n## [%s]\n\n| key | values | unit | default | resume | meaning |\n|---|---|---|---|---|---|\n",
              k->section);
    }
    fprintf(out, "| `%s` | ", k->name);
    print_cell(out, config_value_range(k, range));
    fprintf(out, " | %s | %s | %s | ", k->unit, default_of(k), rules[k->change]);
    print_cell(out, k->meaning);
    fprintf(out, " |\n");
  }
}
