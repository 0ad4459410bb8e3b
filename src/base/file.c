#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/memory.h"

/* Whether the user can mend it by giving another path. */
static status code_of(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case EACCES:
    case EPERM:
    case EROFS:
    case ENAMETOOLONG:
    case ELOOP:
    case EEXIST:
      return STATUS_USER_ERROR;
    default:
      return STATUS_FAILURE;
  }
}

static const char *advice(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
    case EISDIR:
    case EEXIST:
    case ENAMETOOLONG:
    case ELOOP:
      return "check the path";
    case EACCES:
    case EPERM:
    case EROFS:
      return "check its permissions or choose another place";
    case ENOSPC:
    case EDQUOT:
      return "free some space and run again";
    case EMFILE:
    case ENFILE:
      return "raise the limit on open files (ulimit -n)";
    default:
      return "check the disk";
  }
}

/* Use directly after the call that failed: reads errno. */
#define PATH_ERROR(doing, path)                                                                        \
  do {                                                                                                 \
    int path_error_ = errno;                                                                           \
    return status_set(code_of(path_error_), __FILE__, __LINE__, "cannot %s '%s': %s; %s", doing, path, \
                      strerror(path_error_), advice(path_error_));                                     \
  } while (0)

static const char *kind_of(mode_t mode) {
  return S_ISFIFO(mode) ? "a pipe" : S_ISSOCK(mode) ? "a socket" : "a device";
}

/* O_NONBLOCK: a pipe without a writer is told, not waited for; regular files know no such flag. */
status file_open_read(const char *path, int *handle) {
  struct stat about;
  *handle = -1;
  int opened = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (opened < 0) {
    PATH_ERROR("open", path);
  }
  if (fstat(opened, &about) != 0) {
    int error = errno;
    close(opened);
    errno = error;
    PATH_ERROR("open", path);
  }
  if (S_ISDIR(about.st_mode)) {
    close(opened);
    errno = EISDIR;
    PATH_ERROR("read", path);
  }
  if (!S_ISREG(about.st_mode)) {
    close(opened);
    USER_ERROR("'%s' is %s, not a file; give the path of a file", path, kind_of(about.st_mode));
  }
  *handle = opened;
  return STATUS_OK;
}

status file_create(const char *path, int *handle) {
  unlink(path);
  *handle = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (*handle < 0) {
    PATH_ERROR("create", path);
  }
  return STATUS_OK;
}

status file_open_append(const char *path, int *handle) {
  struct stat about;
  *handle = -1;
  int opened = open(path, O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666);
  if (opened < 0 && errno == ELOOP) {
    USER_ERROR("'%s' is a symbolic link, and writing through it could change a file elsewhere; remove it", path);
  }
  if (opened < 0 && errno == ENXIO) {
    USER_ERROR("'%s' is no file; remove it", path);
  }
  if (opened < 0) {
    PATH_ERROR("write", path);
  }
  if (fstat(opened, &about) != 0 || !S_ISREG(about.st_mode)) {
    close(opened);
    USER_ERROR("'%s' is no file; remove it", path);
  }
  *handle = opened;
  return STATUS_OK;
}

static status read_all(int handle, const char *path, size_t limit, char **data, size_t *bytes) {
  struct stat about;
  if (fstat(handle, &about) != 0) {
    PATH_ERROR("read", path);
  }
  if (S_ISDIR(about.st_mode)) { /* standard input */
    errno = EISDIR;
    PATH_ERROR("read", path);
  }
  char *buffer = NULL;
  size_t capacity = 0;
  size_t used = 0;
  size_t expected = about.st_size > 0 ? (size_t)about.st_size : 0;
  status result = STATUS_OK;
  for (;;) {
    if (used > limit || expected > limit) {
      free(buffer);
      char text[32];
      USER_ERROR("'%s' is larger than the %s that such a file may have; check that it is the right file", path,
                 memory_text((double)limit, text));
    }
    size_t wanted = (used < expected ? expected : used) + 2; /* one to see the end, one for the zero */
    result = memory_grow(&buffer, &capacity, wanted, 1, path);
    if (result != STATUS_OK) {
      free(buffer);
      return result;
    }
    ssize_t got = read(handle, buffer + used, capacity - used - 1);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      int error = errno;
      free(buffer);
      errno = error;
      PATH_ERROR("read", path);
    }
    if (got == 0) {
      break;
    }
    used += (size_t)got;
  }
  buffer[used] = '\0';
  *data = buffer;
  *bytes = used;
  return STATUS_OK;
}

status file_read(const char *path, size_t limit, char **data, size_t *bytes) {
  *data = NULL;
  *bytes = 0;
  int handle = -1;
  if (strcmp(path, "/dev/stdin") != 0) {
    TRY(file_open_read(path, &handle));
  } else if ((handle = open(path, O_RDONLY | O_CLOEXEC)) < 0) {
    PATH_ERROR("open", path);
  }
  status result = read_all(handle, path, limit, data, bytes);
  close(handle);
  return result;
}

static status write_all(int handle, const char *path, const char *data, size_t bytes) {
  for (size_t done = 0; done < bytes;) {
    ssize_t put = write(handle, data + done, bytes - done);
    if (put < 0 && errno == EINTR) {
      continue;
    }
    if (put < 0) {
      PATH_ERROR("write", path);
    }
    done += (size_t)put;
  }
  return STATUS_OK;
}

status file_write_atomic(const char *path, const void *data, size_t bytes) {
  char *temporary;
  TRY(memory_format(&temporary, "%s.tmp", path));
  int handle;
  status result = file_create(temporary, &handle);
  if (result != STATUS_OK) {
    free(temporary);
    return result;
  }
  result = write_all(handle, path, data, bytes);
  if (close(handle) != 0 && result == STATUS_OK) {
    result = status_set(code_of(errno), __FILE__, __LINE__, "cannot write '%s': %s; %s", path, strerror(errno),
                        advice(errno));
  }
  if (result == STATUS_OK) {
    result = file_commit(temporary, path);
  }
  if (result != STATUS_OK) {
    unlink(temporary);
  }
  free(temporary);
  return result;
}

static status sync_path(const char *path, int flags) {
  int handle = open(path, O_RDONLY | O_CLOEXEC | flags);
  if (handle < 0) {
    PATH_ERROR("open", path);
  }
  /* EINVAL: a file system that cannot sync a folder; there is nothing more to do there. */
  if (fsync(handle) != 0 && errno != EINVAL) {
    int error = errno;
    close(handle);
    errno = error;
    PATH_ERROR("flush", path);
  }
  close(handle);
  return STATUS_OK;
}

status file_commit(const char *temporary, const char *path) {
  TRY(sync_path(temporary, O_NOFOLLOW));
  if (rename(temporary, path) != 0) {
    int error = errno;
    return status_set(code_of(error), __FILE__, __LINE__, "cannot rename '%s' to '%s': %s; %s", temporary, path,
                      strerror(error), advice(error));
  }
  const char *slash = strrchr(path, '/');
  if (slash == NULL) {
    return sync_path(".", O_DIRECTORY);
  }
  char *folder;
  size_t length = slash == path ? 1 : (size_t)(slash - path);
  TRY(memory_format(&folder, "%.*s", (int)length, path));
  status result = sync_path(folder, O_DIRECTORY);
  free(folder);
  return result;
}

static status make_one_folder(const char *path) {
  if (mkdir(path, 0777) == 0) {
    return STATUS_OK;
  }
  int error = errno;
  if (file_is_folder(path)) {
    return STATUS_OK; /* also where mkdir says EROFS or EACCES of a folder that is there */
  }
  if (error == EEXIST) {
    USER_ERROR("cannot create the folder '%s': a file of that name is there; choose another path", path);
  }
  errno = error;
  PATH_ERROR("create the folder", path);
}

status file_make_folder(const char *path) {
  if (path[0] == '\0') {
    USER_ERROR("cannot create a folder without a name; give a path");
  }
  char *partial;
  TRY(memory_format(&partial, "%s", path));
  status result = STATUS_OK;
  for (char *at = partial + 1; *at != '\0' && result == STATUS_OK; at++) {
    if (*at == '/' && at[-1] != '/') {
      *at = '\0';
      result = make_one_folder(partial);
      *at = '/';
    }
  }
  if (result == STATUS_OK) {
    result = make_one_folder(partial);
  }
  free(partial);
  return result;
}

bool file_exists(const char *path) {
  struct stat about;
  return stat(path, &about) == 0;
}

bool file_is_folder(const char *path) {
  struct stat about;
  return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

status file_join(char **out, const char *folder, const char *name) {
  size_t length = strlen(folder);
  const char *between = length == 0 || folder[length - 1] == '/' ? "" : "/";
  return memory_format(out, "%s%s%s", folder, between, name);
}

/* The lock belongs to the open file, so it ends with the process however that ends, and works on NFS. */
static bool take_lock(int handle) {
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  int result;
  do {
    result = fcntl(handle, F_OFD_SETLK, &whole);
  } while (result != 0 && errno == EINTR);
  return result == 0;
}

static status lock_refused(int handle, const char *path, int error) {
  if (error != EAGAIN && error != EACCES) {
    errno = error;
    PATH_ERROR("lock", path);
  }
  char holder[320] = {0};
  long pid = 0;
  char host[256] = "";
  if (pread(handle, holder, sizeof holder - 1, 0) > 0 && sscanf(holder, "%18ld %255s", &pid, host) == 2) {
    USER_ERROR("'%s' is locked by process %ld on %s; wait for it, stop it, or use another folder", path, pid, host);
  }
  USER_ERROR("'%s' is locked by another process; wait for it, stop it, or use another folder", path);
}

status file_lock(const char *path, int *handle) {
  *handle = -1;
  int opened = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666);
  if (opened < 0) {
    PATH_ERROR("open the lock file", path);
  }
  if (!take_lock(opened)) {
    status result = lock_refused(opened, path, errno);
    close(opened);
    return result;
  }
  /* Who holds it, for the message that the next one sees; the lock stands whether or not this can be written. */
  char host[256] = "";
  char holder[320];
  if (gethostname(host, sizeof host - 1) != 0 || host[0] == '\0') {
    snprintf(host, sizeof host, "this host");
  }
  int length = snprintf(holder, sizeof holder, "%ld %s\n", (long)getpid(), host);
  if (ftruncate(opened, 0) == 0 && pwrite(opened, holder, (size_t)length, 0) != length) {
    (void)!ftruncate(opened, 0);
  }
  *handle = opened;
  return STATUS_OK;
}

void file_unlock(int handle) {
  if (handle >= 0) {
    (void)!ftruncate(handle, 0);
    close(handle);
  }
}

status file_free_space(const char *path, uint64_t *bytes) {
  struct statvfs about;
  *bytes = 0;
  if (statvfs(path, &about) != 0) {
    PATH_ERROR("look at the file system of", path);
  }
  *bytes = (uint64_t)about.f_bavail * (uint64_t)about.f_frsize;
  return STATUS_OK;
}
