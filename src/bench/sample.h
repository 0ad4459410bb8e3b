/* A text that a loaded model writes. */
#ifndef PSANN_BENCH_SAMPLE_H
#define PSANN_BENCH_SAMPLE_H

#include "infer/generate.h"
#include "infer/loaded.h"

/* Continues the first `n` tokens of the store by at most max_tokens, within the length that the model was trained
 * with, at temperature 0.9 and top-p 0.9 as the reference's step does. End of text does not end it. sample_free also
 * after a failure. */
status sample_write(loaded *l, const token_store *prompt, int64_t n, int64_t max_tokens, uint64_t seed,
                    generate_row *row);
void sample_free(generate_row *row);

/* Whether two texts have the same tokens. */
bool sample_equal(const generate_row *a, const generate_row *b);

/* The new text, clean; *text is the caller's. */
status sample_text(const loaded *l, const generate_row *row, char **text);

#endif
