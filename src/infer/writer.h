/* How generated texts reach a person or a program: plain text, streamed as it comes when there is one; token ids; or
 * one JSON object a line. */
#ifndef PSANN_INFER_WRITER_H
#define PSANN_INFER_WRITER_H

#include <stdbool.h>
#include <stdio.h>

#include "data/tokenizer.h"
#include "infer/generate.h"

typedef enum { WRITE_TEXT, WRITE_IDS, WRITE_JSON } write_form;

/* Text of a growing row, shown as far as its characters are complete. */
typedef struct {
  FILE *out;
  tokenizer *t;
  size_t from;  /* ids before this one are shown */
  size_t shown; /* bytes of the text of ids[from …] that are shown */
} text_stream;

/* Shows what is new in the row; `last`: also the bytes that no character follows. */
status text_stream_show(text_stream *s, const generate_row *row, bool last);

/* Writes one finished row. `prompt` is its text (NULL when given as ids); `t` may be NULL for WRITE_IDS and for a JSON
 * line without texts. In WRITE_TEXT a headline
 * "=== text 3 ===" stands before each when there are several. */
status write_row(FILE *out, write_form form, tokenizer *t, const generate_row *row, const char *prompt, bool several);

#endif
