/* Digests of data (XXH3, 128 bits): identity of checkpoints, configs and sources. Not cryptographic. */
#ifndef PSANN_BASE_DIGEST_H
#define PSANN_BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { DIGEST_TEXT = 33 }; /* 32 hexadecimal digits and the terminating zero */

typedef struct digest digest; /* a running digest */

status digest_new(digest **out);
void digest_add(digest *d, const void *data, size_t bytes);
void digest_text(const digest *d, char text[DIGEST_TEXT]);
void digest_free(digest *d);

void digest_of(const void *data, size_t bytes, char text[DIGEST_TEXT]);
status digest_of_file(const char *path, char text[DIGEST_TEXT]);

/* 64-bit hash of a string: the counter word of a tensor's name. */
uint64_t digest_name(const char *name);

#endif
