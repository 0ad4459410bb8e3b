#include "report/append_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"

status append_file_open(append_file *f, const char *path, bool fresh) {
  *f = (append_file){.file = -1};
  TRY(memory_format(&f->path, "%s", path));
  if (fresh && file_exists(path)) {
    USER_ERROR("'%s' is there already, and would be written over; remove it, or choose another run.dir", path);
  }
  TRY(file_open_append(path, &f->file));
  struct stat facts;
  if (fstat(f->file, &facts) != 0) {
    FAIL("cannot read the size of '%s': %s", path, strerror(errno));
  }
  f->size = facts.st_size;
  return STATUS_OK;
}

void append_file_flush(append_file *f) {
  size_t done = 0;
  while (done < f->pending_bytes) {
    ssize_t written = write(f->file, f->pending + done, f->pending_bytes - done);
    if (written < 0 && errno == EINTR) {
      continue;
    }
    if (written <= 0) {
      if (!f->failing) {
        log_warning("'%s' cannot be written: %s; what belongs there is kept in memory and tried again", f->path,
                    strerror(errno));
      }
      f->failing = true;
      if (ftruncate(f->file, f->size) != 0) {
        return; /* a torn record stays; who reads the file knows to drop it */
      }
      return;
    }
    done += (size_t)written;
  }
  f->size += (off_t)done;
  f->pending_bytes = 0;
  f->failing = false;
}

void append_file_add(append_file *f, const void *record, size_t bytes) {
  if (memory_grow(&f->pending, &f->capacity, f->pending_bytes + bytes, 1, "records of a growing file") == STATUS_OK) {
    memcpy(f->pending + f->pending_bytes, record, bytes);
    f->pending_bytes += bytes;
  }
}

void append_file_add_line(append_file *f, const char *line) {
  size_t before = f->pending_bytes, length = strlen(line);
  append_file_add(f, line, length + 1);
  if (f->pending_bytes > before) {
    f->pending[before + length] = '\n';
  }
}

void append_file_sync(const append_file *f) {
  fsync(f->file);
}

void append_file_close(append_file *f) {
  if (f->file >= 0) {
    append_file_flush(f);
    close(f->file);
  }
  free(f->pending);
  free(f->path);
  *f = (append_file){.file = -1};
}
