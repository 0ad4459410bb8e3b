/* Token shards: llm.c's and raw ones. What is imported is a whole store. */
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/wall.h"
#include "data/import.h"
#include "data/token_store.h"
#include "fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  wall_lower(true); /* what is opened below was written by ourselves */
  log_set_rank(1, 2, "");
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz_bytes b = {data, data + size};
  uint8_t how = fuzz_byte(&b);
  const char *out = fuzz_path("store.h5");
  import_options o = {.out = out, .raw_u16 = how & 1, .force = true};
  o.vocab_size = 1 + (int64_t)fuzz_number(&b, 2);
  o.end_of_text = how & 2 ? -1 : (int64_t)fuzz_number(&b, 2);
  const char *shards[2] = {fuzz_write("shard 0.bin", b.at, (size_t)(b.end - b.at)), NULL};
  shards[1] = shards[0];
  unlink(out);
  status s = import_shards(shards, how & 4 ? 2 : 1, &o);
  fuzz_told(s);
  if (s == STATUS_OK) {
    token_store *store;
    MUST(token_store_open(out, &store) == STATUS_OK);
    MUST(token_store_verify(store) == STATUS_OK);
    token_store_close(store);
  } else {
    MUST(access(out, F_OK) != 0);
  }
  return 0;
}
