/* The seal of a token store: the first 512 bytes of the file (HDF5's user block, which its readers step over) say how
 * long the file is, where its two large arrays lie, and the digest of everything else. It is checked before HDF5 sees
 * the file, so that a damaged or cut file gives a sentence and never an accident inside the library.
 */
#ifndef PSANN_DATA_STORE_SEAL_H
#define PSANN_DATA_STORE_SEAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/status.h"

enum { STORE_SEAL_BYTES = 512, STORE_VERSION = 1 };

/* Bytes offset … offset + bytes − 1 of the file. */
typedef struct {
  int64_t offset, bytes;
} store_region;

typedef struct {
  int64_t file_bytes;
  store_region tokens;    /* has a digest of its own, an attribute of the store */
  store_region documents; /* the same */
  char digest[DIGEST_TEXT];
} store_seal;

/* Whether a file begins as a token store does; false also when it can't be read. */
bool store_seal_starts(const char *path);

/* Computes the digest of what lies outside the two regions and writes the seal. */
status store_seal_write(int file, const char *path, store_region tokens, store_region documents);

/* Reads the seal and checks it, the file's length and the digest; everything that is wrong is a user error. */
status store_seal_read(int file, const char *path, store_seal *seal);

#endif
