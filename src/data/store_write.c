#include "data/store_write.h"

#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/hdf_driver.h"
#include "data/raw_io.h"
#include "data/store_format.h"
#include "data/store_seal.h"

enum { SPOOL_BLOCK = 1 << 20 };

/* An array that grows on the disk. */
typedef struct {
  int file;
  int64_t bytes; /* of the array, the block included */
  size_t used;   /* of the block */
  char *block;   /* (SPOOL_BLOCK) */
  digest *digest;
} spool;

struct store_writer {
  char *path, *temporary;
  const tokenizer *tokenizer;
  int token_bytes;
  spool tokens, documents;
  int64_t token_count, document_count, document_start, text_bytes;
};

static status spool_open(spool *s, const char *path) {
  TRY(memory_new(&s->block, SPOOL_BLOCK, 1, "a block of a token store"));
  TRY(digest_new(&s->digest));
  return raw_spool(path, &s->file);
}

static void spool_close(spool *s) {
  if (s->file >= 0) {
    close(s->file);
  }
  free(s->block);
  digest_free(s->digest);
}

static status spool_flush(spool *s, const char *path) {
  TRY(raw_write_at(s->file, path, s->bytes - (int64_t)s->used, s->block, s->used));
  digest_add(s->digest, s->block, s->used);
  s->used = 0;
  return STATUS_OK;
}

/* Appends `count` elements, of which `size` low bytes are kept, from an array whose elements have `stride` bytes. */
static status spool_add(spool *s, const char *path, const void *elements, size_t count, size_t stride, size_t size) {
  const char *from = elements;
  while (count > 0) {
    if (s->used + size > SPOOL_BLOCK) {
      TRY(spool_flush(s, path));
    }
    size_t room = (SPOOL_BLOCK - s->used) / size, now = count < room ? count : room;
    char *to = s->block + s->used;
    for (size_t i = 0; i < now && size == 2; i++) {
      memcpy(to + 2 * i, from + stride * i, 2);
    }
    for (size_t i = 0; i < now && size != 2; i++) {
      memcpy(to + size * i, from + stride * i, size);
    }
    s->used += now * size;
    s->bytes += (int64_t)(now * size);
    from += now * stride;
    count -= now;
  }
  return STATUS_OK;
}

status store_writer_check(const char *path, bool force) {
  struct stat about;
  const char *slash = strrchr(path, '/');
  if (path[0] == '\0' || (slash != NULL && slash[1] == '\0')) {
    USER_ERROR("'%s' can't be a token store's path; give the name of a file", path);
  }
  if (slash != NULL && slash != path) {
    char *folder;
    TRY(memory_format(&folder, "%.*s", (int)(slash - path), path));
    bool there = file_is_folder(folder);
    free(folder);
    if (!there) {
      USER_ERROR("the folder of '%s' is not there; make it first, or choose another path", path);
    }
  }
  if (stat(path, &about) != 0) {
    return STATUS_OK;
  }
  if (!S_ISREG(about.st_mode)) {
    USER_ERROR("'%s' is a %s; give the name of a file", path, S_ISDIR(about.st_mode) ? "folder" : "special file");
  }
  if (!force) {
    USER_ERROR("'%s' exists; give another name, or --force to replace it", path);
  }
  return STATUS_OK;
}

status store_writer_open(const char *path, const tokenizer *t, store_writer **out) {
  *out = NULL;
  store_hdf5_quiet();
  store_writer *w;
  TRY(memory_new(&w, 1, sizeof *w, "the writer of a token store"));
  w->tokens.file = w->documents.file = -1;
  w->tokenizer = t;
  w->token_bytes = tokenizer_vocab(t) <= UINT16_MAX + 1 ? 2 : 4;
  status s = memory_format(&w->path, "%s", path);
  if (s == STATUS_OK) {
    s = memory_format(&w->temporary, "%s.tmp", path);
  }
  if (s == STATUS_OK) {
    s = spool_open(&w->tokens, path);
  }
  if (s == STATUS_OK) {
    s = spool_open(&w->documents, path);
  }
  if (s != STATUS_OK) {
    store_writer_close(w);
    return s;
  }
  *out = w;
  return STATUS_OK;
}

status store_writer_add(store_writer *w, const int32_t *tokens, size_t count) {
  TRY(spool_add(&w->tokens, w->path, tokens, count, sizeof *tokens, (size_t)w->token_bytes));
  w->token_count += (int64_t)count;
  return STATUS_OK;
}

status store_writer_end_document(store_writer *w, int64_t text_bytes) {
  if (w->token_count == w->document_start) {
    return STATUS_OK;
  }
  TRY(spool_add(&w->documents, w->path, &w->document_start, 1, sizeof w->document_start, sizeof w->document_start));
  w->document_start = w->token_count;
  w->document_count++;
  w->text_bytes += text_bytes;
  return STATUS_OK;
}

int64_t store_writer_tokens(const store_writer *w) {
  return w->token_count;
}

int64_t store_writer_documents(const store_writer *w) {
  return w->document_count;
}

int64_t store_writer_text_bytes(const store_writer *w) {
  return w->text_bytes;
}

/* A dataset of one dimension; `data` may be NULL: then its place in the file is only reserved. Tells where it lies. */
static status make_array(const store_writer *w, hid_t where, const char *name, hid_t file_type, hid_t memory_type,
                         int64_t count, const void *data, int64_t *offset) {
  hsize_t length = (hsize_t)count;
  hid_t space = H5Screate_simple(1, &length, NULL), plist = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_obj_track_times(plist, false);
  H5Pset_layout(plist, H5D_CONTIGUOUS);
  H5Pset_alloc_time(plist, H5D_ALLOC_TIME_EARLY);
  H5Pset_fill_time(plist, H5D_FILL_TIME_NEVER);
  hid_t set = H5Dcreate2(where, name, file_type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
  herr_t done = set < 0 ? -1 : 0;
  if (done >= 0 && data != NULL) {
    done = H5Dwrite(set, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data);
  }
  if (done >= 0 && offset != NULL) {
    haddr_t address = H5Dget_offset(set);
    *offset = (int64_t)address;
    done = address == HADDR_UNDEF ? -1 : 0;
  }
  if (set >= 0) {
    H5Dclose(set);
  }
  H5Pclose(plist);
  H5Sclose(space);
  REQUIRE(done >= 0, "cannot write %s of '%s'; check the space on the disk and run again", name, w->temporary);
  return STATUS_OK;
}

static status make_group(const store_writer *w, hid_t file, const char *name, hid_t *group) {
  hid_t plist = H5Pcreate(H5P_GROUP_CREATE);
  H5Pset_obj_track_times(plist, false);
  *group = H5Gcreate2(file, name, H5P_DEFAULT, plist, H5P_DEFAULT);
  H5Pclose(plist);
  REQUIRE(*group >= 0, "cannot write %s of '%s'; check the space on the disk and run again", name, w->temporary);
  return STATUS_OK;
}

/* Texts of one fixed length, the longest. Variable-length strings would live in a heap, an order of magnitude slower to
 * read. */
static status write_texts(const store_writer *w, hid_t group, const char *name, const store_source *sources,
                          size_t count, bool paths) {
  size_t longest = 1;
  for (size_t i = 0; i < count; i++) {
    size_t length = strlen(paths ? sources[i].path : sources[i].digest);
    longest = length > longest ? length : longest;
  }
  char *texts;
  TRY(memory_new(&texts, count, longest, "the names of the sources"));
  for (size_t i = 0; i < count; i++) {
    const char *text = paths ? sources[i].path : sources[i].digest;
    memcpy(texts + i * longest, text, strlen(text));
  }
  hid_t type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, longest);
  H5Tset_strpad(type, H5T_STR_NULLPAD);
  H5Tset_cset(type, H5T_CSET_UTF8);
  status s = make_array(w, group, name, type, type, (int64_t)count, texts, NULL);
  H5Tclose(type);
  free(texts);
  return s;
}

static status write_sources(const store_writer *w, hid_t file, const store_source *sources, size_t count) {
  hid_t group;
  int64_t *bytes = NULL;
  TRY(make_group(w, file, "sources", &group));
  status s = memory_new(&bytes, count, sizeof *bytes, "the sizes of the sources");
  for (size_t i = 0; i < count && s == STATUS_OK; i++) {
    bytes[i] = sources[i].bytes;
  }
  if (s == STATUS_OK) {
    s = make_array(w, group, "bytes", H5T_STD_I64LE, H5T_NATIVE_INT64, (int64_t)count, bytes, NULL);
  }
  if (s == STATUS_OK) {
    s = write_texts(w, group, "path", sources, count, true);
  }
  if (s == STATUS_OK) {
    s = write_texts(w, group, "digest", sources, count, false);
  }
  free(bytes);
  H5Gclose(group);
  return s;
}

static status write_tokenizer(const store_writer *w, hid_t file) {
  size_t bytes;
  const void *model = tokenizer_model(w->tokenizer, &bytes);
  if (bytes == 0) {
    return STATUS_OK;
  }
  hid_t group;
  TRY(make_group(w, file, "tokenizer", &group));
  status s = make_array(w, group, "model", H5T_STD_U8LE, H5T_NATIVE_UINT8, (int64_t)bytes, model, NULL);
  H5Gclose(group);
  return s;
}

static status write_attributes(const store_writer *w, hid_t file) {
  const char *path = w->temporary;
  char of_tokens[DIGEST_TEXT], of_documents[DIGEST_TEXT], of_tokenizer[DIGEST_TEXT];
  digest_text(w->tokens.digest, of_tokens);
  digest_text(w->documents.digest, of_documents);
  tokenizer_digest(w->tokenizer, of_tokenizer);
  TRY(store_write_text(file, path, "format", STORE_FORMAT));
  TRY(store_write_integer(file, path, "version", STORE_VERSION));
  TRY(store_write_integer(file, path, "tokens", w->token_count));
  TRY(store_write_integer(file, path, "documents", w->document_count));
  TRY(store_write_integer(file, path, "vocab_size", tokenizer_vocab(w->tokenizer)));
  TRY(store_write_integer(file, path, "token_bytes", w->token_bytes));
  TRY(store_write_integer(file, path, "end_of_text", tokenizer_end_of_text(w->tokenizer)));
  TRY(store_write_integer(file, path, "text_bytes", w->text_bytes));
  TRY(store_write_text(file, path, "tokenizer", tokenizer_name(w->tokenizer)));
  TRY(store_write_text(file, path, "digest_tokens", of_tokens));
  TRY(store_write_text(file, path, "digest_documents", of_documents));
  return store_write_text(file, path, "digest_tokenizer", of_tokenizer);
}

/* Everything but the two large arrays, whose place is reserved. */
static status write_contents(const store_writer *w, hid_t file, const store_source *sources, size_t source_count,
                             store_region *tokens, store_region *documents) {
  TRY(write_attributes(w, file));
  TRY(write_tokenizer(w, file));
  if (source_count > 0) {
    TRY(write_sources(w, file, sources, source_count));
  }
  TRY(make_array(w, file, "documents", H5T_STD_U64LE, H5T_NATIVE_UINT64, w->document_count, NULL, &documents->offset));
  hid_t type = w->token_bytes == 2 ? H5T_STD_U16LE : H5T_STD_U32LE;
  return make_array(w, file, "tokens", type, type, w->token_count, NULL, &tokens->offset);
}

static status write_description(const store_writer *w, const store_source *sources, size_t source_count,
                                store_region *tokens, store_region *documents) {
  hdf_driver_fault fault;
  *tokens = (store_region){.bytes = w->tokens.bytes};
  *documents = (store_region){.bytes = w->documents.bytes};
  unlink(w->temporary); /* of a run that was killed, or another's */
  hid_t plist = H5Pcreate(H5P_FILE_CREATE), access = hdf_driver_access(&fault);
  H5Pset_userblock(plist, STORE_SEAL_BYTES);
  H5Pset_obj_track_times(plist, false);
  hid_t file = access < 0 ? -1 : H5Fcreate(w->temporary, H5F_ACC_TRUNC, plist, access);
  H5Pclose(plist);
  status s = STATUS_OK;
  if (file >= 0) {
    s = write_contents(w, file, sources, source_count, tokens, documents);
    if (H5Fclose(file) < 0 && s == STATUS_OK) {
      s = status_set(STATUS_FAILURE, __FILE__, __LINE__, "the HDF5 library cannot finish '%s'; run again",
                     w->temporary);
    }
  }
  if (access >= 0) {
    H5Pclose(access);
  }
  if (fault.error != 0) {
    FAIL("cannot write '%s': %s; free some space or choose another disk, and run again", w->temporary,
         strerror(fault.error));
  }
  REQUIRE(file >= 0, "the HDF5 library cannot create '%s'; run again", w->temporary);
  return s;
}

static status write_arrays(store_writer *w, store_region tokens, store_region documents) {
  int file = open(w->temporary, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  REQUIRE(file >= 0, "cannot open '%s' again: %s; check the disk", w->temporary, strerror(errno));
  status s = raw_copy(w->documents.file, w->path, 0, file, w->temporary, documents.offset, documents.bytes);
  if (s == STATUS_OK) {
    s = raw_copy(w->tokens.file, w->path, 0, file, w->temporary, tokens.offset, tokens.bytes);
  }
  if (s == STATUS_OK) {
    s = store_seal_write(file, w->temporary, tokens, documents);
  }
  if (close(file) != 0 && s == STATUS_OK) {
    FAIL("cannot write '%s': %s; check the disk", w->temporary, strerror(errno));
  }
  return s;
}

/* Said before the work instead of in the middle of it. */
static status check_space(const store_writer *w, size_t source_count) {
  uint64_t there;
  size_t model;
  char needed_text[32], there_text[32], *folder;
  tokenizer_model(w->tokenizer, &model);
  uint64_t needed = (uint64_t)(w->tokens.bytes + w->documents.bytes) + model + source_count * 4096 + (1u << 16);
  const char *slash = strrchr(w->path, '/');
  TRY(memory_format(&folder, "%.*s", slash == NULL ? 1 : (int)(slash - w->path) + 1, slash == NULL ? "." : w->path));
  status s = file_free_space(folder, &there);
  free(folder);
  TRY(s);
  REQUIRE(there >= needed,
          "the disk of '%s' is full: %s are needed besides what is already spooled, %s are free; free some space and "
          "run again",
          w->path, memory_text((double)needed, needed_text), memory_text((double)there, there_text));
  return STATUS_OK;
}

status store_writer_commit(store_writer *w, const store_source *sources, size_t source_count) {
  if (w->document_count == 0) {
    USER_ERROR("there is no document to put into '%s'; give inputs that hold text", w->path);
  }
  REQUIRE(w->document_start == w->token_count, "the last document of '%s' was not ended", w->path);
  TRY(spool_flush(&w->tokens, w->path));
  TRY(spool_flush(&w->documents, w->path));
  TRY(check_space(w, source_count));
  store_region tokens, documents;
  status s = write_description(w, sources, source_count, &tokens, &documents);
  if (s == STATUS_OK) {
    s = write_arrays(w, tokens, documents);
  }
  if (s == STATUS_OK) {
    s = file_commit(w->temporary, w->path);
  }
  if (s != STATUS_OK) {
    unlink(w->temporary);
  }
  return s;
}

void store_writer_close(store_writer *w) {
  if (w == NULL) {
    return;
  }
  spool_close(&w->tokens);
  spool_close(&w->documents);
  free(w->path);
  free(w->temporary);
  free(w);
}
