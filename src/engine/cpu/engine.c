/* Life, memory and the choice of a variant. On the CPU every operation has finished when it returns, so streams and
 * events order nothing. */
#include "engine/engine.h"

#include <cblas.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "engine/cpu/cpu_engine.h"
#include "engine/cpu/variants.h"

enum { ALIGNMENT = 256, MOST_THREADS = 1024 };

static size_t aligned(size_t bytes) {
  return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

status scratch_take(scratch *s, int64_t count, size_t size, void *out) {
  size_t bytes = aligned((size_t)count * size);
  if (bytes > s->e->scratch_size - s->used) {
    char need[32], have[32];
    FAIL(
        "an operation needs %s of scratch, but the engine was prepared for %s: the shape is beyond the limits given to "
        "prepare",
        memory_text((double)(s->used + bytes), need), memory_text((double)s->e->scratch_size, have));
  }
  *(void **)out = s->e->scratch + s->used;
  s->used += bytes;
  return STATUS_OK;
}

void cpu_destroy(engine *e) {
  if (!e) {
    return;
  }
  cpu_engine *cpu = cpu_of(e);
  rope_table_free(&cpu->rope);
  sinusoid_table_free(&cpu->sinusoid);
  free(cpu->scratch);
  free(cpu);
}

status cpu_alloc(engine *e, size_t bytes, const char *what, void **out) {
  (void)e;
  size_t size = aligned(bytes > 0 ? bytes : 1);
  *out = size >= bytes ? aligned_alloc(ALIGNMENT, size) : NULL;
  if (!*out) {
    char text[32];
    FAIL("there is no memory for %s (%s)", what, memory_text((double)bytes, text));
  }
  memset(*out, 0, size);
  return STATUS_OK;
}

void cpu_free(engine *e, void *p) {
  (void)e;
  free(p);
}

static size_t larger(size_t a, size_t b) {
  return a > b ? a : b;
}

/* The most that any operation takes at once; every sum below follows the takes of the operation that it names. */
size_t cpu_scratch_bytes(const engine *e, const engine_limits *l) {
  size_t real_size = dtype_size(e->compute);
  size_t threads = (size_t)((const cpu_engine *)e)->threads;
  size_t N = (size_t)(l->B * l->T), D = (size_t)l->D, T = (size_t)l->T, V = (size_t)l->V;
  size_t F = (size_t)(l->M > l->D ? l->M : l->D);
  size_t blocks = (N + ROW_BLOCK - 1) / ROW_BLOCK;
  size_t queries = T < QUERY_BLOCK ? T : QUERY_BLOCK;
  size_t padded = (T + TILE_WIDTH - 1) / TILE_WIDTH * TILE_WIDTH;
  size_t head_size = (size_t)(l->H > 0 ? l->D / l->H : l->D);
  size_t chunk = (size_t)(l->chunk > 0 && l->chunk < l->B * l->T ? l->chunk : l->B * l->T);
  size_t rows = aligned(N * D * real_size);
  /* layer_forward and layer_backward in 8 bits: both operands of a product. */
  size_t widest = (size_t)(3 * l->D > l->M ? 3 * l->D : l->M), shorter = N > D ? N : D;
  size_t operands = e->fp8 ? aligned(N * widest * real_size) + aligned(shorter * widest * real_size) : 0;
  /* mlp_backward: masked gradient, effective parameters, partial sums. */
  size_t mlp = operands + rows + aligned(6 * F * real_size) + aligned(blocks * SUMS_PER_FEATURE * F * real_size);
  /* attention_backward: transposed keys and values, two blocks of scores and a mask for each thread; attention_cached:
   * one block. */
  size_t attention = aligned(threads * (2 * head_size + 2 * queries + 1) * padded * real_size);
  size_t cached = aligned((size_t)QUERY_BLOCK * KEY_BLOCK * real_size);
  /* head_eval: logits of a chunk, losses, hits. */
  size_t head = aligned(chunk * V * real_size) + aligned(N * sizeof(double)) + aligned(N * sizeof(int32_t));
  return larger(larger(mlp, attention), larger(cached, head));
}

static bool fits_int(int64_t n) {
  return n >= 0 && n <= INT_MAX;
}

status cpu_prepare(engine *e, const engine_limits *l) {
  cpu_engine *cpu = cpu_of(e);
  /* OpenBLAS counts in int. */
  REQUIRE(fits_int(l->B * l->T) && fits_int(3 * l->D) && fits_int(l->M) && fits_int(l->Vp),
          "a micro-batch of %lld × %lld positions, width %lld, %lld and vocabulary %lld is beyond what the matrix "
          "library can count",
          (long long)l->B, (long long)l->T, (long long)l->D, (long long)l->M, (long long)l->Vp);
  size_t bytes = cpu_scratch_bytes(e, l);
  if (bytes <= cpu->scratch_size) {
    return STATUS_OK;
  }
  void *fresh;
  TRY(cpu_alloc(e, bytes, "the engine's scratch", &fresh));
  free(cpu->scratch);
  cpu->scratch = fresh;
  cpu->scratch_size = bytes;
  return STATUS_OK;
}

static status check_event(int event) {
  REQUIRE(event >= 0 && event < ENGINE_EVENTS, "event %d is not in [0, %d)", event, ENGINE_EVENTS);
  return STATUS_OK;
}

status cpu_record(engine *e, stream_id s, int event) {
  (void)e, (void)s;
  return check_event(event);
}

status cpu_wait(engine *e, stream_id s, int event) {
  (void)e, (void)s;
  return check_event(event);
}

status cpu_synchronize(engine *e) {
  (void)e;
  return STATUS_OK;
}

status cpu_copy(engine *e, stream_id s, copy_direction d, void *to, const void *from, size_t bytes) {
  (void)e, (void)s, (void)d;
  if (bytes > 0 && to != from) {
    memmove(to, from, bytes);
  }
  return STATUS_OK;
}

status cpu_fill_zero(engine *e, stream_id s, void *p, size_t bytes) {
  (void)e, (void)s;
  if (bytes > 0) {
    memset(p, 0, bytes);
  }
  return STATUS_OK;
}

status cpu_set_loss_scale(engine *e, const loss_scaling *s) {
  cpu_of(e)->scaling = *s;
  return STATUS_OK;
}

status cpu_set_spike_watch(engine *e, const spike_watch *w) {
  cpu_of(e)->spikes = *w;
  return STATUS_OK;
}

status cpu_set_step(engine *e, const step_state *state) {
  cpu_engine *cpu = cpu_of(e);
  cpu->step = *state;
  if (state->loss_scale == 0) {
    cpu->step.loss_scale = cpu->scaling.scale;
  }
  return STATUS_OK;
}

status cpu_get_result(engine *e, step_result *result) {
  *result = cpu_of(e)->result;
  return STATUS_OK;
}

/* "0.3.21" from OpenBLAS's own description of itself. */
static void openblas_version(char *text, size_t size) {
  if (sscanf(openblas_get_config(), "OpenBLAS %31s", text) != 1) {
    snprintf(text, size, "of unknown version");
  }
}

status engine_cpu_create_variant(const engine_variant *variant, int threads, uint64_t seed, engine **out) {
  *out = NULL;
  if (threads < 1 || threads > MOST_THREADS) {
    USER_ERROR("cpu.threads is %d; give a number from 1 to %d", threads, MOST_THREADS);
  }
  cpu_engine *cpu;
  TRY(memory_new(&cpu, 1, sizeof *cpu, "the CPU engine"));
  cpu->threads = threads;
  cpu->step = (step_state){.step = 1, .loss_scale = 1, .micro_batches = 1};
  cpu->scaling = (loss_scaling){.scale = 1};
  cpu->base.ops = variant->ops;
  cpu->base.compute = cpu->base.state = variant->compute;
  cpu->base.seed = seed;
  cpu->base.host_memory = true;
  cpu->base.chunk_logits = 1 << 23;
  openblas_set_num_threads(threads);
  char version[32];
  openblas_version(version, sizeof version);
  snprintf(cpu->base.description, sizeof cpu->base.description, "CPU %s, %s, OpenBLAS %s %s, %d %s",
           variant->compute == DTYPE_F64 ? "fp64" : "fp32", variant->name, version, openblas_get_corename(), threads,
           threads == 1 ? "thread" : "threads");
  *out = &cpu->base;
  return STATUS_OK;
}

status engine_cpu_create(dtype compute, int threads, uint64_t seed, engine **out) {
  int n;
  const engine_variant *variants = engine_cpu_variants(&n);
  for (int i = 0; i < n; i++) {
    if (variants[i].compute == compute && variants[i].runs_here()) {
      return engine_cpu_create_variant(&variants[i], threads, seed, out);
    }
  }
  FAIL("this build has no CPU operations in %s for this processor", compute == DTYPE_F64 ? "fp64" : "fp32");
}
