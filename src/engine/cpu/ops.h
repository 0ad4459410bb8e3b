/* The operations of one variant, as table.c puts them into its engine_ops. What they do stands in engine/engine.h. */
#ifndef PSANN_ENGINE_CPU_OPS_H
#define PSANN_ENGINE_CPU_OPS_H

#include "engine/cpu/real.h"
#include "engine/engine.h"

status ENGINE_NAME(embed_forward)(engine *e, const embed_forward_args *a);
status ENGINE_NAME(embed_backward)(engine *e, const embed_backward_args *a);
status ENGINE_NAME(norm_forward)(engine *e, const norm_forward_args *a);
status ENGINE_NAME(norm_backward)(engine *e, const norm_backward_args *a);
status ENGINE_NAME(qkv_forward)(engine *e, const qkv_forward_args *a);
status ENGINE_NAME(qkv_backward)(engine *e, const qkv_backward_args *a);
status ENGINE_NAME(attention_forward)(engine *e, const attention_forward_args *a);
status ENGINE_NAME(attention_backward)(engine *e, const attention_backward_args *a);
status ENGINE_NAME(attention_cached)(engine *e, const attention_cached_args *a);
status ENGINE_NAME(out_forward)(engine *e, const out_forward_args *a);
status ENGINE_NAME(out_backward)(engine *e, const out_backward_args *a);
status ENGINE_NAME(up_forward)(engine *e, const up_forward_args *a);
status ENGINE_NAME(mlp_backward)(engine *e, const mlp_backward_args *a);
status ENGINE_NAME(conv_forward)(engine *e, const conv_forward_args *a);
status ENGINE_NAME(conv_backward)(engine *e, const conv_backward_args *a);
status ENGINE_NAME(head_train)(engine *e, const head_train_args *a);
status ENGINE_NAME(head_eval)(engine *e, const head_eval_args *a);
status ENGINE_NAME(head_logits)(engine *e, const head_logits_args *a);
status ENGINE_NAME(head_forward)(engine *e, const head_forward_args *a);
status ENGINE_NAME(update_add)(engine *e, stream_id s, void *sum, const void *a, const void *b, int64_t n);
status ENGINE_NAME(leaf_squares)(engine *e, stream_id s, const void *grad, int64_t leaf, int64_t n_leaves,
                                 double *squares, int64_t stride);
status ENGINE_NAME(add_leaf_squares)(engine *e, stream_id s, void *sum, const void *a, const void *b, int64_t leaf,
                                     int64_t n_leaves, double *squares, int64_t stride, bool beside);
status ENGINE_NAME(finish_norm)(engine *e, const double *squares, int64_t n_squares, const double *losses,
                                int64_t n_losses, double grad_clip);
status ENGINE_NAME(adamw)(engine *e, const adamw_args *a);

#endif
