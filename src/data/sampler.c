#include "data/sampler.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/philox.h"

/* Eight rounds: even, so that the halves have their widths again at the end, and enough that small domains mix. */
enum { FEISTEL_ROUNDS = 8 };

status sampler_init(sampler *s, const token_store *store, int64_t T, uint64_t seed) {
  REQUIRE(T >= 1, "a window of %" PRId64 " tokens was asked for; it needs at least 1", T);
  int64_t windows = (store->tokens - 1) / T;
  if (windows < 1) {
    USER_ERROR("%s holds %" PRId64 " tokens, less than one window of data.seq_len + 1 = %" PRId64
               " tokens; use a larger store or a smaller data.seq_len",
               store->path, store->tokens, T + 1);
  }
  *s = (sampler){.store = store, .T = T, .windows = windows, .seed = seed};
  return STATUS_OK;
}

static int bits_of(uint64_t n) {
  int bits = 2;
  while (bits < 63 && ((uint64_t)1 << bits) < n) {
    bits++;
  }
  return bits;
}

/* One pass through the network on `bits` bits. The halves differ by at most one bit, so the domain is less than twice
 * the number of windows (for four windows and more) and the walk is short.
 */
static uint64_t feistel(uint64_t seed, uint64_t epoch, int bits, uint64_t x) {
  int left_bits = bits / 2, right_bits = bits - left_bits;
  uint64_t left = x >> right_bits;
  uint64_t right = x & (((uint64_t)1 << right_bits) - 1);
  for (uint32_t round = 0; round < FEISTEL_ROUNDS; round++) {
    philox_block r = philox(seed, PHILOX_DATA, (uint32_t)right, round, (uint32_t)epoch, (uint32_t)(epoch >> 32));
    uint64_t mixed = left ^ (r.x[0] & (((uint64_t)1 << left_bits) - 1));
    left = right;
    right = mixed;
    int swap = left_bits;
    left_bits = right_bits;
    right_bits = swap;
  }
  return left << right_bits | right;
}

int64_t sampler_window(const sampler *s, int64_t sequence) {
  uint64_t windows = (uint64_t)s->windows;
  uint64_t epoch = (uint64_t)sequence / windows;
  uint64_t x = (uint64_t)sequence % windows;
  int bits = bits_of(windows);
  do {
    x = feistel(s->seed, epoch, bits, x);
  } while (x >= windows);
  return (int64_t)x;
}

status host_batch_init(host_batch *b, int64_t B, int64_t T) {
  *b = (host_batch){.B = B, .T = T};
  REQUIRE(B >= 1 && T >= 1 && T < INT32_MAX && B <= INT32_MAX / T,
          "a micro-batch of %" PRId64 " × %" PRId64 " tokens is not possible; rows are numbered with 31 bits", B, T);
  size_t rows = (size_t)(B * T);
  status s = memory_new(&b->tokens, rows, sizeof(int32_t), "tokens of a micro-batch");
  if (s == STATUS_OK) {
    s = memory_new(&b->labels, rows, sizeof(int32_t), "labels of a micro-batch");
  }
  if (s == STATUS_OK) {
    s = memory_new(&b->order, rows, sizeof(int32_t), "row order of a micro-batch");
  }
  if (s == STATUS_OK) {
    s = memory_new(&b->window, (size_t)T + 1, sizeof(int32_t), "a window");
  }
  if (s == STATUS_OK) {
    s = memory_new(&b->scratch, rows, sizeof(int32_t), "scratch of a micro-batch");
  }
  if (s != STATUS_OK) {
    host_batch_free(b);
  }
  return s;
}

void host_batch_free(host_batch *b) {
  free(b->tokens);
  free(b->labels);
  free(b->order);
  free(b->window);
  free(b->scratch);
  *b = (host_batch){0};
}

/* Stable radix sort of the row numbers by token, 11 bits a pass, as many passes as the largest token needs. */
void host_batch_sort(host_batch *b) {
  enum { DIGIT = 11, BUCKETS = 1 << DIGIT };
  int64_t rows = b->B * b->T;
  uint32_t largest = 0;
  for (int64_t i = 0; i < rows; i++) {
    b->order[i] = (int32_t)i;
    largest = (uint32_t)b->tokens[i] > largest ? (uint32_t)b->tokens[i] : largest;
  }
  int32_t *from = b->order, *to = b->scratch;
  for (int shift = 0; shift < 32 && largest >> shift != 0; shift += DIGIT) {
    int32_t start[BUCKETS] = {0};
    for (int64_t i = 0; i < rows; i++) {
      start[((uint32_t)b->tokens[i] >> shift) & (BUCKETS - 1)]++;
    }
    int32_t sum = 0;
    for (int k = 0; k < BUCKETS; k++) {
      int32_t count = start[k];
      start[k] = sum;
      sum += count;
    }
    for (int64_t i = 0; i < rows; i++) {
      int32_t row = from[i];
      to[start[((uint32_t)b->tokens[row] >> shift) & (BUCKETS - 1)]++] = row;
    }
    int32_t *swap = from;
    from = to;
    to = swap;
  }
  if (from != b->order) {
    memcpy(b->order, from, (size_t)rows * sizeof *from);
  }
}

/* Row `row` of the batch from the tokens first … first + count of the store: `count` pairs of token and label. */
static status load_row(const token_store *store, int64_t first, int64_t count, int64_t row, host_batch *b) {
  int32_t *tokens = b->tokens + row * b->T;
  int32_t *labels = b->labels + row * b->T;
  if (count > 0) {
    TRY(token_store_read(store, first, count + 1, b->window));
    memcpy(tokens, b->window, (size_t)count * sizeof *tokens);
    memcpy(labels, b->window + 1, (size_t)count * sizeof *labels);
  }
  for (int64_t t = count; t < b->T; t++) {
    tokens[t] = 0;
    labels[t] = -1;
  }
  return STATUS_OK;
}

status sampler_load(const sampler *s, int64_t first, host_batch *b) {
  REQUIRE(b->T == s->T, "the micro-batch has %" PRId64 " tokens a row, the sampler %" PRId64, b->T, s->T);
  REQUIRE(first >= 0, "sequence %" PRId64 " is negative", first);
  for (int64_t row = 0; row < b->B; row++) {
    TRY(load_row(s->store, sampler_window(s, first + row) * s->T, s->T, row, b));
  }
  host_batch_sort(b);
  return STATUS_OK;
}

static status load_windows(const void *context, int64_t first, host_batch *b) {
  return sampler_load(context, first, b);
}

batch_source sampler_source(const sampler *s) {
  return (batch_source){load_windows, s};
}

int64_t eval_windows(const token_store *store, int64_t T) {
  return store->tokens < 2 ? 0 : (store->tokens - 2) / T + 1;
}

status eval_load(const token_store *store, int64_t first, host_batch *b) {
  REQUIRE(first >= 0, "window %" PRId64 " is negative", first);
  int64_t windows = eval_windows(store, b->T);
  for (int64_t row = 0; row < b->B; row++) {
    int64_t window = first + row, count = 0;
    if (window < windows) {
      int64_t left = store->tokens - 1 - window * b->T;
      count = left < b->T ? left : b->T;
    }
    TRY(load_row(store, count > 0 ? window * b->T : 0, count, row, b));
  }
  host_batch_sort(b);
  return STATUS_OK;
}
