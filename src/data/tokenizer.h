/* Tokenizers: text ↔ token ids. `bytes`: ids 0 … 255 and 256 = end of text. `chars`: 0 = end of text, 1 = unknown, then
 * the code points that occurred, in order of value. `sentencepiece`: libsentencepiece, trained with identity
 * normalisation, byte fallback and white space kept, so that decoding gives the text back. `external`: ids made
 * elsewhere; can't encode or decode.
 *
 * `bytes` and a `sentencepiece` model that psann_data trained give any bytes back, NUL and invalid UTF-8 among them;
 * `chars` gives back the characters that it knows.
 */
#ifndef PSANN_DATA_TOKENIZER_H
#define PSANN_DATA_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/status.h"

typedef struct tokenizer tokenizer;

enum { TOKENIZER_ANY_VOCAB = -1 };

/* From the name and model bytes that a store or checkpoint holds (NULL, 0 for bytes). Damaged model, or one that has
 * another vocabulary size or end of text than given: a user error. With TOKENIZER_ANY_VOCAB both are as the model says.
 */
status tokenizer_create(const char *name, const void *data, size_t bytes, int64_t vocab_size, int32_t end_of_text,
                        tokenizer **out);
void tokenizer_free(tokenizer *t);

const char *tokenizer_name(const tokenizer *t);
int64_t tokenizer_vocab(const tokenizer *t);
int32_t tokenizer_end_of_text(const tokenizer *t); /* −1: none */
int32_t tokenizer_unknown(const tokenizer *t);     /* −1: the tokenizer knows everything */

/* The model that tokenizer_create takes; the tokenizer keeps it. */
const void *tokenizer_model(const tokenizer *t, size_t *bytes);

/* Of name, vocabulary size, end of text and model. */
void tokenizer_digest(const tokenizer *t, char text[DIGEST_TEXT]);

/* Whether decoding gives back every text whose characters are known. */
bool tokenizer_is_exact(const tokenizer *t);

/* Appends ids of `text` (no separator added) to *ids, growing it. Several threads may encode with one tokenizer. */
status tokenizer_encode(tokenizer *t, const char *text, size_t bytes, int32_t **ids, size_t *count, size_t *capacity);

/* Text of `count` ids, end-of-text left out; freshly allocated, zero-terminated; bytes may be NULL. */
status tokenizer_decode(tokenizer *t, const int32_t *ids, size_t count, char **text, size_t *bytes);

#endif
