#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "ckpt/checkpoint.h"

/* A key in both configs; the strings of values are released by row_free. */
typedef struct {
  const char *section, *name;
  char *saved, *given;
  config_change change;
} row;

static void row_free(row *r) {
  free(r->saved);
  free(r->given);
  *r = (row){0};
}

static status row_get(const config *saved, const config *given, int i, row *r) {
  *r = (row){0};
  TRY(config_row(saved, i, &r->section, &r->name, &r->saved, &r->change));
  status result = config_row(given, i, &r->section, &r->name, &r->given, &r->change);
  if (result != STATUS_OK) {
    row_free(r);
  }
  return result;
}

static bool row_same(const row *r) {
  return strcmp(r->saved != NULL ? r->saved : "", r->given != NULL ? r->given : "") == 0;
}

/* Puts the key and both values behind *list. */
static status append(char **list, const row *r) {
  char *longer;
  TRY(memory_format(&longer, "%s%s%s.%s (%s there, %s here)", *list != NULL ? *list : "", *list != NULL ? ", " : "",
                    r->section, r->name, r->saved != NULL ? r->saved : "", r->given != NULL ? r->given : ""));
  free(*list);
  *list = longer;
  return STATUS_OK;
}

static status compare_keys(const checkpoint *k, const config *now, char **refused, char **warned) {
  for (int i = 0; i < config_rows(); i++) {
    row r;
    TRY(row_get(k->config, now, i, &r));
    status result = STATUS_OK;
    /* Elsewhere a run's precision tells its arithmetic; fp8 leaves that to the device. */
    bool arithmetic =
        now->train.precision == PRECISION_FP8 && strcmp(r.section, "run") == 0 && strcmp(r.name, "device") == 0;
    if (!row_same(&r) && r.change != CHANGE_FREE) {
      result = append(r.change == CHANGE_REFUSE || arithmetic ? refused : warned, &r);
    }
    row_free(&r);
    TRY(result);
  }
  return STATUS_OK;
}

static status check_tokenizer(const checkpoint *k, const token_store *train) {
  if (strcmp(k->tokenizer, train->tokenizer) != 0 || k->vocab_size != train->vocab_size ||
      k->end_of_text != train->end_of_text) {
    USER_ERROR("checkpoint %s was trained with tokenizer %s (vocabulary %" PRId64
               ", end of text %d), store %s has %s "
               "(vocabulary %" PRId64 ", end of text %d); use a store made with the same tokenizer",
               k->path, k->tokenizer, k->vocab_size, (int)k->end_of_text, train->path, train->tokenizer,
               train->vocab_size, (int)train->end_of_text);
  }
  if (k->tokenizer_bytes != train->tokenizer_bytes ||
      (k->tokenizer_bytes > 0 && memcmp(k->tokenizer_data, train->tokenizer_data, k->tokenizer_bytes) != 0)) {
    USER_ERROR(
        "checkpoint %s was trained with another %s tokenizer than the one in store %s, though of the same size; use a "
        "store made with the same tokenizer",
        k->path, k->tokenizer, train->path);
  }
  return STATUS_OK;
}

status checkpoint_compatible(const checkpoint *k, const config *now, const token_store *train) {
  char *refused = NULL, *warned = NULL;
  status result = compare_keys(k, now, &refused, &warned);
  if (result == STATUS_OK && refused != NULL) {
    result = status_set(
        STATUS_USER_ERROR, __FILE__, __LINE__,
        "the run can't be continued from checkpoint %s with other values of %s; set them back, or set run.dir to "
        "a new folder to start another run",
        k->path, refused);
  }
  if (result == STATUS_OK && train != NULL) {
    result = check_tokenizer(k, train);
  }
  if (result == STATUS_OK && warned != NULL) {
    log_warning("the run goes on from checkpoint %s with other values of %s", k->path, warned);
  }
  if (result == STATUS_OK && train != NULL && strcmp(k->state.train_digest, train->digest) != 0) {
    log_warning(
        "the training data of checkpoint %s (digest %s) are not those of %s (digest %s): the run goes on with "
        "sequence %" PRId64 " of the new ones",
        k->path, k->state.train_digest, train->path, train->digest, k->state.sequences);
  }
  free(refused);
  free(warned);
  return result;
}
