#include "data/raw_io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"

/* Linux moves at most 2 GiB a call. */
enum { LARGEST_CALL = 1 << 30, COPY_BLOCK = 4 << 20 };

status raw_read_at(int file, const char *path, int64_t offset, void *data, size_t bytes) {
  char *at = data;
  while (bytes > 0) {
    ssize_t got = pread(file, at, bytes < LARGEST_CALL ? bytes : LARGEST_CALL, offset);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      FAIL("cannot read '%s' at byte %" PRId64 ": %s; check the disk", path, offset, strerror(errno));
    }
    if (got == 0) {
      USER_ERROR("'%s' is truncated: it ends at byte %" PRId64 ", %zu bytes before it should; copy or make it again",
                 path, offset, bytes);
    }
    at += got;
    offset += got;
    bytes -= (size_t)got;
  }
  return STATUS_OK;
}

status raw_write_at(int file, const char *path, int64_t offset, const void *data, size_t bytes) {
  const char *at = data;
  while (bytes > 0) {
    ssize_t put = pwrite(file, at, bytes < LARGEST_CALL ? bytes : LARGEST_CALL, offset);
    if (put < 0 && errno == EINTR) {
      continue;
    }
    if (put < 0) {
      FAIL("cannot write '%s': %s; free some space or choose another disk, and run again", path, strerror(errno));
    }
    at += put;
    offset += put;
    bytes -= (size_t)put;
  }
  return STATUS_OK;
}

status raw_copy(int from, const char *from_path, int64_t from_offset, int to, const char *to_path, int64_t to_offset,
                int64_t bytes) {
  char *block;
  TRY(memory_new(&block, COPY_BLOCK, 1, "a block to copy"));
  status s = STATUS_OK;
  for (int64_t done = 0; done < bytes && s == STATUS_OK;) {
    size_t now = (size_t)(bytes - done < COPY_BLOCK ? bytes - done : COPY_BLOCK);
    s = raw_read_at(from, from_path, from_offset + done, block, now);
    if (s == STATUS_OK) {
      s = raw_write_at(to, to_path, to_offset + done, block, now);
    }
    done += (int64_t)now;
  }
  free(block);
  return s;
}

status raw_spool(const char *path, int *file) {
  char *template, *folder;
  const char *slash = strrchr(path, '/');
  if (slash == NULL) {
    TRY(memory_format(&folder, "."));
  } else {
    TRY(memory_format(&folder, "%.*s", slash == path ? 1 : (int)(slash - path), path));
  }
  *file = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  int error = errno;
  free(folder);
  if (*file >= 0) {
    return STATUS_OK;
  }
  if (error == EOPNOTSUPP || error == EISDIR || error == EINVAL) { /* file systems without nameless files (NFS, …) */
    TRY(memory_format(&template, "%s.spool.XXXXXX", path));
    *file = mkostemp(template, O_CLOEXEC);
    error = errno;
    if (*file >= 0) {
      unlink(template);
    }
    free(template);
  }
  if (*file >= 0) {
    return STATUS_OK;
  }
  if (error == ENOENT || error == ENOTDIR || error == EACCES || error == EROFS || error == EPERM) {
    USER_ERROR("cannot write in the folder of '%s': %s; choose another path or make the folder first", path,
               strerror(error));
  }
  FAIL("cannot write in the folder of '%s': %s; check the disk", path, strerror(error));
}
