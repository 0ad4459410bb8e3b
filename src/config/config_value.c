/* One value: text to field, field to text, and what a key allows. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "config/config_keys.h"

_Static_assert(sizeof(config_base) == sizeof(int), "enums are stored through int");

static const struct {
  const char *word;
  int bit;
} learnables[] = {{"amplitude", LEARN_AMPLITUDE}, {"frequency", LEARN_FREQUENCY}, {"decay", LEARN_DECAY}};
enum { N_LEARNABLES = sizeof learnables / sizeof learnables[0], LEARN_AUTO = -1 };

/* Names the key, the text and the place, then the complaint. */
#define BAD_VALUE(k, text, origin, format, ...) \
  USER_ERROR("%s.%s = '%s' %s%s: " format, (k)->section, (k)->name, text, PLACE(origin), __VA_ARGS__)

const char *config_place_word(const char *origin) {
  if (strncmp(origin, "--", 2) == 0) {
    return "with ";
  }
  return strcmp(origin, "command line") == 0 ? "on the " : "at ";
}

/* Appends to a text of fixed size, cutting what does not fit. */
__attribute__((format(printf, 3, 4))) static void append(char *text, size_t size, const char *format, ...) {
  size_t used = strlen(text);
  va_list args;
  va_start(args, format);
  vsnprintf(text + used, size - used, format, args);
  va_end(args);
}

/* The shortest text that reads back to the same double; plain digits where an exponent is no shorter. */
static const char *real_text(double value, char text[40]) {
  snprintf(text, 40, "%.17g", value);
  for (int digits = 16; digits >= 1; digits--) {
    char shorter[40];
    snprintf(shorter, sizeof shorter, "%.*g", digits, value);
    if (strtod(shorter, NULL) == value && strlen(shorter) < strlen(text)) {
      memcpy(text, shorter, sizeof shorter);
    }
  }
  return text;
}

static void append_reals(const config_key *k, char *text, size_t size) {
  char a[40];
  char b[40];
  if (!k->low_open && !k->high_open) {
    append(text, size, "from %s to %s", real_text(k->low, a), real_text(k->high, b));
  } else {
    append(text, size, "%s %s, %s %s", k->low_open ? "above" : "at least", real_text(k->low, a),
           k->high_open ? "below" : "at most", real_text(k->high, b));
  }
}

const char *config_value_range(const config_key *k, char text[400]) {
  enum { SIZE = 400 };
  text[0] = '\0';
  switch (k->kind) {
    case KIND_INTEGER:
      append(text, SIZE, "integer from %lld to %lld", (long long)k->least, (long long)k->most);
      break;
    case KIND_REAL:
      append(text, SIZE, "number ");
      append_reals(k, text, SIZE);
      break;
    case KIND_SWITCH:
      append(text, SIZE, "true or false");
      break;
    case KIND_TEXT:
      append(text, SIZE, "text");
      break;
    case KIND_CHOICE: {
      bool first = true;
      for (const config_choice *at = k->choices; at->word != NULL; at++) {
        if (at->refusal == NULL) {
          append(text, SIZE, "%s%s", first ? "" : ", ", at->word);
          first = false;
        }
      }
      break;
    }
    case KIND_PAIR:
      append(text, SIZE, "lo, hi: two numbers ");
      append_reals(k, text, SIZE);
      append(text, SIZE, k->open_ended ? ", none at an end, or none" : ", or none");
      break;
    case KIND_LEARN:
      append(text, SIZE, "auto, none, or a list of amplitude, frequency, decay");
      break;
  }
  if (k->word != NULL) {
    append(text, SIZE, ", or %s", k->word);
  }
  return text;
}

static bool in_reals(const config_key *k, double value) {
  bool above = k->low_open ? value > k->low : value >= k->low;
  bool below = k->high_open ? value < k->high : value <= k->high;
  return above && below; /* NaN is neither */
}

/* The whole of `text` as a finite number. Hexadecimal and the words that strtod knows are not numbers here. */
static bool read_real(const char *text, double *value) {
  if (text[0] == '\0' || text[strspn(text, "+-.0123456789eE")] != '\0') {
    return false;
  }
  char *end;
  *value = strtod(text, &end);
  return *end == '\0' && end != text && isfinite(*value);
}

static status parse_integer(const config_key *k, int64_t *field, const char *text, const char *origin) {
  char range[400];
  if (k->word != NULL && strcasecmp(text, k->word) == 0) {
    *field = k->word_value;
    return STATUS_OK;
  }
  errno = 0;
  char *end;
  long long value = strtoll(text, &end, 10);
  if (end == text || *end != '\0' || isspace((unsigned char)text[0])) {
    BAD_VALUE(k, text, origin, "not an integer; give an %s, in digits", config_value_range(k, range));
  }
  if (errno == ERANGE || value < k->least || value > k->most) {
    BAD_VALUE(k, text, origin, "out of range; give an %s", config_value_range(k, range));
  }
  *field = value;
  return STATUS_OK;
}

static status parse_real(const config_key *k, double *field, const char *text, const char *origin) {
  char range[400];
  if (k->word != NULL && strcasecmp(text, k->word) == 0) {
    *field = NAN;
    return STATUS_OK;
  }
  double value;
  if (!read_real(text, &value)) {
    BAD_VALUE(k, text, origin, "not a finite number; give a %s", config_value_range(k, range));
  }
  if (!in_reals(k, value)) {
    BAD_VALUE(k, text, origin, "out of range; give a %s", config_value_range(k, range));
  }
  *field = value;
  return STATUS_OK;
}

static status parse_switch(const config_key *k, bool *field, const char *text, const char *origin) {
  static const char *const words[2][4] = {{"false", "no", "off", "0"}, {"true", "yes", "on", "1"}};
  for (int value = 0; value < 2; value++) {
    for (int i = 0; i < 4; i++) {
      if (strcasecmp(text, words[value][i]) == 0) {
        *field = value;
        return STATUS_OK;
      }
    }
  }
  BAD_VALUE(k, text, origin, "neither true nor false; give %s", "one of the two");
}

/* A value that an INI line cannot hold would be lost when the run writes its config.ini. */
static status parse_text(const config_key *k, char **field, const char *text, const char *origin) {
  size_t length = strlen(text);
  if (length == 0 && !k->may_be_empty) {
    BAD_VALUE(k, text, origin, "%s", "empty; give a value or leave the key out");
  }
  if (length > 4000) {
    USER_ERROR("%s.%s %s%s: %zu bytes, more than the 4000 that a value may have", k->section, k->name, PLACE(origin),
               length);
  }
  if (length > 1 && (text[0] == '"' || text[0] == '\'') && text[length - 1] == text[0]) {
    BAD_VALUE(k, text, origin, "%s", "quotes would be part of the name; write the value without them");
  }
  bool edges = length > 0 && (isspace((unsigned char)text[0]) || isspace((unsigned char)text[length - 1]));
  bool comment = text[0] == ';' || text[0] == '#';
  for (size_t i = 0; i < length; i++) {
    unsigned char here = (unsigned char)text[i];
    comment |= i > 0 && isspace((unsigned char)text[i - 1]) && (here == ';' || here == '#');
    if (here < 32 || here == 127) {
      USER_ERROR("%s.%s %s%s: the value holds a control character; use printable characters", k->section, k->name,
                 PLACE(origin));
    }
  }
  if (edges || comment) {
    BAD_VALUE(k, text, origin, "%s",
              edges ? "begins or ends with white space; use another name"
                    : "holds ';' or '#' where a comment would begin; use another name");
  }
  char *copy;
  TRY(memory_format(&copy, "%s", text));
  free(*field);
  *field = copy;
  return STATUS_OK;
}

static status parse_choice(const config_key *k, int *field, const char *text, const char *origin) {
  for (const config_choice *at = k->choices; at->word != NULL; at++) {
    if (strcasecmp(text, at->word) == 0) {
      if (at->refusal != NULL) {
        BAD_VALUE(k, text, origin, "%s", at->refusal);
      }
      *field = at->value;
      return STATUS_OK;
    }
  }
  char range[400];
  BAD_VALUE(k, text, origin, "unknown word; give one of %s", config_value_range(k, range));
}

/* Copies the next item of a comma-separated list without the white space around it; false at the end of the list. */
static bool next_item(const char **at, char item[64]) {
  if (*at == NULL) {
    return false;
  }
  const char *comma = strchr(*at, ',');
  const char *end = comma != NULL ? comma : *at + strlen(*at);
  const char *from = *at;
  while (from < end && isspace((unsigned char)*from)) {
    from++;
  }
  while (end > from && isspace((unsigned char)end[-1])) {
    end--;
  }
  size_t length = (size_t)(end - from) < 63 ? (size_t)(end - from) : 63;
  memcpy(item, from, length);
  item[length] = '\0';
  *at = comma != NULL ? comma + 1 : NULL;
  return true;
}

static status parse_pair(const config_key *k, config_pair *field, const char *text, const char *origin) {
  char range[400];
  char item[64];
  double ends[2] = {NAN, NAN};
  int n = 0;
  bool all_none = true;
  for (const char *at = text; next_item(&at, item); n++) {
    if (n == 2) {
      BAD_VALUE(k, text, origin, "more than two values; give %s", config_value_range(k, range));
    }
    if (strcasecmp(item, "none") == 0) {
      continue;
    }
    all_none = false;
    if (!read_real(item, &ends[n]) || !in_reals(k, ends[n])) {
      BAD_VALUE(k, text, origin, "'%s' is no number in range; give %s", item, config_value_range(k, range));
    }
  }
  if (n == 1 && !all_none) {
    BAD_VALUE(k, text, origin, "only one value; give %s", config_value_range(k, range));
  }
  if (!k->open_ended && isnan(ends[0]) != isnan(ends[1])) {
    BAD_VALUE(k, text, origin, "one end has no value; give %s", config_value_range(k, range));
  }
  if (ends[0] > ends[1]) {
    BAD_VALUE(k, text, origin, "%s", "the first value is above the second; give the lower one first");
  }
  *field = (config_pair){ends[0], ends[1]};
  return STATUS_OK;
}

static status parse_learn(const config_key *k, int *field, const char *text, const char *origin) {
  char range[400];
  char item[64];
  if (strcasecmp(text, "auto") == 0 || strcasecmp(text, "none") == 0) {
    *field = strcasecmp(text, "auto") == 0 ? LEARN_AUTO : 0;
    return STATUS_OK;
  }
  int bits = 0;
  for (const char *at = text[0] != '\0' ? text : NULL; next_item(&at, item);) {
    int bit = 0;
    for (int i = 0; i < N_LEARNABLES; i++) {
      bit |= strcasecmp(item, learnables[i].word) == 0 ? learnables[i].bit : 0;
    }
    if (bit == 0) {
      BAD_VALUE(k, text, origin, "unknown word '%s'; give %s", item, config_value_range(k, range));
    }
    if ((bits & bit) != 0) {
      BAD_VALUE(k, text, origin, "'%s' stands twice; give %s", item, config_value_range(k, range));
    }
    bits |= bit;
  }
  *field = bits;
  return STATUS_OK;
}

status config_value_parse(const config_key *k, void *field, const char *text, const char *origin) {
  switch (k->kind) {
    case KIND_INTEGER:
      return parse_integer(k, field, text, origin);
    case KIND_REAL:
      return parse_real(k, field, text, origin);
    case KIND_SWITCH:
      return parse_switch(k, field, text, origin);
    case KIND_TEXT:
      return parse_text(k, field, text, origin);
    case KIND_CHOICE:
      return parse_choice(k, field, text, origin);
    case KIND_PAIR:
      return parse_pair(k, field, text, origin);
    case KIND_LEARN:
      return parse_learn(k, field, text, origin);
  }
  FAIL("the key %s.%s has a kind that is not known: %d", k->section, k->name, (int)k->kind);
}

static const char *end_text(double value, char text[40]) {
  return isnan(value) ? "none" : real_text(value, text);
}

status config_value_text(const config_key *k, const void *field, char **out) {
  char a[40];
  char b[40];
  switch (k->kind) {
    case KIND_INTEGER: {
      int64_t value = *(const int64_t *)field;
      if (k->word != NULL && value == k->word_value) {
        return memory_format(out, "%s", k->word);
      }
      return memory_format(out, "%lld", (long long)value);
    }
    case KIND_REAL: {
      double value = *(const double *)field;
      return memory_format(out, "%s", k->word != NULL && isnan(value) ? k->word : real_text(value, a));
    }
    case KIND_SWITCH:
      return memory_format(out, "%s", *(const bool *)field ? "true" : "false");
    case KIND_TEXT: {
      const char *text = *(char *const *)field;
      return memory_format(out, "%s", text == NULL ? "" : text);
    }
    case KIND_CHOICE: {
      const config_choice *at = k->choices;
      while (at->word != NULL && at->value != *(const int *)field) {
        at++;
      }
      REQUIRE(at->word != NULL, "%s.%s holds %d, which is none of its words", k->section, k->name, *(const int *)field);
      return memory_format(out, "%s", at->word);
    }
    case KIND_PAIR: {
      config_pair pair = *(const config_pair *)field;
      if (isnan(pair.lo) && isnan(pair.hi)) {
        return memory_format(out, "none");
      }
      return memory_format(out, "%s, %s", end_text(pair.lo, a), end_text(pair.hi, b));
    }
    case KIND_LEARN: {
      int bits = *(const int *)field;
      char text[64] = "";
      for (int i = 0; i < N_LEARNABLES && bits > 0; i++) {
        if ((bits & learnables[i].bit) != 0) {
          append(text, sizeof text, "%s%s", text[0] == '\0' ? "" : ", ", learnables[i].word);
        }
      }
      return memory_format(out, "%s", bits == LEARN_AUTO ? "auto" : bits == 0 ? "none" : text);
    }
  }
  FAIL("the key %s.%s has a kind that is not known: %d", k->section, k->name, (int)k->kind);
}

static bool end_in_range(const config_key *k, double value) {
  return isnan(value) || in_reals(k, value);
}

static bool field_in_range(const config_key *k, const void *field) {
  switch (k->kind) {
    case KIND_INTEGER: {
      int64_t value = *(const int64_t *)field;
      return (k->word != NULL && value == k->word_value) || (value >= k->least && value <= k->most);
    }
    case KIND_REAL: {
      double value = *(const double *)field;
      return (k->word != NULL && isnan(value)) || in_reals(k, value);
    }
    case KIND_PAIR: {
      config_pair pair = *(const config_pair *)field;
      return end_in_range(k, pair.lo) && end_in_range(k, pair.hi) && !(pair.lo > pair.hi);
    }
    case KIND_LEARN: {
      int bits = *(const int *)field;
      return bits >= LEARN_AUTO && bits <= (LEARN_AMPLITUDE | LEARN_FREQUENCY | LEARN_DECAY);
    }
    default:
      return true; /* words are checked where they are read */
  }
}

status config_value_check(const config_key *k, const void *field) {
  if (field_in_range(k, field)) {
    return STATUS_OK;
  }
  char range[400];
  char *text = NULL;
  TRY(config_value_text(k, field, &text));
  status_set(STATUS_USER_ERROR, __FILE__, __LINE__, "%s.%s = %s is out of range; give %s", k->section, k->name, text,
             config_value_range(k, range));
  free(text);
  return STATUS_USER_ERROR;
}
