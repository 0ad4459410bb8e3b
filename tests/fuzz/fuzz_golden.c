/* Parity cases that are sound HDF5 files: edits to one, then the reader of cases. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/wall.h"
#include "check/golden_case.h"
#include "check/probe_golden.h"
#include "fuzz.h"
#include "hdf_edits.h"

static uint8_t *template;
static size_t template_bytes;

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  wall_lower(true); /* the wall has a target of its own */
  log_set_rank(1, 2, "");
  template = fuzz_read(FUZZ_GOLDEN, &template_bytes);
  return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const char *const places[] = {"/@base",
                                       "/@vocab_size",
                                       "/@d_model",
                                       "/@n_layers",
                                       "/@n_heads",
                                       "/@d_mlp",
                                       "/@total_steps",
                                       "/@lr",
                                       "/@warmup_steps",
                                       "/@grad_accum_steps",
                                       "/@sine_trainable",
                                       "/@positional_encoding",
                                       "/@a_new_one",
                                       "input_ids",
                                       "labels",
                                       "logits",
                                       "loss",
                                       "params",
                                       "grads",
                                       "params/lm_head.weight",
                                       "train/loss",
                                       "train"};
  fuzz_bytes b = {data, data + size};
  const char *path = fuzz_write("case.h5", template, template_bytes);
  hdf_edit(path, places, sizeof places / sizeof places[0], &b);
  fuzz_told(probe_golden(path));
  golden_file *f;
  golden_case k = {0};
  status s = golden_file_open(path, &f);
  fuzz_told(s);
  if (s != STATUS_OK) {
    return 0;
  }
  s = golden_case_read(f, &k);
  fuzz_told(s);
  if (s == STATUS_OK && k.offered) {
    for (int u = 0; u < k.m->n_units && s == STATUS_OK; u++) {
      double *values = calloc((size_t)k.m->units[u].count, sizeof *values);
      s = values == NULL ? STATUS_FAILURE : golden_case_unit(f, &k, "params", u, false, values, NULL);
      fuzz_told(s);
      free(values);
    }
    fuzz_told(golden_case_no_others(f, &k, "params"));
  }
  golden_case_free(&k);
  golden_file_close(f);
  return 0;
}
