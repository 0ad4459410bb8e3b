/* Configuration files: any text. What is accepted can be written and reads back to the same. */
#include <stdlib.h>
#include <string.h>

#include "config/config.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  config *c, *again;
  const char *path = fuzz_write("a config ü.ini", data, size);
  MUST(config_new(&c) == STATUS_OK);
  status s = config_read(c, path);
  fuzz_told(s);
  s = s == STATUS_OK ? config_resolve(c) : s;
  fuzz_told(s);
  if (s == STATUS_OK) {
    char *text, *second;
    MUST(config_text(c, &text) == STATUS_OK);
    MUST(config_new(&again) == STATUS_OK);
    MUST(config_read_text(again, text, "what was written") == STATUS_OK);
    MUST(config_resolve(again) == STATUS_OK);
    MUST(config_text(again, &second) == STATUS_OK);
    MUST(strcmp(text, second) == 0);
    config_free(again);
    free(text);
    free(second);
  }
  config_free(c);
  return 0;
}
