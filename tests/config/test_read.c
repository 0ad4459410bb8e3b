/* What an INI file may look like. */
#include <math.h>

#include "base/file.h"
#include "config/config_keys.h"
#include "config_support.h"

static void forms_of_a_line(void **state) {
  (void)state;
  config *c = read_config(
      "\xEF\xBB\xBF; a comment\r\n"
      "# another, with = and [brackets\r\n"
      "\t[train]   ; of the trainer\r\n"
      "   lr=0.5\t# half\r\n"
      "      beta1   =   0.25   ; quarter\r\n"
      "eps: 1E-6\r\n"
      "\r\n"
      "[data]\r\n"
      "train = /data/with spaces/and;semi#hash=equals:colon/tokens é 字.h5\r\n"
      "val =\r\n"
      "[train]\r\n"
      "recompute = BLOCK");
  assert_true(c->train.lr == 0.5 && c->train.beta1 == 0.25 && c->train.eps == 1e-6);
  assert_string_equal(c->data.train, "/data/with spaces/and;semi#hash=equals:colon/tokens é 字.h5");
  assert_string_equal(c->data.val, "");
  assert_int_equal(c->train.recompute, RECOMPUTE_BLOCK);
  assert_string_equal(c->given[ROW_OF(train.lr)], "quick.ini:4");
  assert_string_equal(c->given[ROW_OF(train.recompute)], "quick.ini:12");
  assert_null(c->given[ROW_OF(train.beta2)]);
  config_free(c);
}

/* A value of any length and any characters that a name may have comes through whole: inih's own limit is 200 bytes. */
static void long_values(void **state) {
  (void)state;
  uint64_t seed = test_seed();
  static const char *const letters[] = {"a", "B", "7", "/", ".", "-", "_", ",", "=", ":", "é", "字", ";", "#", " "};
  for (int round = 0; round < 3000; round++) {
    char value[4100] = "/";
    size_t length = 1 + test_random(&seed) % (round % 10 == 0 ? 3900 : 700);
    while (strlen(value) < length) {
      const char *next = letters[test_random(&seed) % (sizeof letters / sizeof *letters)];
      bool comment = next[0] == ';' || next[0] == '#';
      if (!comment || value[strlen(value) - 1] != ' ') {
        strcat(value, next);
      }
    }
    strcat(value, "x");
    char text[4400];
    snprintf(text, sizeof text, "[data]\n%strain = %s  %s\nval = after\n[log]\ninterval = 7\n", round % 2 ? "  " : "",
             value, round % 3 ? "# comment" : "");
    config *c = read_config(text);
    assert_string_equal(c->data.train, value);
    assert_string_equal(c->data.val, "after");
    assert_int_equal(c->log.interval, 7);
    assert_string_equal(c->given[ROW_OF(log.interval)], "quick.ini:5");
    config_free(c);
  }
}

static void too_long_a_line(void **state) {
  (void)state;
  char *text = malloc(20000);
  strcpy(text, "[data]\n\ntrain = ");
  size_t begin = strlen(text);
  config *c;
  assert_ok(config_new(&c));
  memset(text + begin, 'x', 4001);
  text[begin + 4001] = '\0';
  assert_fails(STATUS_USER_ERROR, "data.train at quick.ini:3: 4001 bytes, more than",
               config_read_text(c, text, "quick.ini"));
  memset(text + begin, 'x', 10000);
  text[begin + 10000] = '\0';
  assert_fails(STATUS_USER_ERROR, "line at quick.ini:3 has 10008 bytes", config_read_text(c, text, "quick.ini"));
  text[0] = '#'; /* a long comment is no harm */
  text[1] = ' ';
  for (char *at = text; *at != '\0'; at++) {
    *at = *at == '\n' ? ' ' : *at;
  }
  assert_ok(config_read_text(c, text, "quick.ini"));
  config_free(c);
  free(text);
}

static void later_texts_win(void **state) {
  (void)state;
  config *c = read_config("[train]\nlr = 0.1\nbeta1 = 0.5\n");
  assert_ok(config_read_text(c, "[train]\nlr = 0.2\n", "more.ini"));
  assert_true(c->train.lr == 0.2 && c->train.beta1 == 0.5);
  assert_string_equal(c->given[ROW_OF(train.lr)], "more.ini:2");
  assert_ok(config_override(c, " train.lr = 0.3 "));
  assert_true(c->train.lr == 0.3);
  assert_string_equal(c->given[ROW_OF(train.lr)], "command line");
  assert_ok(config_override(c, "train.lr=0.4"));
  assert_true(c->train.lr == 0.4);
  assert_ok(config_override(c, "data.val=a=b.h5"));
  assert_string_equal(c->data.val, "a=b.h5");
  config_free(c);
}

static void words_and_pairs(void **state) {
  (void)state;
  config *c = read_config(
      "[model]\nvocab_size = AUTO\nd_mlp = auto\nsine_amp_range = 0.5,2\nsine_freq_range = none\n"
      "sine_damp_bounds = none , 3\nsine_amp_bounds = 1e-3, NONE\nsine_learnable = none\nsine_decay_mode = ReLU\n"
      "wave_interleave = yes\nwave_replace = Off\n"
      "[train]\nmicro_batch = auto\nmin_lr = auto\nwarmup_steps = auto\nmax_steps = none\n");
  const config_model *m = &c->model;
  assert_int_equal(m->vocab_size, 0);
  assert_int_equal(m->d_mlp, 0);
  assert_true(m->sine_amp_range.lo == 0.5 && m->sine_amp_range.hi == 2);
  assert_true(isnan(m->sine_freq_range.lo) && isnan(m->sine_freq_range.hi));
  assert_true(isnan(m->sine_damp_bounds.lo) && m->sine_damp_bounds.hi == 3);
  assert_true(m->sine_amp_bounds.lo == 1e-3 && isnan(m->sine_amp_bounds.hi));
  assert_int_equal(m->sine_learnable, 0);
  assert_int_equal(m->sine_decay_mode, DECAY_RELU);
  assert_true(m->wave_interleave);
  assert_false(m->wave_replace);
  assert_int_equal(c->train.micro_batch, 0);
  assert_true(isnan(c->train.min_lr));
  config_free(c);
}

static void files(void **state) {
  (void)state;
  char *folder = test_folder();
  char *path;
  assert_ok(file_join(&path, folder, "a b.ini"));
  config *c;
  assert_ok(config_new(&c));
  assert_fails(STATUS_USER_ERROR, "No such file", config_read(c, path));
  assert_fails(STATUS_USER_ERROR, "Is a directory", config_read(c, folder));
  assert_ok(file_write_atomic(path, "[train]\nlr = 0.25\n", 18));
  assert_ok(config_read(c, path));
  assert_true(c->train.lr == 0.25);
  assert_ok(file_write_atomic(path, "\x89HDF\r\n\x1a\n\0\0\0", 11));
  assert_fails(STATUS_USER_ERROR, "is not a text file", config_read(c, path));
  assert_non_null(strstr(status_message(), path));
  assert_ok(file_write_atomic(path,
                              "\x7f"
                              "ELF and more",
                              13));
  assert_fails(STATUS_USER_ERROR, "a b.ini:1", config_read(c, path));
  assert_ok(file_write_atomic(path, "", 0));
  assert_ok(config_read(c, path));
  char *large = malloc(2000000);
  memset(large, '\n', 2000000);
  assert_ok(file_write_atomic(path, large, 2000000));
  assert_fails(STATUS_USER_ERROR, "larger than the 1.0 MiB", config_read(c, path));
  free(large);
  unlink(path);
  rmdir(folder);
  config_free(c);
  free(path);
  free(folder);
}

/* Whatever the bytes: an answer, and no fault. */
static void noise(void **state) {
  (void)state;
  uint64_t seed = test_seed();
  static const char *const pieces[] = {
      "[",    "]", "train", "lr", "=",           "\n",          " ",    ";", "#",       ":",    "model",       "1e-3",
      "auto", ",", "\t",    "\r", "\n[train]\n", "\n lr = 1\n", "\xff", "é", "d_model", "none", "\xEF\xBB\xBF"};
  int good = 0;
  for (int round = 0; round < 20000; round++) {
    char text[2000] = "";
    size_t n = test_random(&seed) % 60;
    for (size_t i = 0; i < n; i++) {
      strcat(text, pieces[test_random(&seed) % (sizeof pieces / sizeof *pieces)]);
    }
    config *c;
    assert_ok(config_new(&c));
    status result = config_read_text(c, text, "noise");
    assert_true(result == STATUS_OK || result == STATUS_USER_ERROR);
    good += result == STATUS_OK;
    config_free(c);
  }
  assert_true(good > 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(forms_of_a_line), cmocka_unit_test(long_values),     cmocka_unit_test(too_long_a_line),
      cmocka_unit_test(later_texts_win), cmocka_unit_test(words_and_pairs), cmocka_unit_test(files),
      cmocka_unit_test(noise),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
