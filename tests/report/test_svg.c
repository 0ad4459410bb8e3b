/* What of gnuplot's SVG gets into a page, and as what. */
#include <stdlib.h>
#include <string.h>

#include "../train/unit.h"
#include "report/svg.h"

static void check(const char *output, const char *expected) {
  char *svg = NULL;
  assert_int_equal(svg_clean(output, "a \"b\" <c>", &svg), STATUS_OK);
  const char *head = "<svg role=\"img\" aria-label=\"a &quot;b&quot; &lt;c&gt;\"";
  assert_memory_equal(svg, head, strlen(head));
  assert_string_equal(svg + strlen(head), expected);
  free(svg);
}

static void test_head_and_hints(void **state) {
  check(
      "<?xml version=\"1.0\"?>\n<svg \n viewBox=\"0 0 5 6\"\n "
      "xmlns=\"http://www.w3.org/2000/svg\"\n>\n\n<title>Gnuplot</title>\n"
      "<desc>by gnuplot</desc><defs><circle id='x'/></defs><g id=\"plot_1\" ><title>data</title>\n<text> a  "
      "b</text></g></svg>\n",
      " viewBox=\"0 0 5 6\"><g><text>a b</text></g></svg>");
}

static void test_colours(void **state) {
  check(
      "<svg><path stroke='rgb(  0,   0,   3)'/><path fill='rgb(0,0,255)'/><path stroke='rgb(  1,   0,   3)'/><path "
      "stroke='black' fill=\"black\"/></svg>",
      "><path stroke='var(--s3)'/><path fill='var(--grid)'/><path stroke='rgb( 1, 0, 3)'/><path "
      "stroke=\"currentColor\" fill=\"currentColor\"/></svg>");
}

/* Also groups of nothing but empty groups; what holds anyhow goes. */
static void test_empty_groups(void **state) {
  check(
      "<svg><g fill=\"none\" color=\"white\">\n</g>\n<g>\n\t<g stroke-linecap=\"butt\"></g> <g> </g>\n</g><g "
      "a=\"1\"><path "
      "d='M1,2 \n\tL3,4  '/></g><use xlink:href='#p'/></svg>",
      "><g a=\"1\"><path d='M1,2 L3,4 '/></g><use href='#p'/></svg>");
}

static void test_no_picture(void **state) {
  char *svg = NULL;
  assert_int_equal(svg_clean("line 3: undefined variable", "x", &svg), STATUS_FAILURE);
  assert_null(svg);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_head_and_hints),
      cmocka_unit_test(test_colours),
      cmocka_unit_test(test_empty_groups),
      cmocka_unit_test(test_no_picture),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
