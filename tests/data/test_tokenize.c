/* The threads of a build: the same stores for any number of them, and a failure inside one ends the work. */
#include "data/tokenize.h"
#include "data/tokenizer_train.h"
#include "data_support.h"

static void whole_file(const char *path, test_text *t) {
  t->bytes = 0;
  read_whole(path, t);
}

/* Documents of very different lengths, so that batches hold many, one, or a part of one. */
static void random_files(const char *folder, uint64_t *rng) {
  test_text t = {0};
  char *one = test_path(folder, "a.txt"), *two = test_path(folder, "b.txt");
  for (int i = 0; i < 40; i++) {
    text_add_english(&t, rng, (size_t)test_below(rng, i % 10 == 0 ? 3 << 20 : 3000));
    text_add(&t, "\n%\n", 3);
  }
  write_file(one, t.text, t.bytes);
  t.bytes = 0;
  for (int i = 0; i < 3000; i++) {
    text_add_unicode(&t, rng, 50);
    text_add(&t, "\n%\n", 3);
  }
  write_file(two, t.text, t.bytes);
  free(t.text);
  free(one);
  free(two);
}

/* By name: the second file has NUL characters, and a folder's files that have some are passed by. */
static void list_files(input_list *list, const char *folder) {
  static const char *const names[] = {"a.txt", "b.txt"};
  for (int i = 0; i < 2; i++) {
    char *path = test_path(folder, names[i]);
    assert_ok(input_list_add(list, path, INPUT_ANY));
    free(path);
  }
  assert_ok(input_list_finish(list));
}

static void build(const char *folder, tokenizer *t, int jobs, const char *train_path, const char *val_path,
                  tokenize_counts *counts) {
  input_list list = {0};
  input_options options = {.split = SPLIT_MARK, .mark = "%", .text_key = "text"};
  holdout split = {.fraction = 0.2, .seed = 7};
  store_writer *train, *val;
  list_files(&list, folder);
  assert_ok(store_writer_open(train_path, t, &train));
  assert_ok(store_writer_open(val_path, t, &val));
  assert_ok(tokenize(&list, &options, &split, t, jobs, train, val, counts));
  assert_int_equal(store_writer_tokens(train) > 0 && store_writer_tokens(val) > 0, 1);
  assert_ok(store_writer_commit(train, NULL, 0));
  assert_ok(store_writer_commit(val, NULL, 0));
  store_writer_close(train);
  store_writer_close(val);
  input_list_free(&list);
}

static void any_number_of_jobs_makes_the_same_stores(void **state) {
  uint64_t rng = test_seed();
  char *folder = test_folder(), *stores = test_folder(), *paths[4];
  random_files(folder, &rng);
  input_list list = {0};
  input_options options = {.split = SPLIT_MARK, .mark = "%", .text_key = "text"};
  holdout split = {.fraction = 0.2, .seed = 7};
  tokenizer *t;
  list_files(&list, folder);
  assert_ok(tokenizer_train_chars(&list, &options, &split, &t));
  input_list_free(&list);
  static const char *const names[] = {"t.h5", "v.h5", "t1.h5", "v1.h5"};
  for (int i = 0; i < 4; i++) {
    paths[i] = test_path(stores, names[i]);
  }
  tokenize_counts first, counts;
  build(folder, t, 1, paths[2], paths[3], &first);
  assert_int_equal(first.unknown_train, 0); /* the tokenizer comes from these */
  assert_true(first.unknown_val > 0);       /* and has not seen those */
  for (int jobs = 2; jobs <= 9; jobs += 1 + (int)test_below(&rng, 3)) {
    test_text a = {0}, b = {0};
    build(folder, t, jobs, paths[0], paths[1], &counts);
    assert_int_equal(counts.unknown_val, first.unknown_val);
    for (int k = 0; k < 2; k++) {
      whole_file(paths[k], &a);
      whole_file(paths[2 + k], &b);
      assert_int_equal(a.bytes, b.bytes);
      assert_memory_equal(a.text, b.text, a.bytes);
    }
    free(a.text);
    free(b.text);
  }
  tokenizer_free(t);
  for (int i = 0; i < 4; i++) {
    free(paths[i]);
  }
  remove_folder(folder);
  remove_folder(stores);
  (void)state;
}

static void a_failure_in_a_thread_ends_the_work(void **state) {
  uint64_t rng = test_seed();
  char *folder = test_folder(), *stores = test_folder(), *path = test_path(stores, "t.h5");
  input_list list = {0};
  input_options options = {.split = SPLIT_MARK, .mark = "%", .text_key = "text"};
  holdout split = {0};
  tokenize_counts counts;
  tokenizer *t;
  store_writer *w;
  random_files(folder, &rng);
  assert_ok(tokenizer_create("external", NULL, 0, 300, 299, &t)); /* can't encode */
  list_files(&list, folder);
  for (int jobs = 1; jobs <= 5; jobs += 2) {
    assert_ok(store_writer_open(path, t, &w));
    assert_fails(STATUS_USER_ERROR, "external", tokenize(&list, &options, &split, t, jobs, w, NULL, &counts));
    store_writer_close(w);
  }
  assert_int_equal(access(path, F_OK), -1);
  tokenizer_free(t);
  input_list_free(&list);
  free(path);
  remove_folder(folder);
  remove_folder(stores);
  (void)state;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(any_number_of_jobs_makes_the_same_stores),
      cmocka_unit_test(a_failure_in_a_thread_ends_the_work),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
