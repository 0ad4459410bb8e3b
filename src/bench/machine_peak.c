#include "bench/machine_peak.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/philox.h"
#include "engine/select.h"
#include "train/plans.h"

enum { REPEATS = 3, GPU_SIZE = 8192, CPU_SIZE = 1024, NOISE = 1 << 20 };

typedef struct {
  engine *e;
  int64_t n;         /* of the product */
  size_t copy_bytes; /* of the copy */
  int calls;         /* timed together */
  void *a, *b, *c;
  head_forward_args product;
} work;

/* Fills (elements) of the engine's compute type, fp32 or bf16, with uniform numbers in (−1/2, 1/2) that repeat after
 * NOISE. */
static status fill_noise(engine *e, void *to, int64_t elements, uint64_t seed) {
  size_t size = dtype_size(e->compute);
  unsigned char *noise;
  TRY(memory_new(&noise, NOISE, size, "random numbers"));
  for (int i = 0; i < NOISE; i++) {
    float x = philox_uniform(philox(seed, PHILOX_DATA, (uint32_t)i, 0, 0, 0).x[0]) - 0.5f;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits >>= 8 * (sizeof bits - size); /* bf16 is the upper half of fp32 */
    memcpy(noise + (size_t)i * size, &bits, size);
  }
  status s = STATUS_OK;
  for (int64_t first = 0; first < elements && s == STATUS_OK; first += NOISE) {
    int64_t n = elements - first < NOISE ? elements - first : NOISE;
    s = e->ops->copy(e, STREAM_MAIN, COPY_TO_ENGINE, (char *)to + (size_t)first * size, noise, (size_t)n * size);
  }
  status done = e->ops->synchronize(e);
  free(noise);
  return s != STATUS_OK ? s : done;
}

static status multiply(work *w) {
  return w->e->ops->head_forward(w->e, &w->product);
}

static status copy(work *w) {
  return w->e->ops->copy(w->e, STREAM_MAIN, COPY_INSIDE, w->b, w->a, w->copy_bytes);
}

/* Best mean seconds of a call over a few repeats: the peak is what is asked for. */
static status best_time(work *w, status (*call)(work *), double *seconds) {
  *seconds = 0;
  TRY(call(w));
  for (int repeat = 0; repeat < REPEATS; repeat++) {
    TRY(w->e->ops->synchronize(w->e));
    double start = clock_seconds();
    for (int i = 0; i < w->calls; i++) {
      TRY(call(w));
    }
    TRY(w->e->ops->synchronize(w->e));
    double mean = (clock_seconds() - start) / w->calls;
    *seconds = repeat == 0 || mean < *seconds ? mean : *seconds;
  }
  return STATUS_OK;
}

static status measure(work *w, machine_peak *p) {
  engine *e = w->e;
  size_t matrix = (size_t)(w->n * w->n) * dtype_size(e->compute);
  size_t bytes = matrix > w->copy_bytes ? matrix : w->copy_bytes;
  double seconds;
  TRY(e->ops->alloc(e, bytes, "a matrix", &w->a));
  TRY(e->ops->alloc(e, bytes, "a matrix", &w->b));
  TRY(e->ops->alloc(e, matrix, "a matrix", &w->c));
  TRY(fill_noise(e, w->a, w->n * w->n, 1));
  TRY(fill_noise(e, w->b, w->n * w->n, 2));
  w->product = (head_forward_args){.N = w->n, .D = w->n, .Vp = w->n, .x = w->a, .weight = w->b, .logits = w->c};
  TRY(best_time(w, multiply, &seconds));
  p->gemm_peak_tflops = 2.0 * (double)w->n * (double)w->n * (double)w->n / seconds * 1e-12;
  TRY(best_time(w, copy, &seconds));
  p->copy_gb_s = 2.0 * (double)w->copy_bytes / seconds * 1e-9;
  return STATUS_OK;
}

static void release(work *w) {
  if (w->e != NULL) {
    w->e->ops->free(w->e, w->a);
    w->e->ops->free(w->e, w->b);
    w->e->ops->free(w->e, w->c);
    w->e->ops->destroy(w->e);
  }
}

status machine_peak_measure(const config *c, const dist *d, machine_peak *p) {
  config_device device = c->run.device;
  config_precision ours = c->train.precision;
  TRY(engine_resolve(&device, &ours));
  bool gpu = device == DEVICE_CUDA;
  config_precision precision = gpu ? PRECISION_BF16 : PRECISION_FP32;
  work w = {
      .n = gpu ? GPU_SIZE : CPU_SIZE, .copy_bytes = gpu ? (size_t)2 << 30 : (size_t)256 << 20, .calls = gpu ? 20 : 3};
  *p = (machine_peak){.on_gpu = gpu, .gemm_size = w.n};
  snprintf(p->precision, sizeof p->precision, "%s", config_precision_name(precision));
  status s = dist_agree(
      d, engine_create(device, precision, gpu ? d->local_rank % engine_gpus() : 0, (int)c->cpu.threads, 0, &w.e));
  if (s == STATUS_OK) {
    snprintf(p->engine, sizeof p->engine, "%s", w.e->description);
    const engine_limits limits = {.D = w.n, .Vp = w.n, .logits = w.n, .logits_chunk = w.n};
    char used[DIGEST_TEXT];
    s = plans_share(d, w.e, &limits, c->gemm.plans, used);
  }
  if (s == STATUS_OK) {
    s = dist_agree(d, measure(&w, p));
  }
  release(&w);
  return s;
}
