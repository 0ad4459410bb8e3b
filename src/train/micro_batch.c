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
