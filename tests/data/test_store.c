/* Token stores: what is written is read, and what is damaged is refused. */
#include <fcntl.h>
#include <hdf5.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "data/store_format.h"
#include "data/store_seal.h"
#include "data/token_store.h"
#include "data_support.h"

typedef struct {
  int32_t *tokens;
  uint64_t *starts;
  size_t count, documents;
} made;

/* A store of random documents, each ended by the last token of the vocabulary. */
static made make_documents(const char *path, uint64_t *rng, int64_t vocab, size_t documents) {
  made m = {.documents = documents};
  tokenizer *t;
  store_writer *w;
  store_source sources[3];
  char names[3][64];
  assert_ok(tokenizer_create("external", NULL, 0, vocab, (int32_t)vocab - 1, &t));
  assert_ok(store_writer_open(path, t, &w));
  m.starts = calloc(documents, sizeof *m.starts);
  m.tokens = calloc(documents * 3000, sizeof *m.tokens);
  for (size_t d = 0; d < documents; d++) {
    m.starts[d] = m.count;
    size_t length = (size_t)test_below(rng, 2900), start = m.count;
    for (size_t i = 0; i < length; i++) {
      m.tokens[m.count++] = (int32_t)test_below(rng, vocab - 1);
    }
    m.tokens[m.count++] = (int32_t)vocab - 1;
    size_t half = (size_t)test_below(rng, (int64_t)(m.count - start) + 1);
    assert_ok(store_writer_add(w, m.tokens + start, half));
    assert_ok(store_writer_add(w, m.tokens + start + half, m.count - start - half));
    assert_ok(store_writer_end_document(w, (int64_t)length));
    assert_ok(store_writer_end_document(w, 5)); /* nothing since: no document */
  }
  for (int i = 0; i < 3; i++) {
    snprintf(names[i], sizeof names[i], "folder/source %d ü.txt", i);
    sources[i] = (store_source){.path = names[i], .bytes = 10 * i};
    digest_of(names[i], 5, sources[i].digest);
  }
  assert_ok(store_writer_commit(w, sources, 3));
  store_writer_close(w);
  tokenizer_free(t);
  return m;
}

static void made_free(made m) {
  free(m.tokens);
  free(m.starts);
}

static void what_is_written_is_read(void **state) {
  uint64_t rng = test_seed();
  static const int64_t vocabs[] = {2, 300, 65536, 65537, 2000000000};
  char *folder = test_folder(), *path = test_path(folder, "s.h5");
  for (size_t v = 0; v < sizeof vocabs / sizeof *vocabs; v++) {
    /* More than a block of the spool once, so that blocks meet. */
    size_t documents = v == 2 ? 500 : 1 + (size_t)test_below(&rng, 9);
    made m = make_documents(path, &rng, vocabs[v], documents);
    token_store *s;
    assert_ok(token_store_open(path, &s));
    assert_int_equal(s->tokens, m.count);
    assert_int_equal(s->documents, m.documents);
    assert_int_equal(s->vocab_size, vocabs[v]);
    assert_int_equal(s->token_bytes, vocabs[v] <= 65536 ? 2 : 4);
    assert_int_equal(s->end_of_text, vocabs[v] - 1);
    assert_int_equal(s->text_bytes, m.count - m.documents);
    assert_string_equal(s->tokenizer, "external");
    assert_int_equal(s->tokenizer_bytes, 0);
    int32_t *tokens = calloc(m.count, sizeof *tokens);
    uint64_t *starts = calloc(m.documents, sizeof *starts);
    assert_ok(token_store_read(s, 0, s->tokens, tokens));
    assert_memory_equal(tokens, m.tokens, m.count * sizeof *tokens);
    assert_ok(token_store_documents(s, 0, s->documents, starts));
    assert_memory_equal(starts, m.starts, m.documents * sizeof *starts);
    for (int i = 0; i < 50; i++) {
      int64_t first = test_below(&rng, s->tokens + 1), count = test_below(&rng, s->tokens - first + 1);
      assert_ok(token_store_read(s, first, count, tokens));
      assert_memory_equal(tokens, m.tokens + first, (size_t)count * sizeof *tokens);
    }
    assert_fails(STATUS_FAILURE, "s.h5", token_store_read(s, s->tokens, 1, tokens));
    assert_fails(STATUS_FAILURE, "s.h5", token_store_read(s, -1, 1, tokens));
    assert_fails(STATUS_FAILURE, "s.h5", token_store_read(s, 1, INT64_MAX, tokens));
    assert_ok(token_store_verify(s));
    token_store_close(s);
    free(tokens);
    free(starts);
    made_free(m);
  }
  free(path);
  remove_folder(folder);
  (void)state;
}

static void same_input_same_bytes(void **state) {
  uint64_t seed = test_seed(), a = seed, b = seed;
  char *folder = test_folder(), *one = test_path(folder, "one.h5"), *two = test_path(folder, "two.h5");
  made m = make_documents(one, &a, 300, 20);
  sleep(1); /* a time in the file would differ */
  made n = make_documents(two, &b, 300, 20);
  test_text x = {0}, y = {0};
  read_whole(one, &x);
  read_whole(two, &y);
  assert_int_equal(x.bytes, y.bytes);
  assert_memory_equal(x.text, y.text, x.bytes);
  free(x.text);
  free(y.text);
  made_free(m);
  made_free(n);
  free(one);
  free(two);
  remove_folder(folder);
  (void)state;
}

static void expect_refusal(const char *path, const char *part) {
  token_store *s = NULL;
  assert_fails(STATUS_USER_ERROR, part, token_store_open(path, &s));
  assert_null(s);
  const char *name = strrchr(path, '/');
  if (strstr(status_message(), name) == NULL) {
    fail_msg("'%s' does not name %s", status_message(), path);
  }
}

static void other_files(void **state) {
  char *folder = test_folder(), *path = test_path(folder, "some.h5");
  expect_refusal(path, "No such file");
  write_file(path, "", 0);
  expect_refusal(path, "empty");
  write_file(path, "Call me Ishmael.", 16);
  expect_refusal(path, "psann_data build");
  write_file(path, "psann tok", 9);
  expect_refusal(path, "truncated");
  hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  H5Fclose(file);
  expect_refusal(path, "HDF5 file but not a token store");
  unlink(path);
  assert_int_equal(mkdir(path, 0700), 0);
  expect_refusal(path, "folder");
  rmdir(path);
  assert_int_equal(mkfifo(path, 0700), 0);
  int keep_open = open(path, O_RDWR); /* so that opening the other end doesn't wait */
  expect_refusal(path, "special file");
  close(keep_open);
  unlink(path);
  assert_int_equal(symlink("some.h5", path), 0);
  expect_refusal(path, "cannot open");
  free(path);
  remove_folder(folder);
  (void)state;
}

static void every_truncation(void **state) {
  uint64_t rng = test_seed();
  char *folder = test_folder(), *path = test_path(folder, "s.h5"), *cut = test_path(folder, "cut.h5");
  made_free(make_documents(path, &rng, 300, 3));
  test_text whole = {0};
  read_whole(path, &whole);
  for (int i = 0; i < 300; i++) {
    size_t length = i < 100 ? (size_t)(i * 20) : (size_t)test_below(&rng, (int64_t)whole.bytes);
    write_file(cut, whole.text, length);
    expect_refusal(cut, length == 0 ? "empty" : "truncated");
  }
  text_add(&whole, "x", 1);
  write_file(cut, whole.text, whole.bytes);
  expect_refusal(cut, "damaged");
  free(whole.text);
  free(path);
  free(cut);
  remove_folder(folder);
  (void)state;
}

static void every_flipped_byte(void **state) {
  uint64_t rng = test_seed();
  char *folder = test_folder(), *path = test_path(folder, "s.h5"), *bad = test_path(folder, "bad.h5");
  made_free(make_documents(path, &rng, 300, 3));
  test_text whole = {0};
  read_whole(path, &whole);
  token_store *good;
  assert_ok(token_store_open(path, &good));
  write_file(bad, whole.text, whole.bytes);
  int file = open(bad, O_RDWR);
  for (int64_t i = 0; i < (int64_t)whole.bytes; i++) {
    bool in_tokens = i >= good->offset && i < good->offset + 2 * good->tokens;
    bool in_documents = i >= good->documents_offset && i < good->documents_offset + 8 * good->documents;
    char flipped = (char)(whole.text[i] ^ (1 << test_below(&rng, 8)));
    if (in_tokens && i % 64 != 0) {
      continue; /* alike; verifying reads everything */
    }
    assert_int_equal(pwrite(file, &flipped, 1, i), 1);
    if (in_tokens || in_documents) {
      token_store *s;
      assert_ok(token_store_open(bad, &s));
      assert_fails(STATUS_USER_ERROR, "damaged", token_store_verify(s));
      token_store_close(s);
    } else {
      expect_refusal(bad, "");
    }
    assert_int_equal(pwrite(file, &whole.text[i], 1, i), 1);
  }
  close(file);
  token_store *again;
  assert_ok(token_store_open(bad, &again));
  token_store_close(again);
  token_store_close(good);
  free(whole.text);
  free(path);
  free(bad);
  remove_folder(folder);
  (void)state;
}

/* Changes the HDF5 part and seals the file again, as a program that writes wrong stores would. */
static void forge(const char *path, void (*change)(hid_t file)) {
  token_store *s;
  assert_ok(token_store_open(path, &s));
  store_region tokens = {s->offset, s->tokens * s->token_bytes}, documents = {s->documents_offset, 8 * s->documents};
  token_store_close(s);
  hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
  assert_true(file >= 0);
  change(file);
  assert_true(H5Fclose(file) >= 0);
  int handle = open(path, O_RDWR);
  assert_ok(store_seal_write(handle, path, tokens, documents));
  close(handle);
}

static void set_integer(hid_t file, const char *name, int64_t value) {
  assert_true(H5Adelete(file, name) >= 0);
  assert_ok(store_write_integer(file, "forged", name, value));
}

static void version_9(hid_t f) {
  set_integer(f, "version", 9);
}
static void no_vocab(hid_t f) {
  set_integer(f, "vocab_size", 0);
}
static void huge_vocab(hid_t f) {
  set_integer(f, "vocab_size", 65537);
}
static void end_outside(hid_t f) {
  set_integer(f, "end_of_text", 300);
}
static void end_minus_two(hid_t f) {
  set_integer(f, "end_of_text", -2);
}
static void three_bytes(hid_t f) {
  set_integer(f, "token_bytes", 3);
}
static void four_bytes(hid_t f) {
  set_integer(f, "token_bytes", 4);
}
static void more_tokens(hid_t f) {
  set_integer(f, "tokens", 1000000);
}
static void no_tokens(hid_t f) {
  set_integer(f, "tokens", 0);
}
static void more_documents(hid_t f) {
  set_integer(f, "documents", 4);
}
static void negative_text(hid_t f) {
  set_integer(f, "text_bytes", -5);
}
static void no_attribute(hid_t f) {
  assert_true(H5Adelete(f, "documents") >= 0);
}
static void no_array(hid_t f) {
  assert_true(H5Ldelete(f, "documents", H5P_DEFAULT) >= 0);
}

static void text_for_integer(hid_t f) {
  assert_true(H5Adelete(f, "tokens") >= 0);
  assert_ok(store_write_text(f, "forged", "tokens", "many"));
}

static void long_name(hid_t f) {
  assert_true(H5Adelete(f, "tokenizer") >= 0);
  assert_ok(store_write_text(f, "forged", "tokenizer", "a name that is too long for any"));
}

static void other_tokenizer(hid_t f) {
  assert_true(H5Adelete(f, "tokenizer") >= 0);
  assert_ok(store_write_text(f, "forged", "tokenizer", "bytes"));
}

static void forged_descriptions(void **state) {
  static const struct {
    void (*change)(hid_t);
    const char *part;
  } forgeries[] = {{version_9, "version 9"},       {no_vocab, "0 tokens"},       {huge_vocab, "65537 tokens"},
                   {end_outside, "token 300"},     {end_minus_two, "token -2"},  {three_bytes, "3 bytes"},
                   {four_bytes, "/tokens"},        {more_tokens, "/tokens"},     {no_tokens, "0 tokens"},
                   {more_documents, "/documents"}, {negative_text, "-5 bytes"},  {no_attribute, "documents"},
                   {no_array, "/documents"},       {text_for_integer, "tokens"}, {long_name, "tokenizer"},
                   {other_tokenizer, "tokenizer"}};
  uint64_t rng = test_seed();
  char *folder = test_folder(), *path = test_path(folder, "s.h5");
  for (size_t i = 0; i < sizeof forgeries / sizeof *forgeries; i++) {
    made_free(make_documents(path, &rng, 300, 3));
    forge(path, forgeries[i].change);
    expect_refusal(path, forgeries[i].part);
  }
  free(path);
  remove_folder(folder);
  (void)state;
}

static void other_version_of_the_seal(void **state) {
  char *folder = test_folder(), *path = test_path(folder, "s.h5");
  uint64_t rng = test_seed();
  made_free(make_documents(path, &rng, 300, 1));
  int file = open(path, O_RDWR);
  assert_int_equal(pwrite(file, "version 2", 9, 18), 9);
  close(file);
  expect_refusal(path, "version 2");
  free(path);
  remove_folder(folder);
  (void)state;
}

static void token_outside_the_vocabulary(void **state) {
  char *folder = test_folder(), *path = test_path(folder, "s.h5");
  int32_t tokens[100], out[100];
  for (int i = 0; i < 100; i++) {
    tokens[i] = i == 57 ? 299 : i;
  }
  make_store(path, tokens, 100, 300);
  token_store *s;
  assert_ok(token_store_open(path, &s));
  s->vocab_size = 299;
  assert_fails(STATUS_USER_ERROR, "token 57", token_store_read(s, 10, 90, out));
  assert_fails(STATUS_USER_ERROR, "299", token_store_read(s, 10, 90, out));
  assert_ok(token_store_read(s, 0, 57, out));
  token_store_close(s);
  free(path);
  remove_folder(folder);
  (void)state;
}

static int entries_of(const char *folder) {
  int count = 0;
  char *command = NULL;
  assert_true(asprintf(&command, "ls -A '%s' | wc -l", folder) > 0);
  FILE *p = popen(command, "r");
  assert_int_equal(fscanf(p, "%d", &count), 1);
  pclose(p);
  free(command);
  return count;
}

static void unfinished_stores_leave_nothing(void **state) {
  char *folder = test_folder(), *path = test_path(folder, "s.h5"), *deeper = test_path(folder, "none/s.h5");
  int32_t tokens[4] = {1, 2, 3, 4};
  tokenizer *t;
  store_writer *w;
  assert_ok(tokenizer_create("external", NULL, 0, 300, 299, &t));
  assert_ok(store_writer_open(path, t, &w));
  assert_ok(store_writer_add(w, tokens, 4));
  store_writer_close(w);
  assert_int_equal(entries_of(folder), 0);
  assert_ok(store_writer_open(path, t, &w));
  assert_fails(STATUS_USER_ERROR, "no document", store_writer_commit(w, NULL, 0));
  assert_ok(store_writer_add(w, tokens, 4));
  assert_fails(STATUS_USER_ERROR, "no document", store_writer_commit(w, NULL, 0));
  store_writer_close(w);
  assert_int_equal(entries_of(folder), 0);
  assert_fails(STATUS_USER_ERROR, "none/s.h5", store_writer_open(deeper, t, &w));
  tokenizer_free(t);
  free(path);
  free(deeper);
  remove_folder(folder);
  (void)state;
}

/* Writes a store of `blocks` documents under a limit on the size of files; the exit code is the status, 99 for a
 * message that doesn't name the store.
 */
static int write_limited(const char *path, int64_t limit, int blocks) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    struct rlimit r = {(rlim_t)limit, (rlim_t)limit};
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &r);
    tokenizer *t;
    store_writer *w;
    int32_t tokens[1000] = {0};
    status s = tokenizer_create("external", NULL, 0, 300, 299, &t);
    s = s == STATUS_OK ? store_writer_open(path, t, &w) : s;
    for (int i = 0; i < blocks && s == STATUS_OK; i++) {
      s = store_writer_add(w, tokens, 1000);
      s = s == STATUS_OK ? store_writer_end_document(w, 1000) : s;
    }
    s = s == STATUS_OK ? store_writer_commit(w, NULL, 0) : s;
    if (s != STATUS_OK && strstr(status_message(), "s.h5") == NULL) {
      s = 99;
    }
    store_writer_close(w);
    tokenizer_free(t);
    exit(s); /* not _exit: HDF5's own end of the process is part of the test */
  }
  int result;
  assert_int_equal(waitpid(child, &result, 0), child);
  assert_true(WIFEXITED(result));
  return WEXITSTATUS(result);
}

/* A limit on file sizes stands for a full disk: the old store stays whole, and no other file is left. */
static void full_disk(void **state) {
  uint64_t rng = test_seed();
  char *folder = test_folder(), *path = test_path(folder, "s.h5");
  made m = make_documents(path, &rng, 300, 2);
  for (int blocks = 1; blocks <= 700; blocks += 699) { /* the description, or the tokens, don't fit */
    for (int64_t limit = 64; limit <= (blocks == 1 ? 4096 : 1 << 20); limit += limit < 4096 ? 137 : limit) {
      assert_int_equal(write_limited(path, limit, blocks), STATUS_FAILURE);
      assert_int_equal(entries_of(folder), 1);
      token_store *s;
      assert_ok(token_store_open(path, &s));
      assert_int_equal(s->tokens, m.count);
      assert_ok(token_store_verify(s));
      token_store_close(s);
    }
  }
  assert_int_equal(write_limited(path, 1 << 15, 1), STATUS_OK);
  made_free(m);
  free(path);
  remove_folder(folder);
  (void)state;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_written_is_read),
      cmocka_unit_test(same_input_same_bytes),
      cmocka_unit_test(other_files),
      cmocka_unit_test(every_truncation),
      cmocka_unit_test(every_flipped_byte),
      cmocka_unit_test(forged_descriptions),
      cmocka_unit_test(other_version_of_the_seal),
      cmocka_unit_test(token_outside_the_vocabulary),
      cmocka_unit_test(unfinished_stores_leave_nothing),
      cmocka_unit_test(full_disk),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
