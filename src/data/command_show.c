#include <stdlib.h>

#include "data/commands.h"
#include "data/options.h"
#include "data/show.h"

static status one_store(const option_list *rest) {
  if (rest->count != 1) {
    USER_ERROR("%zu token stores are named; name one", rest->count);
  }
  return STATUS_OK;
}

status command_info(int argc, char *const *argv) {
  static const char usage[] =
      "usage: psann_data info STORE [--verify]\n\nPrints what a token store holds and where it comes from.\n\n";
  bool verify = false, help = false;
  option_list rest = {0};
  option table[] = {
      {"--verify", NULL, OPTION_FLAG, &verify, .help = "read everything and compare it with the digests"},
      {"--help", NULL, OPTION_FLAG, &help, .help = "this text"},
  };
  size_t count = sizeof table / sizeof *table;
  status s = options_read(table, count, argc, argv, &rest);
  if (s == STATUS_OK && help) {
    options_help(usage, table, count);
  } else if (s == STATUS_OK) {
    s = one_store(&rest);
    if (s == STATUS_OK) {
      s = show_info(rest.items[0], verify);
    }
  }
  free(rest.items);
  return s;
}

status command_decode(int argc, char *const *argv) {
  static const char usage[] =
      "usage: psann_data decode STORE [options]\n\n"
      "Prints the text of a range of tokens, or of a document. End of text is shown as a line <|end of text|>.\n\n";
  int64_t first = 0, tokens = 256, document = -1;
  bool help = false;
  option_list rest = {0};
  option table[] = {
      {"--first", "N", OPTION_INTEGER, &first, 0, 9e18, .help = "first token (0)"},
      {"--count", "N", OPTION_INTEGER, &tokens, 1, 9e18, .help = "tokens, as far as there are (256)"},
      {"--document", "N", OPTION_INTEGER, &document, 0, 9e18, .help = "a whole document instead, numbered from 0"},
      {"--help", NULL, OPTION_FLAG, &help, .help = "this text"},
  };
  size_t count = sizeof table / sizeof *table;
  status s = options_read(table, count, argc, argv, &rest);
  if (s == STATUS_OK && help) {
    options_help(usage, table, count);
  } else if (s == STATUS_OK) {
    s = one_store(&rest);
    if (s == STATUS_OK && document >= 0 &&
        (options_given(table, count, "--first") || options_given(table, count, "--count"))) {
      s = status_set(STATUS_USER_ERROR, __FILE__, __LINE__,
                     "--document names a whole document; leave --first and --count away");
    }
    if (s == STATUS_OK) {
      s = show_text(rest.items[0], first, tokens, document);
    }
  }
  free(rest.items);
  return s;
}
