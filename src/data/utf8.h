/* UTF-8 by code points. */
#ifndef PSANN_DATA_UTF8_H
#define PSANN_DATA_UTF8_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { UTF8_LARGEST = 0x10FFFF };

/* The code point at `text`, of which `bytes` ≥ 1 bytes are there; *length is its number of bytes. −1, with *length 1,
 * where no valid sequence starts (surrogates, overlong forms and values above U+10FFFF are not valid).
 */
int32_t utf8_read(const char *text, size_t bytes, size_t *length);

/* Writes a valid code point; returns its number of bytes, at most 4. */
size_t utf8_write(int32_t point, char text[4]);

#ifdef __cplusplus
}
#endif

#endif
