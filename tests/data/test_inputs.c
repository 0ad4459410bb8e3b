/* Documents of files: what separates them, where long ones are cut, and what is refused. */
#include <fcntl.h>

#include "data/input_list.h"
#include "data/input_reader.h"
#include "data_support.h"

typedef struct {
  test_text *items;
  size_t count, capacity;
} documents;

static test_text *new_document(documents *d) {
  if (d->count == d->capacity) {
    d->capacity = 2 * d->capacity + 16;
    d->items = realloc(d->items, d->capacity * sizeof *d->items);
    assert_non_null(d->items);
  }
  d->items[d->count] = (test_text){0};
  return &d->items[d->count++];
}

static void documents_free(documents *d) {
  for (size_t i = 0; i < d->count; i++) {
    free(d->items[i].text);
  }
  free(d->items);
  *d = (documents){0};
}

/* Reads all documents of a list, and checks the form of the segments on the way. */
static status read_documents(input_list *list, const input_options *o, documents *out, int64_t *bad_lines) {
  input_reader *r;
  input_segment s;
  bool there, inside = false;
  assert_ok(input_reader_open(list, o, &r));
  status result;
  while ((result = input_reader_next(r, &s, &there)) == STATUS_OK && there) {
    assert_int_equal(s.starts, !inside);
    assert_true(s.bytes <= 2 * INPUT_CUT + 1);
    assert_true(s.bytes > 0 || !s.starts);
    test_text *d = s.starts ? new_document(out) : &out->items[out->count - 1];
    text_add(d, s.text, s.bytes);
    inside = !s.ends;
  }
  if (result == STATUS_OK) {
    assert_false(inside);
  }
  if (bad_lines != NULL) {
    *bad_lines = input_reader_bad_lines(r);
  }
  input_reader_close(r);
  return result;
}

static bool blank(const char *line, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) {
    if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r') {
      return false;
    }
  }
  return true;
}

/* What the reader should give, from the whole text at once. */
static void split_whole(const test_text *t, const input_options *o, documents *out) {
  documents d = {0};
  test_text *now = new_document(&d);
  for (size_t at = 0; at < t->bytes;) {
    const char *line = t->text + at, *newline = memchr(line, '\n', t->bytes - at);
    size_t bytes = newline != NULL ? (size_t)(newline - line) : t->bytes - at;
    size_t next = bytes + (newline != NULL);
    bool marks = o->split == SPLIT_MARK &&
                 (bytes == strlen(o->mark) || (bytes == strlen(o->mark) + 1 && line[bytes - 1] == '\r')) &&
                 memcmp(line, o->mark, strlen(o->mark)) == 0;
    if (o->split == SPLIT_LINE) {
      text_add(now, line, bytes);
      now = new_document(&d);
    } else if (marks || (o->split == SPLIT_BLANK_LINE && blank(line, bytes))) {
      now = new_document(&d);
    } else {
      text_add(now, line, next);
    }
    at += next;
  }
  for (size_t i = 0; i < d.count; i++) {
    if (d.items[i].bytes > 0) {
      test_text *copy = new_document(out);
      text_add(copy, d.items[i].text, d.items[i].bytes);
    }
  }
  documents_free(&d);
}

static void expect_same(const documents *a, const documents *b) {
  assert_int_equal(a->count, b->count);
  for (size_t i = 0; i < a->count; i++) {
    assert_int_equal(a->items[i].bytes, b->items[i].bytes);
    assert_memory_equal(a->items[i].text, b->items[i].text, a->items[i].bytes);
  }
}

/* Lines of all lengths, some longer than what the reader looks at, with marks and blank lines at random. */
static void random_lines(test_text *t, uint64_t *rng, int kind) {
  int lines = kind < 12 ? 30 : kind < 16 ? 6 : 40000;
  for (int i = 0; i < lines; i++) {
    int64_t choice = test_below(rng, 8);
    size_t longest = kind < 12 ? 200 : kind < 16 ? 3 * INPUT_CUT : 200;
    if (choice == 0) {
      text_add(t, "%", 1);
    } else if (choice == 1) {
      text_add(t, test_below(rng, 2) ? " \t" : "", test_below(rng, 2) ? 0 : 1);
    } else if (choice == 2) {
      text_add_english(t, rng, (size_t)test_below(rng, (int64_t)longest));
    } else {
      size_t bytes = (size_t)test_below(rng, (int64_t)longest);
      bool spaces = test_below(rng, 2);
      for (size_t k = 0; k < bytes; k += 2) {
        text_add(t, spaces && test_below(rng, 6) == 0 ? " x" : "\xC3\xA9", 2);
      }
    }
    if (i + 1 < lines || test_below(rng, 2)) {
      text_add(t, test_below(rng, 10) ? "\n" : "\r\n", test_below(rng, 10) ? 1 : 0);
    }
  }
}

static void text_files_split_as_their_whole_does(void **state) {
  uint64_t rng = test_seed();
  char *folder = test_folder(), *path = test_path(folder, "t.txt");
  for (int kind = 0; kind < 20; kind++) {
    test_text t = {0};
    random_lines(&t, &rng, kind);
    write_file(path, t.text != NULL ? t.text : "", t.bytes);
    for (int split = SPLIT_NONE; split <= SPLIT_MARK; split++) {
      input_options o = {.split = (document_split)split, .mark = "%", .text_key = "text"};
      input_list list = {0};
      documents got = {0}, expected = {0};
      char whole[DIGEST_TEXT];
      assert_ok(input_list_add(&list, path, INPUT_ANY));
      assert_ok(input_list_finish(&list));
      assert_ok(read_documents(&list, &o, &got, NULL));
      split_whole(&t, &o, &expected);
      expect_same(&got, &expected);
      digest_of(t.text != NULL ? t.text : "", t.bytes, whole);
      assert_string_equal(list.files[0].source.digest, whole);
      assert_int_equal(list.files[0].source.bytes, t.bytes);
      documents_free(&got);
      documents_free(&expected);
      input_list_free(&list);
    }
    free(t.text);
  }
  free(path);
  remove_folder(folder);
  (void)state;
}

static size_t first_segment(const char *path, test_text *t) {
  input_options o = {.split = SPLIT_NONE, .text_key = "text"};
  input_list list = {0};
  input_reader *r;
  input_segment s;
  bool there;
  write_file(path, t->text, t->bytes);
  assert_ok(input_list_add(&list, path, INPUT_ANY));
  assert_ok(input_reader_open(&list, &o, &r));
  assert_ok(input_reader_next(r, &s, &there));
  size_t bytes = s.bytes;
  input_reader_close(r);
  input_list_free(&list);
  free(t->text);
  *t = (test_text){0};
  return bytes;
}

static void fill(test_text *t, const char *with, size_t bytes) {
  while (t->bytes < bytes) {
    text_add(t, with, strlen(with));
  }
}

static void long_documents_are_cut_where_it_is_safe(void **state) {
  char *folder = test_folder(), *path = test_path(folder, "t.txt");
  test_text t = {0};
  fill(&t, "x", INPUT_CUT);
  assert_int_equal(first_segment(path, &t), INPUT_CUT); /* the whole document */
  fill(&t, "x", INPUT_CUT - 1);
  fill(&t, "\n", INPUT_CUT);
  fill(&t, "y", INPUT_CUT + 700);
  text_add(&t, "\n more", 6);
  assert_int_equal(first_segment(path, &t), INPUT_CUT + 701); /* after the first newline from 1 MiB on */
  fill(&t, "x", INPUT_CUT + 10);
  text_add(&t, " ", 1);
  fill(&t, "y", INPUT_CUT + 900);
  text_add(&t, " ", 1);
  fill(&t, "z", 3 * INPUT_CUT);
  text_add(&t, "\n", 1);
  assert_int_equal(first_segment(path, &t), INPUT_CUT + 900); /* before the last space */
  fill(&t, "x", 1);                                           /* characters lie across the place */
  fill(&t, "\xE4\xB8\xAD", 4 * INPUT_CUT);
  assert_int_equal((first_segment(path, &t) - 1) % 3, 0);
  fill(&t, "\x80", 4 * INPUT_CUT); /* no characters at all */
  size_t cut = first_segment(path, &t);
  assert_in_range(cut, 2 * INPUT_CUT - 3, 2 * INPUT_CUT);
  free(path);
  remove_folder(folder);
  (void)state;
}

/* A JSON text of anything but NUL, partly escaped. */
static void add_json_text(test_text *out, const test_text *t, uint64_t *rng) {
  text_add(out, "\"", 1);
  size_t length;
  for (size_t at = 0; at < t->bytes; at += length) {
    char escaped[16];
    int32_t point = utf8_read(t->text + at, t->bytes - at, &length);
    if (point == '"' || point == '\\') {
      snprintf(escaped, sizeof escaped, "\\%c", (char)point);
    } else if (point == '\n') {
      strcpy(escaped, "\\n");
    } else if (point < 0x20 || (point < 0x10000 && test_below(rng, 5) == 0)) {
      snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)point);
    } else if (point >= 0x10000 && test_below(rng, 2) == 0) {
      snprintf(escaped, sizeof escaped, "\\u%04X\\u%04X", 0xD800 + (unsigned)((point - 0x10000) >> 10),
               0xDC00 + (unsigned)((point - 0x10000) & 0x3FF));
    } else {
      text_add(out, t->text + at, length);
      continue;
    }
    text_add(out, escaped, strlen(escaped));
  }
  text_add(out, "\"", 1);
}

static void json_lines_give_back_their_texts(void **state) {
  uint64_t rng = test_seed();
  char *folder = test_folder(), *path = test_path(folder, "t.jsonl");
  test_text file = {0};
  documents expected = {0}, got = {0};
  for (int i = 0; i < 60; i++) {
    test_text t = {0}, clean = {0};
    text_add_unicode(&t, &rng, i == 30 ? 3 * INPUT_CUT : (size_t)test_below(&rng, 400));
    for (size_t k = 0; k < t.bytes; k++) {
      if (t.text[k] != '\0') {
        text_add(&clean, &t.text[k], 1);
      }
    }
    text_add(&file, " {\"id\": [1, {\"text\": \"no\"}], \"text\" : ", 39);
    add_json_text(&file, &clean, &rng);
    const char *end = i % 7 == 0 ? ", \"z\\\\u0000\": null}\r\n" : i % 5 == 0 ? "}\n\n  \n" : i == 59 ? "}" : "}\n";
    text_add(&file, end, strlen(end));
    if (clean.bytes > 0) {
      text_add(new_document(&expected), clean.text, clean.bytes);
    }
    free(t.text);
    free(clean.text);
  }
  write_file(path, file.text, file.bytes);
  input_options o = {.text_key = "text"};
  input_list list = {0};
  assert_ok(input_list_add(&list, path, INPUT_ANY));
  assert_ok(read_documents(&list, &o, &got, NULL));
  expect_same(&got, &expected);
  documents_free(&got);
  documents_free(&expected);
  input_list_free(&list);
  free(file.text);
  free(path);
  remove_folder(folder);
  (void)state;
}

static void bad_json_lines(void **state) {
  static const struct {
    const char *line, *part;
  } bad[] = {
      {"{\"text\": \"a\"", "not a JSON object"},
      {"[\"text\"]", "not a JSON object"},
      {"\"text\"", "not a JSON object"},
      {"text", "not a JSON object"},
      {"{\"text\": \"a\"} {}", "not a JSON object"},
      {"{\"Text\": \"a\"}", "does not have the key \"text\""},
      {"{\"text\": 5}", "other than a text"},
      {"{\"text\": null}", "other than a text"},
      {"{\"text\": \"a\\u0000b\"}", "NUL"},
      {"{\"text\": \"\\ud800\"}", "not a JSON object"},
      {"{\"text\": \"a\\\\\\u0000b\"}", "NUL"},
      {"{\"text\": \"\xFF", "not a JSON object"},
  };
  char *folder = test_folder(), *path = test_path(folder, "t.jsonl");
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    test_text file = {0};
    text_add(&file, "{\"text\": \"one\"}\n\n", 17);
    text_add(&file, bad[i].line, strlen(bad[i].line));
    text_add(&file, "\n{\"text\": \"two\"}\n", 17);
    write_file(path, file.text, file.bytes);
    for (int skip = 0; skip < 2; skip++) {
      input_options o = {.text_key = "text", .skip_bad_lines = skip};
      input_list list = {0};
      documents got = {0};
      int64_t skipped = 0;
      assert_ok(input_list_add(&list, path, INPUT_ANY));
      status s = read_documents(&list, &o, &got, &skipped);
      if (skip) {
        assert_int_equal(s, STATUS_OK);
        assert_int_equal(skipped, 1);
        assert_int_equal(got.count, 2);
        assert_string_equal(got.items[1].text, "two");
      } else {
        assert_fails(STATUS_USER_ERROR, bad[i].part, s);
        assert_non_null(strstr(status_message(), "t.jsonl' line 3"));
      }
      documents_free(&got);
      input_list_free(&list);
    }
    free(file.text);
  }
  free(path);
  remove_folder(folder);
  (void)state;
}

static void put(const char *folder, const char *name, const char *text) {
  char *path = test_path(folder, name);
  write_file(path, text, strlen(text));
  free(path);
}

static void folders_in_order_without_what_is_no_text(void **state) {
  char *folder = test_folder(), *sub = test_path(folder, "b"), *link = test_path(folder, "z.txt"),
       *a = test_path(folder, "a.txt");
  put(folder, "a.txt", "a");
  put(folder, "c.jsonl", "{\"text\": \"c\"}");
  put(folder, "B.txt", "B");
  put(folder, ".hidden", "no");
  put(folder, "packed.gz", "\x1F\x8B\x08");
  assert_int_equal(mkdir(sub, 0700), 0);
  put(sub, "2.md", "b2");
  put(sub, "10", "b10");
  put(sub, "empty.txt", "");
  char *index = test_path(sub, "index");
  write_file(index, "ab\0cd", 5);
  assert_int_equal(symlink(a, link), 0); /* the same file under another name */
  input_list list = {0};
  assert_ok(input_list_add(&list, folder, INPUT_ANY));
  assert_ok(input_list_add(&list, a, INPUT_VALIDATION));
  assert_ok(input_list_finish(&list));
  static const char *const expected[] = {"B", "b10", "b2", "c", "a"};
  documents got = {0};
  input_options o = {.text_key = "text"};
  assert_ok(read_documents(&list, &o, &got, NULL));
  assert_int_equal(got.count, 5);
  for (size_t i = 0; i < 5; i++) {
    assert_string_equal(got.items[i].text, expected[i]);
  }
  assert_int_equal(list.passed_by, 2);
  assert_non_null(strstr(list.passed_by_first, "index"));
  assert_int_equal(list.repeated, 2);
  assert_int_equal(list.count, 6); /* the empty one, too */
  assert_int_equal(list.files[5].role, INPUT_VALIDATION);
  documents_free(&got);
  input_list_free(&list);
  free(index);
  free(sub);
  free(link);
  free(a);
  remove_folder(folder);
  (void)state;
}

static void files_that_are_no_text(void **state) {
  static const struct {
    const char *start;
    size_t bytes;
    const char *part;
  } kinds[] = {
      {"\211HDF\r\n\032\n", 8, "HDF5"},
      {"psann token store\nversion 1", 27, "token store"},
      {"\x88\xD8\x34\x01\1\0\0\0", 8, "import"},
      {"\x1F\x8B\x08\x00", 4, "gzip"},
      {"PK\3\4", 4, "zip"},
      {"%PDF-1.4", 8, "PDF"},
      {"\xFF\xFEh\0i\0", 6, "UTF-16"},
      {"\x7F"
       "ELF\2",
       5, "program"},
  };
  char *folder = test_folder(), *path = test_path(folder, "some"), *none = test_path(folder, "none");
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    input_list list = {0};
    write_file(path, kinds[i].start, kinds[i].bytes);
    assert_fails(STATUS_USER_ERROR, kinds[i].part, input_list_add(&list, path, INPUT_ANY));
    assert_non_null(strstr(status_message(), path));
    input_list_free(&list);
  }
  input_list list = {0};
  assert_fails(STATUS_USER_ERROR, none, input_list_add(&list, none, INPUT_ANY));
  assert_fails(STATUS_USER_ERROR, "no text", input_list_finish(&list));
  assert_int_equal(mkfifo(none, 0700), 0);
  assert_fails(STATUS_USER_ERROR, "neither a file nor a folder", input_list_add(&list, none, INPUT_ANY));
  unlink(none);
  assert_int_equal(symlink(".", none), 0); /* a folder that holds itself */
  assert_int_equal(input_list_add(&list, folder, INPUT_ANY), STATUS_USER_ERROR);
  input_list_free(&list);
  free(path);
  free(none);
  remove_folder(folder);
  (void)state;
}

static void a_file_that_goes_away(void **state) {
  char *folder = test_folder(), *path = test_path(folder, "t.txt");
  input_list list = {0};
  documents got = {0};
  input_options o = {.text_key = "text"};
  write_file(path, "text", 4);
  assert_ok(input_list_add(&list, path, INPUT_ANY));
  unlink(path);
  assert_fails(STATUS_USER_ERROR, path, read_documents(&list, &o, &got, NULL));
  documents_free(&got);
  input_list_free(&list);
  free(path);
  remove_folder(folder);
  (void)state;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(text_files_split_as_their_whole_does),
      cmocka_unit_test(long_documents_are_cut_where_it_is_safe),
      cmocka_unit_test(json_lines_give_back_their_texts),
      cmocka_unit_test(bad_json_lines),
      cmocka_unit_test(folders_in_order_without_what_is_no_text),
      cmocka_unit_test(files_that_are_no_text),
      cmocka_unit_test(a_file_that_goes_away),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
