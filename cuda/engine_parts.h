/* What the files of the CUDA engine share: its memory, and the parts of engine_ops that each file fills in. */
#ifndef PSANN_CUDA_ENGINE_PARTS_H
#define PSANN_CUDA_ENGINE_PARTS_H

#include "attention_cudnn.h"
#include "base/board.h"
#include "check.h"
#include "cuda_engine.h"
#include "gemm.h"
#include "kernels.h"

enum { RUN_TABLES = 512, DEFAULT_WORKSPACE_MIB = 64, STAGING = 16, STAGED_BYTES = 4 << 20 };

/* Pinned memory of a copy under way. */
typedef struct {
  void *memory;
  cudaEvent_t sent;
} staging_slot;

/* Bytes of each part of the scratch. */
typedef struct {
  size_t product, masked, logits, partial, sums, chunks, attention, rows;
  size_t fp8_left, fp8_left_transposed, fp8_right; /* 0: all products are in the compute type */
} scratch_sizes;

/* Where the operands of the product under way lie in 8 bits; NULL before there is room for them. */
typedef struct {
  void *left, *left_transposed, *right;
  /* Device scalars: factors of the operands; largest magnitudes of a gradient inside an operation, and of what
   * fp8_operand finds it for. */
  float *left_factor, *right_factor, *gradient_amax, *amax;
} fp8_room;

/* Device copies of the optimizer's runs, by the host table's address. */
typedef struct {
  const optim_run *host;
  device_run *device;
} run_table;

typedef struct {
  engine base;
  int device;
  board *board;       /* NULL: the driver's tools are not there */
  double used_before; /* bytes of the device in use before this engine; by the board where there is one */
  size_t fixed;       /* bytes for the libraries to work in */
  cudaStream_t streams[STREAMS];
  cudaEvent_t events[ENGINE_EVENTS];
  gemm *products;
  attention_cudnn *fused;
  step_state *step;      /* device */
  step_result *result;   /* device */
  step_result *read;     /* pinned: the result on its way to the host, */
  cudaEvent_t has_read;  /* there once this has passed */
  loss_scaling *scaling; /* device */
  spike_watch *spikes;   /* device */
  /* Scratch, of the sizes that scratch_of tells. */
  void *product, *masked, *logits, *attention, *fused_workspace;
  float *partial, *sums, *chunks;
  double *rows;
  fp8_room fp8;
  scratch_sizes have;
  size_t fused_bytes;
  int64_t chunk;                                  /* rows of logits that fit */
  float *rope_frequencies, *sinusoid_frequencies; /* of the model's head size and width */
  int64_t rope_half, sinusoid_D;                  /* what they are for */
  staging_slot staging[STAGING];
  int next_staging;
  run_table tables[RUN_TABLES];
  int n_tables;
  bool capturing;       /* what is issued becomes a graph, */
  bool captured_result; /* with a finish_norm in it */
} cuda_engine;

static inline int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}

static inline launch launch_of(const cuda_engine *e) {
  return (launch){.stream = e->streams[STREAM_MAIN], .compute = e->base.compute, .step = e->step, .seed = e->base.seed};
}

/* The result of a step is on its way to the host, as the last thing that was issued; streams.c. */
status result_sent(cuda_engine *e);

/* Device memory, zeroed; memory.c. */
status cuda_alloc(engine *e, size_t bytes, const char *what, void **out);

/* Does cuDNN's attention serve this? It takes 16-bit types, head sizes that are multiples of 8 up to 128, and neither
 * ALiBi nor our dropout, whose mask is counted. */
bool fused_takes(const cuda_engine *e, int64_t h, bool alibi, double dropout);

/* result = left · right of the kind, alpha in device memory or NULL for 1; layers.c. */
status product(cuda_engine *e, gemm_kind kind, int64_t n, int64_t m, int64_t k, const void *left, const void *right,
               void *result, const void *alpha, bool accumulate);

/* Room for the operands of these limits, where the engine has `fp8`; memory.c. */
status fp8_room_prepare(cuda_engine *e, const engine_limits *l);
/* The operands' part of it is given back. */
void fp8_room_free(cuda_engine *e);

/* A linear layer's products, in 8 bits where the input's largest magnitude is given (engine.h); fp8_layers.c.
 * y (n, out) = x (n, in) · weight (out, in)ᵀ */
status layer_forward(cuda_engine *e, int64_t n, int64_t out, int64_t in, const void *x, const void *x_amax,
                     const void *weight, void *y);

/* The gradient dy (n, out) that the next calls of layer_data_grad and layer_weight_grad start from. */
typedef struct {
  int64_t n, out, in;
  const void *dy;
  bool fp8; /* dy lies in the engine's fp8_room too, both ways */
} layer_gradient;

/* x_amax as given to the layer's forward; dy_amax NULL: dy's own is found. */
status layer_gradient_open(cuda_engine *e, int64_t n, int64_t out, int64_t in, const void *dy, const void *dy_amax,
                           const void *x_amax, layer_gradient *g);
/* dx (n, in) = dy · weight (out, in) */
status layer_data_grad(cuda_engine *e, const layer_gradient *g, const void *weight, void *dx);
/* dweight (out, in) = alpha · dyᵀ · x (n, in), fp32; alpha: device scalar, NULL: 1 */
status layer_weight_grad(cuda_engine *e, const layer_gradient *g, const void *x, const void *x_amax, const void *alpha,
                         void *dweight);

/* A product of two operands in the compute type, rounded; left (n, k), right (m, k), as fp8 products have them. */
status fp8_product_of(cuda_engine *e, gemm_kind kind, int64_t n, int64_t m, int64_t k, const void *left,
                      const void *right, void *result);

/* Rounds x (rows, columns), c, to 8 bits: as it stands, transposed, or both (NULL: not wanted), and its factor; amax
 * NULL: x's own is found. gradient: e5m2, otherwise e4m3. */
status fp8_operand(cuda_engine *e, bool gradient, int64_t rows, int64_t columns, const void *x, const void *amax,
                   void *straight, void *transposed, float *factor);

/* Each writes its entries of the table. */
void memory_operations(engine_ops *ops);
void stream_operations(engine_ops *ops);
void graph_operations(engine_ops *ops);
void layer_operations(engine_ops *ops);
void plan_operations(engine_ops *ops);
void optimizer_operations(engine_ops *ops);

#endif
