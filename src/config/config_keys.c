#include "config/config_keys.h"

#include <math.h>
#include <string.h>

static const config_choice bases[] = {
    {"respsann", BASE_RESPSANN, NULL},
    {"waveresnet", BASE_WAVERESNET, NULL},
    {"transformer", BASE_TRANSFORMER, NULL},
    {"sgrpsann", -1, "this version does not offer it; use respsann, waveresnet or transformer"},
    {"geosparse", -1, "this version does not offer it; use respsann, waveresnet or transformer"},
    {0},
};
static const config_choice positions[] = {
    {"rope", POSITION_ROPE, NULL},
    {"alibi", POSITION_ALIBI, NULL},
    {"sinusoidal", POSITION_SINUSOIDAL, NULL},
    {0},
};
static const config_choice activations[] = {
    {"auto", ACTIVATION_AUTO, NULL},
    {"sine", ACTIVATION_SINE, NULL},
    {"gelu", ACTIVATION_GELU, NULL},
    {"relu", ACTIVATION_RELU, NULL},
    {0},
};
static const config_choice decays[] = {
    {"abs", DECAY_ABS, NULL},
    {"relu", DECAY_RELU, NULL},
    {"none", DECAY_NONE, NULL},
    {0},
};
static const config_choice paddings[] = {
    {"causal", PADDING_CAUSAL, NULL},
    {"same", PADDING_SAME, NULL},
    {0},
};
static const config_choice devices[] = {
    {"auto", DEVICE_AUTO, NULL},
    {"cpu", DEVICE_CPU, NULL},
    {"cuda", DEVICE_CUDA, NULL},
    {0},
};
static const config_choice precisions[] = {
    {"auto", PRECISION_AUTO, NULL},
    {"fp32", PRECISION_FP32, NULL},
    {"tf32", PRECISION_TF32, NULL},
    {"bf16", PRECISION_BF16, NULL},
    {"fp16", PRECISION_FP16, NULL},
    {"fp8", PRECISION_FP8, NULL},
    {"fp64", PRECISION_FP64, "only the parity cases of psann_check run in fp64; use fp32 or auto"},
    {0},
};
static const config_choice recomputes[] = {
    {"none", RECOMPUTE_NONE, NULL},
    {"cheap", RECOMPUTE_CHEAP, NULL},
    {"block", RECOMPUTE_BLOCK, NULL},
    {0},
};
static const config_choice strategies[] = {
    {"auto", STRATEGY_AUTO, NULL},
    {"ddp", STRATEGY_DDP, NULL},
    {"shard_optimizer", STRATEGY_SHARD_OPTIMIZER, NULL},
    {"shard_grad", STRATEGY_SHARD_GRAD, NULL},
    {"full_shard", STRATEGY_FULL_SHARD, NULL},
    {"hybrid", STRATEGY_HYBRID, NULL},
    {0},
};
static const config_choice offloads[] = {
    {"none", OFFLOAD_NONE, NULL},
    {"optimizer", OFFLOAD_OPTIMIZER, NULL},
    {0},
};
static const config_choice spikes[] = {
    {"off", SPIKE_OFF, NULL},
    {"warn", SPIKE_WARN, NULL},
    {"skip", SPIKE_SKIP, NULL},
    {"rollback", SPIKE_ROLLBACK, NULL},
    {0},
};
static const config_choice transports[] = {
    {"auto", TRANSPORT_AUTO, NULL},
    {"mpi", TRANSPORT_MPI, NULL},
    {"nccl", TRANSPORT_NCCL, NULL},
    {0},
};

#define BILLION INT64_C(1000000000)
#define LARGEST_LOSS_SCALE (INT64_C(1) << 40)

#define COMMON(s, n, kind_, initial_, change_, meaning_)                                                      \
  .section = #s, .name = #n, .kind = kind_, .offset = offsetof(config, s.n), .initial = initial_, .unit = "", \
  .change = change_, .meaning = meaning_
#define INTEGER(s, n, initial_, least_, most_, unit_, change_, ...)                                        \
  {                                                                                                        \
    .section = #s, .name = #n, .kind = KIND_INTEGER, .offset = offsetof(config, s.n), .initial = initial_, \
    .least = least_, .most = most_, .unit = unit_, .change = change_, .meaning = __VA_ARGS__               \
  }
#define INTEGER_OR(s, n, word_, value_, least_, most_, unit_, change_, ...)                                            \
  {                                                                                                                    \
    .section = #s, .name = #n, .kind = KIND_INTEGER, .offset = offsetof(config, s.n), .initial = word_, .word = word_, \
    .word_value = value_, .least = least_, .most = most_, .unit = unit_, .change = change_, .meaning = __VA_ARGS__     \
  }
/* Both ends allowed. */
#define REAL(s, n, initial_, low_, high_, unit_, change_, ...)                                                       \
  {                                                                                                                  \
    .section = #s, .name = #n, .kind = KIND_REAL, .offset = offsetof(config, s.n), .initial = initial_, .low = low_, \
    .high = high_, .unit = unit_, .change = change_, .meaning = __VA_ARGS__                                          \
  }
/* 0 allowed, 1 not. */
#define FRACTION(s, n, initial_, change_, ...)                                                                    \
  {                                                                                                               \
    .section = #s, .name = #n, .kind = KIND_REAL, .offset = offsetof(config, s.n), .initial = initial_, .low = 0, \
    .high = 1, .high_open = true, .unit = "", .change = change_, .meaning = __VA_ARGS__                           \
  }
#define SWITCH(s, n, initial_, change_, meaning_) \
  { COMMON(s, n, KIND_SWITCH, initial_, change_, meaning_) }
#define CHOICE(s, n, initial_, choices_, change_, meaning_) \
  { COMMON(s, n, KIND_CHOICE, initial_, change_, meaning_), .choices = choices_ }
#define TEXT(s, n, initial_, empty_, change_, meaning_) \
  { COMMON(s, n, KIND_TEXT, initial_, change_, meaning_), .may_be_empty = empty_ }
#define PAIR(s, n, open_, change_, meaning_) \
  { COMMON(s, n, KIND_PAIR, "none", change_, meaning_), .low = 0, .high = 1000, .open_ended = open_ }
#define LEARN(s, n, initial_, change_, meaning_) \
  { COMMON(s, n, KIND_LEARN, initial_, change_, meaning_) }

const config_key config_keys[] = {
    TEXT(run, dir, "", true, CHANGE_FREE,
         "Folder of the run: resolved config, log, metrics, checkpoints. Must be given; each run has its own."),
    INTEGER(run, seed, "1337", 0, INT64_MAX, "", CHANGE_REFUSE,
            "Key of all randomness: initial weights, order of the data, dropout."),
    CHOICE(run, device, "auto", devices, CHANGE_WARN,
           "Engine that computes. auto: cuda where a GPU is found, otherwise cpu."),
    TEXT(
        run, resume, "auto", false, CHANGE_FREE,
        "auto: continue from the newest whole checkpoint in run.dir, or start when there is none; never: start; or the "
        "path of a checkpoint."),
    REAL(run, max_minutes, "0", 0, 5256000, "minutes", CHANGE_FREE,
         "Save and stop after this time, for jobs with a time limit. 0: no limit."),

    CHOICE(model, base, "respsann", bases, CHANGE_REFUSE,
           "respsann: sine MLP, RMSNorm; waveresnet: the same, with an optional temporal convolution; transformer: "
           "GELU or "
           "ReLU MLP, LayerNorm, as the yardstick."),
    INTEGER_OR(model, vocab_size, "auto", 0, 2, INT64_C(1) << 30, "tokens", CHANGE_REFUSE,
               "Rows of the embedding. auto: the vocabulary of the token store."),
    INTEGER(model, d_model, "512", 1, 65536, "", CHANGE_REFUSE, "Width of the residual stream; a multiple of n_heads."),
    INTEGER(model, n_layers, "8", 1, 1024, "", CHANGE_REFUSE, "Number of blocks."),
    INTEGER(model, n_heads, "8", 1, 1024, "", CHANGE_REFUSE, "Attention heads; rope needs an even d_model / n_heads."),
    INTEGER_OR(model, d_mlp, "auto", 0, 1, 1048576, "", CHANGE_REFUSE, "Width of the MLP. auto: 4 d_model."),
    CHOICE(model, positional_encoding, "rope", positions, CHANGE_REFUSE, "How attention knows positions."),
    CHOICE(model, mlp_activation, "auto", activations, CHANGE_REFUSE,
           "auto: sine, and gelu with base transformer. relu is for base transformer alone, sine for the other bases."),
    FRACTION(model, dropout, "0", CHANGE_REFUSE,
             "Probability on attention weights, attention output and MLP output, in training."),
    REAL(model, sine_amp_init, "1", 0, 1000, "", CHANGE_REFUSE,
         "Initial amplitude A of the activation A exp(-d |z|) sin(f z)."),
    REAL(model, sine_freq_init, "1", 0, 1000, "", CHANGE_REFUSE, "Initial frequency f."),
    REAL(model, sine_damp_init, "0.01", 0, 1000, "", CHANGE_REFUSE, "Initial damping d."),
    REAL(model, sine_amp_init_std, "0", 0, 1000, "", CHANGE_REFUSE,
         "Above 0: every feature draws its amplitude from a normal distribution around sine_amp_init."),
    REAL(model, sine_freq_init_std, "0", 0, 1000, "", CHANGE_REFUSE, "The same for the frequency."),
    REAL(model, sine_damp_init_std, "0", 0, 1000, "", CHANGE_REFUSE, "The same for the damping."),
    PAIR(model, sine_amp_range, false, CHANGE_REFUSE,
         "Each layer draws one initial amplitude uniformly from here, in place of sine_amp_init."),
    PAIR(model, sine_freq_range, false, CHANGE_REFUSE, "The same for the frequency."),
    PAIR(model, sine_damp_range, false, CHANGE_REFUSE, "The same for the damping."),
    PAIR(model, sine_amp_bounds, true, CHANGE_REFUSE, "Clamp of the effective amplitude. none: no bound there."),
    PAIR(model, sine_freq_bounds, true, CHANGE_REFUSE, "The same for the frequency."),
    PAIR(model, sine_damp_bounds, true, CHANGE_REFUSE, "The same for the damping."),
    SWITCH(model, sine_trainable, "true", CHANGE_REFUSE, "Whether amplitude, frequency and damping learn, all three."),
    LEARN(model, sine_learnable, "auto", CHANGE_REFUSE,
          "Which of the three learn, separated by commas; none or empty: none of them; auto: sine_trainable decides."),
    CHOICE(model, sine_decay_mode, "abs", decays, CHANGE_REFUSE,
           "What the damping multiplies: abs: |z|; relu: max(z, 0); none: nothing, the sine is not damped."),
    SWITCH(model, wave_interleave, "false", CHANGE_REFUSE,
           "base waveresnet: a depthwise temporal convolution, activation and projection after each block's MLP."),
    SWITCH(model, wave_replace, "false", CHANGE_REFUSE,
           "The convolution stands in place of the MLP; needs wave_interleave."),
    INTEGER(model, wave_kernel_size, "3", 1, 1024, "taps", CHANGE_REFUSE,
            "Length of the convolution; odd with wave_padding = same."),
    INTEGER(model, wave_dilation_growth, "1", 1, 1024, "", CHANGE_REFUSE,
            "Layer i (from 0) reads positions wave_dilation_growth^i apart."),
    FRACTION(model, wave_dropout, "0", CHANGE_REFUSE,
             "Probability on the convolution's projected output, in training."),
    CHOICE(
        model, wave_padding, "causal", paddings, CHANGE_REFUSE,
        "causal: reads no later position. same: symmetric, as in the reference; it sees the future, so its losses say "
        "nothing about a language model."),

    TEXT(data, train, "", true, CHANGE_FREE, "Token store to train on (psann_data makes it). Must be given."),
    TEXT(data, val, "", true, CHANGE_FREE,
         "Token store to evaluate on, with the same tokenizer. Empty: no evaluation."),
    INTEGER(data, seq_len, "1024", 1, 1048576, "tokens", CHANGE_REFUSE, "Length of a training sequence."),

    INTEGER_OR(
        train, micro_batch, "auto", 0, 1, 65536, "sequences", CHANGE_REFUSE,
        "Sequences that one rank takes through the model at once. It is part of the run's identity: results depend on "
        "it, not on the number of ranks. auto: chosen at the first start and kept, with eight micro-batches a step or "
        "more: "
        "on the CPU at most 4096 tokens, on a GPU what the memory plan of one rank admits there."),
    INTEGER(
        train, batch_tokens, "131072", 1, INT64_C(1) << 40, "tokens", CHANGE_REFUSE,
        "Tokens a step over the whole job, a multiple of seq_len and of micro_batch sequences; accumulation follows."),
    INTEGER_OR(train, max_steps, "none", 0, 1, INT64_C(1) << 40, "steps", CHANGE_FREE,
               "Updates of the run. Give this or tokens_target."),
    INTEGER_OR(train, tokens_target, "none", 0, 1, INT64_C(1) << 60, "tokens", CHANGE_FREE,
               "Tokens of the run over the whole job, rounded up to whole steps."),
    {.section = "train",
     .name = "lr",
     .kind = KIND_REAL,
     .offset = offsetof(config, train.lr),
     .initial = "0.0002",
     .low = 0,
     .low_open = true,
     .high = 10,
     .unit = "",
     .change = CHANGE_WARN,
     .meaning = "Peak learning rate: reached after the warm-up, then a cosine down to min_lr."},
    {.section = "train",
     .name = "min_lr",
     .kind = KIND_REAL,
     .offset = offsetof(config, train.min_lr),
     .initial = "auto",
     .word = "auto",
     .low = 0,
     .high = 10,
     .unit = "",
     .change = CHANGE_WARN,
     .meaning =
         "Learning rate of the last step. auto: lr / 10 (with 0, as in the reference, the last step does nothing)."},
    INTEGER_OR(
        train, warmup_steps, "auto", -1, 0, INT64_C(1) << 40, "steps", CHANGE_WARN,
        "Steps of linear warm-up, fewer than max_steps. auto: a tenth of max_steps, at most 200 (the reference's "
        "2000 is longer than many runs, which then never reach their learning rate)."),
    REAL(train, weight_decay, "0.01", 0, 10, "", CHANGE_WARN, "AdamW's decoupled decay, on every tensor that learns."),
    TEXT(train, decay_exclude, "", true, CHANGE_WARN,
         "Tensors without decay: kinds or name patterns, separated by commas. Empty: every tensor decays."),
    FRACTION(train, beta1, "0.9", CHANGE_WARN, "AdamW's decay of the first moment."),
    FRACTION(train, beta2, "0.95", CHANGE_WARN, "AdamW's decay of the second moment."),
    REAL(train, eps, "1e-08", 1e-30, 1, "", CHANGE_WARN, "AdamW's epsilon, outside the root."),
    REAL(train, grad_clip, "1", 0, 1e9, "", CHANGE_WARN,
         "Largest norm of the gradient over all tensors. 0: no clipping."),
    FRACTION(train, label_smoothing, "0", CHANGE_WARN, "Weight of the uniform distribution in the training loss."),
    CHOICE(train, precision, "auto", precisions, CHANGE_REFUSE,
           "Arithmetic of the model. auto: bf16 on a GPU, fp32 on the CPU. Master weights, moments and gradient sums "
           "are fp32. fp8: as auto, but training's products of attention and MLP in all blocks but the first and the last "
           "take operands of 8 bits, scaled tensor by tensor; d_model, d_mlp and seq_len must be multiples of 16. Pays from widths of about "
           "1000 on."),
    INTEGER_OR(
        train, loss_scale, "dynamic", 0, 1, LARGEST_LOSS_SCALE, "", CHANGE_WARN,
        "fp16: what gradients are multiplied with while they are computed, a power of two. dynamic: halved after a "
        "step whose gradient overflows (its update is skipped), doubled after loss_scale_growth_interval good ones."),
    INTEGER(train, loss_scale_init, "65536", 1, LARGEST_LOSS_SCALE, "", CHANGE_WARN,
            "Dynamic loss scale: its start, a power of two."),
    INTEGER(train, loss_scale_growth_interval, "2000", 1, BILLION, "steps", CHANGE_WARN,
            "Dynamic loss scale: steps in a row without overflow after which it doubles."),
    INTEGER(train, loss_scale_min, "1", 1, LARGEST_LOSS_SCALE, "", CHANGE_WARN,
            "Dynamic loss scale: never below, a power of two."),
    INTEGER(train, loss_scale_max, "16777216", 1, LARGEST_LOSS_SCALE, "", CHANGE_WARN,
            "Dynamic loss scale: never above, a power of two."),
    CHOICE(
        train, recompute, "none", recomputes, CHANGE_FREE,
        "What the backward pass computes again to save memory: none; cheap: norm and activation outputs; block: whole "
        "blocks. All give the same bits."),
    SWITCH(train, graphs, "true", CHANGE_FREE,
           "Parts of a step without exchanges (on one rank all, with others the micro-batches between a rank's first and "
           "last) are captured as CUDA graphs and launched whole: small models no longer wait for the host. The bits are "
           "the same. false: every kernel is launched by itself."),

    INTEGER(eval, interval, "500", 0, BILLION, "steps", CHANGE_FREE, "Steps between evaluations. 0: only at the end."),
    INTEGER(eval, batches, "128", 0, BILLION, "micro-batches", CHANGE_FREE,
            "Length of an evaluation; always the same batches. 0: the whole store."),

    INTEGER(checkpoint, interval, "500", 0, BILLION, "steps", CHANGE_FREE,
            "Steps between checkpoints. 0: only at the end and on a stop."),
    INTEGER(checkpoint, keep_last, "3", 1, BILLION, "files", CHANGE_FREE,
            "Newest checkpoints that stay; older ones go."),
    INTEGER(checkpoint, keep_every, "0", 0, BILLION, "steps", CHANGE_FREE,
            "Checkpoints of these multiples stay for good; a multiple of checkpoint.interval. 0: none."),
    INTEGER(checkpoint, max_failures, "3", 0, BILLION, "", CHANGE_FREE,
            "Failed checkpoint writes in a row that the run outlives; one more stops it."),
    SWITCH(checkpoint, background, "true", CHANGE_FREE,
           "Checkpoints are written while training goes on, from a copy of weights and moments in host memory. false: "
           "training waits, and no copy is needed. Where there is no memory for it, the program takes false and says so."),

    INTEGER(log, interval, "10", 1, BILLION, "steps", CHANGE_FREE,
            "Steps between lines of the log; the metrics have every step."),
    SWITCH(log, tensorboard, "true", CHANGE_FREE,
           "Whether the run folder also gets event files for TensorBoard: every step, under the names of the metrics."),

    CHOICE(
        parallel, strategy, "auto", strategies, CHANGE_FREE,
        "How ranks share the work. ddp: each has the whole model, gradients are summed. shard_optimizer: master weights "
        "and moments are sharded (ZeRO-1). shard_grad: gradients too (ZeRO-2). full_shard: weights too, gathered unit by "
        "unit (ZeRO-3, FSDP). hybrid: full_shard inside shards of parallel.shard_ranks ranks, ddp across them. auto: the "
        "fastest that fits into memory. Results do not depend on it."),
    INTEGER(parallel, shard_ranks, "0", 0, 65536, "ranks", CHANGE_FREE,
            "hybrid: neighbouring ranks that hold one copy of the model together. 0: the ranks of a host."),
    CHOICE(parallel, transport, "auto", transports, CHANGE_FREE,
           "What carries gradients and weights between ranks. auto: nccl on GPUs, mpi on the CPU; mpi on GPUs goes "
           "through host memory."),
    CHOICE(parallel, offload, "none", offloads, CHANGE_FREE,
           "optimizer: master weights and moments lie in the host's memory, 12 bytes a parameter (of its part of them on a "
           "rank that has a part), and pass through a few buffers of the GPU when they are updated; slower, for models "
           "that do not fit otherwise. In fp32 and tf32 the model reads the master weights, and the moments alone move: 8 "
           "bytes. On the CPU it saves nothing. Results do not depend on it."),

    INTEGER(
        watch, timeout_s, "300", 0, 86400, "seconds", CHANGE_FREE,
        "Ranks watch each other: one that is dead, stopped or makes no progress is named within this time, and the job "
        "ends. Set-up, the first step, checkpoints and the run's end may show no progress for 12 times as long. "
        "0: off."),
    CHOICE(
        watch, on_spike, "warn", spikes, CHANGE_WARN,
        "What follows a loss or gradient norm far above the trend. off: nothing; warn: a line in log and metrics; "
        "skip: that "
        "step's update is left out too; rollback: back to the last checkpoint, and on with the data after the spike."),
    INTEGER(watch, spike_window, "128", 8, 1000000, "steps", CHANGE_WARN,
            "How far trend and deviation reach back: a step weighs 1 - 1 / spike_window of the next. The first "
            "so many steps have no spikes."),
    REAL(watch, spike_zscore, "6", 1, 1000000, "", CHANGE_WARN,
         "A spike lies more than this many standard deviations above the trend."),

    INTEGER(cpu, threads, "1", 1, 1024, "threads", CHANGE_WARN,
            "Threads of a rank on the CPU. Another number changes the last bits of results."),

    TEXT(gemm, plans, "auto", false, CHANGE_FREE,
         "Table of the GPU's matrix products: which algorithm serves which shape. What it lacks is timed at start and "
         "added. "
         "auto: psann/gemm_plans_2.txt in the cache folder. The same table gives the same bits."),
};

const int config_n_keys = sizeof config_keys / sizeof config_keys[0];

int config_find(const char *section, const char *name) {
  for (int i = 0; i < config_n_keys; i++) {
    if (strcmp(config_keys[i].section, section) == 0 && strcmp(config_keys[i].name, name) == 0) {
      return i;
    }
  }
  return -1;
}

int config_row_at(size_t offset) {
  for (int i = 0; i < config_n_keys; i++) {
    if (config_keys[i].offset == offset) {
      return i;
    }
  }
  return -1;
}

bool config_has_section(const char *section) {
  for (int i = 0; i < config_n_keys; i++) {
    if (strcmp(config_keys[i].section, section) == 0) {
      return true;
    }
  }
  return false;
}

static const char *choice_name(const config_choice *choices, int value) {
  for (; choices->word != NULL; choices++) {
    if (choices->value == value) {
      return choices->word;
    }
  }
  return "unknown";
}

const char *config_base_name(config_base b) {
  return choice_name(bases, (int)b);
}

const char *config_precision_name(config_precision p) {
  return choice_name(precisions, (int)p);
}

const char *config_recompute_name(config_recompute r) {
  return choice_name(recomputes, (int)r);
}

const char *config_strategy_name(config_strategy s) {
  return choice_name(strategies, (int)s);
}

const char *config_offload_name(config_offload o) {
  return choice_name(offloads, (int)o);
}
