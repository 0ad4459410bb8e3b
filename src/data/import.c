#include "data/import.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/raw_io.h"
#include "data/store_write.h"
#include "data/tokenizer_file.h"

/* llm.c: 256 int32 (magic, version, tokens, then zeros) and the tokens. */
enum { LLMC_MAGIC = 20240520, LLMC_VERSION = 1, LLMC_HEADER_BYTES = 1024, BLOCK = 1 << 18 };

typedef struct {
  store_writer *writer;
  int64_t vocab_size;
  int32_t end_of_text;
  bool ended;    /* the last token was end of text */
  bool has_text; /* the current document has other tokens */
  uint16_t *raw; /* (BLOCK) */
  int32_t *ids;  /* (BLOCK) */
} import_job;

static status check_header(int file, const char *path, int64_t bytes) {
  int32_t header[3];
  if (bytes < LLMC_HEADER_BYTES) {
    USER_ERROR("'%s' has %" PRId64
               " bytes, less than an llm.c header; give a whole shard, or --raw-u16 for shards without a header",
               path, bytes);
  }
  TRY(raw_read_at(file, path, 0, header, sizeof header));
  if (header[0] != LLMC_MAGIC || header[1] != LLMC_VERSION) {
    USER_ERROR("'%s' is not an llm.c token shard: it starts with %" PRId32 ", version %" PRId32
               ", and should with %d, version %d; give --raw-u16 if it has no header",
               path, header[0], header[1], LLMC_MAGIC, LLMC_VERSION);
  }
  if (header[2] < 0 || LLMC_HEADER_BYTES + 2 * (int64_t)header[2] != bytes) {
    USER_ERROR("'%s' should have %" PRId64 " bytes for its %" PRId32 " tokens and has %" PRId64
               "; it is cut or damaged, get it again",
               path, LLMC_HEADER_BYTES + 2 * (int64_t)header[2], header[2], bytes);
  }
  return STATUS_OK;
}

/* Separators before a document belong to it, so that no document is empty: llm.c's shards put end of text first. */
static status add_tokens(import_job *j, const char *path, int64_t first, size_t count) {
  size_t start = 0;
  for (size_t i = 0; i < count; i++) {
    j->ids[i] = j->raw[i];
    if (j->ids[i] >= j->vocab_size) {
      USER_ERROR("token %" PRId64 " of '%s' is %" PRId32 ", outside the vocabulary of %" PRId64
                 "; give the right --vocab-size, or check the shard",
                 first + (int64_t)i, path, j->ids[i], j->vocab_size);
    }
    if (j->ended && j->has_text && j->ids[i] != j->end_of_text) {
      TRY(store_writer_add(j->writer, j->ids + start, i - start));
      TRY(store_writer_end_document(j->writer, 0));
      start = i;
      j->has_text = false;
    }
    j->ended = j->ids[i] == j->end_of_text;
    j->has_text = j->has_text || !j->ended;
  }
  return store_writer_add(j->writer, j->ids + start, count - start);
}

static status read_shard(import_job *j, int file, const char *path, int64_t offset, store_source *source) {
  digest *d;
  char head[LLMC_HEADER_BYTES];
  TRY(digest_new(&d));
  status s = raw_read_at(file, path, 0, head, (size_t)offset);
  digest_add(d, head, s == STATUS_OK ? (size_t)offset : 0);
  int64_t tokens = (source->bytes - offset) / 2;
  for (int64_t first = 0; first < tokens && s == STATUS_OK;) {
    size_t count = (size_t)(tokens - first < BLOCK ? tokens - first : BLOCK);
    s = raw_read_at(file, path, offset + 2 * first, j->raw, 2 * count);
    if (s == STATUS_OK) {
      digest_add(d, j->raw, 2 * count);
      s = add_tokens(j, path, first, count);
    }
    first += (int64_t)count;
  }
  digest_text(d, source->digest);
  digest_free(d);
  return s;
}

static status import_shard(import_job *j, const char *path, bool raw_u16, store_source *source) {
  struct stat about;
  int file;
  TRY(file_open_read(path, &file));
  if (fstat(file, &about) != 0) {
    int error = errno;
    close(file);
    FAIL("cannot look at the shard '%s': %s; check the disk", path, strerror(error));
  }
  source->bytes = about.st_size;
  status s = STATUS_OK;
  if (!raw_u16) {
    s = check_header(file, path, about.st_size);
  } else if (about.st_size % 2 != 0) {
    s = status_set(STATUS_USER_ERROR, __FILE__, __LINE__,
                   "'%s' has %lld bytes, an odd number, so it is not a shard of uint16 tokens; check the file", path,
                   (long long)about.st_size);
  }
  if (s == STATUS_OK) {
    s = read_shard(j, file, path, raw_u16 ? 0 : LLMC_HEADER_BYTES, source);
  }
  close(file);
  return s;
}

static status import_all(import_job *j, const char *const *shards, size_t count, const import_options *o,
                         store_source *sources) {
  for (size_t i = 0; i < count; i++) {
    TRY(memory_format(&sources[i].path, "%s", shards[i]));
    TRY(import_shard(j, shards[i], o->raw_u16, &sources[i]));
    log_progress("importing: %zu of %zu shards, %" PRId64 " tokens", i + 1, count, store_writer_tokens(j->writer));
  }
  TRY(store_writer_end_document(j->writer, 0));
  if (store_writer_tokens(j->writer) == 0) {
    USER_ERROR("the shards hold no tokens; check them");
  }
  TRY(store_writer_commit(j->writer, sources, count));
  log_line("%s: %" PRId64 " tokens in %" PRId64 " documents from %zu shards, vocabulary %" PRId64, o->out,
           store_writer_tokens(j->writer), store_writer_documents(j->writer), count, j->vocab_size);
  return STATUS_OK;
}

static status make_tokenizer(const import_options *o, tokenizer **t) {
  if (o->tokenizer_file != NULL) {
    return tokenizer_from_file(o->tokenizer_file, t);
  }
  if (o->end_of_text >= o->vocab_size) {
    USER_ERROR("--end-of-text is %" PRId64 ", outside the vocabulary of %" PRId64
               "; give both as the shards' tokenizer has them",
               o->end_of_text, o->vocab_size);
  }
  return tokenizer_create("external", NULL, 0, o->vocab_size, (int32_t)o->end_of_text, t);
}

status import_shards(const char *const *shards, size_t count, const import_options *o) {
  tokenizer *t = NULL;
  import_job j = {0};
  store_source *sources = NULL;
  if (count == 0) {
    USER_ERROR("no shards are given; name the files to import");
  }
  TRY(store_writer_check(o->out, o->force));
  status s = make_tokenizer(o, &t);
  if (s == STATUS_OK) {
    j.vocab_size = tokenizer_vocab(t);
    j.end_of_text = tokenizer_end_of_text(t);
    s = store_writer_open(o->out, t, &j.writer);
  }
  if (s == STATUS_OK) {
    s = memory_new(&sources, count, sizeof *sources, "the list of shards");
  }
  if (s == STATUS_OK) {
    s = memory_new(&j.raw, BLOCK, sizeof *j.raw, "a block of tokens");
  }
  if (s == STATUS_OK) {
    s = memory_new(&j.ids, BLOCK, sizeof *j.ids, "a block of tokens");
  }
  if (s == STATUS_OK) {
    s = import_all(&j, shards, count, o, sources);
  }
  for (size_t i = 0; sources != NULL && i < count; i++) {
    free(sources[i].path);
  }
  free(sources);
  free(j.raw);
  free(j.ids);
  store_writer_close(j.writer);
  tokenizer_free(t);
  return s;
}
