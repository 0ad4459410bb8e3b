#include "ckpt/probe_checkpoint.h"

#include "ckpt/checkpoint.h"
#include "data/tokenizer.h"

status probe_checkpoint(const char *path) {
  checkpoint *k;
  tokenizer *t;
  TRY(checkpoint_open(path, false, &k));
  status result = checkpoint_describe(k);
  /* Training does without the tokenizer; whoever uses it hears what is wrong with it. */
  if (result == STATUS_OK && k->tokenizer_bytes > 0 &&
      tokenizer_create(k->tokenizer, k->tokenizer_data, k->tokenizer_bytes, k->vocab_size, k->end_of_text, &t) ==
          STATUS_OK) {
    tokenizer_free(t);
  }
  checkpoint_close(k);
  return result;
}
