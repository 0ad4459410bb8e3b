/* Command-line options from a table, and the help that the table makes. */
#ifndef PSANN_DATA_OPTIONS_H
#define PSANN_DATA_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef enum {
  OPTION_FLAG,    /* bool */
  OPTION_TEXT,    /* const char * */
  OPTION_INTEGER, /* int64_t, least … most */
  OPTION_NUMBER,  /* double, least … most */
  OPTION_LIST     /* option_list; may be given several times */
} option_kind;

typedef struct {
  const char **items; /* (count), of the command line */
  size_t count, capacity;
} option_list;

typedef struct {
  const char *name;  /* "--vocab"; NULL: a heading of the help */
  const char *value; /* what stands for its value in the help; NULL for a flag */
  option_kind kind;
  void *to; /* set when the option is given; holds the default before */
  double least, most;
  const char *help; /* may have several lines */
  bool given;       /* set */
} option;

/* Reads `argv` after the command: options in any place, what is left over to `rest`. An unknown option is a user error
 * that names the nearest; so is a value that is missing, mistyped or out of range, or an option given twice.
 */
status options_read(option *table, size_t count, int argc, char *const *argv, option_list *rest);

bool options_given(const option *table, size_t count, const char *name);

/* Prints `usage` and the table on standard output. */
void options_help(const char *usage, const option *table, size_t count);

#endif
