/* The table itself, its help, and the rules of a resume. */
#include <math.h>

#include "config/config_keys.h"
#include "config_support.h"

static void rows_are_sound(void **state) {
  (void)state;
  for (int i = 0; i < config_n_keys; i++) {
    const config_key *k = &config_keys[i];
    assert_int_equal(config_find(k->section, k->name), i);
    assert_int_equal(config_row_at(k->offset), i);
    assert_true(strlen(k->meaning) > 10);
    assert_non_null(k->unit);
    assert_int_equal(k->choices != NULL, k->kind == KIND_CHOICE);
    if (i > 0 && strcmp(k->section, config_keys[i - 1].section) != 0) {
      for (int j = 0; j < i; j++) { /* sections are contiguous */
        assert_string_not_equal(k->section, config_keys[j].section);
      }
    }
  }
  assert_int_equal(config_find("train", "nothing"), -1);
}

static void defaults(void **state) {
  (void)state;
  config *c;
  assert_ok(config_new(&c));
  assert_int_equal(c->model.base, BASE_RESPSANN);
  assert_int_equal(c->model.d_model, 512);
  assert_int_equal(c->model.vocab_size, 0);
  assert_true(c->model.sine_damp_init == 0.01);
  assert_true(isnan(c->model.sine_amp_range.lo) && isnan(c->model.sine_damp_bounds.hi));
  assert_int_equal(c->model.sine_learnable, -1);
  assert_true(c->model.sine_trainable);
  assert_int_equal(c->model.wave_padding, PADDING_CAUSAL);
  assert_int_equal(c->run.seed, 1337);
  assert_string_equal(c->run.resume, "auto");
  assert_true(c->train.lr == 2e-4 && c->train.beta2 == 0.95 && c->train.eps == 1e-8);
  assert_true(isnan(c->train.min_lr));
  assert_string_equal(c->data.val, "");
  for (int i = 0; i < config_n_keys; i++) {
    assert_null(c->given[i]);
  }
  config_free(c);
  config_free(NULL);
}

static config_change rule_of(const char *section, const char *name) {
  config_change change = CHANGE_FREE;
  assert_ok(config_row(NULL, config_find(section, name), NULL, NULL, NULL, &change));
  return change;
}

static void resume_rules(void **state) {
  (void)state;
  static const char *const refused[][2] = {{"run", "seed"},           {"data", "seq_len"},    {"train", "micro_batch"},
                                           {"train", "batch_tokens"}, {"train", "precision"}, {"model", "dropout"}};
  static const char *const warned[][2] = {{"train", "lr"},    {"train", "min_lr"},    {"train", "warmup_steps"},
                                          {"train", "eps"},   {"train", "grad_clip"}, {"train", "decay_exclude"},
                                          {"cpu", "threads"}, {"train", "beta1"},     {"train", "label_smoothing"}};
  static const char *const free_[][2] = {
      {"train", "max_steps"},     {"train", "tokens_target"}, {"run", "dir"},
      {"parallel", "strategy"},   {"data", "train"},          {"log", "interval"},
      {"checkpoint", "interval"}, {"eval", "batches"},        {"train", "recompute"}};
  for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
    assert_int_equal(rule_of(refused[i][0], refused[i][1]), CHANGE_REFUSE);
  }
  for (size_t i = 0; i < sizeof warned / sizeof *warned; i++) {
    assert_int_equal(rule_of(warned[i][0], warned[i][1]), CHANGE_WARN);
  }
  for (size_t i = 0; i < sizeof free_ / sizeof *free_; i++) {
    assert_int_equal(rule_of(free_[i][0], free_[i][1]), CHANGE_FREE);
  }
  for (int i = 0; i < config_rows(); i++) {
    if (strcmp(config_keys[i].section, "model") == 0) {
      assert_int_equal(config_keys[i].change, CHANGE_REFUSE);
    }
  }
}

static void rows_have_values(void **state) {
  (void)state;
  config *c = read_config("[model]\nsine_amp_bounds = none, 0.1\nsine_learnable = decay, amplitude\n");
  const char *section, *name;
  char *value;
  assert_ok(config_row(c, config_find("model", "sine_amp_bounds"), &section, &name, &value, NULL));
  assert_string_equal(section, "model");
  assert_string_equal(name, "sine_amp_bounds");
  assert_string_equal(value, "none, 0.1");
  free(value);
  assert_ok(config_row(c, config_find("model", "sine_learnable"), NULL, NULL, &value, NULL));
  assert_string_equal(value, "amplitude, decay");
  free(value);
  assert_fails(STATUS_FAILURE, "row -1", config_row(c, -1, NULL, NULL, NULL, NULL));
  assert_fails(STATUS_FAILURE, "row", config_row(c, config_rows(), NULL, NULL, NULL, NULL));
  config_free(c);
}

static void help_fits_the_terminal(void **state) {
  (void)state;
  char *text = NULL;
  size_t bytes = 0;
  FILE *out = open_memstream(&text, &bytes);
  assert_non_null(out);
  config_help(out);
  fclose(out);
  for (int i = 0; i < config_n_keys; i++) {
    char entry[200];
    snprintf(entry, sizeof entry, "\n  %s =", config_keys[i].name);
    assert_non_null(strstr(text, entry));
  }
  for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
    if (strlen(line) > 100) {
      fail_msg("%zu columns: %s", strlen(line), line);
    }
  }
  free(text);
}

static void names(void **state) {
  (void)state;
  assert_string_equal(config_base_name(BASE_WAVERESNET), "waveresnet");
  assert_string_equal(config_precision_name(PRECISION_FP64), "fp64");
  assert_string_equal(config_strategy_name(STRATEGY_DDP), "ddp");
  assert_string_equal(config_base_name((config_base)99), "unknown");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rows_are_sound),         cmocka_unit_test(defaults),
      cmocka_unit_test(resume_rules),           cmocka_unit_test(rows_have_values),
      cmocka_unit_test(help_fits_the_terminal), cmocka_unit_test(names),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
