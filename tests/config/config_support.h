/* A configuration from text, resolved or not. */
#ifndef TESTS_CONFIG_CONFIG_SUPPORT_H
#define TESTS_CONFIG_CONFIG_SUPPORT_H

#include "config/config.h"
#include "test_support.h"

/* What a run must give. */
#define REQUIRED "[run]\ndir = runs/a\n[data]\ntrain = a.h5\n[train]\nmax_steps = 1000\n"

static inline config *read_config(const char *text) {
  config *c;
  assert_ok(config_new(&c));
  assert_ok(config_read_text(c, text, "quick.ini"));
  return c;
}

static inline config *resolved_config(const char *text) {
  config *c = read_config(text);
  assert_ok(config_resolve(c));
  return c;
}

#endif
