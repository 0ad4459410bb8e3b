/* Fuzz targets: one source file each, with libFuzzer's entry points. Built with Clang's -fsanitize=fuzzer
 * (launch/fuzz.sh) they are guided by coverage; the test suite builds them with standalone.c, which needs no Clang.
 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the process when what must hold does not. */
#define MUST(condition)                            \
  do {                                             \
    if (!(condition)) {                            \
      fuzz_failed(__FILE__, __LINE__, #condition); \
    }                                              \
  } while (0)
_Noreturn void fuzz_failed(const char *file, int line, const char *condition);

/* No message of a failure but one sentence, on one line: `result` is what the call returned. */
void fuzz_told(int result);

/* The process's own folder in memory, removed at exit; and "<folder>/<name>", valid until the fourth next call. */
const char *fuzz_path(const char *name);

/* Writes a file there; returns its path. */
const char *fuzz_write(const char *name, const void *data, size_t size);

/* A whole file; the caller frees. */
uint8_t *fuzz_read(const char *path, size_t *size);

/* Input as a stream of choices: zeros after its end. */
typedef struct {
  const uint8_t *at, *end;
} fuzz_bytes;
uint8_t fuzz_byte(fuzz_bytes *b);
uint64_t fuzz_number(fuzz_bytes *b, int bytes);

#endif
