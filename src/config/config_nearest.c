/* What to say to a name that the table lacks. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "config/config_keys.h"

enum { LONGEST = 64 };

static int least(int a, int b) {
  return a < b ? a : b;
}

static int lower(char letter) {
  return tolower((unsigned char)letter);
}

/* Edits (insert, delete, replace, swap of neighbours) that turn a into b, without regard to case. */
static int distance(const char *a, const char *b) {
  int rows[3][LONGEST + 1];
  int n = (int)strnlen(a, LONGEST);
  int m = (int)strnlen(b, LONGEST);
  for (int j = 0; j <= m; j++) {
    rows[0][j] = j;
  }
  for (int i = 1; i <= n; i++) {
    int *now = rows[i % 3];
    const int *above = rows[(i + 2) % 3];
    now[0] = i;
    for (int j = 1; j <= m; j++) {
      bool same = lower(a[i - 1]) == lower(b[j - 1]);
      now[j] = least(least(above[j], now[j - 1]) + 1, above[j - 1] + !same);
      if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) && lower(a[i - 2]) == lower(b[j - 1])) {
        now[j] = least(now[j], rows[(i + 1) % 3][j - 2] + 1);
      }
    }
  }
  return rows[n % 3][m];
}

/* Names further away than this are not what was meant. */
static int far_from(const char *name) {
  int third = (int)strnlen(name, LONGEST) / 3;
  return third < 1 ? 1 : third;
}

/* Row of the nearest key; -1 when none is near. The key's own section counts half against a name of another one. */
static int nearest_key(const char *section, const char *name) {
  int best = -1;
  int best_cost = 0;
  for (int i = 0; i < config_n_keys; i++) {
    const config_key *k = &config_keys[i];
    int edits = distance(name, k->name);
    int cost = 4 * edits + least(2, distance(section, k->section));
    if (edits <= far_from(name) && (best < 0 || cost < best_cost)) {
      best = i;
      best_cost = cost;
    }
  }
  return best;
}

static void list_sections(char *text, size_t size) {
  text[0] = '\0';
  for (int i = 0; i < config_n_keys; i++) {
    if (i == 0 || strcmp(config_keys[i].section, config_keys[i - 1].section) != 0) {
      size_t used = strlen(text);
      snprintf(text + used, size - used, "%s%s", i == 0 ? "" : ", ", config_keys[i].section);
    }
  }
}

static void list_keys(const char *section, char *text, size_t size) {
  text[0] = '\0';
  for (int i = 0; i < config_n_keys; i++) {
    if (strcmp(config_keys[i].section, section) == 0) {
      size_t used = strlen(text);
      snprintf(text + used, size - used, "%s%s", used == 0 ? "" : ", ", config_keys[i].name);
    }
  }
}

status config_unknown_section(const char *section, const char *origin) {
  int best = -1;
  int best_edits = 0;
  for (int i = 0; i < config_n_keys; i++) {
    int edits = distance(section, config_keys[i].section);
    if (edits <= far_from(section) && (best < 0 || edits < best_edits)) {
      best = i;
      best_edits = edits;
    }
  }
  if (best >= 0) {
    USER_ERROR("unknown section [%s] %s%s; did you mean [%s]?", section, PLACE(origin), config_keys[best].section);
  }
  char known[1024];
  list_sections(known, sizeof known);
  USER_ERROR("unknown section [%s] %s%s; the sections are %s", section, PLACE(origin), known);
}

status config_unknown_key(const char *section, const char *name, const char *origin) {
  int near = nearest_key(section, name);
  const char *dot = section[0] == '\0' ? "" : ".";
  if (near >= 0) {
    USER_ERROR("unknown key '%s%s%s' %s%s; did you mean '%s.%s'?", section, dot, name, PLACE(origin),
               config_keys[near].section, config_keys[near].name);
  }
  if (!config_has_section(section)) {
    return config_unknown_section(section, origin);
  }
  char known[1024];
  list_keys(section, known, sizeof known);
  USER_ERROR("unknown key '%s.%s' %s%s; the keys of [%s] are %s", section, name, PLACE(origin), section, known);
}
