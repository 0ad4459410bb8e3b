/* The models that are measured: names of configs/bench/, or paths of configs. */
#ifndef PSANN_BENCH_MODELS_H
#define PSANN_BENCH_MODELS_H

#include "bench/measure.h"
#include "config/config.h"

/* What a command line changes in every model's config. */
typedef struct {
  char **overrides; /* section.key=value */
  int n_overrides;
  int64_t micro_batch, seq_len; /* 0: the config's */
  int64_t accumulate;           /* micro-batches of a rank in a step; 0: 1 */
} model_changes;

/* What of a command line's lists one measurement takes; NULL: the config's. */
typedef struct {
  const char *precision, *strategy, *offload;
} bench_choice;

/* "tiny" and so on, in order of size, with NULL at the end: what `all` means. */
extern const char *const bench_models[];

/* The model of machines without a GPU. */
#define BENCH_CPU_MODEL "cpu"

/* Whether `name` names a file rather than one of the bench models: it has a '/' or ends in ".ini". */
bool bench_model_is_path(const char *name);

/* Reads the model's config from its path, or by its name from configs/bench/ of the current folder, of the source tree,
 * or of the installation, and resolves it for that length on that many ranks. A name that is not found, a config
 * without vocabulary or micro-batch, or an override of a key that a measurement does not read: a user error. */
status bench_model_config(const char *name, const bench_choice *choice, const model_changes *changes,
                          const bench_length *l, int ranks, config **out);

#endif
