/* psann_train's own run, but the data of some steps are noise: what a damaged part of a token store does to a run, at a
 * place that a test can choose.
 *
 *   noisy_run FIRST LAST CONFIG [section.key=value …]    noise in sequences FIRST … LAST − 1 of the job
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/philox.h"
#include "train/loop.h"
#include "train/setup.h"
#include "watch/stop.h"
#include "watch/watchdog.h"

static struct {
  int64_t first, last;
  batch_source clean;
  int32_t vocabulary;
} noise;

static status load(const void *context, int64_t first, host_batch *b) {
  TRY(noise.clean.load(context, first, b));
  for (int64_t row = 0; row < b->B; row++) {
    int64_t sequence = first + row;
    for (int64_t t = 0; sequence >= noise.first && sequence < noise.last && t < b->T; t++) {
      philox_block r = philox(1, PHILOX_DATA, (uint32_t)sequence, (uint32_t)t, 0, 0);
      b->tokens[row * b->T + t] = (int32_t)(r.x[0] % (uint32_t)noise.vocabulary);
      b->labels[row * b->T + t] = (int32_t)(r.x[1] % (uint32_t)noise.vocabulary);
    }
  }
  host_batch_sort(b);
  return STATUS_OK;
}

static status run(training *t, const train_request *r, const dist *d) {
  TRY(training_open(t, r, d));
  noise.clean = t->batches;
  noise.vocabulary = (int32_t)t->train_store->vocab_size;
  t->batches = (batch_source){load, t->batches.context};
  TRY(stop_install(false));
  TRY(training_start(t));
  return train_loop(t, clock_seconds());
}

int main(int argc, char **argv) {
  dist d;
  training t = {.lock = -1};
  status s = dist_start(&argc, &argv, &d);
  if (s == STATUS_OK && argc < 4) {
    s = status_set(STATUS_USER_ERROR, __FILE__, __LINE__, "usage: noisy_run FIRST LAST CONFIG [section.key=value …]");
  }
  if (s == STATUS_OK) {
    noise.first = atoll(argv[1]);
    noise.last = atoll(argv[2]);
    const train_request r = {
        .config = argv[3], .overrides = argv + 4, .n_overrides = argc - 4, .argc = argc, .argv = argv};
    s = run(&t, &r, &d);
  }
  watch_ending();
  dist_end(&d, s);
  watch_stop();
  training_close(&t);
  return s;
}
