/* The wall: any bytes as a checkpoint, store, tokenizer model or parity case. The first byte says what, the rest is the
 * file. This process lives on whatever the probe does, and gets an answer; what passed is then opened here as well.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/wall.h"
#include "check/golden_file.h"
#include "check/probe_golden.h"
#include "ckpt/checkpoint.h"
#include "ckpt/probe_checkpoint.h"
#include "data/probe_data.h"
#include "fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  setenv("PSANN_PROBE", FUZZ_PROBE, 0);
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static status (*const readers[WALL_KINDS])(const char *path) = {probe_checkpoint, probe_store, probe_tokenizer,
                                                                  probe_golden};
  fuzz_bytes b = {data, data + size};
  wall_kind kind = (wall_kind)(fuzz_byte(&b) % WALL_KINDS);
  const char *path = fuzz_write("from elsewhere.h5", b.at, (size_t)(b.end - b.at));
  double started = clock_seconds();
  status s = wall_check(kind, path);
  fuzz_told(s);
  MUST(clock_seconds() - started < 70);
  if (s == STATUS_OK) {
    wall_lower(true);
    fuzz_told(readers[kind](path));
    wall_lower(false);
  }
  return 0;
}
