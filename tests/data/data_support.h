/* Fresh texts, files and stores for the tests of src/data. */
#ifndef TESTS_DATA_DATA_SUPPORT_H
#define TESTS_DATA_DATA_SUPPORT_H

#include <ftw.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "../base/test_support.h"
#include "data/store_write.h"
#include "data/token_store.h"
#include "data/tokenizer.h"
#include "data/utf8.h"

typedef struct {
  char *text;
  size_t bytes, capacity;
} test_text;

static inline void text_add(test_text *t, const void *data, size_t bytes) {
  if (t->bytes + bytes + 1 > t->capacity) {
    t->capacity = 2 * (t->bytes + bytes + 1);
    t->text = realloc(t->text, t->capacity);
    assert_non_null(t->text);
  }
  memcpy(t->text + t->bytes, data, bytes);
  t->bytes += bytes;
  t->text[t->bytes] = '\0';
}

static inline int64_t test_below(uint64_t *rng, int64_t n) {
  return (int64_t)(test_random(rng) % (uint64_t)n);
}

static inline void text_add_point(test_text *t, int32_t point) {
  char bytes[4];
  text_add(t, bytes, utf8_write(point, bytes));
}

/* Valid UTF-8 of about `bytes` bytes, rich in what tokenizers like to change. */
static inline void text_add_unicode(test_text *t, uint64_t *rng, size_t bytes) {
  static const int32_t nasty[] = {0,       '\n',   '\n',     '\r',   '\t',   ' ',    ' ',    ' ',    0x2581,
                                  0x2585,  0x00A0, 0x00AD,   0xFEFF, 0x200B, 0x0301, 0xFB01, 0x2460, 0xFF21,
                                  0x1F600, 0xFFFD, 0x10FFFF, 0xE000, '<',    '>',    0x3000};
  size_t end = t->bytes + bytes;
  while (t->bytes < end) {
    int64_t kind = test_below(rng, 8);
    int32_t point;
    if (kind < 2) {
      point = nasty[test_below(rng, sizeof nasty / sizeof *nasty)];
    } else if (kind < 5) {
      point = (int32_t)test_below(rng, 0x80);
    } else if (kind < 7) {
      point = (int32_t)test_below(rng, 0x3000);
    } else {
      point = (int32_t)test_below(rng, 0x110000);
    }
    if (point < 0xD800 || point > 0xDFFF) {
      text_add_point(t, point);
    }
  }
}

static inline void text_add_bytes(test_text *t, uint64_t *rng, size_t bytes) {
  for (size_t i = 0; i < bytes; i++) {
    char byte = (char)test_random(rng);
    text_add(t, &byte, 1);
  }
}

/* Sentences and paragraphs of English words, frequent ones more often. */
static inline void text_add_english(test_text *t, uint64_t *rng, size_t bytes) {
  static const char *const words[] = {
      "the",     "of",       "and",    "to",    "in",     "a",       "is",    "that",   "it",    "was",    "for",
      "on",      "are",      "with",   "as",    "they",   "be",      "at",    "this",   "have",  "from",   "or",
      "had",     "by",       "but",    "some",  "what",   "there",   "we",    "can",    "out",   "other",  "were",
      "all",     "your",     "when",   "up",    "use",    "word",    "how",   "said",   "an",    "each",   "she",
      "which",   "do",       "their",  "time",  "if",     "will",    "way",   "about",  "many",  "then",   "them",
      "would",   "write",    "like",   "so",    "these",  "her",     "long",  "make",   "thing", "see",    "him",
      "two",     "has",      "look",   "more",  "day",    "could",   "go",    "come",   "did",   "my",     "sound",
      "no",      "most",     "number", "who",   "over",   "know",    "water", "than",   "call",  "first",  "people",
      "may",     "down",     "side",   "been",  "now",    "find",    "any",   "new",    "work",  "part",   "take",
      "get",     "place",    "made",   "live",  "where",  "after",   "back",  "little", "only",  "round",  "man",
      "year",    "came",     "show",   "every", "good",   "me",      "give",  "our",    "under", "name",   "very",
      "through", "just",     "form",   "much",  "great",  "think",   "say",   "help",   "low",   "line",   "before",
      "turn",    "cause",    "same",   "mean",  "differ", "move",    "right", "boy",    "old",   "too",    "does",
      "tell",    "sentence", "set",    "three", "want",   "air",     "well",  "also",   "play",  "small",  "end",
      "put",     "home",     "read",   "hand",  "port",   "large",   "spell", "add",    "even",  "land",   "here",
      "must",    "big",      "high",   "such",  "follow", "act",     "why",   "ask",    "men",   "change", "went",
      "light",   "kind",     "off",    "need",  "house",  "picture", "try",   "us",     "again", "animal", "point",
      "mother",  "world",    "near",   "build", "self",   "earth",   "father"};
  int64_t count = sizeof words / sizeof *words;
  size_t end = t->bytes + bytes;
  bool capital = true;
  while (t->bytes < end) {
    int64_t k = test_below(rng, 1 + test_below(rng, count));
    size_t start = t->bytes;
    text_add(t, words[k], strlen(words[k]));
    if (capital) {
      t->text[start] = (char)(t->text[start] - 'a' + 'A');
    }
    int64_t stop = test_below(rng, 60);
    const char *after = stop < 4    ? ". "
                        : stop < 7  ? ", "
                        : stop == 7 ? ".\n"
                        : stop == 8 ? ".\n\n"
                        : stop == 9 ? "?  "
                                    : " ";
    text_add(t, after, strlen(after));
    capital = stop < 4 || (stop > 6 && stop < 10);
  }
}

static inline char *test_path(const char *folder, const char *name) {
  char *path = NULL;
  assert_true(asprintf(&path, "%s/%s", folder, name) > 0);
  return path;
}

static inline void write_file(const char *path, const void *data, size_t bytes) {
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(data, 1, bytes, f), bytes);
  assert_int_equal(fclose(f), 0);
}

static inline void read_whole(const char *path, test_text *t) {
  char block[65536];
  FILE *f = fopen(path, "rb");
  assert_non_null(f);
  for (size_t got; (got = fread(block, 1, sizeof block, f)) > 0;) {
    text_add(t, block, got);
  }
  fclose(f);
}

static inline int remove_entry(const char *path, const struct stat *about, int flag, struct FTW *walk) {
  (void)about;
  (void)flag;
  (void)walk;
  return remove(path);
}

static inline void remove_folder(char *folder) {
  nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
  free(folder);
}

/* A store of given tokens as one document, with a tokenizer of `vocab` ids made elsewhere (end of text: the last). */
static inline void make_store(const char *path, const int32_t *tokens, size_t count, int64_t vocab) {
  tokenizer *t;
  store_writer *w;
  store_source source = {.path = "generated", .bytes = (int64_t)count};
  strcpy(source.digest, "00000000000000000000000000000000");
  assert_ok(tokenizer_create("external", NULL, 0, vocab, (int32_t)(vocab - 1), &t));
  assert_ok(store_writer_open(path, t, &w));
  assert_ok(store_writer_add(w, tokens, count));
  assert_ok(store_writer_end_document(w, (int64_t)count));
  assert_ok(store_writer_commit(w, &source, 1));
  store_writer_close(w);
  tokenizer_free(t);
}

#endif
