/* Tokenizers: what is encoded is decoded, and damaged models are refused. */
#include <pthread.h>

#include "data/sentencepiece_train.h"
#include "data/tokenizer.h"
#include "data/tokenizer_file.h"
#include "data_support.h"

typedef struct {
  int32_t *ids;
  size_t count, capacity;
} test_ids;

static test_ids encode(tokenizer *t, const char *text, size_t bytes) {
  test_ids out = {0};
  assert_ok(tokenizer_encode(t, text, bytes, &out.ids, &out.count, &out.capacity));
  for (size_t i = 0; i < out.count; i++) {
    assert_true(out.ids[i] >= 0 && out.ids[i] < tokenizer_vocab(t));
    assert_int_not_equal(out.ids[i], tokenizer_end_of_text(t));
  }
  return out;
}

static void expect_round_trip(tokenizer *t, const test_text *text) {
  test_ids ids = encode(t, text->text, text->bytes);
  char *back;
  size_t bytes;
  assert_ok(tokenizer_decode(t, ids.ids, ids.count, &back, &bytes));
  assert_int_equal(bytes, text->bytes);
  assert_memory_equal(back, text->text != NULL ? text->text : "", bytes);
  assert_int_equal(back[bytes], 0);
  free(back);
  free(ids.ids);
}

/* Random Unicode, random bytes (where `any`), English, nothing, and long runs. */
static void expect_all_round_trips(tokenizer *t, uint64_t *rng, bool any) {
  for (int i = 0; i < 200; i++) {
    test_text text = {0};
    size_t bytes = (size_t)test_below(rng, i < 100 ? 20 : 3000);
    if (i % 4 == 0) {
      text_add_english(&text, rng, bytes);
    } else if (i % 4 == 1 && any) {
      text_add_bytes(&text, rng, bytes);
    } else if (i % 4 == 2 && any) { /* invalid bytes among valid text */
      for (int k = 0; k < 10; k++) {
        text_add_unicode(&text, rng, bytes / 10);
        text_add_bytes(&text, rng, 2);
      }
    } else {
      text_add_unicode(&text, rng, bytes);
    }
    expect_round_trip(t, &text);
    free(text.text);
  }
  test_text empty = {0};
  expect_round_trip(t, &empty);
  for (int run = 0; run < 3; run++) {
    test_text text = {0};
    for (int i = 0; i < 100000; i++) {
      text_add(&text, " \na" + run, 1);
    }
    expect_round_trip(t, &text);
    free(text.text);
  }
}

static void bytes_give_back_everything(void **state) {
  uint64_t rng = test_seed();
  tokenizer *t;
  assert_ok(tokenizer_create("bytes", NULL, 0, 257, 256, &t));
  assert_int_equal(tokenizer_vocab(t), 257);
  assert_int_equal(tokenizer_end_of_text(t), 256);
  assert_true(tokenizer_is_exact(t));
  expect_all_round_trips(t, &rng, true);
  int32_t ids[] = {72, 256, 105, 256, 256};
  char *text;
  size_t bytes;
  assert_ok(tokenizer_decode(t, ids, 5, &text, &bytes));
  assert_string_equal(text, "Hi");
  free(text);
  assert_ok(tokenizer_decode(t, ids, 0, &text, NULL));
  assert_string_equal(text, "");
  free(text);
  ids[0] = 257;
  assert_fails(STATUS_USER_ERROR, "token 257", tokenizer_decode(t, ids, 1, &text, &bytes));
  ids[0] = -1;
  assert_fails(STATUS_USER_ERROR, "token -1", tokenizer_decode(t, ids, 1, &text, &bytes));
  tokenizer_free(t);
  (void)state;
}

static void encoding_appends(void **state) {
  tokenizer *t;
  test_ids out = {0};
  assert_ok(tokenizer_create("bytes", NULL, 0, 257, 256, &t));
  assert_ok(tokenizer_encode(t, "ab", 2, &out.ids, &out.count, &out.capacity));
  assert_ok(tokenizer_encode(t, "", 0, &out.ids, &out.count, &out.capacity));
  assert_ok(tokenizer_encode(t, "cd", 2, &out.ids, &out.count, &out.capacity));
  const int32_t expected[] = {'a', 'b', 'c', 'd'};
  assert_int_equal(out.count, 4);
  assert_memory_equal(out.ids, expected, sizeof expected);
  free(out.ids);
  tokenizer_free(t);
  (void)state;
}

static void chars_know_what_they_were_given(void **state) {
  uint64_t rng = test_seed();
  uint32_t *points = calloc(0x110000, sizeof *points);
  size_t count = 0;
  for (uint32_t p = 0; p < 0x110000; p++) {
    if (p < 0xD800 || p > 0xDFFF) {
      points[count++] = p;
    }
  }
  tokenizer *t;
  assert_ok(tokenizer_create("chars", points, count * 4, (int64_t)count + 2, 0, &t));
  assert_true(tokenizer_is_exact(t));
  expect_all_round_trips(t, &rng, false);
  tokenizer_free(t);

  const uint32_t few[] = {'\n', 'a', 'b', 0xE9, 0x1F600};
  assert_ok(tokenizer_create("chars", few, sizeof few, 7, 0, &t));
  static const char text[] = "ab\n\xC3\xA9\xF0\x9F\x98\x80z\xFF\xC3";
  test_ids ids = encode(t, text, sizeof text - 1);
  const int32_t expected[] = {3, 4, 2, 5, 6, 1, 1, 1};
  assert_int_equal(ids.count, 8);
  assert_memory_equal(ids.ids, expected, sizeof expected);
  char *back;
  assert_ok(tokenizer_decode(t, ids.ids, ids.count, &back, NULL));
  assert_string_equal(back, "ab\n\xC3\xA9\xF0\x9F\x98\x80\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
  free(back);
  free(ids.ids);
  tokenizer_free(t);

  const uint32_t disorder[] = {'b', 'a'}, surrogate[] = {0xD800}, beyond[] = {0x110000};
  assert_fails(STATUS_USER_ERROR, "out of order", tokenizer_create("chars", disorder, 8, 4, 0, &t));
  assert_fails(STATUS_USER_ERROR, "not a character", tokenizer_create("chars", surrogate, 4, 3, 0, &t));
  assert_fails(STATUS_USER_ERROR, "not a character", tokenizer_create("chars", beyond, 4, 3, 0, &t));
  assert_fails(STATUS_USER_ERROR, "7 bytes", tokenizer_create("chars", few, 7, 3, 0, &t));
  assert_fails(STATUS_USER_ERROR, "8", tokenizer_create("chars", few, sizeof few, 8, 0, &t));
  assert_fails(STATUS_USER_ERROR, "end of text", tokenizer_create("chars", few, sizeof few, 7, 1, &t));
  free(points);
  (void)state;
}

/* Lines of a text for the trainer. */
static status train(const test_text *text, int64_t vocab, const char *type, char **model, size_t *bytes) {
  size_t lines = 0, used = 0, *ends = calloc(text->bytes + 1, sizeof *ends);
  char *joined = malloc(text->bytes + 1);
  for (size_t at = 0; at < text->bytes; lines++) {
    const char *newline = memchr(text->text + at, '\n', text->bytes - at);
    size_t end = newline != NULL ? (size_t)(newline - text->text) : text->bytes;
    end = end - at > SENTENCEPIECE_LINE ? at + SENTENCEPIECE_LINE : end;
    memcpy(joined + used, text->text + at, end - at);
    used += end - at;
    ends[lines] = used;
    at = end + (end < text->bytes && text->text[end] == '\n');
  }
  sentencepiece_options o = {vocab, type, 0.9995};
  status s = sentencepiece_train(joined, ends, lines, &o, model, bytes);
  free(joined);
  free(ends);
  return s;
}

static void sentencepiece_of(const char *type) {
  uint64_t rng = test_seed();
  test_text english = {0}, other = {0};
  char *model, *again;
  size_t bytes, again_bytes;
  text_add_english(&english, &rng, 200000);
  assert_ok(train(&english, 450, type, &model, &bytes));
  assert_ok(train(&english, 450, type, &again, &again_bytes));
  assert_int_equal(bytes, again_bytes);
  assert_memory_equal(model, again, bytes);
  free(again);
  tokenizer *t, *refused;
  assert_ok(tokenizer_create("sentencepiece", model, bytes, 450, 0, &t));
  assert_true(tokenizer_is_exact(t));
  assert_int_equal(tokenizer_unknown(t), 1);
  expect_all_round_trips(t, &rng, true);
  test_ids ids = encode(t, english.text, english.bytes);
  assert_true(ids.count * 2 < english.bytes); /* it learnt something */
  for (size_t i = 0; i < ids.count; i++) {
    assert_int_not_equal(ids.ids[i], 1);
  }
  /* Texts that look like the model's own names are text. */
  static const char *const names[] = {"</s>",
                                      "<unk>",
                                      "<0x41>",
                                      "<s>",
                                      "\xE2\x96\x81",
                                      "\xE2\x96\x85",
                                      "a\xE2\x96\x81"
                                      "b",
                                      "\xEF\xBF\xBD"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    other.bytes = 0;
    text_add(&other, names[i], strlen(names[i]));
    expect_round_trip(t, &other);
  }
  /* A text in two calls, cut at a newline, gives the same ids. */
  const char *newline = strchr(english.text + english.bytes / 2, '\n');
  size_t half = (size_t)(newline - english.text) + 1;
  test_ids parts = encode(t, english.text, half);
  assert_ok(tokenizer_encode(t, english.text + half, english.bytes - half, &parts.ids, &parts.count, &parts.capacity));
  assert_int_equal(parts.count, ids.count);
  assert_memory_equal(parts.ids, ids.ids, ids.count * sizeof *ids.ids);
  free(parts.ids);
  free(ids.ids);
  assert_fails(STATUS_USER_ERROR, "450", tokenizer_create("sentencepiece", model, bytes, 451, 0, &refused));
  assert_fails(STATUS_USER_ERROR, "end of text", tokenizer_create("sentencepiece", model, bytes, 450, 3, &refused));
  tokenizer_free(t);
  free(model);
  free(english.text);
  free(other.text);
}

static void sentencepiece_unigram(void **state) {
  sentencepiece_of("unigram");
  (void)state;
}

static void sentencepiece_bpe(void **state) {
  sentencepiece_of("bpe");
  (void)state;
}

static void vocabularies_that_do_not_fit(void **state) {
  uint64_t rng = test_seed();
  test_text english = {0}, letters = {0};
  char *model;
  size_t bytes;
  text_add_english(&english, &rng, 20000);
  assert_fails(STATUS_USER_ERROR, "or less", train(&english, 100000, "unigram", &model, &bytes));
  assert_fails(STATUS_USER_ERROR, "or less", train(&english, 100000, "bpe", &model, &bytes));
  for (int i = 0; i < 20; i++) {
    text_add_unicode(&letters, &rng, 1000);
    text_add(&letters, "\n", 1);
  }
  assert_fails(STATUS_USER_ERROR, "or more", train(&letters, 270, "unigram", &model, &bytes));
  assert_fails(STATUS_USER_ERROR, "or more", train(&letters, 270, "bpe", &model, &bytes));
  free(english.text);
  free(letters.text);
  (void)state;
}

typedef struct {
  tokenizer *t;
  test_text text;
  test_ids expected;
  int differences;
} shared_work;

static void *encode_repeatedly(void *context) {
  shared_work *w = context;
  for (int i = 0; i < 20; i++) {
    test_ids ids = {0};
    status s = tokenizer_encode(w->t, w->text.text, w->text.bytes, &ids.ids, &ids.count, &ids.capacity);
    bool same = s == STATUS_OK && ids.count == w->expected.count &&
                memcmp(ids.ids, w->expected.ids, ids.count * sizeof *ids.ids) == 0;
    w->differences += !same;
    free(ids.ids);
  }
  return NULL;
}

/* Threads share a tokenizer, and a thread's cache of words belongs to one tokenizer at a time. */
static void threads_share_a_tokenizer(void **state) {
  uint64_t rng = test_seed();
  test_text english = {0};
  char *models[2];
  size_t bytes[2];
  tokenizer *t[2];
  text_add_english(&english, &rng, 60000);
  for (int k = 0; k < 2; k++) {
    assert_ok(train(&english, 330 + 50 * k, "bpe", &models[k], &bytes[k]));
    assert_ok(tokenizer_create("sentencepiece", models[k], bytes[k], 330 + 50 * k, 0, &t[k]));
  }
  shared_work work[8];
  pthread_t threads[8];
  for (int i = 0; i < 8; i++) {
    work[i] = (shared_work){.t = t[i / 2 % 2]};
    text_add_english(&work[i].text, &rng, 5000);
    work[i].expected = encode(work[i].t, work[i].text.text, work[i].text.bytes);
  }
  for (int i = 0; i < 8; i++) {
    assert_int_equal(pthread_create(&threads[i], NULL, encode_repeatedly, &work[i]), 0);
  }
  for (int i = 0; i < 8; i++) {
    pthread_join(threads[i], NULL);
    assert_int_equal(work[i].differences, 0);
  }
  for (int i = 0; i < 8; i++) { /* turn by turn in this thread */
    test_ids again = encode(work[i].t, work[i].text.text, work[i].text.bytes);
    assert_int_equal(again.count, work[i].expected.count);
    assert_memory_equal(again.ids, work[i].expected.ids, again.count * sizeof *again.ids);
    free(again.ids);
    free(work[i].expected.ids);
    free(work[i].text.text);
  }
  for (int k = 0; k < 2; k++) {
    tokenizer_free(t[k]);
    free(models[k]);
  }
  free(english.text);
  (void)state;
}

/* Damage may give another model, but no accident; most of it is refused. */
static void damaged_models(void **state) {
  uint64_t rng = test_seed();
  test_text english = {0};
  char *model;
  size_t bytes, refused = 0;
  text_add_english(&english, &rng, 20000);
  assert_ok(train(&english, 330, "unigram", &model, &bytes));
  for (int i = 0; i < 400; i++) {
    char *damaged = malloc(bytes);
    memcpy(damaged, model, bytes);
    size_t length = bytes;
    if (i % 2 == 0) {
      length = (size_t)test_below(&rng, (int64_t)bytes);
    } else {
      damaged[test_below(&rng, (int64_t)bytes)] ^= (char)(1 << test_below(&rng, 8));
    }
    tokenizer *t = NULL;
    status s = tokenizer_create("sentencepiece", damaged, length, 330, 0, &t);
    assert_true(s == STATUS_OK || s == STATUS_USER_ERROR);
    if (s == STATUS_OK) {
      test_ids ids = encode(t, english.text, 200);
      free(ids.ids);
    } else {
      assert_null(t);
      assert_true(strlen(status_message()) > 20);
      refused++;
    }
    tokenizer_free(t);
    free(damaged);
  }
  assert_true(refused >= 200); /* every one that was cut */
  tokenizer *t;
  assert_fails(STATUS_USER_ERROR, "empty", tokenizer_create("sentencepiece", NULL, 0, 300, 0, &t));
  assert_fails(STATUS_USER_ERROR, "sentencepiece", tokenizer_create("sentencepiece", "hello", 5, 300, 0, &t));
  assert_fails(STATUS_USER_ERROR, "'words'", tokenizer_create("words", NULL, 0, 300, 0, &t));
  free(model);
  free(english.text);
  (void)state;
}

static void external_tokens_have_no_text(void **state) {
  tokenizer *t;
  test_ids ids = {0};
  int32_t some[] = {1, 2};
  char *text;
  assert_ok(tokenizer_create("external", NULL, 0, 50257, 50256, &t));
  assert_int_equal(tokenizer_vocab(t), 50257);
  assert_fails(STATUS_USER_ERROR, "external", tokenizer_encode(t, "a", 1, &ids.ids, &ids.count, &ids.capacity));
  assert_fails(STATUS_USER_ERROR, "external", tokenizer_decode(t, some, 2, &text, NULL));
  assert_null(text);
  tokenizer_free(t);
  (void)state;
}

static void tokenizers_from_files(void **state) {
  uint64_t rng = test_seed();
  char *folder = test_folder(), *store = test_path(folder, "s.h5"), *file = test_path(folder, "m.model"), *model;
  test_text english = {0};
  size_t bytes;
  tokenizer *t, *u;
  char a[DIGEST_TEXT], b[DIGEST_TEXT];
  text_add_english(&english, &rng, 20000);
  assert_ok(train(&english, 330, "unigram", &model, &bytes));
  write_file(file, model, bytes);
  assert_ok(tokenizer_from_file(file, &t));
  store_writer *w;
  test_ids ids = encode(t, english.text, english.bytes);
  assert_ok(store_writer_open(store, t, &w));
  assert_ok(store_writer_add(w, ids.ids, ids.count));
  assert_ok(store_writer_end_document(w, (int64_t)english.bytes));
  assert_ok(store_writer_commit(w, NULL, 0));
  store_writer_close(w);
  assert_ok(tokenizer_from_file(store, &u));
  tokenizer_digest(t, a);
  tokenizer_digest(u, b);
  assert_string_equal(a, b);
  tokenizer_free(t);
  tokenizer_free(u);
  free(ids.ids);
  int32_t tokens[] = {1, 2, 3};
  make_store(store, tokens, 3, 300);
  assert_fails(STATUS_USER_ERROR, "without a tokenizer", tokenizer_from_file(store, &t));
  assert_fails(STATUS_USER_ERROR, "is a folder", tokenizer_from_file(folder, &t));
  write_file(file, "some text", 9);
  assert_fails(STATUS_USER_ERROR, "m.model", tokenizer_from_file(file, &t));
  unlink(file);
  assert_fails(STATUS_USER_ERROR, "m.model", tokenizer_from_file(file, &t));
  free(model);
  free(english.text);
  free(store);
  free(file);
  remove_folder(folder);
  (void)state;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bytes_give_back_everything),
      cmocka_unit_test(encoding_appends),
      cmocka_unit_test(chars_know_what_they_were_given),
      cmocka_unit_test(sentencepiece_unigram),
      cmocka_unit_test(sentencepiece_bpe),
      cmocka_unit_test(vocabularies_that_do_not_fit),
      cmocka_unit_test(threads_share_a_tokenizer),
      cmocka_unit_test(damaged_models),
      cmocka_unit_test(external_tokens_have_no_text),
      cmocka_unit_test(tokenizers_from_files),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
