/* psann_data info and decode: what is in a token store. */
#ifndef PSANN_DATA_SHOW_H
#define PSANN_DATA_SHOW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

/* Prints the store's description and sources; `verify`: reads everything and checks it. */
status show_info(const char *path, bool verify);

/* Prints the text of tokens first … first + count − 1 (cut at the store's end), or of one document (`document` ≥ 0).
 * Documents are separated by a line of "<|end of text|>".
 */
status show_text(const char *path, int64_t first, int64_t count, int64_t document);

#endif
