#include "config/config.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "config/config_keys.h"

status config_new(config **out) {
  *out = NULL;
  config *c;
  TRY(memory_new(&c, 1, sizeof *c, "a configuration"));
  status result = memory_new(&c->given, (size_t)config_n_keys, sizeof *c->given, "a configuration");
  for (int i = 0; i < config_n_keys && result == STATUS_OK; i++) {
    /* Defaults go through the same reader as a user's values, so a default out of range cannot be. */
    const config_key *k = &config_keys[i];
    result = config_value_parse(k, config_field(c, k), k->initial, "default");
  }
  if (result != STATUS_OK) {
    config_free(c);
    return result;
  }
  *out = c;
  return STATUS_OK;
}

void config_free(config *c) {
  if (c == NULL) {
    return;
  }
  for (int i = 0; i < config_n_keys; i++) {
    if (config_keys[i].kind == KIND_TEXT) {
      free(*(char **)config_field(c, &config_keys[i]));
    }
    if (c->given != NULL) {
      free(c->given[i]);
    }
  }
  free(c->given);
  free(c);
}

/* Gives the copy strings of its own in place of those that it shares with `c`. */
static status own_strings(const config *c, config *copy) {
  for (int i = 0; i < config_n_keys; i++) {
    const config_key *k = &config_keys[i];
    if (k->kind == KIND_TEXT) {
      const char *text = *(char *const *)config_field_const(c, k);
      TRY(memory_format((char **)config_field(copy, k), "%s", text == NULL ? "" : text));
    }
    if (c->given != NULL && c->given[i] != NULL) {
      TRY(memory_format(&copy->given[i], "%s", c->given[i]));
    }
  }
  return STATUS_OK;
}

status config_copy(const config *c, config **out) {
  *out = NULL;
  config *copy;
  TRY(memory_new(&copy, 1, sizeof *copy, "a configuration"));
  memcpy(copy, c, sizeof *copy);
  for (int i = 0; i < config_n_keys; i++) {
    if (config_keys[i].kind == KIND_TEXT) {
      *(char **)config_field(copy, &config_keys[i]) = NULL;
    }
  }
  copy->given = NULL;
  status result = memory_new(&copy->given, (size_t)config_n_keys, sizeof *copy->given, "a configuration");
  if (result == STATUS_OK) {
    result = own_strings(c, copy);
  }
  if (result != STATUS_OK) {
    config_free(copy);
    return result;
  }
  *out = copy;
  return STATUS_OK;
}

status config_set(config *c, const char *section, const char *name, const char *value, const char *origin) {
  int i = config_find(section, name);
  if (i < 0) {
    return config_unknown_key(section, name, origin);
  }
  char *place;
  TRY(memory_format(&place, "%s", origin));
  status result = config_value_parse(&config_keys[i], config_field(c, &config_keys[i]), value, origin);
  if (result != STATUS_OK) {
    free(place);
    return result;
  }
  free(c->given[i]);
  c->given[i] = place;
  return STATUS_OK;
}

/* Cuts white space off both ends, in place. */
static char *trim(char *text) {
  while (isspace((unsigned char)*text)) {
    text++;
  }
  char *end = text + strlen(text);
  while (end > text && isspace((unsigned char)end[-1])) {
    *--end = '\0';
  }
  return text;
}

status config_override(config *c, const char *assignment) {
  static const char origin[] = "command line";
  const char *equals = strchr(assignment, '=');
  if (equals == NULL || equals == assignment) {
    USER_ERROR("'%s' on the command line is not of the form section.key=value, such as train.lr=0.001", assignment);
  }
  char *text;
  TRY(memory_format(&text, "%s", assignment));
  text[equals - assignment] = '\0';
  char *name = trim(text);
  char *value = trim(text + (equals - assignment) + 1);
  char *dot = strchr(name, '.');
  status result;
  if (dot == NULL) {
    result = config_unknown_key("", name, origin);
  } else {
    *dot = '\0';
    result = config_set(c, name, dot + 1, value, origin);
  }
  free(text);
  return result;
}

status config_value(const config *c, const char *key, char **value) {
  *value = NULL;
  char *section;
  TRY(memory_format(&section, "%s", key));
  char *dot = strchr(section, '.');
  status result;
  if (dot == NULL) {
    result = config_unknown_key("", section, "command line");
  } else {
    *dot = '\0';
    int i = config_find(section, dot + 1);
    result = i < 0 ? config_unknown_key(section, dot + 1, "command line")
                   : config_value_text(&config_keys[i], config_field_const(c, &config_keys[i]), value);
  }
  free(section);
  return result;
}

int config_rows(void) {
  return config_n_keys;
}

status config_row(const config *c, int i, const char **section, const char **name, char **value,
                  config_change *change) {
  REQUIRE(i >= 0 && i < config_n_keys, "row %d of a table of %d keys", i, config_n_keys);
  const config_key *k = &config_keys[i];
  if (section != NULL) {
    *section = k->section;
  }
  if (name != NULL) {
    *name = k->name;
  }
  if (change != NULL) {
    *change = k->change;
  }
  if (value != NULL) {
    *value = NULL;
    TRY(config_value_text(k, config_field_const(c, k), value));
  }
  return STATUS_OK;
}
