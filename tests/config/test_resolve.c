/* What follows from what is given. */
#include <math.h>

#include "config/config_keys.h"
#include "config_support.h"

static void derived_values(void **state) {
  (void)state;
  config *c = resolved_config(REQUIRED);
  assert_int_equal(c->model.d_mlp, 2048);
  assert_int_equal(c->model.mlp_activation, ACTIVATION_SINE);
  assert_int_equal(c->model.sine_learnable, LEARN_AMPLITUDE | LEARN_FREQUENCY | LEARN_DECAY);
  assert_true(c->train.min_lr == c->train.lr / 10);
  assert_int_equal(c->train.warmup_steps, 100);
  assert_int_equal(c->train.micro_batch, 0);
  assert_int_equal(c->run.device, DEVICE_AUTO); /* the machine decides: engine_resolve */
  assert_int_equal(c->train.precision, PRECISION_AUTO);
  assert_int_equal(c->parallel.strategy, STRATEGY_AUTO); /* until the memory plan is made */
  config_free(c);
  c = resolved_config(REQUIRED "[model]\nbase = transformer\nd_mlp = 77\n");
  assert_int_equal(c->model.mlp_activation, ACTIVATION_GELU);
  assert_int_equal(c->model.d_mlp, 77);
  config_free(c);
  c = resolved_config(REQUIRED "[model]\nsine_trainable = false\n");
  assert_int_equal(c->model.sine_learnable, 0);
  config_free(c);
  c = resolved_config(REQUIRED "warmup_steps = 0\nmin_lr = 0\nmicro_batch = 16\n");
  assert_int_equal(c->train.warmup_steps, 0);
  assert_true(c->train.min_lr == 0);
  config_free(c);
}

/* Whole steps, rounded up, over the whole job. */
static void tokens_target(void **state) {
  (void)state;
  static const struct {
    int64_t tokens, steps;
  } cases[] = {{1, 1}, {131072, 1}, {131073, 2}, {1310720, 10}, {1000000000000, 7629395}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    config *c = read_config("[run]\ndir = a\n[data]\ntrain = a\n");
    char text[40];
    snprintf(text, sizeof text, "%lld", (long long)cases[i].tokens);
    assert_ok(config_set(c, "train", "tokens_target", text, "here"));
    assert_ok(config_resolve(c));
    assert_int_equal(c->train.max_steps, cases[i].steps);
    assert_int_equal(c->train.tokens_target, cases[i].tokens);
    config_free(c);
  }
  config *c = read_config("[run]\ndir = a\n[data]\ntrain = a\n[train]\ntokens_target = 131072\nmax_steps = 1\n");
  assert_fails(STATUS_USER_ERROR, "are given; give one of them", config_resolve(c));
  config_free(c);
}

/* Fields set without text, as a test or a parity case does. */
static void without_given_keys(void **state) {
  (void)state;
  config *c = read_config(REQUIRED);
  c->train.tokens_target = 131072 * 3;
  c->train.max_steps = 0;
  free(c->given[ROW_OF(train.max_steps)]);
  c->given[ROW_OF(train.max_steps)] = NULL;
  assert_ok(config_resolve(c));
  assert_int_equal(c->train.max_steps, 3);
  config_free(c);
}

static config_model model_default(void) {
  config *c;
  assert_ok(config_new(&c));
  config_model m = c->model;
  config_free(c);
  return m;
}

/* What a parity case may hold and a run may not. */
static void models_of_parity_cases(void **state) {
  (void)state;
  config_model m = model_default();
  m.base = BASE_WAVERESNET;
  m.wave_replace = true;
  assert_ok(config_resolve_model(&m));
  m = model_default();
  m.base = BASE_TRANSFORMER;
  m.mlp_activation = ACTIVATION_RELU;
  m.vocab_size = 29;
  m.d_model = 15;
  m.n_heads = 3;
  m.positional_encoding = POSITION_ALIBI;
  m.sine_amp_init = 2;
  assert_ok(config_resolve_model(&m));
  assert_int_equal(m.d_mlp, 60);
  m = model_default();
  m.base = BASE_WAVERESNET;
  m.wave_interleave = true;
  m.wave_kernel_size = 4;
  assert_ok(config_resolve_model(&m));
  m = model_default();
  m.sine_learnable = LEARN_DECAY;
  m.sine_trainable = false;
  assert_ok(config_resolve_model(&m));
  assert_int_equal(m.sine_learnable, LEARN_DECAY);
}

static void models_out_of_range(void **state) {
  (void)state;
  config_model m = model_default();
  m.n_heads = 0;
  assert_fails(STATUS_USER_ERROR, "model.n_heads = 0 is out of range", config_resolve_model(&m));
  m = model_default();
  m.dropout = NAN;
  assert_fails(STATUS_USER_ERROR, "model.dropout = nan is out of range", config_resolve_model(&m));
  m = model_default();
  m.sine_amp_bounds = (config_pair){2, 1};
  assert_fails(STATUS_USER_ERROR, "model.sine_amp_bounds = 2, 1 is out of range", config_resolve_model(&m));
  m = model_default();
  m.sine_freq_range = (config_pair){1, NAN};
  assert_fails(STATUS_USER_ERROR, "model.sine_freq_range has one end without a value", config_resolve_model(&m));
  m = model_default();
  m.sine_learnable = 8;
  assert_fails(STATUS_USER_ERROR, "model.sine_learnable", config_resolve_model(&m));
  m = model_default();
  m.wave_interleave = true;
  assert_fails(STATUS_USER_ERROR, "needs model.base = waveresnet, not respsann", config_resolve_model(&m));
}

static void copies_are_their_own(void **state) {
  (void)state;
  config *c = resolved_config(REQUIRED "[data]\nval = b.h5\n");
  config *copy;
  assert_ok(config_copy(c, &copy));
  assert_ptr_not_equal(c->data.val, copy->data.val);
  assert_string_equal(copy->given[ROW_OF(data.val)], c->given[ROW_OF(data.val)]);
  char *first, *second;
  assert_ok(config_text(c, &first));
  config_free(c);
  assert_ok(config_text(copy, &second));
  assert_string_equal(first, second);
  assert_ok(config_override(copy, "data.val=c.h5"));
  assert_string_equal(copy->data.val, "c.h5");
  config_free(copy);
  free(first);
  free(second);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(derived_values),      cmocka_unit_test(tokens_target),
      cmocka_unit_test(without_given_keys),  cmocka_unit_test(models_of_parity_cases),
      cmocka_unit_test(models_out_of_range), cmocka_unit_test(copies_are_their_own),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
