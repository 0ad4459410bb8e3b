/* A resolved configuration, written and read again, is the same one: for random configurations. */
#include <math.h>

#include "base/memory.h"
#include "config/config_keys.h"
#include "config_support.h"

static uint64_t seed;

static int64_t random_to(int64_t most) {
  return (int64_t)(test_random(&seed) % (uint64_t)most);
}

static double random_unit(void) {
  return (double)(test_random(&seed) >> 11) * 0x1p-53;
}

/* Any magnitude within the range. */
static double random_real(const config_key *k) {
  double high = k->high;
  for (;;) {
    double value = random_to(4) == 0 ? random_unit() * high : high * exp2(-60 * random_unit());
    bool inside = (k->low_open ? value > k->low : value >= k->low) && (k->high_open ? value < high : value <= high);
    if (inside) {
      return value;
    }
  }
}

/* Text of a random value that the key takes. */
static char *random_value(const config_key *k) {
  char *text = NULL;
  char pieces[3][64];
  if (k->word != NULL && random_to(4) == 0) {
    assert_ok(memory_format(&text, "%s", k->word));
    return text;
  }
  switch (k->kind) {
    case KIND_INTEGER: {
      int64_t span = k->most - k->least > 1000 ? 1000 : k->most - k->least + 1;
      assert_ok(memory_format(&text, "%lld", (long long)(k->least + random_to(span))));
      break;
    }
    case KIND_REAL:
      assert_ok(memory_format(&text, "%.17g", random_real(k)));
      break;
    case KIND_SWITCH:
      assert_ok(memory_format(&text, "%s", random_to(2) ? "true" : "false"));
      break;
    case KIND_TEXT:
      assert_ok(
          memory_format(&text, "/r%llx/é a;b#c=d:%.*s", (unsigned long long)test_random(&seed), (int)random_to(300),
                        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567"
                        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567"
                        "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567"));
      break;
    case KIND_CHOICE: {
      int n = 0;
      while (k->choices[n].word != NULL) {
        n++;
      }
      const config_choice *choice;
      do {
        choice = &k->choices[random_to(n)];
      } while (choice->refusal != NULL);
      assert_ok(memory_format(&text, "%s", choice->word));
      break;
    }
    case KIND_PAIR: {
      bool bounds = strstr(k->name, "bounds") != NULL;
      double a = random_real(k);
      double b = random_real(k);
      snprintf(pieces[0], 64, "%.17g", a < b ? a : b);
      snprintf(pieces[1], 64, "%.17g", a < b ? b : a);
      assert_ok(memory_format(&text, "%s, %s", bounds && random_to(3) == 0 ? "none" : pieces[0],
                              bounds && random_to(3) == 0 ? "none" : pieces[1]));
      break;
    }
    case KIND_LEARN: {
      static const char *const lists[] = {"auto", "none", "amplitude", "decay, frequency", "amplitude,frequency,decay"};
      assert_ok(memory_format(&text, "%s", lists[random_to(5)]));
      break;
    }
  }
  return text;
}

static void set(config *c, const char *section, const char *name, int64_t value) {
  char text[40];
  snprintf(text, sizeof text, "%lld", (long long)value);
  assert_ok(config_set(c, section, name, text, "test"));
}

static void restore(config *c, int i) {
  assert_ok(config_value_parse(&config_keys[i], config_field(c, &config_keys[i]), config_keys[i].initial, "test"));
  free(c->given[i]);
  c->given[i] = NULL;
}

/* Values that agree with each other, where a random choice of each would not. */
static void make_sound(config *c) {
  config_model *m = &c->model;
  int64_t heads = 1 + random_to(16);
  set(c, "model", "n_heads", heads);
  set(c, "model", "n_layers", (c->train.precision == PRECISION_FP8 ? 3 : 1) + random_to(12));
  bool fp8 = c->train.precision == PRECISION_FP8;
  set(c, "model", "d_model", heads * (fp8 ? 16 : 2) * (1 + random_to(40)));
  int64_t length = (fp8 ? 16 : 1) * (1 + random_to(500));
  int64_t micro = 1 + random_to(30);
  if (fp8 && c->model.d_mlp > 0) {
    set(c, "model", "d_mlp", 16 * (1 + random_to(500)));
  }
  set(c, "data", "seq_len", length);
  if (random_to(2)) {
    set(c, "train", "micro_batch", micro);
  } else {
    restore(c, ROW_OF(train.micro_batch));
  }
  set(c, "train", "batch_tokens", length * micro * (1 + random_to(20)));
  restore(c, ROW_OF(train.max_steps));
  restore(c, ROW_OF(train.tokens_target));
  if (random_to(2)) {
    set(c, "train", "max_steps", 1001 + random_to(1000));
  } else {
    set(c, "train", "tokens_target", c->train.batch_tokens * 1001 + random_to(1000000));
  }
  if (c->train.min_lr > c->train.lr) {
    restore(c, ROW_OF(train.min_lr));
  }
  int64_t least = random_to(41), most = least + random_to(41 - least);
  set(c, "train", "loss_scale_min", INT64_C(1) << least);
  set(c, "train", "loss_scale_max", INT64_C(1) << most);
  set(c, "train", "loss_scale_init", INT64_C(1) << (least + random_to(most - least + 1)));
  if (c->train.loss_scale > 0) {
    set(c, "train", "loss_scale", INT64_C(1) << random_to(41));
  }
  set(c, "checkpoint", "keep_every", c->checkpoint.interval * random_to(3));
  if (m->base == BASE_TRANSFORMER ? m->mlp_activation == ACTIVATION_SINE : m->mlp_activation == ACTIVATION_RELU) {
    restore(c, ROW_OF(model.mlp_activation));
  }
  if (m->base != BASE_WAVERESNET || !m->wave_interleave) {
    restore(c, ROW_OF(model.wave_replace));
  }
  if (m->wave_kernel_size % 2 == 0 && m->wave_padding == PADDING_SAME) {
    restore(c, ROW_OF(model.wave_padding));
  }
  if (m->wave_dilation_growth > 2) {
    set(c, "model", "wave_dilation_growth", 1 + random_to(2));
  }
}

static config *random_config(void) {
  config *c;
  assert_ok(config_new(&c));
  for (int i = 0; i < config_n_keys; i++) {
    const config_key *k = &config_keys[i];
    bool needed = k->offset == offsetof(config, run.dir) || k->offset == offsetof(config, data.train);
    if (needed || random_to(2) == 0) {
      char *text = random_value(k);
      assert_ok(config_set(c, k->section, k->name, text, "test"));
      free(text);
    }
  }
  make_sound(c);
  for (bool changed = true; changed;) { /* taking a key back may make another one idle */
    changed = false;
    for (int i = 0; i < config_n_keys; i++) {
      if (c->given[i] != NULL && config_no_effect(c, i) != NULL) {
        restore(c, i);
        changed = true;
      }
    }
  }
  return c;
}

static void assert_equal_rows(const config *a, const config *b, const char *text) {
  for (int i = 0; i < config_rows(); i++) {
    char *left, *right;
    const char *section, *name;
    assert_ok(config_row(a, i, &section, &name, &left, NULL));
    assert_ok(config_row(b, i, NULL, NULL, &right, NULL));
    if (strcmp(left, right) != 0) {
      fail_msg("%s.%s: '%s' and '%s' in\n%s", section, name, left, right, text);
    }
    free(left);
    free(right);
  }
}

static void text_reads_back(void **state) {
  (void)state;
  seed = test_seed();
  for (int round = 0; round < 1500; round++) {
    config *c = random_config();
    assert_ok(config_resolve(c));
    char *text, *again;
    assert_ok(config_text(c, &text));
    config *back = resolved_config(text);
    assert_equal_rows(c, back, text);
    assert_ok(config_text(back, &again));
    assert_string_equal(text, again);
    free(text);
    free(again);
    config_free(c);
    config_free(back);
  }
}

/* Numbers come back bit for bit, in as few digits as that takes. */
static void shortest_digits(void **state) {
  (void)state;
  seed = test_seed();
  config *c;
  assert_ok(config_new(&c));
  for (int round = 0; round < 20000; round++) {
    double value = random_real(&config_keys[ROW_OF(train.weight_decay)]);
    c->train.weight_decay = value;
    char *text;
    assert_ok(config_row(c, ROW_OF(train.weight_decay), NULL, NULL, &text, NULL));
    c->train.weight_decay = 0;
    assert_ok(config_set(c, "train", "weight_decay", text, "test"));
    assert_memory_equal(&c->train.weight_decay, &value, sizeof value);
    free(text);
  }
  static const struct {
    double value;
    const char *text;
  } cases[] = {{0.1, "0.1"}, {1e-8, "1e-08"}, {2e-4, "0.0002"}, {1.0 / 3, "0.3333333333333333"}, {0, "0"}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char *text;
    c->train.weight_decay = cases[i].value;
    assert_ok(config_row(c, ROW_OF(train.weight_decay), NULL, NULL, &text, NULL));
    assert_string_equal(text, cases[i].text);
    free(text);
  }
  config_free(c);
}

static void idle_keys_are_comments(void **state) {
  (void)state;
  config *c = resolved_config(REQUIRED "[model]\nbase = transformer\n");
  char *text;
  assert_ok(config_text(c, &text));
  assert_non_null(strstr(text, "\n; sine_amp_init = 1  (no effect: model.base is transformer)\n"));
  assert_non_null(strstr(text, "\n; tokens_target = none  (no effect: train.max_steps decides)\n"));
  assert_non_null(strstr(text, "\nmlp_activation = gelu\n"));
  assert_non_null(strstr(text, "\nval =\n"));
  free(text);
  config_free(c);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(text_reads_back),
      cmocka_unit_test(shortest_digits),
      cmocka_unit_test(idle_keys_are_comments),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
