/* Runs a fuzz target without libFuzzer, for the test suite: all seeds, then mutations of them for some seconds.
 * usage: fuzz_NAME SECONDS SEED-FOLDER        one run
 *        fuzz_NAME FILE                       one input, to repeat a failure
 * Before each input it is kept in the file fuzz_NAME.input of the current folder, which is removed when all went well.
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

__attribute__((weak)) int LLVMFuzzerInitialize(int *argc, char ***argv) {
  return 0;
}

enum { LARGEST = 1 << 16, SEEDS = 256 };

static uint64_t state;

static uint64_t draw(uint64_t below) {
  uint64_t z = (state += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return below == 0 ? 0 : (z ^ (z >> 31)) % below;
}

static uint8_t *seeds[SEEDS];
static size_t seed_bytes[SEEDS], seed_count;

static void read_seeds(const char *folder) {
  DIR *d = opendir(folder);
  for (struct dirent *e; d != NULL && seed_count < SEEDS - 1 && (e = readdir(d)) != NULL;) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
    if (e->d_name[0] != '.') {
      seeds[seed_count] = fuzz_read(path, &seed_bytes[seed_count]);
      seed_bytes[seed_count] = seed_bytes[seed_count] < LARGEST ? seed_bytes[seed_count] : LARGEST;
      seed_count++;
    }
  }
  if (d != NULL) {
    closedir(d);
  }
  seeds[seed_count] = calloc(1, 1); /* the empty input is always among them */
  seed_bytes[seed_count++] = 0;
}

/* A seed with a few changes: bits, bytes, runs removed, repeated, or taken from another seed. */
static size_t mutate(uint8_t *to) {
  size_t from = draw(seed_count), bytes = seed_bytes[from];
  memcpy(to, seeds[from], bytes);
  for (uint64_t changes = 1 + draw(6); changes > 0; changes--) {
    size_t at = draw(bytes + 1), run = draw(1 + draw(64));
    size_t other = draw(seed_count);
    if (bytes == 0 || draw(4) == 0) { /* insert */
      run = bytes + run > LARGEST ? LARGEST - bytes : run;
      memmove(to + at + run, to + at, bytes - at);
      for (size_t i = 0; i < run; i++) {
        to[at + i] = seed_bytes[other] > 0 && draw(2) == 0 ? seeds[other][draw(seed_bytes[other])] : (uint8_t)draw(256);
      }
      bytes += run;
    } else if (draw(4) == 0) { /* remove */
      run = run > bytes - at ? bytes - at : run;
      memmove(to + at, to + at + run, bytes - at - run);
      bytes -= run;
    } else if (at < bytes && draw(2) == 0) {
      to[at] ^= (uint8_t)(1u << draw(8));
    } else if (at < bytes) {
      to[at] = (uint8_t)draw(256);
    }
  }
  return bytes;
}

static char kept[512];

static void run(const uint8_t *data, size_t size) {
  FILE *out = fopen(kept, "wb");
  if (out == NULL || fwrite(data, 1, size, out) != size || fclose(out) != 0) {
    perror(kept);
    exit(1);
  }
  LLVMFuzzerTestOneInput(data, size);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(int argc, char **argv) {
  LLVMFuzzerInitialize(&argc, &argv);
  if (argc == 2) {
    size_t size;
    uint8_t *data = fuzz_read(argv[1], &size);
    LLVMFuzzerTestOneInput(data, size);
    free(data);
    return 0;
  }
  if (argc != 3) {
    fprintf(stderr, "usage: %s SECONDS SEED-FOLDER, or %s FILE\n", argv[0], argv[0]);
    return 2;
  }
  const char *given = getenv("TEST_SEED");
  struct timespec t;
  clock_gettime(CLOCK_REALTIME, &t);
  state = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)t.tv_sec * 1000003u + (uint64_t)t.tv_nsec;
  printf("TEST_SEED=%llu\n", (unsigned long long)state);
  snprintf(kept, sizeof kept, "%s.input", program_invocation_short_name);
  read_seeds(argv[2]);
  uint8_t *data = malloc(2 * LARGEST);
  double end = now() + strtod(argv[1], NULL);
  long long runs = 0;
  for (size_t i = 0; i < seed_count; i++, runs++) {
    run(seeds[i], seed_bytes[i]);
  }
  for (; now() < end; runs++) {
    run(data, mutate(data));
  }
  printf("%zu seeds, %lld inputs\n", seed_count, runs);
  free(data);
  for (size_t i = 0; i < seed_count; i++) {
    free(seeds[i]);
  }
  unlink(kept);
  return runs > (long long)seed_count ? 0 : 1;
}
