#include "bench/random_tokens.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/philox.h"

enum { POOL = 1 << 22, DRAW_TOKEN = 1, DRAW_WINDOW = 2 };

static philox_block draw(uint64_t seed, uint32_t what, uint64_t i) {
  return philox(seed, PHILOX_DATA, (uint32_t)i, (uint32_t)(i >> 32), what, UINT32_MAX);
}

status random_tokens_create(int64_t vocab_size, int64_t longest, uint64_t seed, random_tokens *r) {
  *r = (random_tokens){.tokens = POOL + longest + 1, .seed = seed};
  TRY(memory_new(&r->pool, (size_t)r->tokens, sizeof *r->pool, "random tokens"));
  for (int64_t i = 0; i < r->tokens; i += 4) {
    philox_block b = draw(seed, DRAW_TOKEN, (uint64_t)i);
    for (int64_t j = 0; j < 4 && i + j < r->tokens; j++) {
      r->pool[i + j] = (int32_t)(((uint64_t)b.x[j] * (uint64_t)vocab_size) >> 32);
    }
  }
  return STATUS_OK;
}

void random_tokens_free(random_tokens *r) {
  free(r->pool);
  *r = (random_tokens){0};
}

static status load(const void *context, int64_t first, host_batch *b) {
  const random_tokens *r = context;
  for (int64_t row = 0; row < b->B; row++) {
    philox_block x = draw(r->seed, DRAW_WINDOW, (uint64_t)(first + row));
    const int32_t *window = r->pool + (((uint64_t)x.x[0] << 32 | x.x[1]) % (uint64_t)(r->tokens - b->T));
    memcpy(b->tokens + row * b->T, window, (size_t)b->T * sizeof *window);
    memcpy(b->labels + row * b->T, window + 1, (size_t)b->T * sizeof *window);
  }
  host_batch_sort(b);
  return STATUS_OK;
}

batch_source random_tokens_source(const random_tokens *r) {
  return (batch_source){load, r};
}
