/* The CUDA engine: engine_ops on one GPU. Operations put together kernels.h's launches, cuBLASLt's products (gemm.h) and cuDNN's attention. Nothing here waits for the device but synchronize, get_result and
 * copies to the host.
 */
#include "cuda_engine.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "attention_cudnn.h"
#include "base/memory.h"
#include "check.h"
#include "engine/cpu/positions.h"
#include "gemm.h"
#include "kernels.h"

enum { EVENTS = 64, RUN_TABLES = 512, DEFAULT_WORKSPACE_MIB = 64, STAGING = 16, STAGED_BYTES = 1 << 20 };

/* Pinned memory of a copy under way. */
typedef struct {
  void *memory;
  cudaEvent_t sent;
} staging_slot;

/* Bytes of each part of the scratch. */
typedef struct {
  size_t product, masked, logits, partial, sums, chunks, delta, rows;
} scratch_sizes;

/* Device copies of the optimizer's runs, by the host table's address. */
typedef struct {
  const optim_run *host;
  device_run *device;
} run_table;

typedef struct {
  engine base;
  int device;
  cudaStream_t streams[STREAMS];
  cudaEvent_t events[EVENTS];
  gemm *products;
  attention_cudnn *fused;
  step_state *step;    /* device */
  step_result *result; /* device */
  /* Scratch, of the sizes that scratch_of tells. */
  void *product, *masked, *logits, *fused_workspace;
  float *partial, *sums, *chunks, *delta;
  double *rows;
  scratch_sizes have;
  size_t fused_bytes;
  int64_t chunk; /* rows of logits that fit */
  float *rope_frequencies, *sinusoid_frequencies; /* of the model's head size and width */
  int64_t rope_half, sinusoid_D;                  /* what they are for */
  staging_slot staging[STAGING];
  int next_staging;
  run_table tables[RUN_TABLES];
  int n_tables;
} cuda_engine;

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

static scratch_sizes scratch_of(const engine *e, const engine_limits *l) {
  size_t c = dtype_size(e->compute), f = sizeof(float);
  int64_t N = l->B * l->T;
  int64_t partial = larger(larger(5 * ROW_BLOCKS * larger(l->M, l->D), 2 * NORM_BLOCKS * l->D), ROW_BLOCKS * 64 * l->D);
  return (scratch_sizes){.product = (size_t)(N * l->D) * c,
                         .masked = (size_t)(N * l->D) * c,
                         .logits = (size_t)(l->chunk * l->Vp) * c,
                         .partial = (size_t)partial * f,
                         .sums = (size_t)(larger(l->M, l->D) + l->D) * f,
                         .chunks = (size_t)((N + EMBED_CHUNK - 1) / EMBED_CHUNK * 2 * l->D) * f,
                         .delta = (size_t)(N * l->H) * f,
                         .rows = (size_t)(3 * N) * sizeof(double)};
}

static launch launch_of(const cuda_engine *e) { return (launch){.stream = e->streams[STREAM_MAIN], .compute = e->base.compute, .step = e->step, .seed = e->base.seed}; }

/* Life and memory. */

static status cuda_alloc(engine *base, size_t bytes, const char *what, void **out) {
  *out = NULL;
  if (bytes == 0) {
    bytes = 256;
  }
  cudaError_t error = cudaMalloc(out, bytes);
  if (error != cudaSuccess) {
    char text[32];
    FAIL("the GPU has no %s for %s (%s); use a smaller train.micro_batch or train.recompute = block", memory_text((double)bytes, text), what, cudaGetErrorString(error));
  }
  CUDA(cudaMemset(*out, 0, bytes));
  CUDA(cudaStreamSynchronize(0)); /* our streams don't wait for the default one */
  (void)base;
  return STATUS_OK;
}

static void cuda_free(engine *base, void *p) {
  (void)base;
  cudaFree(p);
}

static size_t cuda_scratch_bytes(const engine *e, const engine_limits *l) {
  scratch_sizes s = scratch_of(e, l);
  return s.product + s.masked + s.logits + s.partial + s.sums + s.chunks + s.delta + s.rows;
}

/* cuDNN takes 16-bit types, head sizes that are multiples of 8 up to 128, and neither ALiBi nor our dropout, whose mask is counted. */
static bool fused_takes(const cuda_engine *e, int64_t h, bool alibi, double dropout) { return e->fused != NULL && dtype_size(e->base.compute) == 2 && h % 8 == 0 && h <= 128 && !alibi && dropout == 0; }

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

static status upload_floats(cuda_engine *e, float **at, int64_t n, float (*value)(int64_t i, int64_t of), int64_t step, int64_t of) {
  float *host;
  TRY(memory_new(&host, (size_t)n + 1, sizeof *host, "frequencies"));
  for (int64_t i = 0; i < n; i++) {
    host[i] = value(i * step, of);
  }
  cudaFree(*at);
  status s = cuda_alloc(&e->base, (size_t)n * sizeof *host, "frequencies", (void **)at);
  if (s == STATUS_OK && cudaMemcpy(*at, host, (size_t)n * sizeof *host, cudaMemcpyHostToDevice) != cudaSuccess) {
    s = status_set(STATUS_FAILURE, __FILE__, __LINE__, "the frequencies of the positions could not be copied to the GPU");
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

static status cuda_prepare(engine *base, const engine_limits *l) {
  cuda_engine *e = (cuda_engine *)base;
  scratch_sizes s = scratch_of(base, l), *have = &e->have;
  TRY(grow(base, &e->product, &have->product, s.product, "scratch"));
  TRY(grow(base, &e->masked, &have->masked, s.masked, "scratch"));
  TRY(grow(base, &e->logits, &have->logits, s.logits, "a chunk of logits"));
  TRY(grow(base, (void **)&e->partial, &have->partial, s.partial, "partial sums"));
  TRY(grow(base, (void **)&e->sums, &have->sums, s.sums, "sums"));
  TRY(grow(base, (void **)&e->chunks, &have->chunks, s.chunks, "sums of the embedding"));
  TRY(grow(base, (void **)&e->delta, &have->delta, s.delta, "scratch of attention"));
  TRY(grow(base, (void **)&e->rows, &have->rows, s.rows, "losses of rows"));
  e->chunk = larger(e->chunk, l->chunk);
  TRY(frequencies(e, l->D / l->H / 2, l->D));
  size_t fused = 0;
  if (fused_takes(e, l->D / l->H, false, 0)) {
    attention_shape shape = {base->compute == DTYPE_BF16, l->B, l->T, l->H, l->D / l->H};
    TRY(attention_cudnn_plan(e->fused, &shape, true, &fused));
  }
  return grow(base, &e->fused_workspace, &e->fused_bytes, fused, "attention's workspace");
}

static void cuda_destroy(engine *base) {
  cuda_engine *e = (cuda_engine *)base;
  cudaDeviceSynchronize();
  void *parts[] = {e->product, e->masked, e->logits, e->partial, e->sums, e->chunks, e->delta, e->rows, e->fused_workspace, e->step, e->result, e->rope_frequencies, e->sinusoid_frequencies};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    cudaFree(parts[i]);
  }
  for (int i = 0; i < e->n_tables; i++) {
    cudaFree(e->tables[i].device);
  }
  for (int i = 0; i < STAGING; i++) {
    if (e->staging[i].memory != NULL) {
      cudaEventDestroy(e->staging[i].sent);
      cudaFreeHost(e->staging[i].memory);
    }
  }
  gemm_free(e->products);
  attention_cudnn_free(e->fused);
  for (int i = 0; i < EVENTS; i++) {
    if (e->events[i]) cudaEventDestroy(e->events[i]);
  }
  for (int i = 0; i < STREAMS; i++) {
    if (e->streams[i]) cudaStreamDestroy(e->streams[i]);
  }
  free(e);
}

/* Streams, copies. */

static status cuda_record(engine *base, stream_id s, int event) {
  cuda_engine *e = (cuda_engine *)base;
  CUDA(cudaEventRecord(e->events[event], e->streams[s]));
  return STATUS_OK;
}

static status cuda_wait(engine *base, stream_id s, int event) {
  cuda_engine *e = (cuda_engine *)base;
  CUDA(cudaStreamWaitEvent(e->streams[s], e->events[event], 0));
  return STATUS_OK;
}

static status cuda_synchronize(engine *base) {
  (void)base;
  CUDA(cudaDeviceSynchronize());
  return STATUS_OK;
}

/* Small copies go through pinned memory, so that the host neither waits for the stream nor has to keep its buffer. */
static status copy_staged(cuda_engine *e, stream_id s, void *to, const void *from, size_t bytes) {
  staging_slot *slot = &e->staging[e->next_staging++ % STAGING];
  if (slot->memory == NULL) {
    CUDA(cudaMallocHost(&slot->memory, STAGED_BYTES));
    CUDA(cudaEventCreateWithFlags(&slot->sent, cudaEventDisableTiming));
  }
  CUDA(cudaEventSynchronize(slot->sent));
  memcpy(slot->memory, from, bytes);
  CUDA(cudaMemcpyAsync(to, slot->memory, bytes, cudaMemcpyHostToDevice, e->streams[s]));
  CUDA(cudaEventRecord(slot->sent, e->streams[s]));
  return STATUS_OK;
}

static status cuda_copy(engine *base, stream_id s, copy_direction d, void *to, const void *from, size_t bytes) {
  if (d == COPY_TO_ENGINE && bytes <= STAGED_BYTES) {
    return copy_staged((cuda_engine *)base, s, to, from, bytes);
  }
  static const enum cudaMemcpyKind kinds[] = {cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice};
  CUDA(cudaMemcpyAsync(to, from, bytes, kinds[d], ((cuda_engine *)base)->streams[s]));
  return STATUS_OK;
}

static status cuda_fill_zero(engine *base, stream_id s, void *p, size_t bytes) {
  CUDA(cudaMemsetAsync(p, 0, bytes, ((cuda_engine *)base)->streams[s]));
  return STATUS_OK;
}

static status cuda_set_step(engine *base, const step_state *state) {
  cuda_engine *e = (cuda_engine *)base;
  CUDA(launch_set_step(e->streams[STREAM_MAIN], e->step, state));
  return STATUS_OK;
}

static status cuda_get_result(engine *base, step_result *result) {
  cuda_engine *e = (cuda_engine *)base;
  CUDA(cudaMemcpyAsync(result, e->result, sizeof *result, cudaMemcpyDeviceToHost, e->streams[STREAM_MAIN]));
  CUDA(cudaStreamSynchronize(e->streams[STREAM_MAIN]));
  return STATUS_OK;
}

/* The model. */

static status product(cuda_engine *e, gemm_kind kind, int64_t n, int64_t m, int64_t k, const void *left, const void *right, void *result, const void *alpha, bool accumulate) {
  dtype out = kind == GEMM_WEIGHT_GRAD ? e->base.state : e->base.compute;
  const gemm_args a = {.kind = kind, .n = n, .m = m, .k = k, .in = e->base.compute, .out = out, .left = left, .right = right, .result = result, .alpha = alpha, .accumulate = accumulate};
  return gemm_run(e->products, e->streams[STREAM_MAIN], &a);
}

static status cuda_embed_forward(engine *base, const embed_forward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  CUDA(launch_embed_forward(&l, a, e->sinusoid_frequencies));
  return STATUS_OK;
}

static status cuda_embed_backward(engine *base, const embed_backward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  CUDA(launch_embed_backward(&l, a, e->chunks));
  return STATUS_OK;
}

static status cuda_norm_forward(engine *base, const norm_forward_args *a) {
  launch l = launch_of((cuda_engine *)base);
  CUDA(launch_norm_forward(&l, a));
  return STATUS_OK;
}

static status cuda_norm_backward(engine *base, const norm_backward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  CUDA(launch_norm_backward(&l, a, e->partial));
  return STATUS_OK;
}

static status cuda_qkv_forward(engine *base, const qkv_forward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  TRY(product(e, GEMM_FORWARD, a->B * a->T, 3 * a->D, a->D, a->x, a->weight, a->qkv, NULL, false));
  if (a->rope) {
    CUDA(launch_rope(&l, a->B, a->T, a->H, a->D / a->H, a->past, e->rope_frequencies, a->qkv, false));
  }
  return STATUS_OK;
}

static status cuda_qkv_backward(engine *base, const qkv_backward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  if (a->rope) {
    CUDA(launch_rope(&l, a->B, a->T, a->H, a->D / a->H, NULL, e->rope_frequencies, a->dqkv, true));
  }
  TRY(product(e, GEMM_DATA_GRAD, a->B * a->T, a->D, 3 * a->D, a->dqkv, a->weight, a->dx, NULL, false));
  return product(e, GEMM_WEIGHT_GRAD, 3 * a->D, a->D, a->B * a->T, a->dqkv, a->x, a->dweight, NULL, false);
}

static status cuda_attention_forward(engine *base, const attention_forward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  if (fused_takes(e, a->h, a->alibi, a->dropout.p)) {
    attention_shape shape = {base->compute == DTYPE_BF16, a->B, a->T, a->H, a->h};
    return attention_cudnn_forward(e->fused, &shape, l.stream, a->qkv, a->out, a->lse, e->fused_workspace);
  }
  REQUIRE(a->h <= 128, "heads of %" PRId64 " elements: the GPU's attention takes up to 128; use more heads", a->h);
  CUDA(launch_attention_forward(&l, a));
  return STATUS_OK;
}

static status cuda_attention_backward(engine *base, const attention_backward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  if (fused_takes(e, a->h, a->alibi, a->dropout.p)) {
    attention_shape shape = {base->compute == DTYPE_BF16, a->B, a->T, a->H, a->h};
    return attention_cudnn_backward(e->fused, &shape, l.stream, a->qkv, a->out, a->lse, a->dout, a->dqkv, e->fused_workspace);
  }
  CUDA(launch_attention_backward(&l, a, e->delta));
  return STATUS_OK;
}

static status cuda_attention_cached(engine *base, const attention_cached_args *a) {
  launch l = launch_of((cuda_engine *)base);
  CUDA(launch_attention_cached(&l, a));
  return STATUS_OK;
}

static status cuda_out_forward(engine *base, const out_forward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  TRY(product(e, GEMM_FORWARD, a->B * a->T, a->D, a->K, a->in, a->weight, e->product, NULL, false));
  CUDA(launch_residual(&l, a, e->product));
  return STATUS_OK;
}

/* dy behind the dropout of a projection: dy itself without dropout. */
static status masked_gradient(cuda_engine *e, int64_t B, int64_t T, int64_t D, const dropout_spec *d, const void *dy, const void **out) {
  launch l = launch_of(e);
  *out = dy;
  if (d->p > 0) {
    CUDA(launch_dropout(&l, B, T, D, d, dy, e->masked));
    *out = e->masked;
  }
  return STATUS_OK;
}

static status cuda_out_backward(engine *base, const out_backward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  const void *dy;
  TRY(masked_gradient(e, a->B, a->T, a->D, &a->dropout, a->dy, &dy));
  TRY(product(e, GEMM_DATA_GRAD, a->B * a->T, a->K, a->D, dy, a->weight, a->din, NULL, false));
  TRY(product(e, GEMM_WEIGHT_GRAD, a->D, a->K, a->B * a->T, dy, a->in, a->dweight, NULL, false));
  if (a->dbias != NULL) {
    CUDA(launch_column_sums(&l, a->B * a->T, a->D, dy, NULL, e->partial, NULL, a->dbias));
  }
  return STATUS_OK;
}

static status cuda_up_forward(engine *base, const up_forward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  void *z = a->z != NULL ? a->z : a->a;
  TRY(product(e, GEMM_FORWARD, a->N, a->M, a->D, a->x, a->weight, z, NULL, false));
  CUDA(launch_act_forward(&l, a->N, a->M, &a->act, a->bias, z, a->a));
  return STATUS_OK;
}

/* alpha's gradient is Σ u · dy with u the branch before alpha: Σ a · (dy W2) over features plus b2 · Σ dy, so u itself need not be kept. */
static status cuda_mlp_backward(engine *base, const mlp_backward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  int64_t N = a->B * a->T;
  const void *dy;
  float *dots = e->sums, *columns = e->sums + a->M;
  TRY(masked_gradient(e, a->B, a->T, a->D, &a->dropout, a->dy, &dy));
  CUDA(launch_column_sums(&l, N, a->D, dy, a->alpha, e->partial, columns, a->db2));
  TRY(product(e, GEMM_DATA_GRAD, N, a->M, a->D, dy, a->w2, a->scratch_z, NULL, false));
  CUDA(launch_act_backward(&l, N, a->M, &a->act, a->b1, a->z, a->scratch_z, a->alpha, a->scratch_z, a->a == NULL ? a->scratch_a : NULL, e->partial));
  CUDA(launch_act_finish(&l, a->M, &a->act, e->partial, &a->dact, a->db1, dots));
  if (a->dalpha != NULL) {
    CUDA(launch_alpha_grad(&l, a->M, dots, a->D, a->b2, columns, a->dalpha));
  }
  TRY(product(e, GEMM_WEIGHT_GRAD, a->D, a->M, N, dy, a->a != NULL ? a->a : a->scratch_a, a->dw2, a->alpha, false));
  TRY(product(e, GEMM_DATA_GRAD, N, a->D, a->M, a->scratch_z, a->w1, a->dx, NULL, false));
  return product(e, GEMM_WEIGHT_GRAD, a->M, a->D, N, a->scratch_z, a->x, a->dw1, NULL, false);
}

static status cuda_conv_forward(engine *base, const conv_forward_args *a) {
  launch l = launch_of((cuda_engine *)base);
  CUDA(launch_conv(&l, a));
  CUDA(launch_act_forward(&l, a->B * a->T, a->D, &a->act, NULL, a->c != NULL ? a->c : a->a, a->a));
  return STATUS_OK;
}

static status cuda_conv_backward(engine *base, const conv_backward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  CUDA(launch_act_backward(&l, a->B * a->T, a->D, &a->act, NULL, a->c, a->da, NULL, a->scratch_c, NULL, e->partial));
  CUDA(launch_act_finish(&l, a->D, &a->act, e->partial, &a->dact, NULL, NULL));
  CUDA(launch_conv_input_grad(&l, a));
  REQUIRE(a->k <= 64, "wave_kernel_size %" PRId64 ": the GPU takes up to 64", a->k);
  CUDA(launch_conv_weight_grad(&l, a, e->partial));
  return STATUS_OK;
}

static const void *row_of(const cuda_engine *e, const void *x, int64_t row, int64_t width) { return (const char *)x + (size_t)(row * width) * dtype_size(e->base.compute); }

static status cuda_head_train(engine *base, const head_train_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  for (int64_t first = 0; first < a->N; first += a->chunk) {
    int64_t rows = a->N - first < a->chunk ? a->N - first : a->chunk;
    const void *x = row_of(e, a->x, first, a->D);
    TRY(product(e, GEMM_FORWARD, rows, a->Vp, a->D, x, a->weight, e->logits, NULL, false));
    CUDA(launch_loss_train(&l, a, first, rows, e->logits, e->rows));
    TRY(product(e, GEMM_DATA_GRAD, rows, a->D, a->Vp, e->logits, a->weight, (void *)row_of(e, a->dx, first, a->D), NULL, false));
    TRY(product(e, GEMM_WEIGHT_GRAD, a->Vp, a->D, rows, e->logits, x, a->dweight, NULL, first > 0));
  }
  CUDA(launch_sum_doubles(&l, e->rows, a->N, 1, 1.0 / (double)a->N, a->loss));
  return STATUS_OK;
}

static status cuda_head_eval(engine *base, const head_eval_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  for (int64_t first = 0; first < a->N; first += a->chunk) {
    int64_t rows = a->N - first < a->chunk ? a->N - first : a->chunk;
    TRY(product(e, GEMM_FORWARD, rows, a->Vp, a->D, row_of(e, a->x, first, a->D), a->weight, e->logits, NULL, false));
    CUDA(launch_loss_eval(&l, a, first, rows, e->logits, e->rows));
  }
  CUDA(launch_sum_doubles(&l, e->rows, a->N, 3, 1.0, a->sums));
  return STATUS_OK;
}

static status cuda_head_logits(engine *base, const head_logits_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  int64_t chunk = e->chunk;
  for (int64_t first = 0; first < a->N; first += chunk) {
    int64_t rows = a->N - first < chunk ? a->N - first : chunk;
    TRY(product(e, GEMM_FORWARD, rows, a->Vp, a->D, row_of(e, a->x, first, a->D), a->weight, e->logits, NULL, false));
    CUDA(launch_unpad_logits(&l, rows, a->V, a->Vp, e->logits, (float *)a->logits + first * a->V));
  }
  return STATUS_OK;
}

/* Plans. */

typedef struct {
  gemm_kind kind;
  int64_t n, m, k;
} product_shape;

/* The products of one training pass, as the operations above make them. */
static int products_of(const engine_limits *l, product_shape *out) {
  int64_t N = l->B * l->T, layers[][2] = {{3 * l->D, l->D}, {l->D, l->D}, {l->M, l->D}, {l->D, l->M}}, tail = N % l->chunk;
  int n = 0;
  for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
    int64_t to = layers[i][0], from = layers[i][1];
    out[n++] = (product_shape){GEMM_FORWARD, N, to, from};
    out[n++] = (product_shape){GEMM_DATA_GRAD, N, from, to};
    out[n++] = (product_shape){GEMM_WEIGHT_GRAD, to, from, N};
  }
  for (int part = 0; part < (tail != 0 ? 2 : 1); part++) {
    int64_t rows = part == 0 ? l->chunk : tail;
    out[n++] = (product_shape){GEMM_FORWARD, rows, l->Vp, l->D};
    out[n++] = (product_shape){GEMM_DATA_GRAD, rows, l->D, l->Vp};
    out[n++] = (product_shape){GEMM_WEIGHT_GRAD, l->Vp, l->D, rows};
  }
  return n;
}

static status cuda_tune(engine *base, const engine_limits *l) {
  cuda_engine *e = (cuda_engine *)base;
  product_shape shapes[24];
  int n = products_of(l, shapes);
  int64_t most = 0, result = 0;
  for (int i = 0; i < n; i++) {
    const product_shape *s = &shapes[i];
    int64_t left = s->n * s->k, right = s->m * s->k;
    most = larger(most, larger(left, right));
    result = larger(result, s->n * s->m);
  }
  void *left = NULL, *right = NULL, *out = NULL;
  status done = cuda_alloc(base, (size_t)most * dtype_size(base->compute), "the timing of products", &left);
  if (done == STATUS_OK) {
    done = cuda_alloc(base, (size_t)most * dtype_size(base->compute), "the timing of products", &right);
  }
  if (done == STATUS_OK) {
    done = cuda_alloc(base, (size_t)result * sizeof(float), "the timing of products", &out);
  }
  launch la = launch_of(e);
  if (done == STATUS_OK && (launch_noise(&la, most, 1, left) != cudaSuccess || launch_noise(&la, most, 2, right) != cudaSuccess)) {
    done = status_set(STATUS_FAILURE, __FILE__, __LINE__, "operands for the timing of products can't be made");
  }
  gemm_allow_timing(e->products, true);
  for (int i = 0; i < n && done == STATUS_OK; i++) {
    done = product(e, shapes[i].kind, shapes[i].n, shapes[i].m, shapes[i].k, left, right, out, NULL, false);
  }
  gemm_allow_timing(e->products, false);
  cudaDeviceSynchronize();
  cudaFree(left);
  cudaFree(right);
  cudaFree(out);
  return done;
}

static status cuda_plans(engine *base, char **text) { return gemm_table_text(((cuda_engine *)base)->products, text); }

static status cuda_read_plans(engine *base, const char *text, const char *origin) { return gemm_table_read(((cuda_engine *)base)->products, text, origin); }

/* The update. */

static status cuda_add(engine *base, stream_id s, void *sum, const void *term, int64_t n) {
  CUDA(launch_add(((cuda_engine *)base)->streams[s], sum, term, n));
  return STATUS_OK;
}

static status cuda_leaf_squares(engine *base, const void *grad, int64_t leaf, int64_t n_leaves, double *squares) {
  CUDA(launch_leaf_squares(((cuda_engine *)base)->streams[STREAM_MAIN], grad, leaf, n_leaves, squares));
  return STATUS_OK;
}

static status cuda_finish_norm(engine *base, const double *squares, int64_t n_squares, const double *losses, int64_t n_losses, double grad_clip) {
  cuda_engine *e = (cuda_engine *)base;
  CUDA(launch_finish_norm(e->streams[STREAM_MAIN], e->step, squares, n_squares, losses, n_losses, grad_clip, e->result));
  return STATUS_OK;
}

static status device_runs(cuda_engine *e, const optim_run *runs, int64_t n, const device_run **out) {
  for (int i = 0; i < e->n_tables; i++) {
    if (e->tables[i].host == runs) {
      *out = e->tables[i].device;
      return STATUS_OK;
    }
  }
  REQUIRE(e->n_tables < RUN_TABLES, "more than %d units", RUN_TABLES);
  device_run *host;
  TRY(memory_new(&host, (size_t)n, sizeof *host, "optimizer's runs"));
  for (int64_t i = 0; i < n; i++) {
    host[i] = (device_run){runs[i].first, runs[i].first + runs[i].count, (runs[i].trainable ? 1u : 0u) | (runs[i].decay ? 2u : 0u), 0};
  }
  run_table *t = &e->tables[e->n_tables];
  t->host = runs;
  status s = cuda_alloc(&e->base, (size_t)n * sizeof *host, "optimizer's runs", (void **)&t->device);
  if (s == STATUS_OK && cudaMemcpy(t->device, host, (size_t)n * sizeof *host, cudaMemcpyHostToDevice) != cudaSuccess) {
    s = status_set(STATUS_FAILURE, __FILE__, __LINE__, "the optimizer's runs could not be copied to the GPU");
  }
  free(host);
  TRY(s);
  e->n_tables++;
  *out = t->device;
  return STATUS_OK;
}

static status cuda_adamw(engine *base, const adamw_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  const device_run *runs = NULL;
  TRY(device_runs(e, a->runs, a->n_runs, &runs));
  CUDA(launch_adamw(&l, a, runs, e->result));
  return STATUS_OK;
}

static const engine_ops cuda_ops = {
    .destroy = cuda_destroy,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .scratch_bytes = cuda_scratch_bytes,
    .prepare = cuda_prepare,
    .tune = cuda_tune,
    .plans = cuda_plans,
    .read_plans = cuda_read_plans,
    .record = cuda_record,
    .wait = cuda_wait,
    .synchronize = cuda_synchronize,
    .copy = cuda_copy,
    .fill_zero = cuda_fill_zero,
    .set_step = cuda_set_step,
    .get_result = cuda_get_result,
    .embed_forward = cuda_embed_forward,
    .embed_backward = cuda_embed_backward,
    .norm_forward = cuda_norm_forward,
    .norm_backward = cuda_norm_backward,
    .qkv_forward = cuda_qkv_forward,
    .qkv_backward = cuda_qkv_backward,
    .attention_forward = cuda_attention_forward,
    .attention_backward = cuda_attention_backward,
    .attention_cached = cuda_attention_cached,
    .out_forward = cuda_out_forward,
    .out_backward = cuda_out_backward,
    .up_forward = cuda_up_forward,
    .mlp_backward = cuda_mlp_backward,
    .conv_forward = cuda_conv_forward,
    .conv_backward = cuda_conv_backward,
    .head_train = cuda_head_train,
    .head_eval = cuda_head_eval,
    .head_logits = cuda_head_logits,
    .add = cuda_add,
    .leaf_squares = cuda_leaf_squares,
    .finish_norm = cuda_finish_norm,
    .adamw = cuda_adamw,
};

static status build(cuda_engine *e, const cuda_engine_spec *spec) {
  struct cudaDeviceProp properties;
  CUDA(cudaSetDevice(spec->device));
  CUDA(cudaGetDeviceProperties(&properties, spec->device));
  if (properties.major < 9) {
    USER_ERROR("GPU %d is a %s (compute capability %d.%d) and this build has code for 9.0 alone; use run.device = cpu", spec->device, properties.name, properties.major, properties.minor);
  }
  e->device = spec->device;
  for (int i = 0; i < STREAMS; i++) {
    CUDA(cudaStreamCreateWithFlags(&e->streams[i], cudaStreamNonBlocking));
  }
  for (int i = 0; i < EVENTS; i++) {
    CUDA(cudaEventCreateWithFlags(&e->events[i], cudaEventDisableTiming));
  }
  gemm_math math = spec->compute != DTYPE_F32 ? MATH_HALF : spec->tf32 ? MATH_TF32 : MATH_PEDANTIC;
  TRY(gemm_create((size_t)DEFAULT_WORKSPACE_MIB << 20, math, &e->products));
  TRY(attention_cudnn_create(&e->fused));
  TRY(cuda_alloc(&e->base, sizeof *e->step, "step state", (void **)&e->step));
  TRY(cuda_alloc(&e->base, sizeof *e->result, "step result", (void **)&e->result));
  const char *precision = spec->compute == DTYPE_BF16 ? "bf16" : spec->compute == DTYPE_F16 ? "fp16" : spec->tf32 ? "tf32" : "fp32";
  snprintf(e->base.description, sizeof e->base.description, "CUDA %s on %.60s, cuBLASLt %zu, %s", precision, properties.name, cublasLtGetVersion(), e->fused ? "cuDNN attention" : "own attention");
  return STATUS_OK;
}

status engine_cuda_create(const cuda_engine_spec *spec, engine **out) {
  *out = NULL;
  cuda_engine *e;
  TRY(memory_new(&e, 1, sizeof *e, "CUDA engine"));
  e->base = (engine){.ops = &cuda_ops, .compute = spec->compute, .state = DTYPE_F32, .seed = spec->seed, .chunk_logits = 1 << 28};
  status s = build(e, spec);
  if (s != STATUS_OK) {
    cuda_destroy(&e->base);
    return s;
  }
  *out = &e->base;
  return STATUS_OK;
}

cudaStream_t engine_cuda_stream(const engine *e, stream_id s) { return ((const cuda_engine *)e)->streams[s]; }

int cuda_device_count(void) {
  int n = 0;
  return cudaGetDeviceCount(&n) == cudaSuccess ? n : 0;
}

double cuda_memory_free(int device) {
  size_t available = 0, total = 0;
  return cudaSetDevice(device) == cudaSuccess && cudaMemGetInfo(&available, &total) == cudaSuccess ? (double)available : 0;
}
