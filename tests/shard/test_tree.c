/* The order of summation, as bracket expressions. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shard/tree.h"
#include "unit.h"

enum { SLOTS = 16, TEXT = 1 << 14 };

typedef struct {
  char *slot[SLOTS];
  int64_t highest;
} counter;

static char *text_of(const char *format, const char *a, const char *b) {
  char *text = malloc(TEXT);
  assert_non_null(text);
  assert_in_range(snprintf(text, TEXT, format, a, b), 0, TEXT - 1);
  return text;
}

static int join(void *context, int64_t to, int64_t from) {
  counter *c = context;
  assert_in_range(to, 0, SLOTS - 1);
  assert_in_range(from, 1, SLOTS - 1);
  assert_non_null(c->slot[to]);
  assert_non_null(c->slot[from]);
  char *sum = text_of("(%s+%s)", c->slot[to], c->slot[from]);
  free(c->slot[to]);
  free(c->slot[from]);
  c->slot[to] = sum;
  c->slot[from] = NULL;
  return 0;
}

/* The expression that the counter makes of `terms`; *highest: largest slot used. */
static char *counted(char *const *terms, int64_t n, int64_t *highest) {
  counter c = {0};
  for (int64_t leaf = 0; leaf < n; leaf++) {
    int64_t slot = tree_slot(leaf);
    assert_in_range(slot, 0, SLOTS - 1);
    assert_null(c.slot[slot]); /* a slot is free when a leaf is put into it */
    c.slot[slot] = text_of("%s%s", terms[leaf], "");
    c.highest = slot > c.highest ? slot : c.highest;
    assert_int_equal(tree_merges(leaf, n, join, &c), 0);
  }
  for (int i = 1; i < SLOTS; i++) {
    assert_null(c.slot[i]);
  }
  *highest = c.highest;
  return c.slot[0];
}

/* The same by its definition: the largest power of two that fits comes first. */
static char *defined(char *const *terms, int64_t n) {
  if (n == 1) {
    return text_of("%s%s", terms[0], "");
  }
  int64_t left = 1;
  while (2 * left < n) {
    left *= 2;
  }
  char *a = defined(terms, left), *b = defined(terms + left, n - left);
  char *sum = text_of("(%s+%s)", a, b);
  free(a);
  free(b);
  return sum;
}

static char **new_terms(int64_t n) {
  char **terms = calloc((size_t)n, sizeof *terms);
  assert_non_null(terms);
  for (int64_t i = 0; i < n; i++) {
    char name[24];
    snprintf(name, sizeof name, "%lld", (long long)i);
    terms[i] = text_of("%s%s", name, "");
  }
  return terms;
}

static void free_terms(char **terms, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    free(terms[i]);
  }
  free(terms);
}

/* Each of `ranks` ranks counts its block, then the ranks' sums are counted. */
static char *counted_over_ranks(char *const *terms, int64_t n, int64_t ranks) {
  char **sums = calloc((size_t)ranks, sizeof *sums);
  assert_non_null(sums);
  int64_t highest;
  for (int64_t r = 0; r < ranks; r++) {
    int64_t first = n * r / ranks;
    sums[r] = counted(terms + first, n * (r + 1) / ranks - first, &highest);
  }
  char *sum = counted(sums, ranks, &highest);
  free_terms(sums, ranks);
  return sum;
}

static void counter_is_the_tree(void **state) {
  (void)state;
  for (int64_t n = 1; n <= 130; n++) {
    char **terms = new_terms(n);
    int64_t highest;
    char *got = counted(terms, n, &highest), *wanted = defined(terms, n);
    assert_string_equal(got, wanted);
    assert_int_equal(tree_buffers(n), highest + 1);
    if (n <= 8) {
      print_message("%lld: %s\n", (long long)n, got);
    }
    free(got);
    free(wanted);
    free_terms(terms, n);
  }
}

static void powers_of_two_share_one_tree(void **state) {
  (void)state;
  for (int64_t n = 1; n <= 256; n *= 2) {
    char **terms = new_terms(n);
    char *one = counted_over_ranks(terms, n, 1);
    for (int64_t ranks = 2; ranks <= n; ranks *= 2) {
      char *many = counted_over_ranks(terms, n, ranks);
      assert_string_equal(one, many);
      free(many);
    }
    free(one);
    free_terms(terms, n);
  }
}

static void other_layouts_sum_all_once(void **state) {
  (void)state;
  char **terms = new_terms(8);
  char *one = counted_over_ranks(terms, 8, 1), *three = counted_over_ranks(terms, 8, 3);
  print_message("8 over 3 ranks: %s\n", three);
  assert_string_equal(three, "(((0+1)+((2+3)+4))+((5+6)+7))");
  assert_string_not_equal(one, three);
  free(one);
  free(three);
  free_terms(terms, 8);
}

static int fail_at_second(void *context, int64_t to, int64_t from) {
  (void)to;
  (void)from;
  return ++*(int *)context == 2 ? 7 : 0;
}

static void a_failing_node_stops_the_sum(void **state) {
  (void)state;
  int calls = 0;
  assert_int_equal(tree_merges(7, 8, fail_at_second, &calls), 7);
  assert_int_equal(calls, 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(counter_is_the_tree),
      cmocka_unit_test(powers_of_two_share_one_tree),
      cmocka_unit_test(other_layouts_sum_all_once),
      cmocka_unit_test(a_failing_node_stops_the_sum),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
