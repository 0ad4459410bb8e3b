#include <stdlib.h>
#include <string.h>

#include "data/commands.h"
#include "data/import.h"
#include "data/options.h"

static const char usage[] =
    "usage: psann_data import --out FILE --vocab-size N --end-of-text ID [options] SHARD...\n"
    "       psann_data import --out FILE --tokenizer-model FILE [options] SHARD...\n"
    "\n"
    "Joins token shards into a token store: llm.c's .bin (magic 20240520, version 1), or raw uint16. Without a "
    "tokenizer the\n"
    "store trains and evaluates, but its text can't be shown. For GPT-2's tokens: --vocab-size 50257 --end-of-text "
    "50256.\n\n";

enum { COUNT = 7 };

static status complete(import_options *o, const char *end_of_text) {
  if (o->out == NULL) {
    USER_ERROR("there is no place for the store; give --out FILE");
  }
  if (o->tokenizer_file != NULL) {
    if (o->vocab_size >= 0 || end_of_text != NULL) {
      USER_ERROR("--tokenizer-model tells the vocabulary and end of text; leave --vocab-size and --end-of-text away");
    }
    return STATUS_OK;
  }
  if (o->vocab_size < 0 || end_of_text == NULL) {
    USER_ERROR(
        "the shards' tokenizer is not known; give --vocab-size N and --end-of-text ID (or none), or "
        "--tokenizer-model FILE");
  }
  char *end;
  o->end_of_text = strtol(end_of_text, &end, 10);
  if (strcmp(end_of_text, "none") == 0) {
    o->end_of_text = -1;
  } else if (*end != '\0' || o->end_of_text < 0) {
    USER_ERROR("--end-of-text is '%s'; give a token id, or none", end_of_text);
  }
  return STATUS_OK;
}

status command_import(int argc, char *const *argv) {
  import_options o = {.vocab_size = -1};
  const char *end_of_text = NULL;
  bool help = false;
  option_list shards = {0};
  option table[COUNT] = {
      {"--out", "FILE", OPTION_TEXT, &o.out, .help = "the token store (required)"},
      {"--force", NULL, OPTION_FLAG, &o.force, .help = "replace a store that exists"},
      {"--vocab-size", "N", OPTION_INTEGER, &o.vocab_size, 1, 65536, .help = "tokens of the shards' tokenizer"},
      {"--end-of-text", "ID", OPTION_TEXT, &end_of_text,
       .help = "the token that separates documents; none: there is none"},
      {"--tokenizer-model", "FILE", OPTION_TEXT, &o.tokenizer_file,
       .help = "token store or SentencePiece .model whose tokens these are"},
      {"--raw-u16", NULL, OPTION_FLAG, &o.raw_u16, .help = "shards are uint16, little-endian, without a header"},
      {"--help", NULL, OPTION_FLAG, &help, .help = "this text"},
  };
  status s = options_read(table, COUNT, argc, argv, &shards);
  if (s == STATUS_OK && help) {
    options_help(usage, table, COUNT);
  } else if (s == STATUS_OK) {
    s = complete(&o, end_of_text);
    if (s == STATUS_OK) {
      s = import_shards(shards.items, shards.count, &o);
    }
  }
  free(shards.items);
  return s;
}
