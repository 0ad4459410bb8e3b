/* Relations between keys, and the values that follow from others. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "config/config_keys.h"
#include "engine/fp8.h"

/* Fields that were set without text (a parity case's attributes) have met no range yet. */
static status check_model_ranges(const config_model *m) {
  for (int i = 0; i < config_n_keys; i++) {
    const config_key *k = &config_keys[i];
    if (strcmp(k->section, "model") == 0) {
      TRY(config_value_check(k, (const char *)m + (k->offset - offsetof(config, model))));
    }
  }
  return STATUS_OK;
}

static status check_range_pair(const char *name, config_pair range) {
  if (isnan(range.lo) != isnan(range.hi)) {
    USER_ERROR("model.%s has one end without a value; give both ends, or none", name);
  }
  return STATUS_OK;
}

static status resolve_activation(config_model *m) {
  bool transformer = m->base == BASE_TRANSFORMER;
  if (m->mlp_activation == ACTIVATION_AUTO) {
    m->mlp_activation = transformer ? ACTIVATION_GELU : ACTIVATION_SINE;
  }
  if (transformer && m->mlp_activation == ACTIVATION_SINE) {
    USER_ERROR("model.mlp_activation = sine is not for model.base = transformer; use gelu or relu, or base respsann");
  }
  if (!transformer && m->mlp_activation == ACTIVATION_RELU) {
    USER_ERROR("model.mlp_activation = relu is for model.base = transformer alone; use sine or gelu with base %s",
               config_base_name(m->base));
  }
  return STATUS_OK;
}

static status check_attention(const config_model *m) {
  if (m->d_model % m->n_heads != 0) {
    USER_ERROR("model.d_model = %lld is not a multiple of model.n_heads = %lld; change one of them",
               (long long)m->d_model, (long long)m->n_heads);
  }
  int64_t head = m->d_model / m->n_heads;
  if (m->positional_encoding == POSITION_ROPE && head % 2 != 0) {
    USER_ERROR(
        "model.positional_encoding = rope needs an even head size, but d_model / n_heads = %lld / %lld = %lld; "
        "change one of them or use alibi",
        (long long)m->d_model, (long long)m->n_heads, (long long)head);
  }
  if (m->positional_encoding == POSITION_SINUSOIDAL && m->d_model % 2 != 0) {
    USER_ERROR("model.positional_encoding = sinusoidal needs an even model.d_model, not %lld", (long long)m->d_model);
  }
  return STATUS_OK;
}

static status check_wave(const config_model *m) {
  if (m->base != BASE_WAVERESNET) {
    if (m->wave_interleave || m->wave_replace) {
      USER_ERROR("model.wave_%s = true needs model.base = waveresnet, not %s",
                 m->wave_interleave ? "interleave" : "replace", config_base_name(m->base));
    }
    return STATUS_OK;
  }
  if (m->wave_interleave && m->wave_padding == PADDING_SAME && m->wave_kernel_size % 2 == 0) {
    USER_ERROR("model.wave_padding = same needs an odd model.wave_kernel_size, not %lld; change it or use causal",
               (long long)m->wave_kernel_size);
  }
  const int64_t most = INT64_C(1) << 30;
  int64_t reach = m->wave_kernel_size;
  for (int64_t layer = 1; layer < m->n_layers && m->wave_interleave && m->wave_dilation_growth > 1; layer++) {
    reach *= m->wave_dilation_growth;
    if (reach > most) {
      USER_ERROR(
          "model.wave_dilation_growth = %lld makes layer %lld of %lld reach further than %lld positions; "
          "lower it",
          (long long)m->wave_dilation_growth, (long long)layer, (long long)m->n_layers, (long long)most);
    }
  }
  return STATUS_OK;
}

status config_resolve_model(config_model *m) {
  TRY(check_model_ranges(m));
  TRY(resolve_activation(m));
  TRY(check_attention(m));
  TRY(check_range_pair("sine_amp_range", m->sine_amp_range));
  TRY(check_range_pair("sine_freq_range", m->sine_freq_range));
  TRY(check_range_pair("sine_damp_range", m->sine_damp_range));
  TRY(check_wave(m));
  if (m->d_mlp == 0) {
    m->d_mlp = 4 * m->d_model;
  }
  if (m->sine_learnable < 0) {
    m->sine_learnable = m->sine_trainable ? LEARN_AMPLITUDE | LEARN_FREQUENCY | LEARN_DECAY : 0;
  }
  m->sine_trainable = m->sine_learnable != 0;
  return STATUS_OK;
}

static status check_given(const config *c) {
  for (int i = 0; i < config_n_keys; i++) {
    const char *reason = c->given[i] != NULL ? config_no_effect(c, i) : NULL;
    if (reason != NULL) {
      USER_ERROR("%s.%s %s%s has no effect: %s; remove it or change that", config_keys[i].section, config_keys[i].name,
                 PLACE(c->given[i]), reason);
    }
  }
  return STATUS_OK;
}

static status check_required(const config *c) {
  if (c->run.dir == NULL || c->run.dir[0] == '\0') {
    USER_ERROR("run.dir is not given; give the folder that this run's files go to");
  }
  if (c->data.train == NULL || c->data.train[0] == '\0') {
    USER_ERROR("data.train is not given; give the path of a token store, which psann_data makes");
  }
  return STATUS_OK;
}

static status check_batch(const config *c) {
  long long batch = c->train.batch_tokens;
  long long length = c->data.seq_len;
  long long micro = c->train.micro_batch;
  if (batch % length != 0) {
    USER_ERROR("train.batch_tokens = %lld is not a multiple of data.seq_len = %lld; the nearest ones are %lld and %lld",
               batch, length, batch < length ? length : batch / length * length, (batch / length + 1) * length);
  }
  if (micro > 0 && batch / length % micro != 0) {
    USER_ERROR(
        "train.batch_tokens = %lld is %lld sequences of %lld tokens, not a multiple of train.micro_batch = %lld; "
        "change one of them",
        batch, batch / length, length, micro);
  }
  return STATUS_OK;
}

static status resolve_length(config *c) {
  int64_t steps = c->train.max_steps;
  int64_t tokens = c->train.tokens_target;
  int64_t batch = c->train.batch_tokens;
  int64_t needed = tokens > 0 ? tokens / batch + (tokens % batch != 0) : 0;
  bool both_given = c->given[ROW_OF(train.max_steps)] != NULL && c->given[ROW_OF(train.tokens_target)] != NULL;
  if (steps == 0 && tokens == 0) {
    USER_ERROR("the length of the run is not given; give train.max_steps or train.tokens_target");
  }
  if (steps > 0 && tokens > 0 && (both_given || steps != needed)) {
    USER_ERROR("both train.max_steps = %lld and train.tokens_target = %lld are given; give one of them",
               (long long)steps, (long long)tokens);
  }
  if (tokens > 0) {
    c->train.max_steps = needed;
  }
  int64_t total;
  if (__builtin_mul_overflow(c->train.max_steps, batch, &total)) {
    USER_ERROR(
        "train.max_steps = %lld steps of train.batch_tokens = %lld tokens are more than can be counted; lower one",
        (long long)c->train.max_steps, (long long)batch);
  }
  return STATUS_OK;
}

static status resolve_schedule(config *c) {
  enum { LONGEST_AUTO_WARMUP = 200 };
  int64_t steps = c->train.max_steps;
  if (c->train.warmup_steps < 0) {
    c->train.warmup_steps = steps / 10 < LONGEST_AUTO_WARMUP ? steps / 10 : LONGEST_AUTO_WARMUP;
  }
  if (c->train.warmup_steps >= steps) {
    USER_ERROR(
        "train.warmup_steps = %lld must be less than the run's %lld steps, or the learning rate is never reached",
        (long long)c->train.warmup_steps, (long long)steps);
  }
  if (isnan(c->train.min_lr)) {
    c->train.min_lr = c->train.lr / 10;
  }
  if (c->train.min_lr > c->train.lr) {
    USER_ERROR("train.min_lr = %g is above train.lr = %g; lower it", c->train.min_lr, c->train.lr);
  }
  return STATUS_OK;
}

static status check_power_of_two(const char *name, int64_t value) {
  if ((value & (value - 1)) != 0) {
    int64_t below = 1;
    while (below <= value / 2) {
      below *= 2;
    }
    USER_ERROR("train.%s = %lld is not a power of two; the nearest ones are %lld and %lld", name, (long long)value,
               (long long)below, (long long)(2 * below));
  }
  return STATUS_OK;
}

static status check_loss_scale(const config *c) {
  int64_t init = c->train.loss_scale_init, least = c->train.loss_scale_min, most = c->train.loss_scale_max;
  TRY(check_power_of_two("loss_scale", c->train.loss_scale)); /* 0, dynamic, passes */
  TRY(check_power_of_two("loss_scale_init", init));
  TRY(check_power_of_two("loss_scale_min", least));
  TRY(check_power_of_two("loss_scale_max", most));
  if (init < least || init > most) {
    USER_ERROR(
        "train.loss_scale_init = %lld is not between train.loss_scale_min = %lld and train.loss_scale_max = %lld; "
        "change one of them",
        (long long)init, (long long)least, (long long)most);
  }
  return STATUS_OK;
}

/* What products in 8 bits ask of the shapes; the first and the last block are not among them. */
static status check_fp8(const config *c) {
  if (c->train.precision != PRECISION_FP8) {
    return STATUS_OK;
  }
  if (c->model.n_layers < FP8_LEAST_BLOCKS) {
    USER_ERROR(
        "train.precision = fp8 leaves the first and the last block as they are, and model.n_layers = %lld leaves no "
        "other; use bf16 or auto, or more blocks",
        (long long)c->model.n_layers);
  }
  const struct {
    const char *name;
    int64_t value;
  } sizes[] = {{"model.d_model", c->model.d_model}, {"model.d_mlp", c->model.d_mlp}, {"data.seq_len", c->data.seq_len}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    if (sizes[i].value % FP8_MULTIPLE != 0) {
      USER_ERROR("train.precision = fp8 needs multiples of %d, but %s is %lld; change it, or use bf16 or auto",
                 FP8_MULTIPLE, sizes[i].name, (long long)sizes[i].value);
    }
  }
  return STATUS_OK;
}

static status check_checkpoints(const config *c) {
  long long interval = c->checkpoint.interval;
  long long every = c->checkpoint.keep_every;
  if (interval > 0 && every % interval != 0) {
    USER_ERROR(
        "checkpoint.keep_every = %lld is not a multiple of checkpoint.interval = %lld, the steps that are written; "
        "change one of them",
        every, interval);
  }
  return STATUS_OK;
}

/* Once resolved, sine_learnable says it all: it takes over where sine_trainable was given. */
static void move_given(config *c) {
  int from = ROW_OF(model.sine_trainable);
  int to = ROW_OF(model.sine_learnable);
  if (c->given[to] == NULL) {
    c->given[to] = c->given[from];
    c->given[from] = NULL;
  }
}

static status resolve_values(config *c) {
  if (c->model.base == BASE_WAVERESNET && c->model.wave_replace && !c->model.wave_interleave) {
    USER_ERROR(
        "model.wave_replace = true needs model.wave_interleave = true: alone it leaves blocks without MLP and "
        "convolution");
  }
  TRY(resolve_length(c));
  TRY(check_given(c));
  TRY(config_resolve_model(&c->model));
  move_given(c);
  TRY(check_batch(c));
  TRY(resolve_schedule(c));
  TRY(check_loss_scale(c));
  TRY(check_fp8(c));
  TRY(check_checkpoints(c));
  return STATUS_OK;
}

status config_resolve(config *c) {
  TRY(check_required(c));
  return resolve_values(c);
}

static void put_aside(config *c, int row) {
  free(c->given[row]);
  c->given[row] = NULL;
}

status config_resolve_measured(config *c, int64_t steps, int64_t micro_batches) {
  int64_t sequences, tokens;
  REQUIRE(steps > 0 && micro_batches > 0, "%lld steps of %lld micro-batches", (long long)steps,
          (long long)micro_batches);
  if (c->train.micro_batch == 0) {
    USER_ERROR("train.micro_batch is not given, and what is measured should not depend on what is free; give it");
  }
  if (__builtin_mul_overflow(c->train.micro_batch, micro_batches, &sequences) ||
      __builtin_mul_overflow(sequences, c->data.seq_len, &tokens)) {
    USER_ERROR(
        "train.micro_batch = %lld sequences of data.seq_len = %lld tokens on %lld ranks are more than can be counted; "
        "lower one",
        (long long)c->train.micro_batch, (long long)c->data.seq_len, (long long)micro_batches);
  }
  put_aside(c, ROW_OF(train.tokens_target));
  put_aside(c, ROW_OF(train.warmup_steps));
  c->train.tokens_target = 0;
  c->train.warmup_steps = 0;
  c->train.max_steps = steps;
  c->train.batch_tokens = tokens;
  return resolve_values(c);
}
