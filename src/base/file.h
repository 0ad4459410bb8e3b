/* Files: whole reads, atomic writes, folders, locks. Every message names the path and the system's reason. */
#ifndef PSANN_BASE_FILE_H
#define PSANN_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Opens a regular file for reading; the caller closes *handle. A folder, a pipe or a device is a user error, and nothing
 * is waited for. */
status file_open_read(const char *path, int *handle);

/* A new file with the user's umask; what stood at the name is removed first, and nothing that another user puts there in
 * between (a symbolic link, say) is written to. For temporary names. */
status file_create(const char *path, int *handle);

/* Opens for appending, or creates with the user's umask. Through a symbolic link, or to something other than a file,
 * nothing is written: a user error. */
status file_open_append(const char *path, int *handle);

/* Reads a whole file of at most `limit` bytes; *data is freshly allocated and zero-terminated. "/dev/stdin" may be
 * anything, other paths as in file_open_read. */
status file_read(const char *path, size_t limit, char **data, size_t *bytes);

/* Writes to "<path>.tmp", flushes, fsyncs file and folder, renames. What stood at `path` stays whole until the rename.
 */
status file_write_atomic(const char *path, const void *data, size_t bytes);

/* fsyncs `temporary`, renames it to `path`, fsyncs the folder. */
status file_commit(const char *temporary, const char *path);

/* Creates a folder and its parents; an existing folder is fine. */
status file_make_folder(const char *path);

bool file_exists(const char *path);
bool file_is_folder(const char *path);

/* "<folder>/<name>"; the caller frees *out. */
status file_join(char **out, const char *folder, const char *name);

/* Takes an exclusive lock on `path` (created if missing) for the life of the process. When another process holds it: a
 * user error that names the path and the holder's pid and host. *handle is for file_unlock. */
status file_lock(const char *path, int *handle);
void file_unlock(int handle);

/* Free bytes on the file system of `path`. */
status file_free_space(const char *path, uint64_t *bytes);

#endif
