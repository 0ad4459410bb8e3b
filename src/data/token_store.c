#include "data/token_store.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hdf_driver.h"
#include "base/memory.h"
#include "base/wall.h"
#include "data/raw_io.h"
#include "data/store_format.h"
#include "data/store_seal.h"

/* Tokens that one pass of reading or checking holds. */
enum { BLOCK_TOKENS = 1 << 16 };

/* Checks that a dataset is a contiguous array of unsigned integers that lies where the seal says. */
static status check_array(hid_t file, const char *path, const char *name, store_region region, int64_t count,
                          size_t size) {
  hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
  if (set < 0) {
    USER_ERROR("'%s' is not a whole token store: it has no dataset %s; make it again", path, name);
  }
  hid_t type = H5Dget_type(set), space = H5Dget_space(set), plist = H5Dget_create_plist(set);
  bool fits = H5Tget_class(type) == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_NONE &&
              H5Tget_order(type) == H5T_ORDER_LE && H5Tget_size(type) == size &&
              H5Sget_simple_extent_ndims(space) == 1 && H5Sget_simple_extent_npoints(space) == count &&
              H5Pget_layout(plist) == H5D_CONTIGUOUS && (int64_t)H5Dget_offset(set) == region.offset &&
              region.bytes / (int64_t)size == count && region.bytes % (int64_t)size == 0;
  H5Tclose(type);
  H5Sclose(space);
  H5Pclose(plist);
  H5Dclose(set);
  if (!fits) {
    USER_ERROR("'%s' is not a whole token store: %s is not a contiguous array of %" PRId64
               " unsigned integers of %zu bytes; make it again",
               path, name, count, size);
  }
  return STATUS_OK;
}

static status read_model(hid_t file, token_store *s) {
  if (H5Lexists(file, "tokenizer", H5P_DEFAULT) <= 0 || H5Lexists(file, "tokenizer/model", H5P_DEFAULT) <= 0) {
    return STATUS_OK;
  }
  hid_t set = H5Dopen2(file, "tokenizer/model", H5P_DEFAULT);
  int64_t offset, bytes = -1;
  uint64_t stored = 0;
  hid_t space = set < 0 ? -1 : H5Dget_space(set);
  if (space >= 0 && hdf_one_piece(set, &offset, &stored) && (uint64_t)H5Sget_simple_extent_npoints(space) == stored) {
    bytes = stored <= STORE_MODEL_LIMIT ? (int64_t)stored : -1;
  }
  status result = STATUS_OK;
  if (bytes >= 0) {
    result = memory_new(&s->tokenizer_data, (size_t)bytes + 1, 1, "a tokenizer's model");
    s->tokenizer_bytes = (size_t)bytes;
    if (result == STATUS_OK && H5Dread(set, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, s->tokenizer_data) < 0) {
      bytes = -1;
    }
  }
  if (space >= 0) {
    H5Sclose(space);
  }
  if (set >= 0) {
    H5Dclose(set);
  }
  if (result == STATUS_OK && bytes < 0) {
    USER_ERROR("'%s' is not a whole token store: its tokenizer's model can't be read; make it again", s->path);
  }
  return result;
}

static status check_values(const token_store *s, int64_t token_bytes, int64_t end_of_text) {
  int64_t largest = token_bytes == 2 ? UINT16_MAX : INT32_MAX;
  if (token_bytes != 2 && token_bytes != 4) {
    USER_ERROR("'%s' says that a token has %" PRId64 " bytes, which must be 2 or 4; make it again", s->path,
               token_bytes);
  }
  if (s->vocab_size < 1 || s->vocab_size - 1 > largest) {
    USER_ERROR("'%s' says that its vocabulary has %" PRId64 " tokens, which %" PRId64
               " bytes a token can't hold; make it again",
               s->path, s->vocab_size, token_bytes);
  }
  if (end_of_text < -1 || end_of_text >= s->vocab_size) {
    USER_ERROR("'%s' says that end of text is token %" PRId64 " of a vocabulary of %" PRId64 "; make it again", s->path,
               end_of_text, s->vocab_size);
  }
  if (s->tokens < 1 || s->documents < 1 || s->documents > s->tokens || s->text_bytes < 0) {
    USER_ERROR("'%s' says that it holds %" PRId64 " tokens in %" PRId64 " documents of %" PRId64
               " bytes, which can't be; make it again",
               s->path, s->tokens, s->documents, s->text_bytes);
  }
  return STATUS_OK;
}

static status read_description(hid_t file, const store_seal *seal, token_store *s) {
  char format[32], expected[DIGEST_TEXT];
  int64_t version, token_bytes, end_of_text;
  const char *path = s->path;
  TRY(store_read_text(file, path, "format", format, sizeof format));
  TRY(store_read_integer(file, path, "version", &version));
  if (strcmp(format, STORE_FORMAT) != 0 || version != STORE_VERSION) {
    USER_ERROR("'%s' has format '%s', version %" PRId64 ", and this program reads '%s', version %d; make it again",
               path, format, version, STORE_FORMAT, STORE_VERSION);
  }
  TRY(store_read_integer(file, path, "tokens", &s->tokens));
  TRY(store_read_integer(file, path, "documents", &s->documents));
  TRY(store_read_integer(file, path, "vocab_size", &s->vocab_size));
  TRY(store_read_integer(file, path, "token_bytes", &token_bytes));
  TRY(store_read_integer(file, path, "end_of_text", &end_of_text));
  TRY(store_read_integer(file, path, "text_bytes", &s->text_bytes));
  TRY(store_read_text(file, path, "tokenizer", s->tokenizer, sizeof s->tokenizer));
  TRY(store_read_text(file, path, "digest_tokens", s->digest, sizeof s->digest));
  TRY(store_read_text(file, path, "digest_documents", s->documents_digest, sizeof s->documents_digest));
  TRY(store_read_text(file, path, "digest_tokenizer", s->tokenizer_digest, sizeof s->tokenizer_digest));
  TRY(check_values(s, token_bytes, end_of_text));
  s->token_bytes = (int)token_bytes;
  s->end_of_text = (int32_t)end_of_text;
  TRY(check_array(file, path, "/tokens", seal->tokens, s->tokens, (size_t)s->token_bytes));
  TRY(check_array(file, path, "/documents", seal->documents, s->documents, sizeof(uint64_t)));
  TRY(read_model(file, s));
  store_tokenizer_digest(s->tokenizer, s->vocab_size, s->end_of_text, s->tokenizer_data, s->tokenizer_bytes, expected);
  if (strcmp(expected, s->tokenizer_digest) != 0) {
    USER_ERROR("'%s' is damaged: its tokenizer has digest %s and should have %s; make it again", path, expected,
               s->tokenizer_digest);
  }
  return STATUS_OK;
}

static status read_structure(const store_seal *seal, token_store *s) {
  hdf_driver_fault fault;
  hid_t file = store_hdf5_open(s->file, &fault);
  if (file < 0) {
    USER_ERROR("'%s' is damaged: the HDF5 library can't read it; copy or make it again", s->path);
  }
  status result = read_description(file, seal, s);
  H5Fclose(file);
  return result;
}

static status open_file(token_store *s) {
  struct stat about;
  s->file = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer is no reason to wait */
  if (s->file < 0) {
    USER_ERROR("cannot open the token store '%s': %s; %s", s->path, strerror(errno),
               errno == ENOENT ? "check the path, or make it with psann_data build" : "check its permissions");
  }
  if (fstat(s->file, &about) != 0 || !S_ISREG(about.st_mode)) {
    USER_ERROR("'%s' is a %s, not a token store; give the path of a file that psann_data made", s->path,
               S_ISDIR(about.st_mode) ? "folder" : "special file");
  }
  store_seal seal;
  TRY(store_seal_read(s->file, s->path, &seal));
  s->offset = seal.tokens.offset;
  s->documents_offset = seal.documents.offset;
  TRY(wall_check(WALL_STORE, s->path));
  return read_structure(&seal, s);
}

status token_store_open(const char *path, token_store **out) {
  *out = NULL;
  store_hdf5_quiet();
  token_store *s;
  TRY(memory_new(&s, 1, sizeof *s, "a token store"));
  s->file = -1;
  status result = memory_format(&s->path, "%s", path);
  if (result == STATUS_OK) {
    result = open_file(s);
  }
  if (result != STATUS_OK) {
    token_store_close(s);
    return result;
  }
  *out = s;
  return STATUS_OK;
}

void token_store_close(token_store *s) {
  if (s == NULL) {
    return;
  }
  if (s->file >= 0) {
    close(s->file);
  }
  free(s->path);
  free(s->tokenizer_data);
  free(s);
}

static status check_range(const token_store *s, const char *what, int64_t first, int64_t count, int64_t there) {
  REQUIRE(first >= 0 && count >= 0 && first <= there && count <= there - first,
          "%" PRId64 " %s from %" PRId64 " on were asked for of '%s', which has %" PRId64, count, what, first, s->path,
          there);
  return STATUS_OK;
}

status token_store_read(const token_store *s, int64_t first, int64_t count, int32_t *tokens) {
  TRY(check_range(s, "tokens", first, count, s->tokens));
  /* Read into the end of the caller's array and widen from its front: no buffer of our own. */
  char *raw = (char *)tokens + (size_t)count * (sizeof *tokens - (size_t)s->token_bytes);
  TRY(raw_read_at(s->file, s->path, s->offset + first * s->token_bytes, raw, (size_t)(count * s->token_bytes)));
  for (int64_t i = 0; i < count; i++) {
    uint32_t token = 0;
    memcpy(&token, raw + (size_t)i * (size_t)s->token_bytes, (size_t)s->token_bytes);
    if (token >= (uint64_t)s->vocab_size) {
      USER_ERROR("token %" PRId64 " of '%s' is %" PRIu32 ", outside its vocabulary of %" PRId64
                 "; the file is damaged, make it again",
                 first + i, s->path, token, s->vocab_size);
    }
    tokens[i] = (int32_t)token;
  }
  return STATUS_OK;
}

status token_store_documents(const token_store *s, int64_t first, int64_t count, uint64_t *starts) {
  TRY(check_range(s, "documents", first, count, s->documents));
  return raw_read_at(s->file, s->path, s->documents_offset + first * (int64_t)sizeof *starts, starts,
                     (size_t)count * sizeof *starts);
}

static status compare_digest(const token_store *s, const char *what, int64_t offset, int64_t bytes, char *block,
                             const char *expected) {
  char found[DIGEST_TEXT];
  digest *d;
  TRY(digest_new(&d));
  status result = STATUS_OK;
  for (int64_t done = 0; done < bytes && result == STATUS_OK;) {
    int64_t now = bytes - done < BLOCK_TOKENS ? bytes - done : BLOCK_TOKENS;
    result = raw_read_at(s->file, s->path, offset + done, block, (size_t)now);
    digest_add(d, block, (size_t)now);
    done += now;
  }
  digest_text(d, found);
  digest_free(d);
  TRY(result);
  if (strcmp(found, expected) != 0) {
    USER_ERROR("'%s' is damaged: its %s have digest %s and should have %s; copy or make it again", s->path, what, found,
               expected);
  }
  return STATUS_OK;
}

/* Walks tokens and document starts together. */
static status check_documents(const token_store *s, int32_t *tokens, uint64_t *starts) {
  int64_t document = 0, loaded = 0, held = 0, last = -1;
  int32_t previous = s->end_of_text;
  for (int64_t first = 0; first < s->tokens; first += BLOCK_TOKENS) {
    int64_t count = s->tokens - first < BLOCK_TOKENS ? s->tokens - first : BLOCK_TOKENS;
    TRY(token_store_read(s, first, count, tokens));
    for (;;) {
      if (document == loaded + held && document < s->documents) {
        loaded = document;
        held = s->documents - loaded < BLOCK_TOKENS ? s->documents - loaded : BLOCK_TOKENS;
        TRY(token_store_documents(s, loaded, held, starts));
      }
      if (document == s->documents || starts[document - loaded] >= (uint64_t)(first + count)) {
        break;
      }
      uint64_t start = starts[document - loaded];
      int64_t at = (int64_t)start - first;
      int32_t before = at > 0 ? tokens[at - 1] : previous;
      if (at < 0 || (int64_t)start <= last || (document == 0) != (start == 0) ||
          (s->end_of_text >= 0 && before != s->end_of_text)) {
        USER_ERROR("'%s' is damaged: document %" PRId64 " starts at token %" PRIu64
                   ", which does not follow an end of text; make it again",
                   s->path, document, start);
      }
      last = (int64_t)start;
      document++;
    }
    previous = tokens[count - 1];
  }
  if (document != s->documents) {
    USER_ERROR("'%s' is damaged: only %" PRId64 " of its %" PRId64 " documents start within its tokens; make it again",
               s->path, document, s->documents);
  }
  return STATUS_OK;
}

status token_store_verify(const token_store *s) {
  int32_t *tokens = NULL;
  uint64_t *starts = NULL;
  status result = memory_new(&tokens, BLOCK_TOKENS, sizeof *tokens, "a block of tokens");
  if (result == STATUS_OK) {
    result = memory_new(&starts, BLOCK_TOKENS, sizeof *starts, "a block of document starts");
  }
  if (result == STATUS_OK) {
    result = compare_digest(s, "tokens", s->offset, s->tokens * s->token_bytes, (char *)tokens, s->digest);
  }
  if (result == STATUS_OK) {
    result = compare_digest(s, "document starts", s->documents_offset, s->documents * (int64_t)sizeof *starts,
                            (char *)tokens, s->documents_digest);
  }
  if (result == STATUS_OK) {
    result = check_documents(s, tokens, starts);
  }
  free(tokens);
  free(starts);
  return result;
}
