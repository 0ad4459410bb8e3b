#include "data/show.h"

#include <hdf5.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "data/store_format.h"
#include "data/tokenizer_file.h"

enum { BLOCK = 1 << 16, SOURCES_SHOWN = 20 };

static hssize_t source_count(hid_t file) {
  hid_t set = H5Lexists(file, "sources", H5P_DEFAULT) > 0 ? H5Dopen2(file, "sources/path", H5P_DEFAULT) : -1;
  if (set < 0) {
    return 0;
  }
  hid_t space = H5Dget_space(set);
  hssize_t count = H5Sget_simple_extent_npoints(space);
  H5Sclose(space);
  H5Dclose(set);
  return count < 0 ? 0 : count;
}

/* The dataset's texts, each `*longest` bytes without a terminating zero. */
static status read_texts(hid_t file, const char *name, hssize_t count, char **texts, size_t *longest) {
  hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
  hid_t type = set < 0 ? -1 : H5Dget_type(set);
  herr_t got = -1;
  status s = STATUS_OK;
  int64_t offset;
  uint64_t stored = 0;
  *texts = NULL;
  *longest = type < 0 ? 0 : H5Tget_size(type);
  if (type >= 0 && H5Tget_class(type) == H5T_STRING && H5Tis_variable_str(type) == 0 &&
      hdf_one_piece(set, &offset, &stored) && stored / *longest == (uint64_t)count && stored % *longest == 0) {
    s = memory_new(texts, (size_t)count, *longest, "the names of the sources");
    got = s == STATUS_OK ? H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, *texts) : 0;
  }
  if (type >= 0) {
    H5Tclose(type);
  }
  if (set >= 0) {
    H5Dclose(set);
  }
  if (s == STATUS_OK && got < 0) {
    USER_ERROR("the store's %s can't be read; make it again", name);
  }
  return s;
}

static status show_sources(const token_store *store) {
  hdf_driver_fault fault;
  hid_t file = store_hdf5_open(store->file, &fault);
  REQUIRE(file >= 0, "'%s' can't be opened again; check the disk", store->path);
  char *names = NULL, *digests = NULL;
  size_t name_bytes = 0, digest_bytes = 0;
  hssize_t count = source_count(file);
  status s = STATUS_OK;
  if (count > 0) {
    s = read_texts(file, "sources/path", count, &names, &name_bytes);
  }
  if (count > 0 && s == STATUS_OK) {
    s = read_texts(file, "sources/digest", count, &digests, &digest_bytes);
  }
  H5Fclose(file);
  if (s == STATUS_OK) {
    log_line("sources      %lld", (long long)count);
    for (hssize_t i = 0; i < count && i < SOURCES_SHOWN; i++) {
      log_line("  %.*s  %.*s", (int)digest_bytes, digests + (size_t)i * digest_bytes, (int)name_bytes,
               names + (size_t)i * name_bytes);
    }
    if (count > SOURCES_SHOWN) {
      log_line("  … and %lld more", (long long)count - SOURCES_SHOWN);
    }
  }
  free(names);
  free(digests);
  return s;
}

static status describe(const token_store *s, bool verify) {
  char size[32];
  log_line("store        %s", s->path);
  log_line("tokens       %" PRId64 " of %d bytes", s->tokens, s->token_bytes);
  log_line("documents    %" PRId64, s->documents);
  if (s->text_bytes > 0) {
    log_line("text         %s (%" PRId64 " bytes), %.3f bytes a token", memory_text((double)s->text_bytes, size),
             s->text_bytes, (double)s->text_bytes / (double)s->tokens);
  } else {
    log_line("text         unknown: the tokens were imported");
  }
  log_line("tokenizer    %s, %" PRId64 " tokens, end of text %" PRId32, s->tokenizer, s->vocab_size, s->end_of_text);
  log_line("digests      tokens %s, tokenizer %s", s->digest, s->tokenizer_digest);
  status listed = show_sources(s);
  if (listed != STATUS_OK) {
    return status_prefix(listed, "'%s'", s->path);
  }
  if (verify) {
    TRY(token_store_verify(s));
    log_line("verified     all tokens and document starts are whole");
  }
  return STATUS_OK;
}

status show_info(const char *path, bool verify) {
  token_store *s;
  TRY(token_store_open(path, &s));
  status result = describe(s, verify);
  token_store_close(s);
  return result;
}

static status print_tokens(tokenizer *t, const int32_t *ids, size_t count) {
  for (size_t start = 0; start < count;) {
    size_t end = start;
    while (end < count && ids[end] != tokenizer_end_of_text(t)) {
      end++;
    }
    char *text;
    size_t bytes;
    TRY(tokenizer_decode(t, ids + start, end - start, &text, &bytes));
    size_t written = fwrite(text, 1, bytes, stdout);
    free(text);
    if (end < count) {
      fputs("\n<|end of text|>\n", stdout);
    }
    REQUIRE(written == bytes && !ferror(stdout), "cannot write to standard output; check where it goes");
    start = end + 1;
  }
  return STATUS_OK;
}

static status find_document(const token_store *s, int64_t document, int64_t *first, int64_t *count) {
  uint64_t starts[2] = {0, (uint64_t)s->tokens};
  if (document >= s->documents) {
    USER_ERROR("'%s' has no document %" PRId64 "; it has %" PRId64 ", numbered from 0", s->path, document,
               s->documents);
  }
  TRY(token_store_documents(s, document, document + 1 < s->documents ? 2 : 1, starts));
  if (starts[0] > starts[1] || starts[1] > (uint64_t)s->tokens) {
    USER_ERROR("'%s' is damaged: document %" PRId64 " starts at token %" PRIu64 "; make it again", s->path, document,
               starts[0]);
  }
  *first = (int64_t)starts[0];
  *count = (int64_t)(starts[1] - starts[0]);
  return STATUS_OK;
}

static status print_range(const token_store *s, tokenizer *t, int64_t first, int64_t count) {
  int32_t *ids;
  status result = STATUS_OK;
  TRY(memory_new(&ids, BLOCK, sizeof *ids, "a block of tokens"));
  while (count > 0 && result == STATUS_OK) {
    int64_t now = count < BLOCK ? count : BLOCK;
    result = token_store_read(s, first, now, ids);
    if (result == STATUS_OK) {
      result = print_tokens(t, ids, (size_t)now);
    }
    first += now;
    count -= now;
  }
  free(ids);
  return result;
}

status show_text(const char *path, int64_t first, int64_t count, int64_t document) {
  token_store *s;
  tokenizer *t = NULL;
  TRY(token_store_open(path, &s));
  status result = tokenizer_of_store(s, &t);
  if (result == STATUS_OK && document >= 0) {
    result = find_document(s, document, &first, &count);
  } else if (result == STATUS_OK && first >= s->tokens) {
    result = status_set(STATUS_USER_ERROR, __FILE__, __LINE__,
                        "'%s' has %" PRId64 " tokens, so none is at %" PRId64 "; give a smaller --first", path,
                        s->tokens, first);
  } else if (result == STATUS_OK) {
    count = count < s->tokens - first ? count : s->tokens - first;
  }
  if (result == STATUS_OK) {
    result = print_range(s, t, first, count);
  }
  tokenizer_free(t);
  token_store_close(s);
  return result;
}
