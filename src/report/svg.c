#include "report/svg.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report/html.h"
#include "report/plot.h"

enum { GRID = 0xFF }; /* the blue of SVG_GRID_COLOUR */

/* A stretch that is skipped when `text` begins with `from`: up to and with `to`. 0: none. */
static size_t skipped(const char *text, const char *from, const char *to) {
  if (strncmp(text, from, strlen(from)) != 0) {
    return 0;
  }
  const char *end = strstr(text + strlen(from), to);
  return end != NULL ? (size_t)(end - text) + strlen(to) : 0;
}

/* "rgb(  0,   0,  NN)" is series NN or the grid. Returns its length and the number; 0: no such colour. */
static size_t series_colour(const char *text, int *number) {
  int length = 0;
  if (strncmp(text, "rgb(", 4) != 0 || sscanf(text, "rgb( 0, 0, %d)%n", number, &length) != 1 || length == 0) {
    return 0;
  }
  return (*number >= 1 && *number <= PLOT_COLOURS) || *number == GRID ? (size_t)length : 0;
}

static const struct {
  const char *from, *to;
} replaced[] = {
    {"'black'", "\"currentColor\""},
    {"\"black\"", "\"currentColor\""},
    {" xlink:href", " href"},
    /* What holds anyhow. */
    {" stroke-linecap=\"butt\"", ""},
    {" stroke-linejoin=\"miter\"", ""},
    {" color=\"white\"", ""},
    {" class=\"gridline\"", ""},
};

/* What is left out: from … to. Names are the same in all pictures of a page; a title shows when the mouse rests. */
static const struct {
  const char *from, *to;
} left_out[] = {
    {"<defs>", "</defs>"}, {"<desc>", "</desc>"}, {"<title>", "</title>"},
    {" id=\"", "\""},      {" xmlns=\"", "\""},   {" xmlns:xlink=\"", "\""},
};

/* How much of `p` is left out or written as something else; 0: none of it. */
static size_t changed(html *h, const char *p) {
  int number;
  size_t length = series_colour(p, &number);
  if (length > 0) {
    html_format(h, number == GRID ? "var(--grid)" : "var(--s%d)", number);
    return length;
  }
  for (size_t i = 0; length == 0 && i < sizeof left_out / sizeof left_out[0]; i++) {
    length = skipped(p, left_out[i].from, left_out[i].to);
  }
  for (size_t i = 0; length == 0 && i < sizeof replaced / sizeof replaced[0]; i++) {
    if (strncmp(p, replaced[i].from, strlen(replaced[i].from)) == 0) {
      html_add(h, replaced[i].to);
      length = strlen(replaced[i].from);
    }
  }
  return length;
}

/* Takes back a group that was opened and has nothing in it. */
static bool close_empty_group(char *text, size_t *bytes) {
  size_t end = *bytes;
  if (end == 0 || text[end - 1] != '>') {
    return false;
  }
  size_t begin = end - 1;
  while (begin > 0 && text[begin] != '<') {
    begin--;
  }
  if (strncmp(text + begin, "<g>", 3) != 0 && strncmp(text + begin, "<g ", 3) != 0) {
    return false;
  }
  *bytes = begin;
  return true;
}

/* Stretches of white space become one space, or nothing next to a tag; empty groups go. In place. */
static void squeeze(char *text) {
  size_t n = 0;
  for (const char *p = text; *p != 0;) {
    if (isspace((unsigned char)*p)) {
      p += strspn(p, " \t\r\n");
      bool beside_tag = n == 0 || text[n - 1] == '>' || *p == '<' || *p == '>' || *p == '/';
      if (!beside_tag) {
        text[n++] = ' ';
      }
    } else if (strncmp(p, "</g>", 4) == 0 && close_empty_group(text, &n)) {
      p += 4;
    } else {
      text[n++] = *p++;
    }
  }
  text[n] = 0;
}

status svg_clean(const char *output, const char *label, char **svg) {
  const char *p = strstr(output, "<svg");
  REQUIRE(p != NULL, "gnuplot wrote no SVG");
  html h = {0};
  html_add(&h, "<svg role=\"img\" aria-label=\"");
  html_text(&h, label);
  html_add(&h, "\"");
  for (p += 4; *p != 0;) {
    size_t length = changed(&h, p);
    if (length == 0) {
      length = 1 + strcspn(p + 1, "<r'\"x ");
      html_format(&h, "%.*s", (int)length, p);
    }
    p += length;
  }
  if (h.failed) {
    html_free(&h);
    FAIL("no memory for a picture");
  }
  squeeze(h.text);
  *svg = h.text;
  return STATUS_OK;
}
