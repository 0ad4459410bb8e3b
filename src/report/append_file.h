/* A file that only ever grows by whole records (lines, or whatever its format calls so). */
#ifndef PSANN_REPORT_APPEND_FILE_H
#define PSANN_REPORT_APPEND_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/status.h"

typedef struct {
  char *path;
  int file;      /* −1: not open */
  off_t size;    /* bytes known to be whole records */
  char *pending; /* records not yet written */
  size_t pending_bytes, capacity;
  bool failing;
} append_file;

/* Opens `path`, which is copied, at its end; `fresh`: it must not exist yet. append_file_close frees what a failure
 * leaves. */
status append_file_open(append_file *f, const char *path, bool fresh);

/* Puts a record after what is pending. Dropped when there is no memory for it. */
void append_file_add(append_file *f, const void *record, size_t bytes);
void append_file_add_line(append_file *f, const char *line); /* and its end */

/* Writes all that is pending. What cannot be written now (a full disk) is kept and tried again at the next call; a
 * warning says so once, and the file is cut back to its whole records. */
void append_file_flush(append_file *f);

/* What was written is on the disk afterwards. From any thread, while another adds and flushes. */
void append_file_sync(const append_file *f);

/* Flushes and closes. */
void append_file_close(append_file *f);

#endif
