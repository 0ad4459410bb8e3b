#include "data/build.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "data/store_write.h"
#include "data/tokenize.h"
#include "data/tokenizer_file.h"
#include "data/tokenizer_train.h"

static status make_tokenizer(input_list *list, const build_options *o, tokenizer **t) {
  if (o->tokenizer == NULL) {
    TRY(tokenizer_from_file(o->tokenizer_file, t));
    if (strcmp(tokenizer_name(*t), "sentencepiece") == 0 && !tokenizer_is_exact(*t)) {
      log_warning("the model of '%s' normalises text or has no byte fallback: decoding will not give every text back",
                  o->tokenizer_file);
    }
    return STATUS_OK;
  }
  if (strcmp(o->tokenizer, "chars") == 0) {
    return tokenizer_train_chars(list, &o->reading, &o->split, t);
  }
  if (strcmp(o->tokenizer, "sentencepiece") == 0) {
    return tokenizer_train_sentencepiece(list, &o->reading, &o->split, &o->training, o->sample_bytes, t);
  }
  if (strcmp(o->tokenizer, "bytes") != 0) {
    USER_ERROR("there is no tokenizer '%s' to make; choose bytes, chars or sentencepiece", o->tokenizer);
  }
  return tokenizer_create("bytes", NULL, 0, TOKENIZER_ANY_VOCAB, 0, t);
}

/* The files that a store's documents come from: for validation, those given as such, when no document was drawn from
 * the others. */
static status commit(store_writer *w, const input_list *list, bool whole_files, input_role role) {
  store_source *sources;
  size_t count = 0;
  TRY(memory_new(&sources, list->count, sizeof *sources, "the list of sources"));
  for (size_t i = 0; i < list->count; i++) {
    if (!whole_files || list->files[i].role == role) {
      sources[count++] = list->files[i].source;
    }
  }
  status s = store_writer_commit(w, sources, count);
  free(sources);
  return s;
}

static void report(const char *what, const char *path, const store_writer *w) {
  char size[32];
  int64_t bytes = store_writer_text_bytes(w), tokens = store_writer_tokens(w);
  log_line("%s %s: %" PRId64 " tokens in %" PRId64 " documents, %s of text, %.2f bytes a token", what, path, tokens,
           store_writer_documents(w), memory_text((double)bytes, size), (double)bytes / (double)tokens);
}

static void report_unknown(const char *what, int64_t unknown, int64_t tokens) {
  if (unknown > 0) {
    log_warning("%" PRId64 " of the %" PRId64 " %s tokens are unknown to the tokenizer; what they stood for is lost",
                unknown, tokens, what);
  }
}

static status check_counts(const build_options *o, const store_writer *train, const store_writer *val) {
  if (store_writer_documents(train) == 0) {
    USER_ERROR("there is no document for '%s'; give inputs that hold text%s", o->train_out,
               val != NULL && store_writer_documents(val) > 0 ? ", or hold out less (--val-fraction)" : "");
  }
  if (val != NULL && store_writer_documents(val) == 0) {
    USER_ERROR("no document was held out for '%s', of %" PRId64
               " there are; give a larger --val-fraction, another --seed, files with --val-input, or smaller documents "
               "with --split-documents",
               o->val_out, store_writer_documents(train));
  }
  return STATUS_OK;
}

static status fill_stores(input_list *list, const build_options *o, tokenizer *t, store_writer *train,
                          store_writer *val) {
  tokenize_counts counts;
  TRY(tokenize(list, &o->reading, &o->split, t, o->jobs, train, val, &counts));
  TRY(check_counts(o, train, val));
  bool whole_files = o->split.fraction == 0;
  TRY(commit(train, list, whole_files, INPUT_ANY));
  if (val != NULL) {
    TRY(commit(val, list, whole_files, INPUT_VALIDATION));
  }
  double megabytes = 0;
  for (size_t i = 0; i < list->count; i++) {
    megabytes += (double)list->files[i].source.bytes / 1e6;
  }
  log_line("tokenizer: %s, %" PRId64 " tokens; %zu files, %.1f MB in %.1f s (%.1f MB/s, %d jobs)", tokenizer_name(t),
           tokenizer_vocab(t), list->count, megabytes, counts.seconds,
           megabytes / (counts.seconds > 1e-3 ? counts.seconds : 1e-3), o->jobs);
  report("train:", o->train_out, train);
  if (val != NULL) {
    report("val:  ", o->val_out, val);
    report_unknown("validation", counts.unknown_val, store_writer_tokens(val));
  }
  report_unknown("training", counts.unknown_train, store_writer_tokens(train));
  if (counts.bad_lines > 0) {
    log_warning("%" PRId64 " JSON lines were not usable and were passed over", counts.bad_lines);
  }
  return STATUS_OK;
}

status build_stores(input_list *list, const build_options *o) {
  tokenizer *t = NULL;
  store_writer *train = NULL, *val = NULL;
  TRY(store_writer_check(o->train_out, o->force));
  if (o->val_out != NULL) {
    TRY(store_writer_check(o->val_out, o->force));
  }
  if (list->repeated > 0) {
    log_line("%zu files were named more than once and are taken once", list->repeated);
  }
  if (list->passed_by > 0) {
    log_warning("%zu files in the folders are not text and were passed over (the first: '%s')", list->passed_by,
                list->passed_by_first);
  }
  status s = make_tokenizer(list, o, &t);
  if (s == STATUS_OK) {
    s = store_writer_open(o->train_out, t, &train);
  }
  if (s == STATUS_OK && o->val_out != NULL) {
    s = store_writer_open(o->val_out, t, &val);
  }
  if (s == STATUS_OK) {
    s = fill_stores(list, o, t, train, val);
  }
  store_writer_close(train);
  store_writer_close(val);
  tokenizer_free(t);
  return s;
}
