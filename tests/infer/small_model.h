/* Small random models on one rank, for the tests of this folder. */
#ifndef PSANN_TESTS_INFER_SMALL_MODEL_H
#define PSANN_TESTS_INFER_SMALL_MODEL_H

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/philox.h"
#include "config/config.h"
#include "dist/dist.h"
#include "engine/engine.h"
#include "model/model.h"
#include "shard/weight_store.h"
#include "unit.h"

#define WORKS(call)                                         \
  do {                                                      \
    if ((call) != STATUS_OK) {                              \
      fail_msg("%s: %s", status_place(), status_message()); \
    }                                                       \
  } while (0)

/* From PSANN_TEST_SEED, or the clock. */
static inline uint64_t new_seed(void) {
  const char *given = getenv("PSANN_TEST_SEED");
  uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
  printf("PSANN_TEST_SEED=%llu\n", (unsigned long long)seed);
  return seed;
}

/* In [lo, hi]. */
static inline int64_t pick(uint64_t seed, uint32_t what, uint32_t i, int64_t lo, int64_t hi) {
  return lo + (int64_t)(philox(seed, PHILOX_DATA, what, i, 0, 0).x[0] % (uint32_t)(hi - lo + 1));
}

typedef struct {
  config *c;
  model *m;
  engine *e;
  dist d;
  weight_store *w;
} small_model;

/* `settings`: "key=value key=value" of [model], over an odd small shape. */
static inline void small_model_open(small_model *s, const char *settings, dtype type, uint64_t seed) {
  static const char *const shape[] = {"vocab_size=37", "d_model=24", "n_layers=3", "n_heads=3", "d_mlp=40"};
  char text[512], assignment[80];
  WORKS(config_new(&s->c));
  for (size_t i = 0; i < sizeof shape / sizeof shape[0]; i++) {
    snprintf(assignment, sizeof assignment, "model.%s", shape[i]);
    WORKS(config_override(s->c, assignment));
  }
  snprintf(text, sizeof text, "%s", settings);
  for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " ")) {
    snprintf(assignment, sizeof assignment, "model.%s", word);
    WORKS(config_override(s->c, assignment));
  }
  WORKS(config_resolve_model(&s->c->model));
  WORKS(model_create(&s->c->model, NULL, &s->m));
  WORKS(engine_cpu_create(type, 1, seed, &s->e));
  dist_single(&s->d);
  WORKS(weight_store_create(s->m, s->e, &s->d, NULL, STRATEGY_AUTO, OFFLOAD_NONE, 1, seed, false, &s->w));
}

static inline void small_model_close(small_model *s) {
  weight_store_destroy(s->w);
  s->e->ops->destroy(s->e);
  model_free(s->m);
  config_free(s->c);
}

#endif
