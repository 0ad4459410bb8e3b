/* Saving, opening, loading, comparing. */
#include <hdf5.h>
#include <math.h>
#include <sys/stat.h>

#include "fixture.h"

static uint64_t seed;
static int64_t handles_at_start;

static int no_handle_is_left(void **unused) {
  return fixture_handles() == handles_at_start ? 0 : -1;
}

static void round_trip(void **unused) {
  for (int i = 0; i < 8; i++) {
    fixture *f = fixture_new(test_random(&seed), 1), *g = fixture_like(f);
    char *folder = test_folder(), *again;
    checkpoint *k;
    f->state.best_val_loss = 1.0 / 7;
    f->state.best_step = f->state.step;
    f->state.val_loss = 1.0 / 7;
    run_state saved = f->state;
    assert_ok(checkpoint_save(folder, f->c, f->m, &f->w, &f->state, &f->tokens, &f->d));
    assert_int_equal(fixture_count(folder), 3); /* the file, latest, best */
    assert_ok(checkpoint_open(folder, i % 2 == 0, &k));
    assert_ok(checkpoint_verify(k));
    assert_memory_equal(&k->state, &saved, sizeof saved);
    assert_string_equal(k->tokenizer, f->tokens.tokenizer);
    assert_int_equal(k->vocab_size, f->tokens.vocab_size);
    assert_int_equal(k->end_of_text, f->tokens.end_of_text);
    assert_int_equal(k->tokenizer_bytes, f->tokens.tokenizer_bytes);
    if (k->tokenizer_bytes > 0) {
      assert_memory_equal(k->tokenizer_data, f->tokens.tokenizer_data, k->tokenizer_bytes);
    }
    char *before, *after;
    assert_ok(config_text(f->c, &before));
    assert_ok(config_text(k->config, &after));
    assert_string_equal(before, after);
    assert_ok(checkpoint_load(k, g->m, &g->w, true, &g->d));
    fixture_assert_same(f, g, true);
    fixture_fill(g);
    float **m = g->values[1];
    float kept = m[0][0];
    assert_ok(checkpoint_load(k, g->m, &g->w, false, &g->d));
    fixture_assert_same(f, g, false);
    assert_memory_equal(&kept, &m[0][0], sizeof kept);
    assert_ok(checkpoint_compatible(k, f->c, &f->tokens));
    assert_ok(checkpoint_newest(folder, &again));
    assert_string_equal(again, k->path);
    checkpoint_close(k);
    fixture_remove(folder);
    free(again);
    free(before);
    free(after);
    free(folder);
    fixture_free(f);
    fixture_free(g);
  }
}

/* The root digest of what f would save. */
static void root_digest(fixture *f, const char *folder, char text[DIGEST_TEXT]) {
  checkpoint *k;
  assert_ok(checkpoint_save(folder, f->c, f->m, &f->w, &f->state, &f->tokens, &f->d));
  assert_ok(checkpoint_open(folder, false, &k));
  memcpy(text, k->digest, DIGEST_TEXT);
  checkpoint_close(k);
}

static void key(fixture *f, const char *section, const char *name, const char *value) {
  assert_ok(config_set(f->c, section, name, value, "test"));
}

static void digest_tells_the_run(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 1);
  char *folder = test_folder(), first[DIGEST_TEXT], now[DIGEST_TEXT];
  root_digest(f, folder, first);
  /* What doesn't make a run another one. */
  key(f, "run", "dir", "elsewhere");
  key(f, "data", "train", "a copy.h5");
  key(f, "eval", "interval", "7");
  key(f, "checkpoint", "keep_last", "9");
  key(f, "train", "max_steps", "1234");
  key(f, "parallel", "strategy", "ddp");
  f->d.hosts = 5;
  f->state.val_loss = 3;
  f->state.best_val_loss = 2;
  f->state.best_step = 1;
  root_digest(f, folder, now);
  assert_string_equal(first, now);
  /* What does. */
  char *lr = "0.125";
  key(f, "train", "lr", lr);
  root_digest(f, folder, now);
  assert_string_not_equal(first, now);
  fixture *g = fixture_like(f);
  for (int kind = 0; kind < 3; kind++) {
    for (int u = 0; u < f->m->n_units; u++) {
      memcpy(g->values[kind][u], f->values[kind][u], (size_t)f->m->units[u].count * sizeof(float));
    }
  }
  root_digest(f, folder, first);
  root_digest(g, folder, now);
  assert_string_equal(first, now);
  int u = (int)(test_random(&seed) % (uint64_t)f->m->n_units);
  const tensor *t = &f->m->units[u].tensors[0];
  assert_true(t->trainable);
  int kind = (int)(test_random(&seed) % 3);
  uint32_t *bits = (uint32_t *)&g->values[kind][u][t->offset + (int64_t)(test_random(&seed) % (uint64_t)t->count)];
  *bits ^= 1u;
  root_digest(g, folder, now);
  assert_string_not_equal(first, now);
  *bits ^= 1u;
  g->state.sequences++;
  root_digest(g, folder, now);
  assert_string_not_equal(first, now);
  g->state.sequences--;
  g->tokens.end_of_text += 1;
  root_digest(g, folder, now);
  assert_string_not_equal(first, now);
  fixture_remove(folder);
  free(folder);
  fixture_free(f);
  fixture_free(g);
}

/* Files from before there was a count of good steps lack the attribute. */
static void remove_good_steps(const char *path) {
  hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT), group = H5Gopen2(file, "state", H5P_DEFAULT);
  assert_true(H5Adelete(group, "good_steps") >= 0);
  assert_true(H5Gclose(group) >= 0 && H5Fclose(file) >= 0);
}

static void good_steps_may_be_missing(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 1);
  char *folder = test_folder(), *path = fixture_path(folder, f->state.step), before[DIGEST_TEXT];
  checkpoint *k;
  f->state.good_steps = 0;
  root_digest(f, folder, before);
  remove_good_steps(path);
  assert_ok(checkpoint_open(path, false, &k));
  assert_int_equal(k->state.good_steps, 0);
  assert_string_equal(k->digest, before);
  checkpoint_close(k);
  f->state.good_steps = 1; /* but not where it was written */
  char after[DIGEST_TEXT];
  root_digest(f, folder, after);
  assert_string_not_equal(before, after);
  assert_ok(checkpoint_open(path, false, &k));
  assert_int_equal(k->state.good_steps, 1);
  checkpoint_close(k);
  remove_good_steps(path);
  assert_fails(STATUS_USER_ERROR, "the digest of /state", checkpoint_open(path, false, &k));
  fixture_remove(folder);
  free(path);
  free(folder);
  fixture_free(f);
}

/* Two files of one state differ in /launch at most: object times are off and nothing is left undefined. */
static void same_state_same_bytes(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 1);
  char *folder = test_folder(), *path = fixture_path(folder, 5);
  size_t bytes[2];
  unsigned char *data[2];
  for (int i = 0; i < 2; i++) {
    for (int attempt = 0;; attempt++) { /* until the second has not changed in between */
      time_t start = time(NULL);
      assert_ok(fixture_save(f, folder, 5));
      data[i] = fixture_read_file(path, &bytes[i]);
      if (i == 1 && time(NULL) == start && memcmp(data[0], data[1], bytes[1]) == 0) {
        break;
      }
      if (i == 0 && time(NULL) == start) {
        break;
      }
      assert_true(attempt < 5);
      if (i == 1) { /* the time of saving is in the file: bring the first up to date */
        assert_int_equal(bytes[0], bytes[1]);
        free(data[0]);
        data[0] = data[1];
        continue;
      }
      free(data[i]);
    }
  }
  assert_int_equal(bytes[0], bytes[1]);
  assert_memory_equal(data[0], data[1], bytes[0]);
  free(data[0]);
  free(data[1]);
  free(path);
  fixture_remove(folder);
  free(folder);
  fixture_free(f);
}

static void other_models_are_refused(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 1);
  char *folder = test_folder();
  checkpoint *k;
  assert_ok(fixture_save(f, folder, 3));
  assert_ok(checkpoint_open(folder, false, &k));
  struct {
    int64_t *field, change;
    const char *part;
  } cases[] = {
      {&f->c->model.n_layers, 1, "has no /model/blocks."},
      {&f->c->model.n_layers, -1, "which this model does not have"},
      {&f->c->model.vocab_size, 1, "of shape"},
      {&f->c->model.d_mlp, 2, "of shape"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    int64_t old = *cases[i].field;
    *cases[i].field += cases[i].change;
    if (*cases[i].field < 1 || (cases[i].field == &f->c->model.d_mlp && f->c->model.wave_replace)) {
      *cases[i].field = old;
      continue;
    }
    fixture *g = fixture_like(f), *h = fixture_like(f);
    memcpy(h->values[0][0], g->values[0][0], (size_t)g->m->units[0].count * sizeof(float));
    assert_fails(STATUS_USER_ERROR, cases[i].part, checkpoint_load(k, g->m, &g->w, true, &g->d));
    assert_non_null(strstr(status_message(), k->path));
    assert_memory_equal(h->values[0][0], g->values[0][0], (size_t)g->m->units[0].count * sizeof(float));
    fixture_free(g);
    fixture_free(h);
    *cases[i].field = old;
  }
  checkpoint_close(k);
  fixture_remove(folder);
  free(folder);
  fixture_free(f);
}

static void fp64_is_widened_on_load_and_refused_on_save(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 1), *g = fixture_like(f);
  char *folder = test_folder();
  checkpoint *k;
  assert_ok(fixture_save(f, folder, 3));
  assert_ok(checkpoint_open(folder, false, &k));
  g->e.state = DTYPE_F64;
  assert_ok(checkpoint_load(k, g->m, &g->w, true, &g->d));
  for (int u = 0; u < f->m->n_units; u++) {
    for (int64_t i = 0; i < f->m->units[u].count; i++) {
      float a = f->values[0][u][i], b = g->values[0][u][i];
      assert_true(a == b || (isnan(a) && isnan(b)));
    }
  }
  assert_fails(STATUS_FAILURE, "fp32", fixture_save(g, folder, 4));
  checkpoint_close(k);
  fixture_remove(folder);
  free(folder);
  fixture_free(f);
  fixture_free(g);
}

typedef struct {
  const checkpoint *k;
  fixture *f;
  const char *a, *b;
  bool same;
  status result;
} printing;

static void print_compatible(void *context) {
  printing *p = context;
  p->result = checkpoint_compatible(p->k, p->f->c, &p->f->tokens);
}

static void print_diff(void *context) {
  printing *p = context;
  p->result = checkpoint_diff(p->a, p->b, &p->same);
}

static void what_a_resume_may_change(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 1);
  char *folder = test_folder(), *text;
  checkpoint *k;
  assert_ok(fixture_save(f, folder, 3));
  assert_ok(checkpoint_open(folder, false, &k));
  printing p = {.k = k, .f = f};
  key(f, "run", "dir", "elsewhere");
  key(f, "train", "max_steps", "1234");
  text = fixture_output(print_compatible, &p);
  assert_int_equal(p.result, STATUS_OK);
  assert_string_equal(text, "");
  free(text);
  key(f, "train", "lr", "0.125");
  memset(f->tokens.digest, 'a', 32);
  text = fixture_output(print_compatible, &p);
  assert_int_equal(p.result, STATUS_OK);
  assert_non_null(strstr(text, "train.lr (0.0002 there, 0.125 here)"));
  assert_non_null(strstr(text, "warning"));
  assert_non_null(strstr(text, "training data"));
  free(text);
  /* Another device is a warning, but for fp8, whose arithmetic is the device's. */
  key(f, "run", "device", "cuda");
  text = fixture_output(print_compatible, &p);
  assert_int_equal(p.result, STATUS_OK);
  assert_non_null(strstr(text, "run.device ("));
  free(text);
  k->config->train.precision = f->c->train.precision = PRECISION_FP8;
  assert_fails(STATUS_USER_ERROR, "run.device (", checkpoint_compatible(k, f->c, &f->tokens));
  assert_null(strstr(status_message(), "train.precision"));
  key(f, "run", "seed", "77777777777");
  key(f, "train", "micro_batch", "4");
  assert_fails(STATUS_USER_ERROR, "train.micro_batch (2 there, 4 here)", checkpoint_compatible(k, f->c, &f->tokens));
  assert_non_null(strstr(status_message(), "run.seed ("));
  assert_non_null(strstr(status_message(), "77777777777 here"));
  assert_null(strstr(status_message(), "train.lr"));
  checkpoint_close(k);
  fixture_remove(folder);
  free(folder);
  fixture_free(f);
}

static void other_tokenizers_are_refused(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 1);
  char *folder = test_folder();
  checkpoint *k;
  f->tokens.tokenizer_data = realloc(f->tokens.tokenizer_data, 10);
  memcpy(f->tokens.tokenizer_data, "0123456789", 10);
  f->tokens.tokenizer_bytes = 10;
  assert_ok(fixture_save(f, folder, 3));
  assert_ok(checkpoint_open(folder, false, &k));
  f->tokens.vocab_size++;
  assert_fails(STATUS_USER_ERROR, "same tokenizer", checkpoint_compatible(k, f->c, &f->tokens));
  f->tokens.vocab_size--;
  f->tokens.end_of_text++;
  assert_fails(STATUS_USER_ERROR, "end of text", checkpoint_compatible(k, f->c, &f->tokens));
  f->tokens.end_of_text--;
  ((char *)f->tokens.tokenizer_data)[4] = 'x';
  assert_fails(STATUS_USER_ERROR, "another", checkpoint_compatible(k, f->c, &f->tokens));
  checkpoint_close(k);
  fixture_remove(folder);
  free(folder);
  fixture_free(f);
}

static void diff_says_what_differs(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 1);
  char *folder = test_folder(), *a = fixture_path(folder, 1), *b = fixture_path(folder, 2);
  float *first = f->values[0][0] + f->m->units[0].tensors[0].offset;
  int64_t count = f->m->units[0].tensors[0].count;
  for (int64_t i = 0; i < count; i++) {
    first[i] = i == 0 ? 3.0f : 0.0f;
  }
  printing p = {.a = a, .b = b};
  assert_ok(fixture_save(f, folder, 1));
  assert_int_equal(rename(a, b), 0); /* the same state under another name */
  assert_ok(fixture_save(f, folder, 1));
  char *text = fixture_output(print_diff, &p);
  assert_int_equal(p.result, STATUS_OK);
  assert_true(p.same);
  assert_non_null(strstr(text, "are the same"));
  assert_null(strstr(text, "differ"));
  free(text);

  first[0] = 3.75f;
  key(f, "train", "lr", "0.125");
  f->state.val_loss = 2.5;
  assert_ok(fixture_save(f, folder, 2));
  text = fixture_output(print_diff, &p);
  assert_int_equal(p.result, STATUS_OK);
  assert_false(p.same);
  char line[256];
  snprintf(line, sizeof line, "/model/%s: 1 of %lld elements differ, max abs 0.75, relative L2 0.25",
           f->m->units[0].tensors[0].name, (long long)count);
  assert_non_null(strstr(text, line));
  assert_null(strstr(text, "/optim/"));
  assert_non_null(strstr(text, "/state step: 1 and 2"));
  assert_non_null(strstr(text, "/state val_loss: nan and 2.5 (not part of the digest)"));
  assert_non_null(strstr(text, "/config train.lr: 0.0002 and 0.125"));
  assert_non_null(strstr(text, "are different"));
  free(text);

  first[0] = NAN;
  assert_ok(fixture_save(f, folder, 2));
  text = fixture_output(print_diff, &p);
  assert_false(p.same);
  assert_non_null(strstr(text, "1 of them not finite"));
  free(text);

  fixture *g = fixture_new(test_random(&seed), 1);
  assert_ok(fixture_save(g, folder, 2));
  text = fixture_output(print_diff, &p);
  assert_int_equal(p.result, STATUS_OK);
  assert_false(p.same);
  free(text);
  free(a);
  free(b);
  fixture_remove(folder);
  free(folder);
  fixture_free(f);
  fixture_free(g);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(round_trip),
      cmocka_unit_test(digest_tells_the_run),
      cmocka_unit_test(good_steps_may_be_missing),
      cmocka_unit_test(same_state_same_bytes),
      cmocka_unit_test(other_models_are_refused),
      cmocka_unit_test(fp64_is_widened_on_load_and_refused_on_save),
      cmocka_unit_test(what_a_resume_may_change),
      cmocka_unit_test(other_tokenizers_are_refused),
      cmocka_unit_test(diff_says_what_differs),
  };
  seed = test_seed();
  H5open();
  handles_at_start = fixture_handles();
  return cmocka_run_group_tests_name("checkpoint", tests, NULL, no_handle_is_left);
}
