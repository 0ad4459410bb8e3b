#include "train/micro_batch.h"

int64_t micro_batch_auto(int64_t batch_tokens, int64_t seq_len) {
  int64_t sequences = batch_tokens / seq_len;
  int64_t most = MICRO_BATCH_TOKENS / seq_len;
  if (most > sequences / MICRO_BATCH_LEAST) {
    most = sequences / MICRO_BATCH_LEAST;
  }
  for (int64_t s = most; s > 1; s--) {
    if (sequences % s == 0) {
      return s;
    }
  }
  return 1;
}

static bool power_of_two(int64_t n) {
  return (n & (n - 1)) == 0;
}

static int64_t largest(int64_t sequences, int64_t most, bool powers, micro_batch_fits fits, void *context) {
  for (int64_t s = most; s >= 1; s--) {
    if (sequences % s == 0 && (power_of_two(sequences / s) || !powers) && fits(context, s)) {
      return s;
    }
  }
  return 0;
}

int64_t micro_batch_largest(int64_t batch_tokens, int64_t seq_len, micro_batch_fits fits, void *context) {
  int64_t sequences = batch_tokens / seq_len;
  int64_t most = MICRO_BATCH_GPU_TOKENS / seq_len;
  if (most > sequences / MICRO_BATCH_LEAST) {
    most = sequences / MICRO_BATCH_LEAST;
  }
  most = most > 1 ? most : 1;
  int64_t s = largest(sequences, most, true, fits, context);
  return s > 0 ? s : largest(sequences, most, false, fits, context);
}
