/* Bytes written and read in pieces of any size and place are those that belong there, whichever way they went; failures
 * are pwrite's.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

#include "base/bulk_io.h"
#include "test_support.h"

enum { SIZE = 40 << 20, PIECES = 60 };

static uint64_t seed;

static size_t below(size_t end) {
  return (size_t)(test_random(&seed) % end);
}

static int new_file(const char *folder) {
  char name[256];
  snprintf(name, sizeof name, "%s/psann_bulk_XXXXXX", folder);
  int file = mkstemp(name);
  if (file >= 0) {
    unlink(name);
  }
  return file;
}

static void write_all(bulk_file *b, const unsigned char *from, size_t bytes, off_t at) {
  while (bytes > 0) {
    ssize_t put = bulk_pwrite(b, from, bytes, at);
    assert_true(put > 0 && (size_t)put <= bytes);
    from += put;
    bytes -= (size_t)put;
    at += put;
  }
}

/* Pieces that overlap, in any order, and reach over the end of the file. */
static void check_folder(const char *folder) {
  int file = new_file(folder);
  if (file < 0) {
    print_message("%s: no files\n", folder);
    return;
  }
  bulk_file b;
  bulk_open(&b, file, true);
  print_message("%s: %s\n", folder, b.direct >= 0 ? "past the page cache" : "by the page cache");
  unsigned char *wanted = calloc(SIZE, 1), *data = malloc(SIZE), *found = malloc(SIZE);
  assert_true(wanted != NULL && data != NULL && found != NULL);
  off_t end = 0;
  for (int i = 0; i < PIECES; i++) {
    size_t bytes = below(i % 3 == 0 ? 5000 : 12 << 20) + 1, skew = below(64);
    size_t at = below(SIZE - bytes) / (i % 2 == 0 ? 4096 : 1) * (i % 2 == 0 ? 4096 : 1);
    bytes = bytes + skew > SIZE ? SIZE - skew : bytes;
    memset(data, i + 1, SIZE);
    for (size_t k = 0; k < bytes; k += 997) {
      data[skew + k] = (unsigned char)below(256);
    }
    write_all(&b, data + skew, bytes, (off_t)at);
    memcpy(wanted + at, data + skew, bytes);
    end = end > (off_t)(at + bytes) ? end : (off_t)(at + bytes);
  }
  assert_int_equal(fsync(file), 0);
  assert_int_equal(lseek(file, 0, SEEK_END), end);
  assert_int_equal(pread(file, found, (size_t)end, 0), end);
  assert_memory_equal(found, wanted, (size_t)end);
  for (int i = 0; i < 2 * PIECES; i++) { /* from the cache, then from the disk */
    size_t at = below((size_t)end), bytes = below((size_t)end - at) + 1;
    if (i >= PIECES) {
      posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
    }
    ssize_t got = bulk_pread(&b, found, bytes, (off_t)at);
    assert_true(got > 0 && (size_t)got <= bytes);
    assert_memory_equal(found, wanted + at, (size_t)got);
  }
  assert_int_equal(bulk_pread(&b, found, 2 << 20, end), 0);
  assert_int_equal(bulk_pread(&b, found, 2 << 20, end - 5), 5);
  bulk_close(&b);
  close(file);
  free(wanted);
  free(data);
  free(found);
}

static void any_pieces(void **state) {
  (void)state;
  seed = test_seed();
  check_folder(".");
  check_folder("/dev/shm");
  check_folder("/tmp");
}

static void failures(void **state) {
  (void)state;
  struct rlimit before;
  char *data = calloc(4, 1 << 20);
  int file = new_file(".");
  bulk_file b;
  assert_true(file >= 0 && data != NULL);
  bulk_open(&b, file, true);
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &(struct rlimit){3 << 20, before.rlim_max}), 0);
  ssize_t put = bulk_pwrite(&b, data, 4 << 20, 0);
  assert_int_equal(put, 3 << 20);
  put = bulk_pwrite(&b, data, 1 << 20, 3 << 20);
  int error = errno;
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  assert_int_equal(put, -1);
  assert_int_equal(error, EFBIG);
  bulk_close(&b);
  close(file);
  free(data);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(any_pieces), cmocka_unit_test(failures)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
