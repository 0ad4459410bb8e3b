/* Large reads and writes past the page cache: what a checkpoint writes nobody reads again soon, what is verified is to
 * come from the disk, and on a disk of 1 GB/s the way through the cache is two to three times slower. On local disks
 * (ext4, xfs) alone; elsewhere, and for small pieces, it is pread and pwrite. What the cache has already is read from
 * there. */
#ifndef PSANN_BASE_BULK_IO_H
#define PSANN_BASE_BULK_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { BULK_BYTES = 8 << 20 }; /* of one transfer at most: long beside what it costs to start one */

typedef struct {
  int file;   /* the caller's */
  int direct; /* the same file past the page cache; −1: not on this disk */
  void *room; /* in it the bytes lie as such a transfer wants them; NULL: none yet */
} bulk_file;

/* `file` stays the caller's, and is closed by it after bulk_close. `writable`: it may be written to, otherwise only
 * read. */
void bulk_open(bulk_file *b, int file, bool writable);
void bulk_close(bulk_file *b);

/* As pread and pwrite; may move less than they are asked for. Other calls on `file` see what was written, and an fsync
 * of it is enough. */
ssize_t bulk_pread(bulk_file *b, void *data, size_t bytes, off_t at);
ssize_t bulk_pwrite(bulk_file *b, const void *data, size_t bytes, off_t at);

#endif
