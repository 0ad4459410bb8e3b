#include "base/digest.h"
#include "base/file.h"
#include "test_support.h"

/* Of the empty input, as the XXH3 specification gives it. */
static void known_value(void **state) {
  (void)state;
  char text[DIGEST_TEXT];
  digest_of("", 0, text);
  assert_string_equal(text, "99aa06d3014798d86001c324468d497f");
  assert_true(digest_name("") == 0x2d06800538d394c2u);
  assert_true(digest_name("embed.weight") != digest_name("lm_head.weight"));
}

static void pieces_equal_the_whole(void **state) {
  (void)state;
  uint64_t seed = test_seed();
  char *folder = test_folder();
  char *path;
  assert_ok(file_join(&path, folder, "data"));
  for (int round = 0; round < 20; round++) {
    size_t bytes = test_random(&seed) % (round == 0 ? 3000000 : 3000);
    unsigned char *data = malloc(bytes + 1);
    for (size_t i = 0; i < bytes; i++) {
      data[i] = (unsigned char)test_random(&seed);
    }
    char whole[DIGEST_TEXT];
    char pieces[DIGEST_TEXT];
    digest_of(data, bytes, whole);
    digest *d;
    assert_ok(digest_new(&d));
    for (size_t at = 0; at < bytes;) {
      size_t n = 1 + test_random(&seed) % (bytes - at);
      digest_add(d, data + at, n);
      at += n;
    }
    digest_text(d, pieces);
    digest_free(d);
    assert_string_equal(whole, pieces);
    assert_ok(file_write_atomic(path, data, bytes));
    assert_ok(digest_of_file(path, pieces));
    assert_string_equal(whole, pieces);
    if (bytes > 0) {
      data[test_random(&seed) % bytes] ^= 1;
      digest_of(data, bytes, pieces);
      assert_string_not_equal(whole, pieces);
    }
    free(data);
  }
  unlink(path);
  rmdir(folder);
  free(path);
  free(folder);
}

static void missing_file(void **state) {
  (void)state;
  char text[DIGEST_TEXT];
  assert_fails(STATUS_USER_ERROR, "/nonexistent/file", digest_of_file("/nonexistent/file", text));
  assert_fails(STATUS_USER_ERROR, "'/'", digest_of_file("/", text));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(known_value),
      cmocka_unit_test(pieces_equal_the_whole),
      cmocka_unit_test(missing_file),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
