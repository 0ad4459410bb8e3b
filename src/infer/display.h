/* Text for people and for JSON that may be broken UTF-8: a model of bytes can write anything. */
#ifndef PSANN_INFER_DISPLAY_H
#define PSANN_INFER_DISPLAY_H

#include <stddef.h>

#include "base/status.h"

/* Length of the longest prefix that does not end inside a character: what can be shown before more bytes come. At most
 * 3 bytes are held back. */
size_t display_whole(const char *text, size_t bytes);

/* A copy (freshly allocated, zero-terminated) in which every byte that belongs to no character, and every zero byte, is
 * U+FFFD. */
status display_clean(const char *text, size_t bytes, char **out);

#endif
