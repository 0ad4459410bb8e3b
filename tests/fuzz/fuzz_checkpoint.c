/* Checkpoints that are sound HDF5 files: edits to one, then everything that readers do with a checkpoint. */
#include <stdlib.h>
#include <string.h>

#include "../ckpt/fixture.h"
#include "base/log.h"
#include "base/wall.h"
#include "fuzz.h"
#include "hdf_edits.h"

static uint8_t *template;
static size_t template_bytes;
static fixture *made;
static char first_tensor[300];

int LLVMFuzzerInitialize(int *argc, char ***argv) {
  wall_lower(true); /* the wall has a target of its own */
  log_set_rank(1, 2, "");
  made = fixture_new(7, 1);
  char *folder = strdup(fuzz_path("checkpoints")), *path = fixture_path(folder, 3);
  MUST(fixture_save(made, folder, 3) == STATUS_OK);
  template = fuzz_read(path, &template_bytes);
  fixture_remove(folder);
  snprintf(first_tensor, sizeof first_tensor, "model/%s", made->m->units[0].tensors[0].name);
  free(path);
  free(folder);
  return 0;
}

static void use(const char *path) {
  checkpoint *k;
  bool same;
  status s = checkpoint_open(path, true, &k);
  fuzz_told(s);
  if (s != STATUS_OK) {
    return;
  }
  fuzz_told(checkpoint_verify(k));
  fuzz_told(checkpoint_describe(k));
  fuzz_told(checkpoint_compatible(k, made->c, NULL));
  s = checkpoint_load(k, made->m, &made->w, true, &made->d);
  fuzz_told(s);
  checkpoint_close(k);
  fuzz_told(checkpoint_diff(path, path, &same));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  const char *places[] = {"/@format",
                          "/@format_version",
                          "/@digest",
                          "/@digest_model",
                          "/@digest_state",
                          "/@digest_tokenizer",
                          "/state@step",
                          "/state@updates",
                          "/state@tokens",
                          "/state@loss_scale",
                          "/state@good_steps",
                          "/state@train_digest",
                          "/config@ini",
                          "/config@identity",
                          "/tokenizer@name",
                          "/tokenizer@vocab_size",
                          "/tokenizer@end_of_text",
                          "/launch@ranks",
                          "/launch@saved",
                          "tokenizer/model",
                          "model",
                          "optim",
                          "optim/m",
                          "optim/v",
                          "state",
                          "config",
                          "launch",
                          "model/another",
                          first_tensor};
  fuzz_bytes b = {data, data + size};
  const char *path = fuzz_write("step_00000003.h5", template, template_bytes);
  hdf_edit(path, places, sizeof places / sizeof places[0], &b);
  use(path);
  return 0;
}
