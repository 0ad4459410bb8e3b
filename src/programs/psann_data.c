/* Makes, imports and shows token stores. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "data/commands.h"
#include "report/version.h"

static const char usage[] =
    "usage: psann_data COMMAND [options]\n"
    "\n"
    "  build     text files, JSON lines and folders of them -> token stores for training and validation\n"
    "  import    llm.c .bin or raw uint16 token shards -> token store\n"
    "  info      what a token store holds; --verify checks all of it\n"
    "  decode    the text of a part of a token store\n"
    "\n"
    "  psann_data COMMAND --help    options of a command\n"
    "  psann_data --version         what this build is\n";

static const struct {
  const char *name;
  status (*run)(int argc, char *const *argv);
} commands[] = {
    {"build", command_build}, {"import", command_import}, {"info", command_info}, {"decode", command_decode}};

static status run(int argc, char *const *argv) {
  const char *name = argc < 2 ? "" : argv[1];
  if (strcmp(name, "--help") == 0 || strcmp(name, "help") == 0) {
    fputs(usage, stdout);
    return STATUS_OK;
  }
  if (strcmp(name, "--version") == 0) {
    puts(version_text());
    return STATUS_OK;
  }
  for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
    if (strcmp(name, commands[i].name) == 0) {
      return commands[i].run(argc - 2, argv + 2);
    }
  }
  if (argc < 2) {
    USER_ERROR("no command is given; choose build, import, info or decode (psann_data --help)");
  }
  USER_ERROR("there is no command '%s'; choose build, import, info or decode (psann_data --help)", name);
}

int main(int argc, char **argv) {
  status s = run(argc, argv);
  if (s == STATUS_OK && fflush(stdout) != 0) {
    s = status_set(STATUS_FAILURE, __FILE__, __LINE__, "cannot write to standard output; check where it goes");
  }
  if (s != STATUS_OK) {
    log_error("%s", status_message());
  }
  return s;
}
