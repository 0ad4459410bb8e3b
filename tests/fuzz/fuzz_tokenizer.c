/* Tokenizer models as a store or checkpoint holds them: `bytes`, `chars`, and `sentencepiece` by way of its library, which
 * some models crash: these must not come through the wall.
 */
#include <stdlib.h>
#include <string.h>

#include "base/wall.h"
#include "data/tokenizer.h"
#include "fuzz.h"

static void use(tokenizer *t) {
  static const char text[] = "Call me Ishmael.\n\tü \xE2\x96\x81 \xFF\xC3(\xF0\x9F\x90\xB3  x\0y";
  int32_t *ids = NULL;
  size_t count = 0, capacity = 0, bytes;
  char *back;
  status s = tokenizer_encode(t, text, sizeof text - 1, &ids, &count, &capacity);
  fuzz_told(s);
  bool known = true;
  for (size_t i = 0; i < count; i++) {
    MUST(ids[i] >= 0 && ids[i] < tokenizer_vocab(t));
    known = known && ids[i] != tokenizer_unknown(t);
  }
  if (s == STATUS_OK) {
    s = tokenizer_decode(t, ids, count, &back, &bytes);
    fuzz_told(s);
    MUST(s != STATUS_OK || !known || !tokenizer_is_exact(t) ||
         (bytes == sizeof text - 1 && memcmp(back, text, bytes) == 0));
    free(s == STATUS_OK ? back : NULL);
  }
  int32_t all[] = {0, 1, 2, 255, 256, (int32_t)(tokenizer_vocab(t) - 1), (int32_t)tokenizer_vocab(t), -1, INT32_MAX};
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
    s = tokenizer_decode(t, &all[i], 1, &back, &bytes);
    fuzz_told(s);
    free(s == STATUS_OK ? back : NULL);
  }
  free(ids);
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  return setenv("PSANN_PROBE", FUZZ_PROBE, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char *const names[] = {"bytes", "chars", "sentencepiece"};
  fuzz_bytes b = {data, data + size};
  uint8_t how = fuzz_byte(&b);
  int64_t vocab = how & 4 ? (int64_t)fuzz_number(&b, 2) : TOKENIZER_ANY_VOCAB;
  tokenizer *t;
  if ((how & 3) == 2) {
    status seen = wall_check(WALL_TOKENIZER, fuzz_write("a.model", b.at, (size_t)(b.end - b.at)));
    fuzz_told(seen);
    if (seen != STATUS_OK) {
      return 0;
    }
  }
  status s = tokenizer_create(names[(how & 3) % 3], b.at, (size_t)(b.end - b.at), vocab, (int32_t)(how >> 3), &t);
  fuzz_told(s);
  if (s == STATUS_OK) {
    if (tokenizer_vocab(t) > 0 && strcmp(tokenizer_name(t), "external") != 0) {
      use(t);
    }
    tokenizer_free(t);
  }
  return 0;
}
