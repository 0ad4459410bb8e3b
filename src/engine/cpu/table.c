/* One variant's table of operations. */
#include "engine/cpu/cpu_engine.h"
#include "engine/cpu/ops.h"

extern const engine_ops ENGINE_NAME(engine_cpu_ops);

const engine_ops ENGINE_NAME(engine_cpu_ops) = {
    .destroy = cpu_destroy,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .alloc_host = cpu_alloc, /* all memory is the host's */
    .free_host = cpu_free,
    .scratch_bytes = cpu_scratch_bytes,
    .prepare = cpu_prepare,
    .record = cpu_record,
    .wait = cpu_wait,
    .synchronize = cpu_synchronize,
    .copy = cpu_copy,
    .fill_zero = cpu_fill_zero,
    .set_loss_scale = cpu_set_loss_scale,
    .set_spike_watch = cpu_set_spike_watch,
    .set_step = cpu_set_step,
    .get_result = cpu_get_result,
    .embed_forward = ENGINE_NAME(embed_forward),
    .embed_backward = ENGINE_NAME(embed_backward),
    .norm_forward = ENGINE_NAME(norm_forward),
    .norm_backward = ENGINE_NAME(norm_backward),
    .qkv_forward = ENGINE_NAME(qkv_forward),
    .qkv_backward = ENGINE_NAME(qkv_backward),
    .attention_forward = ENGINE_NAME(attention_forward),
    .attention_backward = ENGINE_NAME(attention_backward),
    .attention_cached = ENGINE_NAME(attention_cached),
    .out_forward = ENGINE_NAME(out_forward),
    .out_backward = ENGINE_NAME(out_backward),
    .up_forward = ENGINE_NAME(up_forward),
    .mlp_backward = ENGINE_NAME(mlp_backward),
    .conv_forward = ENGINE_NAME(conv_forward),
    .conv_backward = ENGINE_NAME(conv_backward),
    .head_train = ENGINE_NAME(head_train),
    .head_eval = ENGINE_NAME(head_eval),
    .head_logits = ENGINE_NAME(head_logits),
    .head_forward = ENGINE_NAME(head_forward),
    .add = ENGINE_NAME(update_add),
    .leaf_squares = ENGINE_NAME(leaf_squares),
    .add_leaf_squares = ENGINE_NAME(add_leaf_squares),
    .finish_norm = ENGINE_NAME(finish_norm),
    .adamw = ENGINE_NAME(adamw),
};
