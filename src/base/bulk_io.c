#include "base/bulk_io.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

enum {
  BLOCK = 4096,    /* places and sizes past the cache are multiples of it */
  LEAST = 1 << 20, /* bytes that are worth it */
  XFS_MAGIC = 0x58465342,
};

/* By way of /proc it is the same file, wherever its name leads by now. */
void bulk_open(bulk_file *b, int file, bool writable) {
  struct statfs system;
  char name[64];
  *b = (bulk_file){.file = file, .direct = -1};
  if (fstatfs(file, &system) == 0 && (system.f_type == EXT4_SUPER_MAGIC || system.f_type == XFS_MAGIC)) {
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    b->direct = open(name, (writable ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC);
  }
}

static void give_up(bulk_file *b) {
  if (b->direct >= 0) {
    close(b->direct);
  }
  b->direct = -1;
}

void bulk_close(bulk_file *b) {
  give_up(b);
  free(b->room);
  b->room = NULL;
}

/* Whether a piece goes past the cache. */
static bool direct(bulk_file *b, size_t bytes) {
  if (b->direct >= 0 && bytes >= LEAST && b->room == NULL && posix_memalign(&b->room, BLOCK, BULK_BYTES) != 0) {
    b->room = NULL;
    give_up(b);
  }
  return b->direct >= 0 && bytes >= LEAST;
}

ssize_t bulk_pwrite(bulk_file *b, const void *data, size_t bytes, off_t at) {
  size_t before = (size_t)at % BLOCK;
  if (!direct(b, bytes)) {
    return pwrite(b->file, data, bytes, at);
  }
  if (before > 0) { /* up to where a block begins */
    return pwrite(b->file, data, BLOCK - before, at);
  }
  size_t part = bytes < BULK_BYTES ? bytes / BLOCK * BLOCK : BULK_BYTES;
  memcpy(b->room, data, part);
  ssize_t put = pwrite(b->direct, b->room, part, at);
  if (put >= 0 || errno != EINVAL) {
    return put;
  }
  give_up(b); /* this disk has larger blocks */
  return pwrite(b->file, data, bytes, at);
}

/* Whether all of these blocks are in the page cache. (A read that is told not to wait would tell as well, but it has
 * the kernel read ahead.) */
static bool cached(int file, off_t start, size_t blocks) {
  unsigned char in_memory[BULK_BYTES / BLOCK];
  void *view = mmap(NULL, blocks * BLOCK, PROT_READ, MAP_SHARED, file, start);
  bool all = view != MAP_FAILED && sysconf(_SC_PAGESIZE) == BLOCK && mincore(view, blocks * BLOCK, in_memory) == 0;
  for (size_t i = 0; all && i < blocks; i++) {
    all = (in_memory[i] & 1) != 0;
  }
  if (view != MAP_FAILED) {
    munmap(view, blocks * BLOCK);
  }
  return all;
}

ssize_t bulk_pread(bulk_file *b, void *data, size_t bytes, off_t at) {
  if (!direct(b, bytes)) {
    return pread(b->file, data, bytes, at);
  }
  size_t before = (size_t)at % BLOCK, blocks = (before + bytes + BLOCK - 1) / BLOCK;
  blocks = blocks < BULK_BYTES / BLOCK ? blocks : BULK_BYTES / BLOCK;
  if (cached(b->file, at - (off_t)before, blocks)) {
    return pread(b->file, data, bytes, at);
  }
  ssize_t got = pread(b->direct, b->room, blocks * BLOCK, at - (off_t)before);
  if (got < 0 && errno == EINVAL) {
    give_up(b);
    return pread(b->file, data, bytes, at);
  }
  if (got <= (ssize_t)before) {
    return got < 0 ? got : 0;
  }
  size_t there = (size_t)got - before;
  there = there < bytes ? there : bytes;
  memcpy(data, (char *)b->room + before, there);
  return (ssize_t)there;
}
