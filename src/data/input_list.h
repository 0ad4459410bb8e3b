/* The files that documents come from: text files, JSON lines, and folders of both. */
#ifndef PSANN_DATA_INPUT_LIST_H
#define PSANN_DATA_INPUT_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/store_write.h"

/* Where a file's documents go: INPUT_ANY is up to the split, or training. */
typedef enum { INPUT_ANY, INPUT_VALIDATION } input_role;

typedef struct {
  store_source source; /* bytes: at first as the folder says; bytes and digest are filled when it has been read */
  input_role role;
  bool json_lines;
  uint64_t device, inode;
} input_file;

typedef struct {
  input_file *files;
  size_t count, capacity;
  int64_t bytes;         /* of all files */
  size_t passed_by;      /* files of folders that are no text */
  char *passed_by_first; /* one of them */
  size_t repeated;       /* files that were named more than once */
} input_list;

/* Adds a file, or, for a folder, all files below it in the order of their names: not those whose name starts with '.',
 * nor those that are binary by their first bytes (counted in passed_by). A file named directly must not be of a binary
 * kind that we know. Names ending in .jsonl, .ndjson or .json are JSON lines.
 */
status input_list_add(input_list *list, const char *path, input_role role);

/* Call once all are added: a file that is listed several times stays once, as validation if it is that anywhere. A list
 * without files is a user error.
 */
status input_list_finish(input_list *list);

void input_list_free(input_list *list);

#endif
