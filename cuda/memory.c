/* Device memory: allocation, and the scratch that operations share. */
#include "base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/positions.h"
#include "engine_parts.h"
#include "upload.h"

/* Limits of products alone have no heads. */
static bool wgmma_takes(const engine *e, const engine_limits *l) {
  return l->H > 0 && attention_wgmma_takes(e->compute, l->B, l->T, l->H, l->D / l->H, false, 0);
}

/* For the backward of our own attention: a number a query and head, or what the one on the tensor cores works in. */
static size_t attention_bytes(const engine *e, const engine_limits *l) {
  size_t plain = (size_t)(l->B * l->T * l->H) * sizeof(float);
  size_t bytes = wgmma_takes(e, l) ? attention_wgmma_bytes(l->B, l->T, l->H, l->D / l->H) : 0;
  return bytes > plain ? bytes : plain;
}

static scratch_sizes scratch_of(const engine *e, const engine_limits *l) {
  size_t c = dtype_size(e->compute), f = sizeof(float);
  int64_t N = l->B * l->T;
  int64_t partial = larger(larger(INT64_C(5) * ROW_BLOCKS * larger(l->M, l->D), INT64_C(2) * NORM_BLOCKS * l->D),
                           INT64_C(64) * ROW_BLOCKS * l->D);
  int64_t widest = larger(3 * l->D, l->M);
  size_t fp8_left = e->fp8 ? (size_t)(N * widest) : 0;
  return (scratch_sizes){.product = (size_t)(N * l->D) * c,
                         .masked = (size_t)(N * l->D) * c,
                         .logits = (size_t)(l->chunk * l->Vp) * c,
                         .partial = (size_t)partial * f,
                         .sums = (size_t)(larger(l->M, l->D) + l->D) * f,
                         .chunks = (size_t)((N + EMBED_CHUNK - 1) / EMBED_CHUNK * 2 * l->D) * f,
                         .attention = attention_bytes(e, l),
                         .rows = (size_t)(3 * N) * sizeof(double),
                         .fp8_left = fp8_left,
                         .fp8_left_transposed = fp8_left,
                         .fp8_right = e->fp8 ? (size_t)(larger(N, l->D) * widest) : 0};
}

status cuda_alloc(engine *base, size_t bytes, const char *what, void **out) {
  *out = NULL;
  if (bytes == 0) {
    bytes = 256;
  }
  cudaError_t error = cudaMalloc(out, bytes);
  if (error != cudaSuccess) {
    return cuda_no_memory(bytes, what, cudaGetErrorString(error));
  }
  (void)base;
  return cuda_clear(*out, bytes);
}

static void cuda_free(engine *base, void *p) {
  (void)base;
  cudaFree(p);
}

/* Pinned: a copy from or to it goes by itself, and the host goes on. */
static status cuda_alloc_host(engine *base, size_t bytes, const char *what, void **out) {
  (void)base;
  *out = NULL;
  size_t size = bytes > 0 ? bytes : 256;
  cudaError_t error = cudaMallocHost(out, size);
  if (error != cudaSuccess) {
    char text[32];
    cudaGetLastError(); /* said here: the next launch must not find it */
    *out = NULL;
    FAIL("the host has no %s of memory to pin for %s (%s); start fewer ranks a host, or set parallel.offload = none",
         memory_text((double)size, text), what, cudaGetErrorString(error));
  }
  memset(*out, 0, size);
  return STATUS_OK;
}

static void cuda_free_host(engine *base, void *p) {
  (void)base;
  cudaFreeHost(p);
}

/* cuDNN takes 16-bit types, head sizes that are multiples of 8 up to 128, and neither ALiBi nor our dropout, whose mask
 * is counted. */
bool fused_takes(const cuda_engine *e, int64_t h, bool alibi, double dropout) {
  return e->fused != NULL && dtype_size(e->base.compute) == 2 && h % 8 == 0 && h <= 128 && !alibi && dropout == 0;
}

/* cuDNN's workspace, for its backward too where that is not ours. */
static status fused_plan(const cuda_engine *e, const engine_limits *l, size_t *bytes) {
  *bytes = 0;
  if (fused_takes(e, l->D / l->H, false, 0)) {
    attention_shape shape = {e->base.compute == DTYPE_BF16, e->base.unordered, l->B, l->T, l->H, l->D / l->H};
    TRY(attention_cudnn_plan(e->fused, &shape, !wgmma_takes(&e->base, l), bytes));
  }
  return STATUS_OK;
}

/* 0 too where cuDNN can't plan it: then the run's `prepare` says why. */
static size_t fused_bytes(const cuda_engine *e, const engine_limits *l) {
  size_t bytes;
  return fused_plan(e, l, &bytes) == STATUS_OK ? bytes : 0;
}

static size_t cuda_scratch_bytes(const engine *e, const engine_limits *l) {
  scratch_sizes s = scratch_of(e, l);
  return s.product + s.masked + s.logits + s.partial + s.sums + s.chunks + s.attention + s.rows + s.fp8_left +
         s.fp8_left_transposed + s.fp8_right + fused_bytes((const cuda_engine *)e, l);
}

static status cuda_memory(engine *base, device_usage *out) {
  cuda_engine *e = (cuda_engine *)base;
  size_t available = 0, total = 0;
  CUDA(cudaMemGetInfo(&available, &total));
  double used = board_memory_used(e->board);
  *out = (device_usage){.total = (double)total,
                        .taken = (isnan(used) ? (double)(total - available) : used) - e->used_before,
                        .fixed = (double)e->fixed};
  return STATUS_OK;
}

/* Grows what is too small: several passes of different shapes may share an engine. */
static status grow(engine *base, void **at, size_t *have, size_t bytes, const char *what) {
  if (bytes <= *have) {
    return STATUS_OK;
  }
  cudaFree(*at);
  *have = 0;
  TRY(cuda_alloc(base, bytes, what, at));
  *have = bytes;
  return STATUS_OK;
}

static status upload_floats(cuda_engine *e, float **at, int64_t n, float (*value)(int64_t i, int64_t of), int64_t step,
                            int64_t of) {
  float *host;
  TRY(memory_new(&host, (size_t)n + 1, sizeof *host, "frequencies"));
  for (int64_t i = 0; i < n; i++) {
    host[i] = value(i * step, of);
  }
  cudaFree(*at);
  status s = cuda_alloc(&e->base, (size_t)n * sizeof *host, "frequencies", (void **)at);
  if (s == STATUS_OK) {
    s = cuda_upload(*at, host, (size_t)n * sizeof *host);
  }
  free(host);
  return s;
}

static status frequencies(cuda_engine *e, int64_t half, int64_t D) {
  if (e->rope_half != half) {
    TRY(upload_floats(e, &e->rope_frequencies, half, rope_frequency, 1, half));
    e->rope_half = half;
  }
  if (e->sinusoid_D != D) {
    TRY(upload_floats(e, &e->sinusoid_frequencies, (D + 1) / 2, sinusoid_frequency, 2, D));
    e->sinusoid_D = D;
  }
  return STATUS_OK;
}

status fp8_room_prepare(cuda_engine *e, const engine_limits *l) {
  enum { SCALARS = 4, APART = 64 }; /* cuBLASLt wants factors on 16 bytes */
  engine *base = &e->base;
  fp8_room *room = &e->fp8;
  scratch_sizes s = scratch_of(base, l), *have = &e->have;
  if (!base->fp8) {
    return STATUS_OK;
  }
  TRY(grow(base, &room->left, &have->fp8_left, s.fp8_left, "an operand in 8 bits"));
  TRY(grow(base, &room->left_transposed, &have->fp8_left_transposed, s.fp8_left_transposed, "an operand in 8 bits"));
  TRY(grow(base, &room->right, &have->fp8_right, s.fp8_right, "an operand in 8 bits"));
  if (room->left_factor == NULL) {
    float *scalars;
    TRY(cuda_alloc(base, (size_t)SCALARS * APART * sizeof(float), "factors of operands", (void **)&scalars));
    room->left_factor = scalars;
    room->right_factor = scalars + APART;
    room->gradient_amax = scalars + (ptrdiff_t)2 * APART;
    room->amax = scalars + (ptrdiff_t)3 * APART;
  }
  return STATUS_OK;
}

void fp8_room_free(cuda_engine *e) {
  void **operands[] = {&e->fp8.left, &e->fp8.left_transposed, &e->fp8.right};
  for (size_t i = 0; i < sizeof operands / sizeof *operands; i++) {
    cudaFree(*operands[i]);
    *operands[i] = NULL;
  }
  e->have.fp8_left = e->have.fp8_left_transposed = e->have.fp8_right = 0;
}

static status cuda_prepare(engine *base, const engine_limits *l) {
  cuda_engine *e = (cuda_engine *)base;
  scratch_sizes s = scratch_of(base, l), *have = &e->have;
  TRY(grow(base, &e->product, &have->product, s.product, "scratch"));
  TRY(grow(base, &e->masked, &have->masked, s.masked, "scratch"));
  TRY(grow(base, &e->logits, &have->logits, s.logits, "a chunk of logits"));
  TRY(grow(base, (void **)&e->partial, &have->partial, s.partial, "partial sums"));
  TRY(grow(base, (void **)&e->sums, &have->sums, s.sums, "sums"));
  TRY(grow(base, (void **)&e->chunks, &have->chunks, s.chunks, "sums of the embedding"));
  TRY(grow(base, &e->attention, &have->attention, s.attention, "scratch of attention"));
  TRY(grow(base, (void **)&e->rows, &have->rows, s.rows, "losses of rows"));
  TRY(fp8_room_prepare(e, l));
  e->chunk = larger(e->chunk, l->chunk);
  TRY(frequencies(e, l->D / l->H / 2, l->D));
  size_t fused;
  TRY(fused_plan(e, l, &fused));
  return grow(base, &e->fused_workspace, &e->fused_bytes, fused, "attention's workspace");
}

void memory_operations(engine_ops *ops) {
  ops->alloc = cuda_alloc;
  ops->free = cuda_free;
  ops->alloc_host = cuda_alloc_host;
  ops->free_host = cuda_free_host;
  ops->scratch_bytes = cuda_scratch_bytes;
  ops->memory = cuda_memory;
  ops->prepare = cuda_prepare;
}
