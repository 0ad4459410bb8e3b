/* Every operation of engine.h on the CUDA engine, in every precision, against the CPU engine in fp64: over shapes that
 * no tile divides, twice for equal bits, and between guard zones.
 *
 *   test_gpu_operations                 on the GPU; exit 77 where there is none
 *   test_gpu_operations --engine cpu    the CPU engine in fp32 in its place: exercises the test itself
 *
 * --only NAME: one operation; --precision NAME: one precision; --quick: shapes small enough for a slow tool.
 * TEST_SEED=n repeats the inputs of a run.
 */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../engine/operations.h"
#include "engine/select.h"

enum { SEED = 12345, MOST_OPERATIONS = 32, PRECISIONS = 5, SKIPPED = 77 };

static const struct {
  const operation *op;
  op_case c;
} cases[] = {
    {&op_embed_forward, {.B = 1, .T = 1, .D = 8, .V = 5}},
    {&op_embed_forward, {.B = 1, .T = 7, .D = 24, .V = 50, .norm = NORM_RMS}},
    {&op_embed_forward, {.B = 3, .T = 11, .D = 96, .V = 131, .norm = NORM_LAYER, .sinusoidal = true, .past = true}},
    {&op_embed_forward, {.B = 8, .T = 125, .D = 257, .V = 999, .norm = NORM_RMS, .sinusoidal = true}},
    {&op_embed_forward, {.B = 1, .T = 33, .D = 768, .V = 300, .norm = NORM_LAYER}},
    {&op_embed_forward, {.B = 1, .T = 7, .D = 2048, .V = 40, .norm = NORM_RMS, .sinusoidal = true, .past = true}},
    {&op_embed_forward,
     {.B = 3, .T = 1111, .D = 768, .V = 300, .norm = NORM_RMS, .sinusoidal = true}}, /* several rows a block */

    {&op_embed_backward, {.B = 1, .T = 1, .D = 8, .V = 5}},
    {&op_embed_backward, {.B = 1, .T = 7, .D = 24, .V = 3}},
    {&op_embed_backward, {.B = 3, .T = 11, .D = 2048, .V = 40}},
    {&op_embed_backward, {.B = 8, .T = 125, .D = 257, .V = 50}},
    {&op_embed_backward, {.B = 1, .T = 1000, .D = 96, .V = 1000}},
    {&op_embed_backward, {.B = 1, .T = 192, .D = 24, .V = 1}}, /* one run over three whole chunks */

    {&op_norm_forward, {.B = 1, .T = 1, .D = 8, .norm = NORM_RMS}},
    {&op_norm_forward, {.B = 1, .T = 7, .D = 24, .norm = NORM_LAYER}},
    {&op_norm_forward, {.B = 3, .T = 11, .D = 257, .norm = NORM_RMS}},
    {&op_norm_forward, {.B = 3, .T = 11, .D = 257, .norm = NORM_LAYER}},
    {&op_norm_forward, {.B = 8, .T = 125, .D = 96, .norm = NORM_RMS}},
    {&op_norm_forward, {.B = 1, .T = 33, .D = 768, .norm = NORM_LAYER}},
    {&op_norm_forward, {.B = 1, .T = 7, .D = 2048, .norm = NORM_RMS}},
    {&op_norm_forward, {.B = 1, .T = 3, .D = 5120, .norm = NORM_LAYER}},
    {&op_norm_forward, {.B = 1, .T = 140, .D = 257, .norm = NORM_RMS}}, /* from here on: several rows a block */
    {&op_norm_forward, {.B = 4, .T = 1501, .D = 96, .norm = NORM_LAYER}},
    {&op_norm_forward, {.B = 3, .T = 1111, .D = 768, .norm = NORM_RMS}},
    {&op_norm_forward, {.B = 1, .T = 2300, .D = 2048, .norm = NORM_LAYER}},
    {&op_norm_forward, {.B = 1, .T = 301, .D = 5120, .norm = NORM_RMS}},

    {&op_norm_forward, {.B = 1, .T = 33, .D = 784, .norm = NORM_LAYER, .fp8 = true}},
    {&op_norm_forward, {.B = 3, .T = 1111, .D = 48, .norm = NORM_RMS, .fp8 = true}},

    {&op_norm_backward, {.B = 1, .T = 33, .D = 784, .norm = NORM_LAYER, .in_place = true, .fp8 = true}},
    {&op_norm_backward, {.B = 2, .T = 1751, .D = 48, .norm = NORM_RMS, .keep = true, .fp8 = true}},
    {&op_norm_backward, {.B = 1, .T = 1, .D = 8, .norm = NORM_RMS}},
    {&op_norm_backward, {.B = 1, .T = 7, .D = 24, .norm = NORM_LAYER, .keep = true}},
    {&op_norm_backward, {.B = 3, .T = 11, .D = 257, .norm = NORM_RMS, .in_place = true}},
    {&op_norm_backward, {.B = 3, .T = 11, .D = 257, .norm = NORM_LAYER}},
    {&op_norm_backward, {.B = 1, .T = 1500, .D = 96, .norm = NORM_RMS, .keep = true}}, /* several rows a block */
    {&op_norm_backward, {.B = 1, .T = 1500, .D = 24, .norm = NORM_LAYER, .in_place = true}},
    {&op_norm_backward, {.B = 1, .T = 33, .D = 768, .norm = NORM_LAYER, .in_place = true}},
    {&op_norm_backward, {.B = 1, .T = 7, .D = 2048, .norm = NORM_RMS, .keep = true}},
    {&op_norm_backward, {.B = 1, .T = 3, .D = 5120, .norm = NORM_LAYER}},
    {&op_norm_backward, {.B = 2, .T = 1751, .D = 768, .norm = NORM_RMS, .keep = true}},
    {&op_norm_backward, {.B = 1, .T = 3500, .D = 2048, .norm = NORM_RMS, .in_place = true}},
    {&op_norm_backward, {.B = 1, .T = 9001, .D = 96, .norm = NORM_LAYER}},

    {&op_qkv_forward, {.B = 1, .T = 1, .D = 8, .H = 8}},
    {&op_qkv_forward, {.B = 1, .T = 7, .D = 24, .H = 2, .rope = true, .past = true}},
    {&op_qkv_forward, {.B = 3, .T = 11, .D = 18, .H = 3, .rope = true}},
    {&op_qkv_forward, {.B = 3, .T = 11, .D = 257, .H = 257}},
    {&op_qkv_forward, {.B = 8, .T = 125, .D = 96, .H = 8, .rope = true}},
    {&op_qkv_forward, {.B = 3, .T = 11, .D = 768, .H = 12, .rope = true, .past = true}},
    {&op_qkv_forward, {.B = 1, .T = 7, .D = 1024, .H = 512, .rope = true}}, /* heads of one pair */

    {&op_qkv_forward, {.B = 1, .T = 16, .D = 16, .H = 2, .rope = true, .fp8 = true}},
    {&op_qkv_forward, {.B = 3, .T = 48, .D = 208, .H = 13, .fp8 = true}},
    {&op_qkv_forward, {.B = 2, .T = 208, .D = 768, .H = 12, .rope = true, .fp8 = true}},

    {&op_qkv_backward, {.B = 1, .T = 16, .D = 16, .H = 2, .rope = true, .fp8 = true}},
    {&op_qkv_backward, {.B = 3, .T = 48, .D = 208, .H = 13, .fp8 = true}},
    {&op_qkv_backward, {.B = 3, .T = 48, .D = 144, .H = 9, .rope = true, .fp8 = true}},
    {&op_qkv_backward, {.B = 2, .T = 208, .D = 768, .H = 12, .rope = true, .fp8 = true}},
    {&op_qkv_backward, {.B = 1, .T = 1, .D = 8, .H = 8}},
    {&op_qkv_backward, {.B = 1, .T = 7, .D = 24, .H = 2, .rope = true}},
    {&op_qkv_backward, {.B = 3, .T = 11, .D = 18, .H = 3, .rope = true}},
    {&op_qkv_backward, {.B = 3, .T = 11, .D = 257, .H = 257}},
    {&op_qkv_backward, {.B = 8, .T = 125, .D = 96, .H = 8, .rope = true}},
    {&op_qkv_backward, {.B = 3, .T = 11, .D = 768, .H = 12, .rope = true}},

    /* Attention: heads of D/H elements; multiples of 8 without options are cuDNN's in 16 bits. */
    {&op_attention_forward, {.B = 1, .T = 1, .D = 24, .H = 3}},
    {&op_attention_forward, {.B = 2, .T = 7, .D = 72, .H = 3}},
    {&op_attention_forward, {.B = 2, .T = 130, .D = 128, .H = 2}},
    {&op_attention_forward, {.B = 1, .T = 257, .D = 128, .H = 1}},
    {&op_attention_forward, {.B = 1, .T = 1, .D = 5, .H = 1}},
    {&op_attention_forward, {.B = 2, .T = 33, .D = 51, .H = 3, .alibi = true}},
    {&op_attention_forward, {.B = 2, .T = 65, .D = 108, .H = 3, .dropout = 0.3}},
    {&op_attention_forward, {.B = 1, .T = 130, .D = 130, .H = 2, .alibi = true, .dropout = 0.2}},
    {&op_attention_forward, {.B = 1, .T = 300, .D = 500, .H = 5, .alibi = true}},
    {&op_attention_forward, {.B = 2, .T = 129, .D = 128, .H = 2, .dropout = 0.5}},

    {&op_attention_forward, {.B = 2, .T = 144, .D = 128, .H = 2, .fp8 = true}},
    {&op_attention_forward, {.B = 2, .T = 48, .D = 48, .H = 3, .alibi = true, .fp8 = true}},

    {&op_attention_backward, {.B = 1, .T = 1, .D = 24, .H = 3}},
    {&op_attention_backward, {.B = 2, .T = 7, .D = 72, .H = 3}},
    {&op_attention_backward, {.B = 2, .T = 130, .D = 128, .H = 2}},
    {&op_attention_backward, {.B = 1, .T = 257, .D = 128, .H = 1}},
    {&op_attention_backward, {.B = 1, .T = 1, .D = 5, .H = 1}},
    {&op_attention_backward, {.B = 2, .T = 33, .D = 51, .H = 3, .alibi = true}},
    {&op_attention_backward, {.B = 2, .T = 65, .D = 108, .H = 3, .dropout = 0.3}},
    {&op_attention_backward, {.B = 1, .T = 130, .D = 130, .H = 2, .alibi = true, .dropout = 0.2}},
    {&op_attention_backward, {.B = 1, .T = 300, .D = 500, .H = 5, .alibi = true}},
    {&op_attention_backward, {.B = 2, .T = 129, .D = 128, .H = 2, .dropout = 0.5}},

    /* Heads of 64 and 128 without options: ours in 16 bits. */
    {&op_attention_backward, {.B = 1, .T = 1, .D = 64, .H = 1}},
    {&op_attention_backward, {.B = 3, .T = 64, .D = 192, .H = 3}},
    {&op_attention_backward, {.B = 2, .T = 131, .D = 192, .H = 3, .quick = true}},
    {&op_attention_backward, {.B = 1, .T = 1025, .D = 64, .H = 1}},
    {&op_attention_backward, {.B = 8, .T = 333, .D = 448, .H = 7}}, /* more tiles of keys than multiprocessors */
    {&op_attention_backward, {.B = 1, .T = 1, .D = 128, .H = 1}},
    {&op_attention_backward, {.B = 1, .T = 64, .D = 384, .H = 3}},
    {&op_attention_backward, {.B = 2, .T = 131, .D = 384, .H = 3, .quick = true}},
    {&op_attention_backward, {.B = 1, .T = 1025, .D = 128, .H = 1}},
    {&op_attention_backward, {.B = 10, .T = 131, .D = 896, .H = 7}}, /* more tiles of keys than multiprocessors */

    {&op_attention_cached, {.B = 1, .T = 1, .D = 5, .H = 1, .capacity = 1}},
    {&op_attention_cached, {.B = 3, .T = 1, .D = 51, .H = 3, .capacity = 70, .past = true}},
    {&op_attention_cached, {.B = 3, .T = 7, .D = 128, .H = 2, .capacity = 133, .past = true}},
    {&op_attention_cached, {.B = 2, .T = 33, .D = 108, .H = 3, .capacity = 500, .past = true, .alibi = true}},
    {&op_attention_cached, {.B = 2, .T = 3, .D = 400, .H = 2, .capacity = 40, .past = true}},

    /* The projections: M is the input's width. */
    {&op_out_forward, {.B = 2, .T = 1151, .D = 768, .M = 8, .norm = NORM_RMS, .bias = true, .dropout = 0.2}},
    {&op_out_forward, {.B = 1, .T = 1200, .D = 2048, .M = 8, .norm = NORM_LAYER, .alpha = true, .in_place = true}},
    {&op_out_forward, {.B = 1, .T = 1, .D = 8, .M = 8}},
    {&op_out_forward, {.B = 1, .T = 7, .D = 24, .M = 96, .norm = NORM_RMS, .bias = true, .alpha = true}},
    {&op_out_forward, {.B = 3, .T = 11, .D = 257, .M = 33, .norm = NORM_LAYER, .bias = true, .dropout = 0.3}},
    {&op_out_forward, {.B = 3, .T = 11, .D = 257, .M = 257, .norm = NORM_RMS, .alpha = true, .in_place = true}},
    {&op_out_forward,
     {.B = 8,
      .T = 125,
      .D = 96,
      .M = 99,
      .norm = NORM_RMS,
      .bias = true,
      .alpha = true,
      .dropout = 0.5,
      .in_place = true}},
    {&op_out_forward, {.B = 1, .T = 33, .D = 768, .M = 768, .norm = NORM_LAYER, .dropout = 0.1}},
    {&op_out_forward, {.B = 1, .T = 7, .D = 2048, .M = 264, .norm = NORM_RMS, .bias = true}},
    {&op_out_forward, {.B = 1, .T = 7, .D = 96, .M = 8192, .bias = true}},
    {&op_out_forward,
     {.B = 3, .T = 5, .D = 26, .M = 24, .dropout = 0.4}}, /* a row's mask starts inside a block of four */

    {&op_out_forward, {.B = 1, .T = 16, .D = 16, .M = 16, .fp8 = true}},
    {&op_out_forward,
     {.B = 3, .T = 48, .D = 208, .M = 336, .norm = NORM_RMS, .bias = true, .dropout = 0.3, .fp8 = true}},
    {&op_out_forward,
     {.B = 2,
      .T = 208,
      .D = 768,
      .M = 3072,
      .norm = NORM_LAYER,
      .bias = true,
      .alpha = true,
      .in_place = true,
      .fp8 = true}},

    {&op_out_backward, {.B = 1, .T = 16, .D = 16, .M = 16, .fp8 = true}},
    {&op_out_backward, {.B = 3, .T = 48, .D = 208, .M = 336, .bias = true, .dropout = 0.3, .fp8 = true}},
    {&op_out_backward, {.B = 2, .T = 208, .D = 768, .M = 3072, .bias = true, .fp8 = true}},
    {&op_out_backward, {.B = 1, .T = 1, .D = 8, .M = 8, .bias = true}},
    {&op_out_backward, {.B = 1, .T = 7, .D = 24, .M = 96, .bias = true}},
    {&op_out_backward, {.B = 3, .T = 11, .D = 257, .M = 33, .bias = true, .dropout = 0.3}},
    {&op_out_backward, {.B = 8, .T = 125, .D = 96, .M = 99, .dropout = 0.5}},
    {&op_out_backward, {.B = 1, .T = 1000, .D = 264, .M = 40, .bias = true}},
    {&op_out_backward, {.B = 1, .T = 33, .D = 768, .M = 768, .bias = true, .dropout = 0.1}},
    {&op_out_backward, {.B = 1, .T = 7, .D = 2048, .M = 264, .bias = true}},

    {&op_up_forward, {.B = 1, .T = 1, .D = 8, .M = 8, .keep = true}},
    {&op_up_forward, {.B = 1, .T = 7, .D = 24, .M = 96, .decay = ACT_DECAY_RELU, .bias = true, .keep = true}},
    {&op_up_forward, {.B = 3, .T = 11, .D = 257, .M = 33, .decay = ACT_DECAY_NONE, .bounds = true, .keep = true}},
    {&op_up_forward, {.B = 3, .T = 11, .D = 96, .M = 257, .act = ACT_GELU, .bias = true}},
    {&op_up_forward, {.B = 8, .T = 125, .D = 96, .M = 257, .bias = true}},
    {&op_up_forward, {.B = 1, .T = 33, .D = 768, .M = 520, .act = ACT_RELU, .bias = true, .keep = true}},
    {&op_up_forward, {.B = 1, .T = 33, .D = 96, .M = 3072, .keep = true, .bounds = true}},
    {&op_up_forward, {.B = 1, .T = 7, .D = 2048, .M = 264, .act = ACT_GELU, .keep = true}},

    {&op_up_forward, {.B = 1, .T = 16, .D = 16, .M = 16, .keep = true, .fp8 = true}},
    {&op_up_forward, {.B = 3, .T = 48, .D = 208, .M = 336, .act = ACT_GELU, .bias = true, .fp8 = true}},
    {&op_up_forward, {.B = 2, .T = 208, .D = 768, .M = 3072, .bias = true, .bounds = true, .keep = true, .fp8 = true}},

    {&op_mlp_backward, {.B = 1, .T = 16, .D = 32, .M = 64, .alpha = true, .fp8 = true}},
    {&op_mlp_backward,
     {.B = 3, .T = 48, .D = 208, .M = 336, .bias = true, .alpha = true, .dropout = 0.3, .keep = true, .fp8 = true}},
    {&op_mlp_backward,
     {.B = 2, .T = 208, .D = 768, .M = 3072, .decay = ACT_DECAY_RELU, .bias = true, .alpha = true, .fp8 = true}},
    {&op_mlp_backward, {.B = 2, .T = 80, .D = 144, .M = 272, .act = ACT_GELU, .bias = true, .fp8 = true}},
    {&op_mlp_backward, {.B = 1, .T = 1, .D = 8, .M = 8, .alpha = true}},
    {&op_mlp_backward, {.B = 1, .T = 7, .D = 24, .M = 21, .bias = true, .alpha = true, .keep = true}},
    {&op_mlp_backward,
     {.B = 1, .T = 33, .D = 24, .M = 24, .decay = ACT_DECAY_RELU, .bias = true, .alpha = true, .bounds = true}},
    {&op_mlp_backward,
     {.B = 3, .T = 11, .D = 257, .M = 33, .decay = ACT_DECAY_NONE, .bias = true, .keep = true, .dropout = 0.3}},
    {&op_mlp_backward, {.B = 3, .T = 11, .D = 96, .M = 257, .act = ACT_GELU, .bias = true, .alpha = true}},
    {&op_mlp_backward, {.B = 8, .T = 125, .D = 96, .M = 100, .bias = true, .alpha = true, .dropout = 0.5}},
    {&op_mlp_backward, {.B = 1, .T = 1000, .D = 40, .M = 257, .bias = true, .frozen = true}},
    {&op_mlp_backward, {.B = 1, .T = 33, .D = 768, .M = 520, .act = ACT_RELU, .bias = true, .keep = true}},
    {&op_mlp_backward, {.B = 1, .T = 33, .D = 96, .M = 3072, .bias = true, .alpha = true, .bounds = true}},
    {&op_mlp_backward, {.B = 1, .T = 7, .D = 2048, .M = 264, .bias = true, .alpha = true, .keep = true}},

    {&op_conv_forward, {.B = 1, .T = 1, .D = 8, .k = 3, .dilation = 1, .causal = true, .keep = true}},
    {&op_conv_forward, {.B = 1, .T = 7, .D = 24, .k = 1, .dilation = 1, .causal = true, .act = ACT_GELU}},
    {&op_conv_forward,
     {.B = 3, .T = 11, .D = 257, .k = 4, .dilation = 2, .causal = true, .history = true, .keep = true}},
    {&op_conv_forward, {.B = 3, .T = 11, .D = 96, .k = 5, .dilation = 4, .act = ACT_RELU, .keep = true}},
    {&op_conv_forward, {.B = 8, .T = 125, .D = 96, .k = 3, .dilation = 8, .decay = ACT_DECAY_RELU, .causal = true}},
    {&op_conv_forward, {.B = 1, .T = 33, .D = 768, .k = 7, .dilation = 3, .decay = ACT_DECAY_NONE, .bounds = true}},
    {&op_conv_forward, {.B = 2, .T = 1, .D = 2048, .k = 3, .dilation = 2, .causal = true, .history = true}},

    {&op_conv_backward, {.B = 1, .T = 1, .D = 8, .k = 3, .dilation = 1, .causal = true}},
    {&op_conv_backward, {.B = 1, .T = 7, .D = 24, .k = 1, .dilation = 1, .causal = true, .bounds = true}},
    {&op_conv_backward, {.B = 3, .T = 11, .D = 257, .k = 4, .dilation = 2, .causal = true, .act = ACT_GELU}},
    {&op_conv_backward, {.B = 3, .T = 11, .D = 96, .k = 5, .dilation = 4, .decay = ACT_DECAY_NONE}},
    {&op_conv_backward, {.B = 8, .T = 125, .D = 96, .k = 3, .dilation = 8, .causal = true, .decay = ACT_DECAY_RELU}},
    {&op_conv_backward, {.B = 1, .T = 1000, .D = 40, .k = 64, .dilation = 1, .causal = true, .frozen = true}},
    {&op_conv_backward, {.B = 1, .T = 33, .D = 768, .k = 7, .dilation = 3, .act = ACT_RELU}},

    {&op_head_train, {.B = 1, .T = 1, .D = 8, .V = 5}},
    {&op_head_train, {.B = 1, .T = 7, .D = 24, .V = 131, .chunk = 3}},
    {&op_head_train, {.B = 3, .T = 11, .D = 257, .V = 257, .chunk = 10, .label_smoothing = 0.1}},
    {&op_head_train, {.B = 8, .T = 125, .D = 96, .V = 999, .chunk = 384, .label_smoothing = 0.3}},
    {&op_head_train, {.B = 1, .T = 33, .D = 24, .V = 5003, .chunk = 32}},
    {&op_head_train, {.B = 1, .T = 33, .D = 768, .V = 384, .chunk = 16}},
    {&op_head_train, {.B = 1, .T = 7, .D = 2048, .V = 200, .chunk = 5, .label_smoothing = 0.1}},
    /* Long rows, many at a time: streamed through shared memory. */
    {&op_head_train, {.B = 4, .T = 150, .D = 8, .V = 17003, .chunk = 300, .label_smoothing = 0.1}},
    {&op_head_train, {.B = 1, .T = 331, .D = 8, .V = 16640, .chunk = 331, .quick = true}},
    {&op_head_train, {.B = 1, .T = 700, .D = 8, .V = 30001, .chunk = 700}}, /* places are filled again */

    {&op_head_eval, {.B = 1, .T = 1, .D = 8, .V = 5}},
    {&op_head_eval, {.B = 1, .T = 7, .D = 24, .V = 131, .chunk = 3}},
    {&op_head_eval, {.B = 3, .T = 11, .D = 257, .V = 257, .chunk = 10}},
    {&op_head_eval, {.B = 8, .T = 125, .D = 96, .V = 999, .chunk = 384}},
    {&op_head_eval, {.B = 1, .T = 33, .D = 768, .V = 2001, .chunk = 16}},

    {&op_head_logits, {.B = 1, .T = 1, .D = 8, .V = 5}},
    {&op_head_logits, {.B = 3, .T = 11, .D = 257, .V = 257, .chunk = 10}},
    {&op_head_logits, {.B = 8, .T = 125, .D = 96, .V = 999, .chunk = 384}},
    {&op_head_logits, {.B = 1, .T = 7, .D = 2048, .V = 300}},

    /* The update: M elements; B leaves of T elements; B squares, T losses. */
    {&op_add, {.M = 1}},
    {&op_add, {.M = 1023}},
    {&op_add, {.M = 100002}},
    {&op_leaf_squares, {.B = 1, .T = 4}},
    {&op_leaf_squares, {.B = 7, .T = 64}},
    {&op_leaf_squares, {.B = 256, .T = 4160}},
    {&op_leaf_squares, {.B = 128, .T = 192, .M = 14}},
    {&op_add_leaf_squares, {.B = 1, .T = 4}},
    {&op_add_leaf_squares, {.B = 7, .T = 64, .in_place = true}},
    {&op_add_leaf_squares, {.B = 33, .T = 4092, .M = 3, .beside = true}}, /* a block has two leaves, others one */
    {&op_add_leaf_squares, {.B = 128, .T = 4160, .M = 14, .in_place = true, .beside = true}},
    {&op_add_leaf_squares, {.B = 3, .T = 12352, .beside = true}}, /* a part of the last loads */
    {&op_add_leaf_squares, {.B = 70, .T = 16384, .beside = true}},
    {&op_add_leaf_squares, {.B = 5, .T = 36932, .M = 2, .in_place = true}},
    {&op_finish_norm, {.B = 1, .T = 1}},
    {&op_finish_norm, {.B = 3333, .T = 7, .grad_clip = 0.5}},
    {&op_finish_norm, {.B = 512, .T = 1025, .grad_clip = 1e9}},
    {&op_finish_norm, {.B = 300, .T = 3, .grad_clip = 1, .infinite = true}},
    {&op_adamw, {.M = 64, .B = 3, .T = 1}},
    {&op_adamw, {.M = 4096, .B = 3, .T = 1, .first = 1024, .grad_clip = 1}},
    {&op_adamw, {.M = 100004, .B = 3, .T = 1, .first = 256, .in_place = true}},
    {&op_adamw, {.M = 4096, .B = 3, .T = 1, .infinite = true}},
};

enum { CASES = sizeof cases / sizeof *cases };

typedef struct {
  const precision_spec *spec;
  config_precision config;
  double worst[MOST_OPERATIONS]; /* error over tolerance, by operation */
  bool ran[MOST_OPERATIONS];
} precision_run;

static precision_run precisions[PRECISIONS] = {{.spec = &precision_fp32, .config = PRECISION_FP32},
                                               {.spec = &precision_tf32, .config = PRECISION_TF32},
                                               {.spec = &precision_bf16, .config = PRECISION_BF16},
                                               {.spec = &precision_fp16, .config = PRECISION_FP16},
                                               {.spec = &precision_fp8, .config = PRECISION_FP8}};
static struct {
  config_device device;
  const char *only, *precision;
  bool quick;
} options = {.device = DEVICE_CUDA};

static const operation *operations[MOST_OPERATIONS];
static double seconds[MOST_OPERATIONS];
static int n_operations;

static int reference_threads(void) {
  long cores = options.device == DEVICE_CPU ? 1 : sysconf(_SC_NPROCESSORS_ONLN);
  return cores > 8 ? 8 : (int)cores;
}

/* One trial of a case on an engine; false, with what went wrong printed. */
static bool run_trial(const char *what, const operation *op, const op_case *c, trial *t) {
  bool clean;
  status s = t->e->ops->set_step(t->e, &op_step);
  s = s == STATUS_OK ? op->run(t, c) : s;
  s = s == STATUS_OK ? trial_collect(t, &clean) : s;
  trial_end(t);
  if (s != STATUS_OK) {
    print_error("%s: %s (%s)\n", what, status_message(), status_place());
    return false;
  }
  if (!clean) {
    print_error("%s: see above\n", what);
  }
  return clean;
}

static bool check_case(const operation *op, const op_case *c, const precision_run *p, double *worst) {
  char what[256], shape[192];
  op_describe(c, shape, sizeof shape);
  snprintf(what, sizeof what, "%s %s (%s)", p->spec->name, op->name, shape);
  engine_limits limits = op_limits(c);
  engine *exact, *e;
  OK(engine_cpu_create(DTYPE_F64, reference_threads(), SEED, &exact));
  exact->fp8 = c->fp8;
  OK(exact->ops->prepare(exact, &limits));
  OK(engine_create(options.device, p->config, 0, 1, SEED, &e));
  status prepared = e->ops->prepare(e, &limits);
  if (prepared != STATUS_OK) {
    print_error("%s: prepare: %s\n", what, status_message());
  }
  inputs *in = inputs_new(p->spec);
  trial reference = {.e = exact, .in = in, .reference = true}, first = {.e = e, .in = in}, again = {.e = e, .in = in};
  bool good = prepared == STATUS_OK && run_trial(what, op, c, &reference) && run_trial(what, op, c, &first) &&
              run_trial(what, op, c, &again);
  *worst = INFINITY;
  if (good) {
    *worst = trial_compare(what, &first, &reference, p->spec);
    good = *worst <= 1;
    good = same_bits(what, &first, &again, true) && good;
  }
  close_engine(e);
  close_engine(exact);
  free_all();
  return good;
}

static bool wanted(const op_case *c) {
  int64_t largest = c->B * c->T > c->M ? c->B * c->T : c->M;
  return !options.quick || c->quick || (largest <= 140 && c->D <= 260 && c->V <= 300);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void test_operation(void **state) {
  double began = now();
  int number = *(const int *)*state, bad = 0;
  for (int k = 0; k < PRECISIONS; k++) {
    precision_run *p = &precisions[k];
    if ((options.device == DEVICE_CPU && p->config != PRECISION_FP32 && p->config != PRECISION_FP8) ||
        (options.precision && strcmp(options.precision, p->spec->name) != 0)) {
      continue;
    }
    for (uint32_t i = 0; i < CASES; i++) {
      if (cases[i].op == operations[number] && wanted(&cases[i].c) && cases[i].c.fp8 == (p->config == PRECISION_FP8)) {
        double worst;
        restart_random(i + 1);
        bad += !check_case(cases[i].op, &cases[i].c, p, &worst);
        p->ran[number] = true;
        p->worst[number] = fmax(p->worst[number], worst);
      }
    }
  }
  seconds[number] = now() - began;
  assert_int_equal(bad, 0);
}

/* Bytes as they were, in every direction and on every stream; sizes around what goes through staging memory. */
static void test_copies(void **state) {
  (void)state;
  static const size_t sizes[] = {1, 3, 255, 4097, 1 << 20, (1 << 20) + 1, 3333333};
  engine *e;
  OK(engine_create(options.device, PRECISION_FP32, 0, 1, SEED, &e));
  const engine_ops *ops = e->ops;
  for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
    size_t n = sizes[k], third = n / 3;
    unsigned char *from = zeros(n, 1), *to = zeros(n, 1), *zero = zeros(n, 1);
    for (size_t i = 0; i < n; i++) {
      from[i] = (unsigned char)(i * 7 + k + 1);
    }
    void *a, *b;
    OK(ops->alloc(e, n, "a test", &a));
    OK(ops->alloc(e, n, "a test", &b));
    OK(ops->copy(e, STREAM_MAIN, COPY_TO_HOST, to, a, n));
    OK(ops->synchronize(e));
    assert_memory_equal(to, zero, n); /* alloc gives zeros */
    /* Main fills a, side copies it to b when main is done, copy reads b when side is done. */
    OK(ops->copy(e, STREAM_MAIN, COPY_TO_ENGINE, a, from, n));
    OK(ops->fill_zero(e, STREAM_MAIN, (char *)a + third, third));
    OK(ops->record(e, STREAM_MAIN, 0));
    OK(ops->wait(e, STREAM_SIDE, 0));
    OK(ops->copy(e, STREAM_SIDE, COPY_INSIDE, b, a, n));
    OK(ops->record(e, STREAM_SIDE, 63));
    OK(ops->wait(e, STREAM_COPY, 63));
    OK(ops->copy(e, STREAM_COPY, COPY_TO_HOST, to, b, n));
    OK(ops->synchronize(e));
    memset(from + third, 0, third);
    assert_memory_equal(to, from, n);
    ops->free(e, a);
    ops->free(e, b);
    free_all();
  }
  close_engine(e);
}

/* Pinned memory goes round: up on one stream, back on another, and up again. A copy from it reads what is there when
 * the stream comes to it, not what is there at the call; the host waits for nothing meanwhile. */
static void test_pinned_copies(void **state) {
  (void)state;
  static const size_t sizes[] = {1, 4097, 1 << 20, 3333333, 20 << 20};
  engine *e;
  OK(engine_create(options.device, PRECISION_FP32, 0, 1, SEED, &e));
  const engine_ops *ops = e->ops;
  for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
    size_t n = sizes[k];
    unsigned char *zero = zeros(n, 1);
    void *pinned, *other, *a, *b;
    OK(ops->alloc_host(e, n, "a test", &pinned));
    OK(ops->alloc_host(e, n, "a test", &other));
    OK(ops->alloc(e, n, "a test", &a));
    OK(ops->alloc(e, n, "a test", &b));
    assert_memory_equal(pinned, zero, n);
    unsigned char *bytes = pinned;
    for (size_t i = 0; i < n; i++) {
      bytes[i] = (unsigned char)(i * 5 + k + 1);
    }
    OK(ops->copy(e, STREAM_COPY, COPY_FROM_PINNED, a, pinned, n));
    OK(ops->record(e, STREAM_COPY, 0));
    OK(ops->wait(e, STREAM_BACK, 0));
    OK(ops->copy(e, STREAM_BACK, COPY_TO_HOST, other, a, n));
    OK(ops->fill_zero(e, STREAM_BACK, a, n));
    OK(ops->copy(e, STREAM_BACK, COPY_TO_HOST, pinned, a, n)); /* zeros, before the copy below reads them */
    OK(ops->record(e, STREAM_BACK, 1));
    OK(ops->wait(e, STREAM_COPY, 1));
    OK(ops->copy(e, STREAM_COPY, COPY_FROM_PINNED, b, pinned, n));
    OK(ops->copy(e, STREAM_COPY, COPY_TO_HOST, pinned, b, n));
    OK(ops->synchronize(e));
    assert_memory_equal(pinned, zero, n);
    for (size_t i = 0; i < n; i++) {
      assert_int_equal(((unsigned char *)other)[i], (unsigned char)(i * 5 + k + 1));
    }
    ops->free(e, a);
    ops->free(e, b);
    ops->free_host(e, pinned);
    ops->free_host(e, other);
    free_all();
  }
  close_engine(e);
}

/* Worst error over tolerance, by operation and precision. */
static int print_table(void **state) {
  (void)state;
  printf("\nworst error / tolerance  ");
  for (int k = 0; k < PRECISIONS; k++) {
    printf("%8s", precisions[k].spec->name);
  }
  printf("%8s\n", "seconds");
  for (int i = 0; i < n_operations; i++) {
    bool ran = false;
    for (int k = 0; k < PRECISIONS; k++) {
      ran |= precisions[k].ran[i];
    }
    if (!ran) {
      continue;
    }
    printf("%-25s", operations[i]->name);
    for (int k = 0; k < PRECISIONS; k++) {
      precisions[k].ran[i] ? printf("%8.3f", precisions[k].worst[i]) : printf("%8s", "-");
    }
    printf("%8.2f\n", seconds[i]);
  }
  return 0;
}

static int usage(const char *word) {
  fprintf(
      stderr,
      "test_gpu_operations: \"%s\" is not understood; --engine cpu|cuda, --only OPERATION, --precision NAME, --quick\n",
      word);
  return 2;
}

static int read_options(int argc, char **argv) {
  for (int i = 1; i < argc; i++) {
    const char *value = i + 1 < argc ? argv[i + 1] : "";
    if (strcmp(argv[i], "--quick") == 0) {
      options.quick = true;
    } else if (strcmp(argv[i], "--engine") == 0 && (strcmp(value, "cpu") == 0 || strcmp(value, "cuda") == 0)) {
      options.device = strcmp(value, "cpu") == 0 ? DEVICE_CPU : DEVICE_CUDA;
      i++;
    } else if (strcmp(argv[i], "--only") == 0 && *value) {
      options.only = value;
      i++;
    } else if (strcmp(argv[i], "--precision") == 0 && *value) {
      options.precision = value;
      i++;
    } else {
      return usage(argv[i]);
    }
  }
  return 0;
}

/* A test for each operation of the table, or for the one that was asked for. */
static size_t list_tests(struct CMUnitTest *tests, int *numbers_of) {
  size_t n = 0;
  for (int i = 0; i < CASES; i++) {
    if (i > 0 && cases[i].op == cases[i - 1].op) {
      continue;
    }
    assert(n_operations < MOST_OPERATIONS);
    numbers_of[n_operations] = n_operations;
    operations[n_operations] = cases[i].op;
    if (!options.only || strcmp(options.only, cases[i].op->name) == 0) {
      tests[n++] = (struct CMUnitTest){cases[i].op->name, test_operation, NULL, NULL, &numbers_of[n_operations]};
    }
    n_operations++;
  }
  if (!options.only) {
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_copies);
    tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_pinned_copies);
  }
  return n;
}

int main(int argc, char **argv) {
  struct CMUnitTest tests[MOST_OPERATIONS + 2];
  int numbers_of[MOST_OPERATIONS], bad = read_options(argc, argv);
  if (bad != 0) {
    return bad;
  }
  if (options.device == DEVICE_CUDA && engine_gpus() == 0) {
    printf("skipped: no GPU\n");
    return SKIPPED;
  }
  size_t n = list_tests(tests, numbers_of);
  if (n == 0) {
    return usage(options.only);
  }
  return _cmocka_run_group_tests("operations", tests, n, NULL, print_table);
}
