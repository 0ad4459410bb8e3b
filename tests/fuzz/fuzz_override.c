/* section.key=value on a command line: each line of the input is one. */
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  config *c;
  char *text = calloc(size + 1, 1), *rest = text;
  MUST(text != NULL && config_new(&c) == STATUS_OK);
  memcpy(text, data, size);
  for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
    fuzz_told(config_override(c, line));
  }
  fuzz_told(config_resolve(c));
  fuzz_told(config_resolve_model(&c->model));
  config_free(c);
  free(text);
  return 0;
}
