#include "base/phase.h"

#include <stddef.h>

static void (*on_begin)(const char *name);
static void (*on_end)(void);

void phase_listen(void (*begin)(const char *name), void (*end)(void)) {
  on_begin = begin;
  on_end = end;
}

void phase_begin(const char *name) {
  if (on_begin != NULL) {
    on_begin(name);
  }
}

void phase_end(void) {
  if (on_end != NULL) {
    on_end();
  }
}
