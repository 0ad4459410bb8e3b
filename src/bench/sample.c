#include "bench/sample.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "infer/display.h"

status sample_write(loaded *l, const token_store *prompt, int64_t n, int64_t max_tokens, uint64_t seed,
                    generate_row *row) {
  *row = (generate_row){0};
  n = n < prompt->tokens ? n : prompt->tokens;
  const generate_spec spec = {.sampling = {.temperature = 0.9, .top_p = 0.9, .repetition_penalty = 1, .seed = seed},
                              .max_tokens = max_tokens,
                              .context = l->k->config->data.seq_len,
                              .stop = false};
  TRY(memory_grow(&row->ids, &row->capacity, (size_t)n, sizeof *row->ids, "a prompt"));
  TRY(token_store_read(prompt, 0, n, row->ids));
  row->count = row->prompt = (size_t)n;
  return generate(l->m, l->e, &l->w->source, &spec, l->k->end_of_text, row, 1, NULL, NULL);
}

void sample_free(generate_row *row) {
  free(row->ids);
  *row = (generate_row){0};
}

bool sample_equal(const generate_row *a, const generate_row *b) {
  return a->count == b->count && memcmp(a->ids, b->ids, a->count * sizeof *a->ids) == 0;
}

status sample_text(const loaded *l, const generate_row *row, char **text) {
  tokenizer *t = NULL;
  char *raw = NULL;
  size_t bytes;
  TRY(loaded_tokenizer(l, &t));
  status s = tokenizer_decode(t, row->ids + row->prompt, row->count - row->prompt, &raw, &bytes);
  if (s == STATUS_OK) {
    s = display_clean(raw, bytes, text);
  }
  free(raw);
  tokenizer_free(t);
  return s;
}
