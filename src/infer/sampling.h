/* How the next token is chosen from logits: arg max, or a draw after repetition penalty, temperature, top-k and
 * nucleus.
 *
 * A draw is a pure function of (seed, prompt number, position): the text of a prompt does not depend on the batch that
 * it is in.
 */
#ifndef PSANN_INFER_SAMPLING_H
#define PSANN_INFER_SAMPLING_H

#include <stdint.h>

#include "base/status.h"

typedef struct {
  double temperature;        /* 0: arg max, the lowest id among equals; top_k, top_p and seed are then without effect */
  int64_t top_k;             /* keep the k largest logits and what equals the k-th; 0: off */
  double top_p;              /* keep the smallest set of most probable tokens whose mass reaches p; 1: off */
  double repetition_penalty; /* logits of tokens that occurred: positive ones are divided by it, negative ones
                                multiplied; 1: off */
  uint64_t seed;
} sampling_spec;

/* Temperature 0.8, top_p 0.95, nothing else, seed 0. */
sampling_spec sampling_default(void);

/* Ranges; a user error names the option and its value. */
status sampling_check(const sampling_spec *spec);

/* Scratch for one vocabulary. */
typedef struct sampling sampling;

status sampling_create(int64_t vocab, const sampling_spec *spec, sampling **out);
void sampling_free(sampling *s);

/* Chooses a token from `logits` (vocab; not changed). `seen` are the `n_seen` ids that the repetition penalty falls on
 * (any order, repeats count once). A logit that is not finite: a failure. */
status sampling_draw(sampling *s, const float *logits, const int32_t *seen, int64_t n_seen, int64_t prompt,
                     int64_t position, int32_t *token);

#endif
