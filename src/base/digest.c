#include "base/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/file.h"
#include "base/memory.h"

struct digest {
  XXH3_state_t *state;
};

static void write_hex(XXH128_hash_t hash, char text[DIGEST_TEXT]) {
  static const char digits[] = "0123456789abcdef";
  XXH128_canonical_t canonical; /* big-endian: the text is the same on every machine */
  XXH128_canonicalFromHash(&canonical, hash);
  for (size_t i = 0; i < sizeof canonical.digest; i++) {
    text[2 * i] = digits[canonical.digest[i] >> 4];
    text[2 * i + 1] = digits[canonical.digest[i] & 15];
  }
  text[DIGEST_TEXT - 1] = '\0';
}

status digest_new(digest **out) {
  *out = NULL;
  digest *d;
  TRY(memory_new(&d, 1, sizeof *d, "a digest"));
  d->state = XXH3_createState();
  if (d->state == NULL || XXH3_128bits_reset(d->state) == XXH_ERROR) {
    digest_free(d);
    FAIL("out of memory: cannot make the state of a digest");
  }
  *out = d;
  return STATUS_OK;
}

void digest_add(digest *d, const void *data, size_t bytes) {
  if (bytes > 0) {
    XXH3_128bits_update(d->state, data, bytes);
  }
}

void digest_text(const digest *d, char text[DIGEST_TEXT]) {
  write_hex(XXH3_128bits_digest(d->state), text);
}

void digest_free(digest *d) {
  if (d != NULL) {
    XXH3_freeState(d->state);
    free(d);
  }
}

void digest_of(const void *data, size_t bytes, char text[DIGEST_TEXT]) {
  write_hex(XXH3_128bits(data, bytes), text);
}

static status add_file(digest *d, int handle, const char *path, char *buffer, size_t bytes) {
  for (;;) {
    ssize_t got = read(handle, buffer, bytes);
    if (got == 0) {
      return STATUS_OK;
    }
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      FAIL("cannot read '%s' for its digest: %s", path, strerror(errno));
    }
    digest_add(d, buffer, (size_t)got);
  }
}

status digest_of_file(const char *path, char text[DIGEST_TEXT]) {
  enum { CHUNK = 1 << 20 };
  int handle;
  TRY(file_open_read(path, &handle));
  digest *d = NULL;
  char *buffer = NULL;
  status result = digest_new(&d);
  if (result == STATUS_OK) {
    result = memory_new(&buffer, CHUNK, 1, "the buffer of a digest");
  }
  if (result == STATUS_OK) {
    result = add_file(d, handle, path, buffer, CHUNK);
  }
  if (result == STATUS_OK) {
    digest_text(d, text);
  }
  free(buffer);
  digest_free(d);
  close(handle);
  return result;
}

uint64_t digest_name(const char *name) {
  return XXH3_64bits(name, strlen(name));
}
