/* Which keys say nothing under the values of the others. */
#include <math.h>
#include <string.h>

#include "config/config_keys.h"

static bool is_sine(const config_model *m) {
  if (m->mlp_activation == ACTIVATION_AUTO) {
    return m->base != BASE_TRANSFORMER;
  }
  return m->mlp_activation == ACTIVATION_SINE;
}

static const char *by_base(config_base base) {
  switch (base) {
    case BASE_RESPSANN:
      return "model.base is respsann";
    case BASE_TRANSFORMER:
      return "model.base is transformer";
    default:
      return "model.base is waveresnet";
  }
}

#define IS(field) (offset == offsetof(config, model.field))

/* One of amplitude, frequency, damping: a spread wins over a range, a range over the constant. */
#define INIT_EFFECT(kind)                                                         \
  do {                                                                            \
    bool spread = m->sine_##kind##_init_std > 0;                                  \
    if (IS(sine_##kind##_range) && spread) {                                      \
      return "model.sine_" #kind "_init_std draws the initial values";            \
    }                                                                             \
    if (IS(sine_##kind##_init) && !spread && !isnan(m->sine_##kind##_range.lo)) { \
      return "model.sine_" #kind "_range draws the initial values";               \
    }                                                                             \
  } while (0)

static const char *sine_no_effect(const config_model *m, size_t offset, const char *name) {
  if (!is_sine(m)) {
    return m->base == BASE_TRANSFORMER            ? "model.base is transformer"
           : m->mlp_activation == ACTIVATION_GELU ? "model.mlp_activation is gelu"
                                                  : "model.mlp_activation is relu";
  }
  if (m->sine_decay_mode == DECAY_NONE && strncmp(name, "sine_damp_", 10) == 0) {
    return "model.sine_decay_mode is none";
  }
  INIT_EFFECT(amp);
  INIT_EFFECT(freq);
  INIT_EFFECT(damp);
  if (IS(sine_trainable) && m->sine_learnable >= 0) {
    return "model.sine_learnable decides";
  }
  return NULL;
}

static const char *wave_no_effect(const config_model *m, size_t offset) {
  if (m->base != BASE_WAVERESNET) {
    return by_base(m->base);
  }
  if (IS(wave_interleave) || IS(wave_replace)) {
    return NULL;
  }
  if (!m->wave_interleave) {
    return "model.wave_interleave is false";
  }
  if (m->wave_kernel_size == 1 && (IS(wave_dilation_growth) || IS(wave_padding))) {
    return "model.wave_kernel_size is 1";
  }
  if (m->n_layers == 1 && IS(wave_dilation_growth)) {
    return "model.n_layers is 1";
  }
  return NULL;
}

static const char *model_no_effect(const config_model *m, const config_key *k) {
  size_t offset = k->offset;
  if (strncmp(k->name, "sine_", 5) == 0) {
    return sine_no_effect(m, offset, k->name);
  }
  if (strncmp(k->name, "wave_", 5) == 0) {
    return wave_no_effect(m, offset);
  }
  if (IS(d_mlp) && m->base == BASE_WAVERESNET && m->wave_replace) {
    return "model.wave_replace leaves no MLP";
  }
  return NULL;
}

static const char *loss_scale_no_effect(const config *c, const config_key *k) {
  switch (c->train.precision) {
    case PRECISION_FP16:
      break;
    case PRECISION_AUTO:
      return "train.precision is auto, which is bf16 or fp32";
    case PRECISION_BF16:
      return "train.precision is bf16";
    case PRECISION_FP8:
      return "train.precision is fp8, whose scales are the tensors' own";
    case PRECISION_TF32:
      return "train.precision is tf32";
    default:
      return "train.precision is fp32";
  }
  bool dynamic = c->train.loss_scale == 0;
  return dynamic || strcmp(k->name, "loss_scale") == 0 ? NULL : "train.loss_scale is a fixed number";
}

#undef IS
#define IS(field) (k->offset == offsetof(config, field))

const char *config_no_effect(const config *c, int i) {
  const config_key *k = &config_keys[i];
  if (strcmp(k->section, "model") == 0) {
    return model_no_effect(&c->model, k);
  }
  if (strcmp(k->section, "eval") == 0 && (c->data.val == NULL || c->data.val[0] == '\0')) {
    return "data.val is not given";
  }
  if (strncmp(k->name, "loss_scale", 10) == 0) {
    return loss_scale_no_effect(c, k);
  }
  if (IS(train.max_steps) && c->train.tokens_target > 0) {
    return "train.tokens_target decides";
  }
  if (IS(train.tokens_target) && c->train.tokens_target == 0) {
    return "train.max_steps decides";
  }
  if (IS(train.decay_exclude) && c->train.weight_decay == 0) {
    return "train.weight_decay is 0";
  }
  if (IS(parallel.shard_ranks) && c->parallel.strategy != STRATEGY_HYBRID) {
    return "parallel.strategy is not hybrid";
  }
  if ((IS(watch.spike_window) || IS(watch.spike_zscore)) && c->watch.on_spike == SPIKE_OFF) {
    return "watch.on_spike is off";
  }
  if (IS(checkpoint.keep_every) && c->checkpoint.interval == 0) {
    return "checkpoint.interval is 0";
  }
  return NULL;
}
