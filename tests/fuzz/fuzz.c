#include "fuzz.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/status.h"

_Noreturn void fuzz_failed(const char *file, int line, const char *condition) {
  fprintf(stderr, "%s:%d: %s does not hold; the last message is '%s'\n", file, line, condition, status_message());
  abort();
}

void fuzz_told(int result) {
  if (result != STATUS_OK) {
    MUST(result == STATUS_USER_ERROR || result == STATUS_FAILURE);
    MUST(status_message()[0] != '\0');
  }
}

static char folder[64];

static void remove_folder(void) {
  DIR *d = opendir(folder);
  for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
    unlinkat(dirfd(d), e->d_name, 0);
  }
  if (d != NULL) {
    closedir(d);
  }
  rmdir(folder);
}

const char *fuzz_path(const char *name) {
  static char paths[4][512];
  static int next;
  if (folder[0] == '\0') {
    snprintf(folder, sizeof folder, "%s/psann-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(folder) == NULL) {
      perror(folder);
      exit(1);
    }
    atexit(remove_folder);
  }
  char *path = paths[next++ % 4];
  snprintf(path, sizeof paths[0], "%s/%s", folder, name);
  return path;
}

const char *fuzz_write(const char *name, const void *data, size_t size) {
  const char *path = fuzz_path(name);
  unlink(path); /* another inode: nothing that is remembered of the old file holds */
  int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (file < 0 || write(file, data, size) != (ssize_t)size || close(file) != 0) {
    perror(path);
    exit(1);
  }
  return path;
}

uint8_t *fuzz_read(const char *path, size_t *size) {
  FILE *in = fopen(path, "rb");
  struct stat about;
  if (in == NULL || fstat(fileno(in), &about) != 0) {
    perror(path);
    exit(1);
  }
  *size = (size_t)about.st_size;
  uint8_t *data = malloc(*size + 1);
  if (data == NULL || fread(data, 1, *size, in) != *size) {
    perror(path);
    exit(1);
  }
  fclose(in);
  return data;
}

uint8_t fuzz_byte(fuzz_bytes *b) {
  return b->at < b->end ? *b->at++ : 0;
}

uint64_t fuzz_number(fuzz_bytes *b, int bytes) {
  uint64_t value = 0;
  for (int i = 0; i < bytes; i++) {
    value |= (uint64_t)fuzz_byte(b) << (8 * i);
  }
  return value;
}
