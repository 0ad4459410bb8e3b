/* What is in a token store's HDF5 part, besides the seal (store_seal.h), and how its attributes are read and written.
 *
 *   /                   attributes: format "psann token store", version, tokens, documents, vocab_size, token_bytes,
 *                       end_of_text, text_bytes, tokenizer, digest_tokens, digest_documents, digest_tokenizer
 *   /tokens             uint16 or uint32, little-endian, contiguous
 *   /documents          uint64, little-endian, contiguous: the first token of each document
 *   /tokenizer/model    uint8: the tokenizer's model; not there when it has none
 *   /sources/path, /sources/bytes, /sources/digest    one element a source file
 *
 * Integers are stored as int64, texts as fixed-length UTF-8. Object times are off: the same input makes the same bytes.
 */
#ifndef PSANN_DATA_STORE_FORMAT_H
#define PSANN_DATA_STORE_FORMAT_H

#include <hdf5.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/hdf_driver.h"
#include "base/status.h"

#define STORE_FORMAT "psann token store"

/* Largest that a tokenizer's model may be. */
enum { STORE_MODEL_LIMIT = 256 << 20 };

/* HDF5 prints its own stack of errors unless told not to; every caller here reports in one sentence. */
void store_hdf5_quiet(void);

/* Opens the file behind a descriptor, whatever stands at its path by now; negative when HDF5 fails. `fault` must live
 * until it is closed. */
hid_t store_hdf5_open(int descriptor, hdf_driver_fault *fault);

/* Attributes of `object`. `path` is the store's, for messages; what is missing or of another type is a user error. */
status store_write_integer(hid_t object, const char *path, const char *name, int64_t value);
status store_write_text(hid_t object, const char *path, const char *name, const char *text);
status store_read_integer(hid_t object, const char *path, const char *name, int64_t *value);
status store_read_text(hid_t object, const char *path, const char *name, char *text, size_t capacity);

/* Identity of a tokenizer; `text` gets the digest. */
void store_tokenizer_digest(const char *name, int64_t vocab_size, int32_t end_of_text, const void *model,
                            size_t model_bytes, char text[DIGEST_TEXT]);

#endif
