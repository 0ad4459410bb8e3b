#include "data/store_seal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "data/raw_io.h"

static const char title[] = "psann token store\n";

bool store_seal_starts(const char *path) {
  char start[sizeof title - 1];
  int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  ssize_t got = file < 0 ? -1 : read(file, start, sizeof start);
  if (file >= 0) {
    close(file);
  }
  return got == (ssize_t)sizeof start && memcmp(start, title, sizeof start) == 0;
}

static void seal_text(const store_seal *seal, char block[STORE_SEAL_BYTES]) {
  memset(block, 0, STORE_SEAL_BYTES);
  int used = snprintf(block, STORE_SEAL_BYTES,
                      "%sversion %d\nfile_bytes %" PRId64 "\ntokens %" PRId64 " %" PRId64 "\ndocuments %" PRId64
                      " %" PRId64 "\ndigest %s\n",
                      title, STORE_VERSION, seal->file_bytes, seal->tokens.offset, seal->tokens.bytes,
                      seal->documents.offset, seal->documents.bytes, seal->digest);
  char own[DIGEST_TEXT];
  digest_of(block, (size_t)used, own);
  snprintf(block + used, (size_t)(STORE_SEAL_BYTES - used), "seal %s\n", own);
}

static status add_range(digest *d, int file, const char *path, int64_t from, int64_t to) {
  char block[65536];
  while (from < to) {
    size_t now = to - from < (int64_t)sizeof block ? (size_t)(to - from) : sizeof block;
    TRY(raw_read_at(file, path, from, block, now));
    digest_add(d, block, now);
    from += (int64_t)now;
  }
  return STATUS_OK;
}

/* Digest of the file after the seal and outside the two regions. */
static status digest_rest(int file, const char *path, store_seal *seal) {
  store_region a = seal->tokens, b = seal->documents;
  if (a.offset > b.offset) {
    a = seal->documents;
    b = seal->tokens;
  }
  digest *d;
  TRY(digest_new(&d));
  status s = add_range(d, file, path, STORE_SEAL_BYTES, a.offset);
  if (s == STATUS_OK) {
    s = add_range(d, file, path, a.offset + a.bytes, b.offset);
  }
  if (s == STATUS_OK) {
    s = add_range(d, file, path, b.offset + b.bytes, seal->file_bytes);
  }
  digest_text(d, seal->digest);
  digest_free(d);
  return s;
}

static int region_fits(store_region r, int64_t file_bytes) {
  return r.offset >= STORE_SEAL_BYTES && r.bytes >= 0 && r.bytes <= file_bytes && r.offset <= file_bytes - r.bytes;
}

static int regions_fit(const store_seal *seal) {
  store_region a = seal->tokens, b = seal->documents;
  return region_fits(a, seal->file_bytes) && region_fits(b, seal->file_bytes) &&
         (a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset);
}

static status file_length(int file, const char *path, int64_t *bytes) {
  struct stat about;
  if (fstat(file, &about) != 0) {
    FAIL("cannot look at '%s': %s; check the disk", path, strerror(errno));
  }
  *bytes = about.st_size;
  return STATUS_OK;
}

status store_seal_write(int file, const char *path, store_region tokens, store_region documents) {
  store_seal seal = {.tokens = tokens, .documents = documents};
  TRY(file_length(file, path, &seal.file_bytes));
  REQUIRE(regions_fit(&seal), "'%s': the arrays at %" PRId64 " and %" PRId64 " lie outside the file or overlap", path,
          tokens.offset, documents.offset);
  TRY(digest_rest(file, path, &seal));
  char block[STORE_SEAL_BYTES];
  seal_text(&seal, block);
  return raw_write_at(file, path, 0, block, sizeof block);
}

/* What a file without our seal is, as well as a first look can tell. */
static status foreign(const char *path, const char *start, int64_t bytes) {
  static const char hdf5[] = "\211HDF\r\n\032\n";
  if (bytes == 0) {
    USER_ERROR("'%s' is empty; make a token store with psann_data build", path);
  }
  size_t compared = bytes < (int64_t)(sizeof title - 1) ? (size_t)bytes : sizeof title - 1;
  if (memcmp(start, title, compared) == 0) {
    USER_ERROR("'%s' is truncated: only %" PRId64 " bytes of a token store are there; copy or make it again", path,
               bytes);
  }
  if (bytes >= 8 && memcmp(start, hdf5, 8) == 0) {
    USER_ERROR("'%s' is an HDF5 file but not a token store (a checkpoint?); make one with psann_data build", path);
  }
  USER_ERROR("'%s' is not a token store; make one from it with psann_data build (text) or psann_data import (shards)",
             path);
}

status store_seal_read(int file, const char *path, store_seal *seal) {
  char block[STORE_SEAL_BYTES + 1] = {0}, again[STORE_SEAL_BYTES];
  int64_t bytes = 0;
  TRY(file_length(file, path, &bytes));
  TRY(raw_read_at(file, path, 0, block, bytes < STORE_SEAL_BYTES ? (size_t)bytes : STORE_SEAL_BYTES));
  if (bytes < STORE_SEAL_BYTES || memcmp(block, title, sizeof title - 1) != 0) {
    return foreign(path, block, bytes);
  }
  int version = 0;
  if (sscanf(block + sizeof title - 1, "version %9d\n", &version) == 1 && version != STORE_VERSION) {
    USER_ERROR(
        "'%s' is a token store of version %d and this program reads version %d; make it again with this "
        "psann_data, or use the program that made it",
        path, version, STORE_VERSION);
  }
  *seal = (store_seal){0};
  int fields = sscanf(block + sizeof title - 1,
                      "version %*d file_bytes %18" SCNd64 " tokens %18" SCNd64 " %18" SCNd64 " documents %18" SCNd64
                      " %18" SCNd64 " digest %32s",
                      &seal->file_bytes, &seal->tokens.offset, &seal->tokens.bytes, &seal->documents.offset,
                      &seal->documents.bytes, seal->digest);
  seal_text(seal, again);
  if (fields != 6 || memcmp(block, again, STORE_SEAL_BYTES) != 0 || !regions_fit(seal)) {
    USER_ERROR("'%s' is damaged: its first %d bytes don't agree with their own digest; copy or make it again", path,
               STORE_SEAL_BYTES);
  }
  if (bytes != seal->file_bytes) {
    USER_ERROR("'%s' is %s: it has %" PRId64 " bytes and should have %" PRId64 "; copy or make it again", path,
               bytes < seal->file_bytes ? "truncated" : "damaged", bytes, seal->file_bytes);
  }
  store_seal found = *seal;
  TRY(digest_rest(file, path, &found));
  if (strcmp(found.digest, seal->digest) != 0) {
    USER_ERROR("'%s' is damaged: its description has digest %s and should have %s; copy or make it again", path,
               found.digest, seal->digest);
  }
  return STATUS_OK;
}
