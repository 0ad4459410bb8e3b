#include <math.h>
#include <stdio.h>

#include "model/parts.h"

static bool is_sine(const config_model *c) {
  return c->mlp_activation == ACTIVATION_SINE;
}

static init_rule sine_rule(double value, double spread, config_pair range) {
  return (init_rule){.kind = INIT_SINE, .value = value, .spread = spread, .range = range};
}

status act_tensors(tensor_table *t, const char *prefix, const config_model *c, int64_t features) {
  if (!is_sine(c)) {
    return STATUS_OK;
  }
  const struct {
    const char *name;
    int bit;
    init_rule init;
  } vectors[] = {
      {"_A", LEARN_AMPLITUDE, sine_rule(c->sine_amp_init, c->sine_amp_init_std, c->sine_amp_range)},
      {"_f", LEARN_FREQUENCY, sine_rule(c->sine_freq_init, c->sine_freq_init_std, c->sine_freq_range)},
      {"_d", LEARN_DECAY, sine_rule(c->sine_damp_init, c->sine_damp_init_std, c->sine_damp_range)},
  };
  int learnable = c->sine_learnable >= 0 ? c->sine_learnable
                                         : (c->sine_trainable ? LEARN_AMPLITUDE | LEARN_FREQUENCY | LEARN_DECAY : 0);
  for (int i = 0; i < 3; i++) {
    char name[TENSOR_NAME];
    snprintf(name, sizeof(name), "%s.%s", prefix, vectors[i].name);
    TRY(table_vector(t, name, features, (learnable & vectors[i].bit) != 0, vectors[i].init));
  }
  return STATUS_OK;
}

static act_decay decay_of(config_decay d) {
  switch (d) {
    case DECAY_RELU:
      return ACT_DECAY_RELU;
    case DECAY_NONE:
      return ACT_DECAY_NONE;
    case DECAY_ABS:
      break;
  }
  return ACT_DECAY_ABS;
}

static double lower(config_pair bounds) {
  return isnan(bounds.lo) ? -INFINITY : bounds.lo;
}
static double upper(config_pair bounds) {
  return isnan(bounds.hi) ? INFINITY : bounds.hi;
}

static status find(const unit *u, const char *prefix, const char *act_prefix, const char *name, const tensor **out) {
  char full[TENSOR_NAME];
  snprintf(full, sizeof(full), "%s.%s", act_prefix, name);
  *out = unit_tensor(u, prefix, full);
  REQUIRE(*out != NULL, "unit %s has no tensor %s%s", u->name, prefix, full);
  return STATUS_OK;
}

status act_bind(act_part *a, const unit *u, const char *prefix, const char *act_prefix, const config_model *c) {
  *a = (act_part){.spec.kind = c->mlp_activation == ACTIVATION_RELU ? ACT_RELU : ACT_GELU};
  if (!is_sine(c)) {
    return STATUS_OK;
  }
  a->spec = (act_spec){
      .kind = ACT_SINE,
      .decay = decay_of(c->sine_decay_mode),
      .amplitude_lo = lower(c->sine_amp_bounds),
      .amplitude_hi = upper(c->sine_amp_bounds),
      .frequency_lo = lower(c->sine_freq_bounds),
      .frequency_hi = upper(c->sine_freq_bounds),
      .damping_lo = lower(c->sine_damp_bounds),
      .damping_hi = upper(c->sine_damp_bounds),
  };
  TRY(find(u, prefix, act_prefix, "_A", &a->amplitude));
  TRY(find(u, prefix, act_prefix, "_f", &a->frequency));
  return find(u, prefix, act_prefix, "_d", &a->damping);
}

act_spec act_weights(const block_call *c, const act_part *a) {
  act_spec spec = a->spec;
  spec.amplitude = weight_of(c, a->amplitude);
  spec.frequency = weight_of(c, a->frequency);
  spec.damping = weight_of(c, a->damping);
  return spec;
}

act_grads act_gradients(const block_call *c, const act_part *a) {
  return (act_grads){
      .amplitude = grad_of(c, a->amplitude), .frequency = grad_of(c, a->frequency), .damping = grad_of(c, a->damping)};
}
