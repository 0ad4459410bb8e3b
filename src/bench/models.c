#include "bench/models.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

const char *const bench_models[] = {"tiny", "small", "124m", "350m", "1b3", "1b5", NULL};

bool bench_model_is_path(const char *name) {
  size_t n = strlen(name);
  return strchr(name, '/') != NULL || (n > 4 && strcmp(name + n - 4, ".ini") == 0);
}

static status find(const char *name, char **path) {
  static const char *const folders[] = {"configs/bench", PSANN_BENCH_SOURCE, PSANN_BENCH_INSTALLED};
  if (bench_model_is_path(name)) {
    return memory_format(path, "%s", name);
  }
  for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
    TRY(memory_format(path, "%s/%s.ini", folders[i], name));
    if (file_exists(*path)) {
      return STATUS_OK;
    }
    free(*path);
    *path = NULL;
  }
  USER_ERROR(
      "there is no bench model '%s': neither configs/bench/%s.ini here nor one that came with the program; choose "
      "tiny, small, 124m, 350m, 1b3, 1b5, 3b, 7b, cpu, all, or give the path of a config (with a '/' or ending in "
      ".ini)",
      name, name);
}

/* Keys that a measurement does not read: an assignment to them is a mistake, while a training config may well hold
 * them. */
static status check_override(const char *assignment) {
  static const char *const unread[] = {"eval.",
                                       "checkpoint.",
                                       "log.",
                                       "run.dir=",
                                       "run.resume=",
                                       "run.max_minutes=",
                                       "data.train=",
                                       "data.val=",
                                       "train.batch_tokens=",
                                       "train.max_steps=",
                                       "train.tokens_target=",
                                       "train.warmup_steps="};
  for (size_t i = 0; i < sizeof unread / sizeof *unread; i++) {
    if (strncmp(assignment, unread[i], strlen(unread[i])) == 0) {
      USER_ERROR(
          "'%s' has no effect on psann_bench, which takes random tokens, writes no run folder, and counts its batch in "
          "micro-batches of a rank (--accumulate); remove it",
          assignment);
    }
  }
  return STATUS_OK;
}

static status set_number(config *c, const char *section, const char *key, int64_t value, const char *option) {
  char text[32];
  snprintf(text, sizeof text, "%" PRId64, value);
  return value > 0 ? config_set(c, section, key, text, option) : STATUS_OK;
}

/* A word of a list of the command line, or nothing. */
static status set_choice(config *c, const char *section, const char *key, const char *word, const char *option) {
  return word != NULL ? config_set(c, section, key, word, option) : STATUS_OK;
}

static status fill(config *c, const char *name, const bench_choice *choice, const model_changes *changes) {
  char *path = NULL;
  TRY(find(name, &path));
  status s = config_read(c, path);
  free(path);
  TRY(s);
  for (int i = 0; i < changes->n_overrides; i++) {
    TRY(check_override(changes->overrides[i]));
    TRY(config_override(c, changes->overrides[i]));
  }
  TRY(set_number(c, "train", "micro_batch", changes->micro_batch, "--micro-batch"));
  TRY(set_number(c, "data", "seq_len", changes->seq_len, "--seq-len"));
  TRY(set_choice(c, "train", "precision", choice->precision, "--precision"));
  TRY(set_choice(c, "parallel", "strategy", choice->strategy, "--strategy"));
  TRY(set_choice(c, "parallel", "offload", choice->offload, "--offload"));
  if (c->model.vocab_size == 0) {
    USER_ERROR(
        "model '%s' has no model.vocab_size, and there is no token store to take it from; add model.vocab_size=N",
        name);
  }
  if (c->train.micro_batch == 0) {
    USER_ERROR(
        "model '%s' leaves train.micro_batch open, and what is measured must not depend on what is free; add "
        "--micro-batch N",
        name);
  }
  return STATUS_OK;
}

status bench_model_config(const char *name, const bench_choice *choice, const model_changes *changes,
                          const bench_length *l, int ranks, config **out) {
  *out = NULL;
  config *c;
  TRY(config_new(&c));
  status s = fill(c, name, choice, changes);
  if (s == STATUS_OK) {
    s = config_resolve_measured(c, bench_total_steps(l), ranks * (changes->accumulate > 0 ? changes->accumulate : 1));
  }
  if (s != STATUS_OK) {
    config_free(c);
    return s;
  }
  *out = c;
  return STATUS_OK;
}
