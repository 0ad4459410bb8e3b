/* The configuration of a run. INI key = struct field = log field = HDF5 attribute: the field names below are the keys,
 * the nested struct is the section. config_keys.c holds the one table (section, name, type, default, range, unit,
 * meaning, what a resume may change); reading, writing, help, checks of ranges and docs/config.md all come from it.
 */
#ifndef PSANN_CONFIG_CONFIG_H
#define PSANN_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/status.h"

typedef enum { BASE_RESPSANN, BASE_WAVERESNET, BASE_TRANSFORMER } config_base;
typedef enum { POSITION_ROPE, POSITION_ALIBI, POSITION_SINUSOIDAL } config_position;
typedef enum { ACTIVATION_AUTO, ACTIVATION_SINE, ACTIVATION_GELU, ACTIVATION_RELU } config_activation;
typedef enum { DECAY_ABS, DECAY_RELU, DECAY_NONE } config_decay;
typedef enum { PADDING_CAUSAL, PADDING_SAME } config_padding;
typedef enum { DEVICE_AUTO, DEVICE_CPU, DEVICE_CUDA } config_device;
typedef enum {
  PRECISION_AUTO,
  PRECISION_FP32,
  PRECISION_TF32,
  PRECISION_BF16,
  PRECISION_FP16,
  PRECISION_FP8, /* as bf16 on a GPU, fp32 on the CPU, but for the products of the inner blocks */
  PRECISION_FP64 /* parity tests only, not an INI value */
} config_precision;
typedef enum { RECOMPUTE_NONE, RECOMPUTE_CHEAP, RECOMPUTE_BLOCK } config_recompute;
typedef enum {
  STRATEGY_AUTO,
  STRATEGY_DDP,
  STRATEGY_SHARD_OPTIMIZER,
  STRATEGY_SHARD_GRAD,
  STRATEGY_FULL_SHARD,
  STRATEGY_HYBRID
} config_strategy;
typedef enum { SPIKE_OFF, SPIKE_WARN, SPIKE_SKIP, SPIKE_ROLLBACK } config_on_spike;
typedef enum { TRANSPORT_AUTO, TRANSPORT_MPI, TRANSPORT_NCCL } config_transport;
typedef enum { OFFLOAD_NONE, OFFLOAD_OPTIMIZER } config_offload;

enum { /* bits of sine_learnable */
       LEARN_AMPLITUDE = 1,
       LEARN_FREQUENCY = 2,
       LEARN_DECAY = 4,
};

/* A pair of numbers; NaN at an end means "none" there. */
typedef struct {
  double lo, hi;
} config_pair;

typedef struct {
  config_base base;
  int64_t vocab_size; /* 0: taken from the token store */
  int64_t d_model;
  int64_t n_layers;
  int64_t n_heads;
  int64_t d_mlp; /* 0: 4 · d_model */
  config_position positional_encoding;
  config_activation mlp_activation; /* auto: sine, and gelu for base transformer */
  double dropout;
  double sine_amp_init, sine_freq_init, sine_damp_init;
  double sine_amp_init_std, sine_freq_init_std, sine_damp_init_std;
  config_pair sine_amp_range, sine_freq_range, sine_damp_range; /* one uniform draw a layer; both NaN: off */
  config_pair sine_amp_bounds, sine_freq_bounds,
      sine_damp_bounds; /* clamp of the effective value; NaN: no bound there */
  bool sine_trainable;
  int sine_learnable; /* bits; -1: not given, sine_trainable decides */
  config_decay sine_decay_mode;
  bool wave_interleave;
  bool wave_replace;
  int64_t wave_kernel_size;
  int64_t wave_dilation_growth;
  double wave_dropout;
  config_padding wave_padding;
} config_model;

typedef struct {
  struct {
    char *dir;
    int64_t seed;
    config_device device;
    char *resume;       /* "auto", "never" or a path */
    double max_minutes; /* 0: no limit */
  } run;
  config_model model;
  struct {
    char *train;
    char *val; /* empty: no validation */
    int64_t seq_len;
  } data;
  struct {
    int64_t micro_batch; /* sequences; 0: auto */
    int64_t batch_tokens;
    int64_t max_steps;     /* 0: from tokens_target */
    int64_t tokens_target; /* 0: from max_steps */
    double lr;
    double min_lr;        /* NaN: auto, lr / 10 */
    int64_t warmup_steps; /* -1: auto, a tenth of max_steps but at most 200 */
    double weight_decay;
    char *decay_exclude; /* comma-separated kinds or name patterns; empty: every tensor decays */
    double beta1, beta2, eps;
    double grad_clip; /* 0: off */
    double label_smoothing;
    config_precision precision;
    int64_t loss_scale;      /* fp16; a power of two, 0: dynamic */
    int64_t loss_scale_init; /* powers of two */
    int64_t loss_scale_growth_interval;
    int64_t loss_scale_min, loss_scale_max;
    config_recompute recompute;
    bool graphs;
  } train;
  struct {
    int64_t interval; /* steps; 0: only at the end */
    int64_t batches;  /* micro-batches an evaluation; 0: the whole store */
  } eval;
  struct {
    int64_t interval; /* steps; 0: only at the end */
    int64_t keep_last;
    int64_t keep_every; /* steps; 0: off */
    int64_t max_failures;
    bool background;
  } checkpoint;
  struct {
    int64_t interval;
    bool tensorboard;
  } log;
  struct {
    config_strategy strategy;
    config_transport transport;
    int64_t shard_ranks; /* hybrid: ranks of a shard; 0: those of a host */
    config_offload offload;
  } parallel;
  struct {
    int64_t timeout_s; /* 0: off */
    config_on_spike on_spike;
    int64_t spike_window; /* steps */
    double spike_zscore;
  } watch;
  struct {
    int64_t threads;
  } cpu;
  struct {
    char *plans; /* "auto" or a path */
  } gemm;
  /* Which keys were given, in the order of the table, and where ("file:line", "command line"); for messages on unused
   * keys. */
  char **given;
} config;

/* What a resume says to a changed key. */
typedef enum {
  CHANGE_FREE,   /* intervals, paths, launch facts */
  CHANGE_WARN,   /* learning rate, schedule */
  CHANGE_REFUSE, /* the identity of the run */
} config_change;

/* Defaults of the table; config_free releases it and all strings. */
status config_new(config **out);
void config_free(config *c);
status config_copy(const config *c, config **out);

/* Reads an INI file over what is there. Unknown section or key (with the nearest known one), duplicate key, wrong type,
 * value out of range: a user error with file, line, and the allowed values. */
status config_read(config *c, const char *path);

/* The same from text; `origin` names it in messages. */
status config_read_text(config *c, const char *text, const char *origin);

/* "section.key=value" from a command line. */
status config_override(config *c, const char *assignment);

/* Sets one key from text; `origin` names the source in messages. */
status config_set(config *c, const char *section, const char *name, const char *value, const char *origin);

/* Relations between keys (d_model divisible by n_heads, wave_replace needs wave_interleave, ...), keys that must be
 * given (run.dir, data.train, the length of the run), and given keys that have no effect under the others. Resolves
 * d_mlp, mlp_activation, sine_learnable (which then speaks for sine_trainable), min_lr, warmup_steps, max_steps from
 * tokens_target, and the auto of device, precision and transport. vocab_size, micro_batch and strategy stay auto until
 * the store and the plan say them. Call once, after all keys are in. */
status config_resolve(config *c);

/* The same for programs that measure a model and train nothing. What the config says about run folder, stores, the
 * run's length and its batch is put aside: a run of `steps` steps of `micro_batches` micro-batches, without warm-up.
 * train.micro_batch must be given. */
status config_resolve_measured(config *c, int64_t steps, int64_t micro_batches);

/* The checks and resolutions that concern [model] alone: for parity cases. */
status config_resolve_model(config_model *m);

/* All keys as INI text that config_read accepts; of a resolved config, it gives an equal one once it is resolved too.
 * Keys without effect stand as comments, with the reason. The caller frees *text. */
status config_text(const config *c, char **text);

/* Number of rows of the table; name, value and rule of row i. `value` (freshly allocated) may be NULL. */
int config_rows(void);
status config_row(const config *c, int i, const char **section, const char **name, char **value, config_change *change);

/* The value of "section.key" as text; the caller frees it. An unknown key is a user error with the nearest known one. */
status config_value(const config *c, const char *key, char **value);

/* --help-config and docs/config.md. */
void config_help(FILE *out);
void config_markdown(FILE *out);

/* Names of enum values, for messages and reports. */
const char *config_base_name(config_base b);
const char *config_precision_name(config_precision p);
const char *config_recompute_name(config_recompute r);
const char *config_strategy_name(config_strategy s);
const char *config_offload_name(config_offload o);

#endif
