/* The one table of keys, and what the files of this folder share. For src/config alone. */
#ifndef PSANN_CONFIG_CONFIG_KEYS_H
#define PSANN_CONFIG_CONFIG_KEYS_H

#include <stddef.h>

#include "config/config.h"

typedef enum {
  KIND_INTEGER, /* int64_t */
  KIND_REAL,    /* double, finite */
  KIND_SWITCH,  /* bool */
  KIND_TEXT,    /* char *, owned, never NULL */
  KIND_CHOICE,  /* an enum */
  KIND_PAIR,    /* config_pair */
  KIND_LEARN,   /* int: bits of sine_learnable */
} config_kind;

/* A word of an enum. A word with a `refusal` is known but not accepted: the refusal says why and what to use. */
typedef struct {
  const char *word;
  int value;
  const char *refusal;
} config_choice;

typedef struct {
  const char *section;
  const char *name;
  config_kind kind;
  size_t offset;       /* in config */
  const char *initial; /* the default, as text */
  int64_t least, most; /* KIND_INTEGER, both allowed */
  double low, high;    /* KIND_REAL, KIND_PAIR; an infinite `high`: no limit */
  bool low_open, high_open;
  const char *word; /* stands for `word_value` (an integer) or NaN (a real); NULL: none */
  int64_t word_value;
  const config_choice *choices; /* KIND_CHOICE: ends with a NULL word */
  bool may_be_empty;            /* KIND_TEXT */
  bool open_ended;              /* KIND_PAIR: one end alone may be none */
  const char *unit;             /* "" where there is none */
  config_change change;
  const char *meaning;
} config_key;

extern const config_key config_keys[];
extern const int config_n_keys;

/* Row of a key; -1 when there is none. */
int config_find(const char *section, const char *name);

/* Row of the key at this place in config; the place must be one. */
int config_row_at(size_t offset);
#define ROW_OF(field) config_row_at(offsetof(config, field))

static inline void *config_field(config *c, const config_key *k) {
  return (char *)c + k->offset;
}
static inline const void *config_field_const(const config *c, const config_key *k) {
  return (const char *)c + k->offset;
}

/* Reads `text` into a field of the key's kind; the field is unchanged on failure. */
status config_value_parse(const config_key *k, void *field, const char *text, const char *origin);

/* The field as text that config_value_parse reads back to the same value; the caller frees *out. */
status config_value_text(const config_key *k, const void *field, char **out);

/* Whether a field that was set without text lies in the key's range. */
status config_value_check(const config_key *k, const void *field);

/* "integer from 1 to 8, or auto" and the like: what the key takes. At most 400 bytes with the zero. */
const char *config_value_range(const config_key *k, char text[400]);

/* User errors for a name that the table lacks, with the nearest one that it has. */
status config_unknown_section(const char *section, const char *origin);
status config_unknown_key(const char *section, const char *name, const char *origin);
bool config_has_section(const char *section);

/* Why key i has no effect under the other values, as a clause ("model.base is respsann"); NULL when it has one. */
const char *config_no_effect(const config *c, int i);

/* "at quick.ini:3", "on the command line" or "with --device", as two strings for one "%s%s". */
const char *config_place_word(const char *origin);
#define PLACE(origin) config_place_word(origin), (origin)

#endif
