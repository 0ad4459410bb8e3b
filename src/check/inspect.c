#include "check/inspect.h"

#include <inttypes.h>

#include "base/log.h"
#include "base/memory.h"
#include "ckpt/checkpoint.h"
#include "data/token_store.h"

status inspect_checkpoint(const char *path) {
  checkpoint *k;
  TRY(checkpoint_open(path, false, &k));
  status result = checkpoint_verify(k);
  if (result == STATUS_OK) {
    result = checkpoint_describe(k);
  }
  if (result == STATUS_OK) {
    log_line("  whole: every digest was verified");
  }
  checkpoint_close(k);
  return result;
}

static void describe_store(const token_store *s) {
  char text[32];
  log_line("%s", s->path);
  log_line("  %" PRId64 " tokens of %d bytes (%s) in %" PRId64 " documents", s->tokens, s->token_bytes,
           memory_text((double)s->tokens * s->token_bytes, text), s->documents);
  if (s->text_bytes > 0) {
    log_line("  made of %" PRId64 " bytes of text, %.3f a token", s->text_bytes,
             (double)s->text_bytes / (double)s->tokens);
  }
  log_line("  tokenizer %s: vocabulary %" PRId64 ", end of text %d, %zu bytes, digest %s", s->tokenizer, s->vocab_size,
           (int)s->end_of_text, s->tokenizer_bytes, s->tokenizer_digest);
  log_line("  digest %s", s->digest);
}

status inspect_store(const char *path) {
  token_store *s;
  TRY(token_store_open(path, &s));
  status result = token_store_verify(s);
  if (result == STATUS_OK) {
    describe_store(s);
    log_line("  whole: the digest was verified");
  }
  token_store_close(s);
  return result;
}
