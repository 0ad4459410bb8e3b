#include "infer/arguments.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

status argument_integer(const char *option, const char *text, int64_t lo, int64_t hi, int64_t *value) {
  char *end;
  errno = 0;
  long long number = strtoll(text, &end, 10);
  if (end == text || *end != 0) {
    USER_ERROR("%s is '%s': it must be a whole number", option, text);
  }
  if (errno == ERANGE || number < lo || number > hi) {
    USER_ERROR("%s is %s: it must lie between %" PRId64 " and %" PRId64, option, text, lo, hi);
  }
  *value = number;
  return STATUS_OK;
}

status argument_number(const char *option, const char *text, double lo, double hi, double *value) {
  char *end;
  double number = strtod(text, &end);
  if (end == text || *end != 0) {
    USER_ERROR("%s is '%s': it must be a number", option, text);
  }
  if (!(number >= lo && number <= hi)) {
    USER_ERROR("%s is %s: it must lie between %g and %g", option, text, lo, hi);
  }
  *value = number;
  return STATUS_OK;
}

status argument_refused(const char *program, int code, int option, int index, char *const *argv) {
  const char *given = argv[index - 1];
  if (code == ':') {
    USER_ERROR("option %s needs a value: %s --help tells which", given, program);
  }
  if (option != 0 && given[1] == '-') {
    USER_ERROR("option %s takes no value: %s --help lists the options", given, program);
  }
  USER_ERROR("unknown option %s: %s --help lists the options", given, program);
}
