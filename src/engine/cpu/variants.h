/* The compiled forms of the operations. A program uses engine_cpu_create, which takes the best one that this processor
 * runs; tests and measurements ask for one by name.
 */
#ifndef PSANN_ENGINE_CPU_VARIANTS_H
#define PSANN_ENGINE_CPU_VARIANTS_H

#include <stdbool.h>

#include "engine/engine.h"

typedef struct {
  const char *name; /* instruction set: "x86-64-v3", "baseline" */
  dtype compute;
  const engine_ops *ops;
  bool (*runs_here)(void);
} engine_variant;

/* All variants of this build, best first within a type; *n is their number. */
const engine_variant *engine_cpu_variants(int *n);

/* The engine with the operations of one variant, which must run here. */
status engine_cpu_create_variant(const engine_variant *variant, int threads, uint64_t seed, engine **out);

#endif
