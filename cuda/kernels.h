/* C launchers of the kernels: pointers into device memory, sizes, constants, a stream. No allocation, no waiting, no
 * globals. Shapes are those of engine/engine.h, whose argument structs they take; `compute` is the type of activations
 * and matrices ("c" there), everything of type "s" is fp32. A launcher returns cudaGetLastError().
 */
#ifndef PSANN_CUDA_KERNELS_H
#define PSANN_CUDA_KERNELS_H

#include <cuda_runtime_api.h>

#include "engine/engine.h"
#include "engine/fp8.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Column sums run over this many blocks of rows, whatever the GPU: the order of summation is part of the result. */
enum { ROW_BLOCKS = 128, NORM_BLOCKS = 1024 };

/* What every launch needs. */
typedef struct {
  cudaStream_t stream;
  dtype compute;
  const step_state *step; /* device */
  uint64_t seed;          /* of dropout */
} launch;

/* rows.cu: one pass over (N, D): a source, then the norm. */
/* frequencies: fp32 (D/2), device, of the sinusoidal encoding. */
cudaError_t launch_embed_forward(const launch *l, const embed_forward_args *a, const float *frequencies);
cudaError_t launch_norm_forward(const launch *l, const norm_forward_args *a);
/* y = residual + alpha · dropout(product + bias), then the norm; product: c (N, D). */
cudaError_t launch_residual(const launch *l, const out_forward_args *a, const void *product);
/* partial: fp32 (2, NORM_BLOCKS, D). */
cudaError_t launch_norm_backward(const launch *l, const norm_backward_args *a, float *partial);

/* embed.cu. chunks: fp32 (ceil(N / EMBED_CHUNK), 2, D). */
enum { EMBED_CHUNK = 64 };
cudaError_t launch_embed_backward(const launch *l, const embed_backward_args *a, float *chunks);

/* rope.cu: rotates q and k of qkv (N, 3, H, h) in place by position · frequencies (fp32, h/2, device), or back. amax:
 * of the result, v included; bf16; may be NULL, as below. */
cudaError_t launch_rope(const launch *l, int64_t B, int64_t T, int64_t H, int64_t h, const int32_t *past,
                        const float *frequencies, void *qkv, bool back, void *amax);

/* activation.cu: F features, N rows. a = act(z + bias); z without bias is what is kept. */
cudaError_t launch_act_forward(const launch *l, int64_t N, int64_t F, const act_spec *act, const void *bias,
                               const void *z, void *a, void *a_amax);
/* dz = alpha · da · act'(z + bias), in place of da when dz == da; a is written when not NULL. Sums over rows go to
 * partial, fp32 (up to ROW_BLOCKS, 4, F), which act_finish understands. */
cudaError_t launch_act_backward(const launch *l, int64_t N, int64_t F, const act_spec *act, const void *bias,
                                const void *z, const void *da, const void *alpha, void *dz, void *a, float *partial,
                                void *dz_amax);
/* From the partial sums: gradients of the raw parameters and the bias (NULL: not wanted), and dots (F): Σ_rows a · da.
 */
cudaError_t launch_act_finish(const launch *l, int64_t F, const act_spec *act, const void *alpha, const float *partial,
                              const act_grads *grads, void *dbias, float *dots);
/* dalpha = Σ dots (M) + Σ b2 · colsum (D) / 1. */
cudaError_t launch_alpha_grad(const launch *l, int64_t M, const float *dots, int64_t D, const void *b2,
                              const float *column_sums, void *dalpha);

/* fp8.cu, for bf16. amax = largest magnitude of x (n). */
enum { FP8_MOST_ROWS = 65535 * 128 }; /* of a tensor to be rounded */
cudaError_t launch_amax(const launch *l, int64_t n, const void *x, void *amax);
typedef struct {
  int64_t rows, columns; /* multiples of FP8_MULTIPLE */
  const void *x;         /* c (rows, columns) */
  const void *amax;
  bool gradient;               /* e5m2; otherwise e4m3 */
  void *straight, *transposed; /* bytes (rows, columns), (columns, rows); one may be NULL */
  float *factor;               /* what the rounded numbers are to be multiplied with */
} fp8_round_args;
cudaError_t launch_fp8_round(const launch *l, const fp8_round_args *a);

/* columns.cu: out = scale · Σ_rows x, x: c (N, D); scale: device scalar or NULL; sums (D) without the scale, may be
 * NULL; partial: fp32 (ROW_BLOCKS, D). */
cudaError_t launch_column_sums(const launch *l, int64_t N, int64_t D, const void *x, const void *scale, float *partial,
                               float *sums, void *out);
/* y = dropout mask of x (rows of B sequences of T); y may be x. */
cudaError_t launch_dropout(const launch *l, int64_t B, int64_t T, int64_t D, const dropout_spec *dropout, const void *x,
                           void *y);

/* conv.cu. partial: fp32 (ROW_BLOCKS, k, D). */
cudaError_t launch_conv(const launch *l, const conv_forward_args *a);
cudaError_t launch_conv_input_grad(const launch *l, const conv_backward_args *a);
cudaError_t launch_conv_weight_grad(const launch *l, const conv_backward_args *a, float *partial);

/* loss.cu: logits c (rows, Vp) of rows [first, first + rows) become dlogits in place; losses: fp64 (N). */
cudaError_t launch_loss_train(const launch *l, const head_train_args *a, int64_t first, int64_t rows, void *logits,
                              double *losses);
/* per row: −log p, counted, correct: fp64 (3, N). */
cudaError_t launch_loss_eval(const launch *l, const head_eval_args *a, int64_t first, int64_t rows, const void *logits,
                             double *stats);
/* out[j] = scale · Σ_i x[j·n + i], in a fixed order; one block a j. */
cudaError_t launch_sum_doubles(const launch *l, const double *x, int64_t n, int64_t sums, double scale, double *out);
/* logits c (rows, Vp) → fp32 (rows, V). */
cudaError_t launch_unpad_logits(const launch *l, int64_t rows, int64_t V, int64_t Vp, const void *logits, float *out);

/* attention.cu: own attention for what cuDNN does not take: fp32, ALiBi, dropout, head sizes up to 128 (256 with a
 * cache). delta: fp32 (B, H, T). */
cudaError_t launch_attention_forward(const launch *l, const attention_forward_args *a);
cudaError_t launch_attention_backward(const launch *l, const attention_backward_args *a, float *delta);
cudaError_t launch_attention_cached(const launch *l, const attention_cached_args *a);

/* attention_split.cu: causal attention in fp32 with its products on the tensor cores, operands split into pairs of fp16
 * (split_layout.h), for fp32 storage without dropout, heads of up to 128 elements in fours. The workspace is in use
 * until it is done. */
bool attention_split_takes(dtype compute, int64_t T, int64_t h, double dropout, size_t workspace_bytes);
cudaError_t launch_attention_split_forward(const launch *l, const attention_forward_args *a, void *workspace,
                                           size_t workspace_bytes);

/* attention_wgmma.cu: causal attention's gradients at head sizes 64 and 128 in 16 bits, without ALiBi or dropout; sums
 * are made in one order, whatever runs beside it. The workspace, of so many bytes, is in use until it is done. */
bool attention_wgmma_takes(dtype compute, int64_t B, int64_t T, int64_t H, int64_t h, bool alibi, double dropout);
size_t attention_wgmma_bytes(int64_t B, int64_t T, int64_t H, int64_t h);
cudaError_t launch_attention_wgmma_backward(const launch *l, const attention_backward_args *a, void *workspace);

/* update.cu */
cudaError_t launch_add(cudaStream_t stream, float *sum, const float *a, const float *b, int64_t n);
/* out = (accumulate ? out : 0) + Σ_p parts[p · n + i], p in order; parts: fp32 (count, n). */
cudaError_t launch_sum_parts(cudaStream_t stream, const float *parts, int count, int64_t n, bool accumulate,
                             float *out);
cudaError_t launch_leaf_squares(cudaStream_t stream, const float *grad, int64_t leaf, int64_t n_leaves, double *squares,
                                int64_t stride);
cudaError_t launch_add_leaf_squares(cudaStream_t stream, float *sum, const float *a, const float *b, int64_t leaf,
                                    int64_t n_leaves, double *squares, int64_t stride, bool beside);
cudaError_t launch_finish_norm(cudaStream_t stream, const step_state *state, const double *squares, int64_t n_squares,
                               const double *losses, int64_t n_losses, double grad_clip, loss_scaling *scaling,
                               spike_watch *spikes, step_result *result);
/* runs: device copy; flags of a run: bit 0 trainable, bit 1 decay. */
typedef struct {
  int64_t first, end;
  uint32_t flags, pad;
} device_run;
cudaError_t launch_adamw(const launch *l, const adamw_args *a, const device_run *runs, const step_result *result);

/* Random numbers of mean 0 as timing operands: products of zeros run faster than real ones. x: c (n). */
cudaError_t launch_noise(const launch *l, int64_t n, uint32_t stream_number, void *x);

/* Writes *value (host) to the device struct, in stream order; a loss scale of 0 becomes that of scaling (device). */
cudaError_t launch_set_step(cudaStream_t stream, step_state *target, const step_state *value,
                            const loss_scaling *scaling);

#ifdef __cplusplus
}
#endif

#endif
