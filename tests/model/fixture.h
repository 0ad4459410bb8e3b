/* What the tests of the model share: configs from a line of text, fresh random numbers, and a weight source without
 * ranks that is strict about the order of calls. */
#ifndef PSANN_TESTS_MODEL_FIXTURE_H
#define PSANN_TESTS_MODEL_FIXTURE_H

/* cmocka.h needs these before it. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "model/model.h"

/* Fails the test with the status message. */
#define GOOD(call)                                 \
  do {                                             \
    if ((call) != STATUS_OK) {                     \
      fail_msg("%s: %s", #call, status_message()); \
    }                                              \
  } while (0)

/* Seed of this process, printed once; PSANN_TEST_SEED sets it. */
uint64_t test_seed(void);
/* Fresh numbers: in [0, below), and in (−1, 1). */
int64_t random_below(int64_t below);
double random_real(void);

/* Model keys from "key=value key=value" (a value's commas without blanks), resolved. */
config_model make_config(const char *keys);

/* What configurations the tests of whole models go through. */
typedef struct {
  const char *name;
  const char *keys;
} model_variant;
extern const model_variant model_variants[];
extern const int n_model_variants;

/* A weight source of one rank: a unit's weights can be read only while it is gathered (they are NaN otherwise). */
typedef struct {
  weight_source source;
  const model *m;
  engine *e;
  double **values; /* host memory, per unit (unit.count) */
  void **weights;  /* engine memory */
  void **grads;
  int *held, *finished; /* gathers without release; grad_done calls */
} test_source;

/* Initial values of `seed`, with vectors moved at random so that no gradient is trivial. */
test_source *test_source_create(const model *m, engine *e, uint64_t seed);
void test_source_free(test_source *s);
/* No unit is held. */
void test_source_check_released(const test_source *s);
/* Gradients to zero and the counts of grad_done as well. */
void test_source_reset(test_source *s);

/* A batch of random tokens in engine memory. */
typedef struct {
  engine *e;
  int64_t rows;
  int32_t *host_tokens, *host_labels;
  model_batch batch;
} test_batch;

test_batch *test_batch_create(engine *e, int64_t B, int64_t T, int64_t V);
void test_batch_free(test_batch *b);
/* Puts host tokens and labels into the engine. */
void test_batch_upload(test_batch *b);

void *engine_new(engine *e, size_t bytes);
/* n values of state type as doubles. */
void engine_read(engine *e, const void *from, double *to, int64_t n);

#endif
