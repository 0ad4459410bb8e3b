/* What the operations of the CPU engine share: the engine's own state, its scratch, and the sizes of the fixed blocks
 * that make results independent of the number of threads.
 */
#ifndef PSANN_ENGINE_CPU_CPU_ENGINE_H
#define PSANN_ENGINE_CPU_CPU_ENGINE_H

#include "engine/cpu/positions.h"
#include "engine/engine.h"

enum {
  ROW_BLOCK = 128,   /* rows whose contributions to a sum over rows are added up before they meet other blocks' */
  COLUMN_BLOCK = 64, /* features that one thread owns where work is split by feature */
  QUERY_BLOCK = 48,  /* queries of attention whose scores exist at once: with 1024 keys they fit a second-level cache */
  KEY_BLOCK = 256,   /* cached keys whose scores exist at once */
  TILE_GROUP = 6,    /* rows of a small product computed together: with two vectors each they fill 12 registers */
  TILE_WIDTH = 16,   /* scores are padded to it, so that no tile and no loop over a row has a narrow rest */
  SUMS_PER_FEATURE = 4, /* column sums that one pass makes at most: amplitude, frequency, damping, bias */
};

typedef struct {
  engine base; /* first, so that an engine * is a cpu_engine * */
  int threads;
  step_state step;
  step_result result;
  loss_scaling scaling;
  spike_watch spikes;
  unsigned char *scratch;
  size_t scratch_size;
  rope_table rope;
  sinusoid_table sinusoid;
} cpu_engine;

static inline cpu_engine *cpu_of(engine *e) {
  return (cpu_engine *)e;
}

/* Pieces of the scratch, taken by an operation one after another; all of them are free again when it returns. */
typedef struct {
  cpu_engine *e;
  size_t used;
} scratch;

static inline scratch scratch_open(engine *e) {
  return (scratch){cpu_of(e), 0};
}

/* count · size bytes on a 256-byte boundary, with what they held before. */
status scratch_take(scratch *s, int64_t count, size_t size, void *out);

/* The operations that don't depend on the type: life, memory, streams, copies. */
void cpu_destroy(engine *e);
status cpu_alloc(engine *e, size_t bytes, const char *what, void **out);
void cpu_free(engine *e, void *p);
size_t cpu_scratch_bytes(const engine *e, const engine_limits *limits);
status cpu_prepare(engine *e, const engine_limits *limits);
status cpu_record(engine *e, stream_id s, int event);
status cpu_wait(engine *e, stream_id s, int event);
status cpu_synchronize(engine *e);
status cpu_copy(engine *e, stream_id s, copy_direction d, void *to, const void *from, size_t bytes);
status cpu_fill_zero(engine *e, stream_id s, void *p, size_t bytes);
status cpu_set_loss_scale(engine *e, const loss_scaling *s);
status cpu_set_spike_watch(engine *e, const spike_watch *w);
status cpu_set_step(engine *e, const step_state *state);
status cpu_get_result(engine *e, step_result *result);

#endif
