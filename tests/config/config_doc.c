/* Compares a file with what config_markdown prints; with --write, writes it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "config/config.h"

static int compare(const char *path, const char *text, size_t bytes) {
  char *old = NULL;
  size_t old_bytes = 0;
  if (file_read(path, (size_t)1 << 20, &old, &old_bytes) != STATUS_OK) {
    fprintf(stderr, "%s\n", status_message());
    return 1;
  }
  int differs = old_bytes != bytes || memcmp(old, text, bytes) != 0;
  if (differs) {
    fprintf(stderr, "'%s' is not what the table of keys prints; write it again with: ninja config_md\n", path);
  }
  free(old);
  return differs;
}

int main(int argc, char **argv) {
  int write = argc == 3 && strcmp(argv[1], "--write") == 0;
  if (argc != 2 && !write) {
    fprintf(stderr, "usage: config_doc [--write] docs/config.md\n");
    return 2;
  }
  char *text = NULL;
  size_t bytes = 0;
  FILE *out = open_memstream(&text, &bytes);
  if (out == NULL) {
    return 1;
  }
  config_markdown(out);
  fclose(out);
  int result;
  if (write) {
    result = file_write_atomic(argv[2], text, bytes);
    if (result != STATUS_OK) {
      fprintf(stderr, "%s\n", status_message());
    }
  } else {
    result = compare(argv[1], text, bytes);
  }
  free(text);
  return result;
}
