/* Token stores. The first byte says how the rest is meant: as a whole file; or as edits to a store, which is sealed
 * anew, so that what the seal guards is seen by the reader.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/wall.h"
#include "data/show.h"
#include "data/store_seal.h"
#include "data/store_write.h"
#include "data/token_store.h"
#include "data/tokenizer_file.h"
#include "fuzz.h"
#include "hdf_edits.h"

static uint8_t *template;
static size_t template_bytes;
static store_seal seal;

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  static const int32_t points[] = {'a', 'b', 'c', 0xFC};
  tokenizer *t;
  store_writer *w;
  int32_t tokens[1000];
  store_source source = {.path = (char *)"some/file.txt", .bytes = 3};
  wall_lower(true); /* the wall has a target of its own */
  log_set_rank(1, 2, "");
  digest_of("abc", 3, source.digest);
  for (int i = 0; i < 1000; i++) {
    tokens[i] = i % 100 == 99 ? 0 : 2 + i % 4;
  }
  const char *path = fuzz_path("template.h5");
  MUST(tokenizer_create("chars", points, sizeof points, TOKENIZER_ANY_VOCAB, 0, &t) == STATUS_OK);
  MUST(store_writer_open(path, t, &w) == STATUS_OK);
  for (int i = 0; i < 10; i++) {
    MUST(store_writer_add(w, tokens + 100 * i, 100) == STATUS_OK && store_writer_end_document(w, 99) == STATUS_OK);
  }
  MUST(store_writer_commit(w, &source, 1) == STATUS_OK);
  store_writer_close(w);
  tokenizer_free(t);
  template = fuzz_read(path, &template_bytes);
  int file = open(path, O_RDONLY | O_CLOEXEC);
  MUST(store_seal_read(file, path, &seal) == STATUS_OK);
  close(file);
  return 0;
}

static void use(const char *path) {
  token_store *s;
  tokenizer *t;
  status result = token_store_open(path, &s);
  fuzz_told(result);
  if (result != STATUS_OK) {
    return;
  }
  int32_t tokens[64];
  int64_t first = s->tokens > 64 ? s->tokens - 64 : 0;
  fuzz_told(token_store_read(s, first, s->tokens < 64 ? s->tokens : 64, tokens));
  fuzz_told(token_store_verify(s));
  result = tokenizer_of_store(s, &t);
  fuzz_told(result);
  if (result == STATUS_OK) {
    tokenizer_free(t);
  }
  token_store_close(s);
  fuzz_told(show_info(path, true));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char *const places[] = {
      "/@format",           "/@version",          "/@tokens",       "/@documents", "/@vocab_size",
      "/@token_bytes",      "/@end_of_text",      "/@text_bytes",   "/@tokenizer", "/@digest_tokens",
      "/@digest_documents", "/@digest_tokenizer", "tokens",         "documents",   "tokenizer",
      "tokenizer/model",    "sources/path",       "sources/digest", "sources"};
  fuzz_bytes b = {data, data + size};
  uint8_t how = fuzz_byte(&b);
  if (how % 2 == 0) {
    use(fuzz_write("store.h5", b.at, (size_t)(b.end - b.at)));
    return 0;
  }
  const char *path = fuzz_write("store.h5", template, template_bytes);
  hdf_edit(path, places, sizeof places / sizeof places[0], &b);
  int file = open(path, O_RDWR | O_CLOEXEC);
  store_region tokens = seal.tokens, documents = seal.documents;
  if (how & 2) { /* a seal that lies about its regions */
    tokens.offset += (int64_t)fuzz_byte(&b) - 128;
    documents.bytes = (int64_t)fuzz_number(&b, 2);
  }
  status sealed = store_seal_write(file, path, tokens, documents);
  close(file);
  if (sealed == STATUS_OK) {
    use(path);
  }
  return 0;
}
