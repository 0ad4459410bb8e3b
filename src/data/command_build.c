#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "data/build.h"
#include "data/commands.h"
#include "data/options.h"

static const char usage[] =
    "usage: psann_data build --train-out FILE [--val-out FILE] [options] INPUT...\n"
    "\n"
    "Makes token stores from text files, JSON lines (.jsonl, .ndjson, .json) and folders of them. Text is UTF-8 and "
    "is\n"
    "kept as it is. A text file is a document unless --split-documents says otherwise; so is each line of JSON. Every\n"
    "document is followed by the tokenizer's end-of-text token. Validation documents are whole documents, drawn by a "
    "hash\n"
    "of their text, or whole files; the tokenizer is made from the training documents alone.\n";

typedef struct {
  build_options build;
  option_list val_inputs, inputs;
  const char *split, *mark;
  int64_t vocab, sample_mib, seed, jobs;
  bool help;
} build_arguments;

enum { COUNT = 26 };

static void make_table(build_arguments *a, option table[COUNT]) {
  build_options *b = &a->build;
  const option rows[COUNT] = {
      {.help = "Outputs"},
      {"--train-out", "FILE", OPTION_TEXT, &b->train_out, .help = "token store of the training documents (required)"},
      {"--val-out", "FILE", OPTION_TEXT, &b->val_out, .help = "token store of the validation documents"},
      {"--force", NULL, OPTION_FLAG, &b->force, .help = "replace stores that exist"},
      {.help = "Validation (with --val-out)"},
      {"--val-input", "PATH", OPTION_LIST, &a->val_inputs,
       .help = "a file or folder whose documents are all for validation, also where\nan INPUT names it; can be given "
               "several times"},
      {"--val-fraction", "X", OPTION_NUMBER, &b->split.fraction, 0.0, 0.9,
       .help = "share of the other documents that is held out (0.02; 0 with --val-input)"},
      {"--seed", "N", OPTION_INTEGER, &a->seed, 0, 9e18, .help = "of that choice, and of the tokenizer's sample (1)"},
      {.help = "Tokenizer"},
      {"--tokenizer", "NAME", OPTION_TEXT, &b->tokenizer, .help = "bytes, chars or sentencepiece (bytes)"},
      {"--tokenizer-model", "FILE", OPTION_TEXT, &b->tokenizer_file,
       .help = "take it from a token store or a SentencePiece .model instead"},
      {"--vocab", "N", OPTION_INTEGER, &a->vocab, SENTENCEPIECE_SMALLEST_VOCAB, 1000000,
       .help = "sentencepiece: tokens in all (8192)"},
      {"--model-type", "T", OPTION_TEXT, &b->training.model_type, .help = "sentencepiece: unigram or bpe (unigram)"},
      {"--coverage", "X", OPTION_NUMBER, &b->training.character_coverage, 0.5, 1.0,
       .help = "sentencepiece: share of the characters with tokens of their own;\nothers are spelt in bytes (0.9999)"},
      {"--sample-mib", "N", OPTION_INTEGER, &a->sample_mib, 1, 4096,
       .help = "sentencepiece: MiB of text to train on, drawn evenly (16);\ntakes about 30 times that in memory"},
      {.help = "Documents"},
      {"--split-documents", "HOW", OPTION_TEXT, &a->split,
       .help = "of text files: none, line, blank-line, or mark (none)"},
      {"--mark", "LINE", OPTION_TEXT, &a->mark, .help = "with mark: the line that separates documents, such as %"},
      {"--text-key", "KEY", OPTION_TEXT, &b->reading.text_key, .help = "of JSON lines: where the text is (text)"},
      {"--skip-bad-lines", NULL, OPTION_FLAG, &b->reading.skip_bad_lines,
       .help = "of JSON lines: count those that can't be used instead of failing"},
      {.help = "Work"},
      {"--jobs", "N", OPTION_INTEGER, &a->jobs, 1, 1024,
       .help = "threads (as many as there are cores); the stores don't depend on it"},
      {"--help", NULL, OPTION_FLAG, &a->help, .help = "this text"},
      {.help =
           "Long documents are encoded in pieces of 1 MiB and more, cut after a newline (without one within a MiB: "
           "before "
           "a\nspace, or between characters). A JSON line may have 256 MiB. NUL and invalid UTF-8 are kept by bytes "
           "and\nsentencepiece, and are unknown to chars."},
      {.help = "Memory stays bounded: it doesn't grow with the input."},
      {.help = "Exit code: 0 done, 1 failure (disk, memory), 2 something given is wrong."},
  };
  memcpy(table, rows, sizeof rows);
}

static status read_split(const build_arguments *a, input_options *reading) {
  static const char *const names[] = {
      [SPLIT_NONE] = "none", [SPLIT_LINE] = "line", [SPLIT_BLANK_LINE] = "blank-line", [SPLIT_MARK] = "mark"};
  bool found = false;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (strcmp(a->split, names[i]) == 0) {
      reading->split = (document_split)i;
      found = true;
    }
  }
  if (!found) {
    USER_ERROR("--split-documents is '%s'; choose none, line, blank-line or mark", a->split);
  }
  if ((reading->split == SPLIT_MARK) != (a->mark != NULL)) {
    USER_ERROR("--mark and --split-documents mark belong together; give both or neither");
  }
  reading->mark = a->mark;
  return STATUS_OK;
}

/* An option that would do nothing is a mistake. */
static status check_use(const build_arguments *a, const option *table) {
  static const char *const of_sentencepiece[] = {"--vocab", "--model-type", "--coverage", "--sample-mib"};
  const build_options *b = &a->build;
  for (size_t i = 0; i < sizeof of_sentencepiece / sizeof *of_sentencepiece; i++) {
    if ((b->tokenizer == NULL || strcmp(b->tokenizer, "sentencepiece") != 0) &&
        options_given(table, COUNT, of_sentencepiece[i])) {
      USER_ERROR("%s is of use with --tokenizer sentencepiece only; leave it away or add that", of_sentencepiece[i]);
    }
  }
  if (b->val_out == NULL && (a->val_inputs.count > 0 || options_given(table, COUNT, "--val-fraction"))) {
    USER_ERROR("validation documents are asked for without a place for them; give --val-out FILE");
  }
  if (strcmp(b->training.model_type, "unigram") != 0 && strcmp(b->training.model_type, "bpe") != 0) {
    USER_ERROR("--model-type is '%s'; choose unigram or bpe", b->training.model_type);
  }
  if (b->val_out != NULL && strcmp(b->val_out, b->train_out) == 0) {
    USER_ERROR("--train-out and --val-out are both '%s'; give two names", b->train_out);
  }
  return STATUS_OK;
}

static status complete(build_arguments *a, option *table) {
  build_options *b = &a->build;
  if (b->train_out == NULL) {
    USER_ERROR("there is no place for the training store; give --train-out FILE");
  }
  if (a->inputs.count == 0) {
    USER_ERROR("no inputs are given; name text files, JSON lines or folders");
  }
  if (b->tokenizer != NULL && b->tokenizer_file != NULL) {
    USER_ERROR("--tokenizer makes a tokenizer and --tokenizer-model takes one; give one of them");
  }
  if (b->tokenizer == NULL && b->tokenizer_file == NULL) {
    b->tokenizer = "bytes";
  }
  TRY(check_use(a, table));
  TRY(read_split(a, &b->reading));
  b->training.vocab_size = a->vocab;
  b->sample_bytes = a->sample_mib << 20;
  b->split.seed = (uint64_t)a->seed;
  b->jobs = (int)a->jobs;
  if (b->val_out == NULL || (a->val_inputs.count > 0 && !options_given(table, COUNT, "--val-fraction"))) {
    b->split.fraction = 0;
  } else if (a->val_inputs.count == 0 && b->split.fraction == 0) {
    USER_ERROR("--val-fraction is 0 and no --val-input is given, so '%s' would be empty; give one of them", b->val_out);
  }
  return STATUS_OK;
}

static status list_inputs(const build_arguments *a, input_list *list) {
  for (size_t i = 0; i < a->inputs.count; i++) {
    TRY(input_list_add(list, a->inputs.items[i], INPUT_ANY));
  }
  for (size_t i = 0; i < a->val_inputs.count; i++) {
    TRY(input_list_add(list, a->val_inputs.items[i], INPUT_VALIDATION));
  }
  return input_list_finish(list);
}

status command_build(int argc, char *const *argv) {
  long cores = sysconf(_SC_NPROCESSORS_ONLN);
  build_arguments a = {.split = "none", .vocab = 8192, .sample_mib = 16, .seed = 1, .jobs = cores > 0 ? cores : 1};
  a.build.split.fraction = 0.02;
  a.build.reading.text_key = "text";
  a.build.training = (sentencepiece_options){.model_type = "unigram", .character_coverage = 0.9999};
  option table[COUNT];
  input_list list = {0};
  make_table(&a, table);
  status s = options_read(table, COUNT, argc, argv, &a.inputs);
  if (s == STATUS_OK && a.help) {
    options_help(usage, table, COUNT);
  } else if (s == STATUS_OK) {
    s = complete(&a, table);
    if (s == STATUS_OK) {
      s = list_inputs(&a, &list);
    }
    if (s == STATUS_OK) {
      s = build_stores(&list, &a.build);
    }
  }
  input_list_free(&list);
  free(a.inputs.items);
  free(a.val_inputs.items);
  return s;
}
