/* The table of operations that a model is made of. An engine is a device that offers them: engine/cpu in plain C and OpenBLAS, cuda/ on GPUs.
 * An engine knows nothing of models, ranks or files; it gets pointers into its own memory, sizes and constants.
 *
 * Legend: B sequences of a micro-batch, T positions, N = B·T rows (row b·T + t), D width, H heads, h = D/H, M width of the MLP,
 * V vocabulary, Vp = V rounded up to 128 (the rows of lm_head). All matrices are row-major; a linear layer's weight is (out, in).
 *
 * Two types: `compute` (activations, matrices) and `state` (vectors, gradients, master weights, moments, statistics). On the CPU both are fp32,
 * or both fp64 in the parity build. "c" and "s" in the shape comments say which one a pointer has; int32 is written out.
 *
 * Gradients are written, never added: `dw = …`. Who sums micro-batches is the weight store (shard/), in a fixed order. A NULL gradient
 * pointer of a vector means that the tensor does not learn. Nothing is allocated inside an operation but from the engine's scratch, whose size
 * engine_ops.scratch_bytes told before; the same inputs give the same bits, whatever the rank.
 *
 * `…_amax`, s (1): the largest magnitude in the array beside it. As an output it is written when not NULL. As an input it has a product's operands rounded
 * to 8 bits (engine/fp8.h, [6]); NULL: the product is made in the compute type. A gradient's counts only where the other input has one. All
 * dimensions of such products are multiples of FP8_MULTIPLE, and the engine has `fp8`.
 *
 * Operations are issued to STREAM_MAIN and may not have finished when they return (on the CPU they have). Formulas: the numbers in brackets
 * are sections of docs/model.md.
 */
#ifndef PSANN_ENGINE_ENGINE_H
#define PSANN_ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "engine/loss_scale.h"
#include "engine/spikes.h"

typedef enum { DTYPE_F32, DTYPE_F64, DTYPE_BF16, DTYPE_F16 } dtype;

static inline size_t dtype_size(dtype t) {
  return t == DTYPE_F64 ? 8 : t == DTYPE_F32 ? 4 : 2;
}

/* COPY carries from the host to the engine and BACK from the engine to the host: a bus takes both ways at once. */
typedef enum { STREAM_MAIN, STREAM_SIDE, STREAM_COMM, STREAM_COPY, STREAM_BACK, STREAMS } stream_id;

enum { ENGINE_EVENTS = 256 };

/* TO_ENGINE reads the host's memory at the call, FROM_PINNED memory of alloc_host when the stream comes to it. TO_HOST writes when the
 * stream comes to it; into other memory than alloc_host's the host may wait for that. */
typedef enum { COPY_TO_ENGINE, COPY_TO_HOST, COPY_INSIDE, COPY_FROM_PINNED } copy_direction;

/* Everything that changes from step to step; lives in the engine's memory so that a recorded step stays valid. */
typedef struct {
  int64_t step;           /* number of the step being computed, from 1 */
  int64_t updates;        /* updates applied before it */
  int64_t first_sequence; /* job-wide number of row 0 of the current micro-batch */
  double lr;
  double loss_scale;    /* dlogits are multiplied by it; 1 but for fp16. 0: the one that the engine keeps */
  double micro_batches; /* n: the summed gradient is divided by it */
} step_state;

/* What became of the step's gradient; written by `finish_norm`, used by `adamw`, read by the host one step late. */
typedef struct {
  double grad_norm;  /* of the mean gradient, before clipping */
  double grad_scale; /* what AdamW multiplies the summed gradient with: clip factor / (n · loss_scale) */
  double loss;       /* mean over the step's micro-batches */
  int64_t skip;      /* 1: loss or norm is not finite, or the step is a spike to be skipped: the update is not applied */
  double loss_scale; /* that the step's gradient was multiplied with */
  loss_scaling next; /* what the engine keeps from here on */
  int64_t spike;     /* 1: loss and norm are finite, and one of them is a spike */
  double loss_zscore, norm_zscore; /* deviations above the mean; 0 while there is too little to compare with */
  spike_watch spikes;              /* what the engine keeps from here on */
} step_result;

/* Dropout with inverted scaling. The mask of element e of sequence s at site k is a function of (seed, s, k, e) alone: philox(seed,
 * PHILOX_DROPOUT, s low, s high, k, e / 4), word e % 4, dropped when philox_uniform < p. e counts inside one sequence (t·D + j; for attention
 * (head·T + query)·T + key). */
typedef struct {
  double p;
  uint32_t site;
} dropout_spec;

typedef enum { NORM_NONE, NORM_RMS, NORM_LAYER } norm_kind;

/* y = norm(x). RMS: x · scale / sqrt(mean(x²) + 1e-6). Layer: (x − mean) / sqrt(var + 1e-5) · scale + bias. */
typedef struct {
  norm_kind kind;    /* NORM_NONE: no norm follows, the other fields are unused */
  const void *scale; /* s (D) */
  const void *bias;  /* s (D), layer only */
  void *y;           /* c (N, D) */
  void *y_amax;
  void *stats;       /* s (N) 1/rms; layer: s (2, N) mean, then 1/deviation */
} norm_spec;

typedef enum { ACT_SINE, ACT_GELU, ACT_RELU } act_kind;
typedef enum { ACT_DECAY_ABS, ACT_DECAY_RELU, ACT_DECAY_NONE } act_decay;

/* Elementwise activation with per-feature parameters (raw, before softplus). */
typedef struct {
  act_kind kind;
  act_decay decay;
  const void *amplitude, *frequency, *damping; /* s (F) raw; sine only */
  double amplitude_lo, amplitude_hi, frequency_lo, frequency_hi, damping_lo, damping_hi; /* −inf, +inf: no bound */
} act_spec;

typedef struct {
  void *amplitude, *frequency, *damping; /* s (F); NULL: does not learn */
} act_grads;

typedef struct {
  int64_t B, T, D, V;
  const int32_t *tokens;    /* int32 (N), in engine memory, each in [0, V) */
  const void *weight;       /* c (V, D) */
  bool sinusoidal;          /* adds PE[past + t] */
  const int32_t *past;      /* int32 (B): position of column 0 of each row; NULL: 0 */
  void *x;                  /* c (N, D) out */
  norm_spec norm;           /* of x */
} embed_forward_args;

typedef struct {
  int64_t B, T, D, V;
  const int32_t *tokens;
  const int32_t *order; /* int32 (N): row numbers sorted by (token, row) */
  const void *dx;       /* c (N, D) */
  void *dweight;        /* s (V, D) */
} embed_backward_args;

typedef struct {
  int64_t N, D;
  const void *x; /* c (N, D) */
  norm_spec norm;
} norm_forward_args;

/* dx = dresidual + the norm's input gradient. */
typedef struct {
  int64_t N, D;
  const void *x;         /* c (N, D) */
  norm_spec norm;        /* y unused */
  const void *dy;        /* c (N, D) gradient at the norm's output */
  const void *dresidual; /* c (N, D) gradient that reaches x beside the norm; NULL: none */
  void *dx;              /* c (N, D) out; may be dresidual */
  void *dx_amax;
  void *dscale, *dbias;  /* s (D); dbias NULL for rms */
} norm_backward_args;

/* qkv = x Wᵀ; q and k rotated when rope (adjacent pairs, angle position · 10000^(−2i/h)). */
typedef struct {
  int64_t B, T, D, H;
  const void *x;      /* c (N, D) */
  const void *x_amax;
  const void *weight; /* c (3·D, D): q, k, v */
  bool rope;
  const int32_t *past; /* int32 (B) or NULL */
  void *qkv;           /* c (N, 3, H, h) */
} qkv_forward_args;

typedef struct {
  int64_t B, T, D, H;
  const void *x, *x_amax;
  const void *weight;
  bool rope;
  void *dqkv;    /* c (N, 3, H, h); rotated back in place */
  void *dx;      /* c (N, D) out */
  void *dweight; /* s (3·D, D) out */
} qkv_backward_args;

/* Causal attention, scores scaled by 1/sqrt(h), ALiBi bias when asked for; T × T is never stored. */
typedef struct {
  int64_t B, T, H, h;
  bool alibi;
  dropout_spec dropout; /* on probabilities */
  const void *qkv;      /* c (N, 3, H, h) */
  void *out;            /* c (N, H·h) */
  void *out_amax;
  void *lse;            /* s (B, H, T): log of the sum of exponentials of the scores */
} attention_forward_args;

typedef struct {
  int64_t B, T, H, h;
  bool alibi;
  dropout_spec dropout;
  const void *qkv, *out, *lse;
  const void *dout; /* c (N, H·h) */
  void *dqkv;       /* c (N, 3, H, h) out */
} attention_backward_args;

/* Attention over a cache, for generation: appends the T new keys and values of each row at position past[b], then attends causally. */
typedef struct {
  int64_t B, T, H, h, capacity; /* past[b] + T ≤ capacity */
  bool alibi;
  const void *qkv;     /* c (N, 3, H, h) */
  const int32_t *past; /* int32 (B) */
  void *keys, *values; /* c (B, H, capacity, h) in and out */
  void *out;           /* c (N, H·h) */
} attention_cached_args;

/* y = residual + alpha · dropout(in Wᵀ + bias), then the norm of y. Output projection of attention, fc2, and the wave block's projection. */
typedef struct {
  int64_t B, T, D, K;
  const void *in;       /* c (N, K) */
  const void *in_amax;
  const void *weight;   /* c (D, K) */
  const void *bias;     /* s (D) or NULL */
  const void *alpha;    /* s (1) or NULL for 1 */
  dropout_spec dropout; /* on (N, D) */
  const void *residual; /* c (N, D) */
  void *y;              /* c (N, D) out; may be residual */
  norm_spec norm;
} out_forward_args;

/* Gradient of the projection; the gradient of the residual is dy itself. */
typedef struct {
  int64_t B, T, D, K;
  const void *in, *in_amax, *weight;
  dropout_spec dropout;
  const void *dy; /* c (N, D) */
  const void *dy_amax;
  void *din;      /* c (N, K) out */
  void *dweight;  /* s (D, K) out */
  void *dbias;    /* s (D) out, or NULL */
} out_backward_args;

/* z = x W1ᵀ + b1, a = act(z). */
typedef struct {
  int64_t N, D, M;
  const void *x;      /* c (N, D) */
  const void *x_amax;
  const void *weight; /* c (M, D) */
  const void *bias;   /* s (M) */
  act_spec act;
  void *z; /* c (N, M) out; NULL: not kept */
  void *a; /* c (N, M) out */
  void *a_amax;
} up_forward_args;

/* Backward of y = … + alpha · dropout(act(x W1ᵀ + b1) W2ᵀ + b2), both products and the activation, from the kept z. */
typedef struct {
  int64_t B, T, D, M;
  const void *x;  /* c (N, D) input of fc1 */
  const void *x_amax;
  const void *z;  /* c (N, M) */
  const void *a;  /* c (N, M), or NULL: computed again from z into `scratch_a` */
  const void *a_amax;
  void *scratch_a; /* c (N, M); unused when a is given */
  void *scratch_z; /* c (N, M): becomes the gradient at z */
  const void *w1, *w2;  /* c (M, D), c (D, M) */
  const void *b1;       /* s (M): an engine may keep z without it */
  const void *b2;       /* s (D) */
  const void *alpha;    /* s (1) or NULL for 1 */
  act_spec act;
  dropout_spec dropout; /* on (N, D) */
  const void *dy;       /* c (N, D) */
  const void *dy_amax;
  void *dx;             /* c (N, D) out */
  void *dw1, *db1, *dw2, *db2; /* s */
  void *dalpha;                /* s (1), NULL when alpha is NULL */
  act_grads dact;
} mlp_backward_args;

/* Depthwise convolution over time and its activation: c[t] = Σ_j w[·, j] · x[t + shift + j·dilation], a = act(c), with
 * shift = −(k−1)·dilation (causal) or −(k−1)/2·dilation (same); zero outside the sequence, or `history` before it. */
typedef struct {
  int64_t B, T, D, k, dilation;
  bool causal;
  const void *x;       /* c (N, D), already normed */
  const void *weight;  /* s (D, k) */
  act_spec act;
  const void *history; /* c (B, (k−1)·dilation, D): rows before t = 0, oldest first; NULL: zeros. Causal only. */
  void *c;             /* c (N, D) out; NULL: not kept */
  void *a;             /* c (N, D) out */
} conv_forward_args;

typedef struct {
  int64_t B, T, D, k, dilation;
  bool causal;
  const void *x, *weight, *c;
  act_spec act;
  const void *da;    /* c (N, D) */
  void *scratch_c;   /* c (N, D): becomes the gradient at c */
  void *dx;          /* c (N, D) out */
  void *dweight;     /* s (D, k) out */
  act_grads dact;
} conv_backward_args;

/* Head and cross entropy, forward and backward in one, in chunks of rows: no more than chunk × Vp logits exist at once. Loss = mean over the N rows of
 * (1 − ε)·nll + ε·mean over the V true columns of −log p; dlogits are seeded with loss_scale / N. */
typedef struct {
  int64_t N, D, V, Vp, chunk;
  const void *x;         /* c (N, D), after the final norm */
  const void *weight;    /* c (Vp, D) */
  const int32_t *labels; /* int32 (N), each in [0, V) */
  double label_smoothing;
  double *loss; /* engine memory, one double: this micro-batch's loss */
  void *dx;     /* c (N, D) out */
  void *dweight; /* s (Vp, D) out; rows past V get zero */
} head_train_args;

/* Head without a gradient. Rows with label −1 don't count. */
typedef struct {
  int64_t N, D, V, Vp, chunk;
  const void *x;
  const void *weight;
  const int32_t *labels;
  double *sums; /* engine memory, 3 doubles: sum of −log p, rows counted, rows whose arg max is the label */
} head_eval_args;

typedef struct {
  int64_t N, D, V, Vp;
  const void *x;
  const void *weight;
  void *logits; /* s (N, V) out */
} head_logits_args;

/* One product, logits = x weightᵀ, in the compute type and with the padding's columns: the cheapest way to have every logit written once. */
typedef struct {
  int64_t N, D, Vp;
  const void *x;      /* c (N, D) */
  const void *weight; /* c (Vp, D) */
  void *logits;       /* c (N, Vp) out */
} head_forward_args;

/* A run of elements of a unit that are treated alike by the optimizer; runs are sorted and don't overlap, what lies between them is padding. */
typedef struct {
  int64_t first, count;
  bool trainable; /* no step and no decay where false */
  bool decay;
} optim_run;

/* AdamW on elements [first, first + count) of a unit: p ← p(1 − lr·wd); m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²;
 * p ← p − lr·(m/(1−β₁ᵗ)) / (sqrt(v)/sqrt(1−β₂ᵗ) + eps), g = grad_scale · grad, t = updates + 1. lr, t, grad_scale and skip come from the
 * step_state and step_result in the engine. Pointers are at `first`. */
typedef struct {
  int64_t first, count;
  const optim_run *runs; /* host memory, stays valid for the engine's life */
  int64_t n_runs;
  double beta1, beta2, eps, weight_decay;
  const void *grad;    /* s */
  void *master, *m, *v; /* s in and out */
  void *weights;       /* c, what the model reads; may be master */
} adamw_args;

/* Memory of an engine's device, in bytes, as the device reports it. */
typedef struct {
  double total; /* that the device has */
  double taken; /* since just before the engine was made, by this process if no other came or went; NaN: not known */
  double fixed; /* of it: what the engine allocated for the libraries to work in when it was made */
} device_usage;

typedef struct engine engine;
typedef struct engine_graph engine_graph;

/* The largest shapes that will be asked for, so that scratch is allocated once. */
typedef struct {
  int64_t B, T, D, H, M, V, Vp, chunk;
  int64_t logits, logits_chunk; /* rows that head_forward is asked for, in all and at a time; only `tune` reads them, and
                                   times nothing else when B·T = 0 */
} engine_limits;

typedef struct {
  /* Life and memory. */
  void (*destroy)(engine *e);
  status (*alloc)(engine *e, size_t bytes, const char *what, void **out); /* 256-byte aligned, zeroed */
  void (*free)(engine *e, void *p);
  /* The host's memory for what moves to and from the engine while both work; zeroed. Free it when no copy is under way. */
  status (*alloc_host)(engine *e, size_t bytes, const char *what, void **out);
  void (*free_host)(engine *e, void *p);
  size_t (*scratch_bytes)(const engine *e, const engine_limits *limits);
  status (*prepare)(engine *e, const engine_limits *limits); /* allocates the scratch */
  /* NULL where memory is the host's. */
  status (*memory)(engine *e, device_usage *out);
  /* Plans of the matrix products: which algorithm serves which shape. All four are NULL where an engine has no choice.
   * `tune` times the shapes of a pass that the table lacks; `plans` gives the table as text (the caller frees it),
   * `used_plans` the lines of the products made so far, without what was measured; `read_plans` adds a table's text;
   * `origin` names it in messages. The same table gives the same bits. */
  status (*tune)(engine *e, const engine_limits *limits);
  status (*plans)(engine *e, char **text);
  status (*used_plans)(engine *e, char **text);
  status (*read_plans)(engine *e, const char *text, const char *origin);

  /* Streams and events: an event is a number in [0, ENGINE_EVENTS). */
  status (*record)(engine *e, stream_id s, int event);
  status (*wait)(engine *e, stream_id s, int event);
  status (*synchronize)(engine *e); /* waits for all streams; reports what went wrong on the device */

  /* Graphs: operations that are issued once and done as often as wanted, at a fraction of the host's time. All four are NULL
   * where an engine has none. What is issued to STREAM_MAIN between capture_begin and capture_end is not done but kept; nothing
   * may be issued to another stream there, no copy to or from the host, no set_step; after a failure there the engine is
   * good for destroying alone. launch_graph issues all of it to STREAM_MAIN; memory that it reads and writes must still be
   * there. */
  status (*capture_begin)(engine *e);
  status (*capture_end)(engine *e, engine_graph **out);
  status (*launch_graph)(engine *e, engine_graph *g);
  void (*free_graph)(engine *e, engine_graph *g);

  status (*copy)(engine *e, stream_id s, copy_direction d, void *to, const void *from, size_t bytes);
  status (*fill_zero)(engine *e, stream_id s, void *p, size_t bytes);
  /* The loss scale that the engine keeps from now on; before the first call it is fixed at 1. */
  status (*set_loss_scale)(engine *e, const loss_scaling *s);
  /* The watch for spikes that the engine keeps from now on; before the first call it is off. */
  status (*set_spike_watch)(engine *e, const spike_watch *w);
  /* Between two calls of finish_norm a loss_scale of 0 means the same scale each time. */
  status (*set_step)(engine *e, const step_state *state);
  status (*get_result)(engine *e, step_result *result); /* of the last finish_norm; waits for it, not for what was issued since */

  /* The model. */
  status (*embed_forward)(engine *e, const embed_forward_args *a);
  status (*embed_backward)(engine *e, const embed_backward_args *a);
  status (*norm_forward)(engine *e, const norm_forward_args *a);
  status (*norm_backward)(engine *e, const norm_backward_args *a);
  status (*qkv_forward)(engine *e, const qkv_forward_args *a);
  status (*qkv_backward)(engine *e, const qkv_backward_args *a);
  status (*attention_forward)(engine *e, const attention_forward_args *a);
  status (*attention_backward)(engine *e, const attention_backward_args *a);
  status (*attention_cached)(engine *e, const attention_cached_args *a);
  status (*out_forward)(engine *e, const out_forward_args *a);
  status (*out_backward)(engine *e, const out_backward_args *a);
  status (*up_forward)(engine *e, const up_forward_args *a);
  status (*mlp_backward)(engine *e, const mlp_backward_args *a);
  status (*conv_forward)(engine *e, const conv_forward_args *a);
  status (*conv_backward)(engine *e, const conv_backward_args *a);
  status (*head_train)(engine *e, const head_train_args *a);
  status (*head_eval)(engine *e, const head_eval_args *a);
  status (*head_logits)(engine *e, const head_logits_args *a);
  status (*head_forward)(engine *e, const head_forward_args *a);

  /* The update. n counts elements of type s. */
  /* sum = a + b: a node of the tree; sum may be one of them. */
  status (*add)(engine *e, stream_id s, void *sum, const void *a, const void *b, int64_t n);
  /* squares[i · stride] = fp64 sum of g² over leaf i. */
  status (*leaf_squares)(engine *e, stream_id s, const void *grad, int64_t leaf, int64_t n_leaves, double *squares,
                         int64_t stride);
  /* add, then leaf_squares of the sum, in one pass and to the same bits: a, b, sum are (n_leaves, leaf), sum may be one
   * of them. beside: other streams compute meanwhile; it should then keep few multiprocessors. */
  status (*add_leaf_squares)(engine *e, stream_id s, void *sum, const void *a, const void *b, int64_t leaf,
                             int64_t n_leaves, double *squares, int64_t stride, bool beside);
  /* Sums squares and losses in index order in fp64; undoes the loss scale, then decides clipping and skipping; fills
   * the engine's step_result; adapts the loss scale and the watch for spikes that the engine keeps. grad_clip 0: off. */
  status (*finish_norm)(engine *e, const double *squares, int64_t n_squares, const double *losses, int64_t n_losses, double grad_clip);
  status (*adamw)(engine *e, const adamw_args *a);
} engine_ops;

struct engine {
  const engine_ops *ops;
  dtype compute, state;
  uint64_t seed;         /* of dropout */
  int64_t chunk_logits;  /* logits of a chunk of the loss: enough for an efficient product, a small part of a step's memory; part of what identifies a run */
  bool fp8;              /* operations may be given `…_amax`: set before `prepare`, which then has scratch for it */
  bool unordered;        /* sums may be made in any order where that is faster, so that runs differ: a measurement of what the fixed order costs */
  bool host_memory;      /* engine memory is the host's: MPI and file code may read it */
  char description[160]; /* for people: "CPU fp32, x86-64-v3, OpenBLAS 0.3.21 Zen, 1 thread" */
};

/* The CPU engine. `compute` is DTYPE_F32 or DTYPE_F64 (parity tests); threads ≥ 1. */
status engine_cpu_create(dtype compute, int threads, uint64_t seed, engine **out);

#endif
