/* Text that continues prompts, token by token, with a key-value cache.
 *
 * Prompts of different length are fed row by row and then decoded together. A row ends by itself: at end of text, after
 * max_tokens, or when the context is full. Given the same logits, its tokens do not depend on the other rows.
 */
#ifndef PSANN_INFER_GENERATE_H
#define PSANN_INFER_GENERATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"
#include "infer/sampling.h"
#include "model/model.h"

typedef struct {
  sampling_spec sampling;
  int64_t max_tokens; /* new tokens of a row, at most */
  int64_t context;    /* positions that can be fed; the token after the last of them is still chosen */
  bool stop;          /* stop at end of text; otherwise it is a token like any other */
} generate_spec;

typedef enum { END_NONE, END_OF_TEXT, END_MAX_TOKENS, END_CONTEXT } generate_end;

/* "end_of_text", "max_tokens", "context" */
const char *generate_end_name(generate_end end);

/* One text. The caller puts the prompt into ids (malloc'ed, may be NULL when empty) and frees them. */
typedef struct {
  int64_t number; /* of the prompt in the whole job: decides its random numbers */
  int32_t *ids;   /* prompt, then the new tokens; end of text, when it ended the row, is not among them */
  size_t count, capacity;
  size_t prompt; /* how many of the ids are the prompt; 0: the row starts from end of text */
  generate_end end;
} generate_row;

/* Told of every new token as it is chosen; a failure ends the generation. */
typedef status (*generate_sink)(void *context, const generate_row *row);

/* Continues all rows at once. A prompt longer than the context, an id outside the vocabulary, an empty prompt without
 * an end of text (−1) to start from: a user error. `sink` may be NULL. */
status generate(const model *m, engine *e, weight_source *w, const generate_spec *spec, int32_t end_of_text,
                generate_row *rows, int64_t n_rows, generate_sink sink, void *sink_context);

#endif
