/* Whole reads and writes at a file offset, whatever the system splits them into. */
#ifndef PSANN_DATA_RAW_IO_H
#define PSANN_DATA_RAW_IO_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Exactly `bytes` bytes at `offset`; a file that ends before is a user error (it was cut short). `path` is for
 * messages. */
status raw_read_at(int file, const char *path, int64_t offset, void *data, size_t bytes);

status raw_write_at(int file, const char *path, int64_t offset, const void *data, size_t bytes);

/* Copies `bytes` bytes between two files. */
status raw_copy(int from, const char *from_path, int64_t from_offset, int to, const char *to_path, int64_t to_offset,
                int64_t bytes);

/* A file without a name in the folder of `path`: it is gone when the descriptor is closed, however the process ends. */
status raw_spool(const char *path, int *file);

#endif
