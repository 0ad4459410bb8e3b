#include "report/page.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "report/numbers.h"
#include "report/page_style.h"
#include "report/version.h"

/* Pictures in CSS pixels. */
enum { WIDE = 560, WIDE_HIGH = 300, NARROW = 330, NARROW_HIGH = 240 };

void page_begin(page *p, const char *kind, const char *title, const char *line) {
  html *h = &p->h;
  html_add(h,
           "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
           "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
           "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>");
  html_text(h, title);
  html_add(h, "</title>\n<style>\n");
  html_add(h, page_style);
  html_add(h, "</style>\n</head>\n<body>\n");
  html_add(h, plot_symbols);
  html_add(h, "<main>\n<header>\n<p class=\"kind\">");
  html_text(h, kind);
  html_add(h, "</p>\n<h1>");
  html_text(h, title);
  html_add(h, "</h1>\n");
  if (line != NULL) {
    html_add(h, "<p class=\"line\">");
    html_text(h, line);
    html_add(h, "</p>\n");
  }
  html_add(h, "</header>\n");
}

void page_end(page *p) {
  char now[32];
  html_add(&p->h, "<footer>Made by psann_report ");
  html_text(&p->h, version_number());
  html_format(&p->h, " on %s.</footer>\n</main>\n</body>\n</html>\n", clock_utc(now));
}

void page_section(page *p, const char *anchor, const char *title) {
  html_format(&p->h, "<h2 id=\"%s\">%s</h2>\n", anchor, title);
}

/* Tables. */

void page_table_begin(page *p, const char *class_name) {
  html_format(&p->h, "<table class=\"%s\"><tbody>\n", class_name);
}

void page_table_end(page *p) {
  html_add(&p->h, "</tbody></table>\n");
}

void page_row(page *p, const char *name, const char *value) {
  html_add(&p->h, "<tr><th scope=\"row\">");
  html_text(&p->h, name);
  html_add(&p->h, "</th><td>");
  html_text(&p->h, value);
  html_add(&p->h, "</td></tr>\n");
}

void page_wide_table_begin(page *p, const char *label, const char *const *columns, int n) {
  html_format(&p->h, "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"%s\"><table><thead><tr>",
              label);
  for (int i = 0; i < n; i++) {
    bool number = columns[i][0] == '#';
    html_add(&p->h, number ? "<th scope=\"col\" class=\"n\">" : "<th scope=\"col\">");
    html_text(&p->h, columns[i] + number);
    html_add(&p->h, "</th>");
  }
  html_add(&p->h, "</tr></thead><tbody>\n");
}

void page_wide_table_end(page *p) {
  html_add(&p->h, "</tbody></table></div>\n");
}

static void cell(page *p, const char *begin, const char *text) {
  html_add(&p->h, begin);
  html_text(&p->h, text);
  html_add(&p->h, "</td>");
}

void page_cell(page *p, const char *text) {
  cell(p, "<td>", text);
}

void page_long_cell(page *p, const char *text) {
  cell(p, "<td class=\"long\">", text);
}

void page_number_cell(page *p, double value) {
  char text[32];
  html_format(&p->h, "<td class=\"n\">%s</td>", isnan(value) ? "" : number_short(value, text));
}

/* Figures. */

static void no_pictures(page *p) {
  snprintf(p->trouble, sizeof p->trouble, "%s", status_message());
  html_add(&p->h, "<p class=\"missing\">The pictures are missing: ");
  html_text(&p->h, p->trouble);
  html_add(&p->h, ".</p>\n");
}

static void add_figure(page *p, const char *wide, const char *narrow, const char *title, const char *caption) {
  html *h = &p->h;
  if (!p->in_grid) {
    html_add(h, "<div class=\"figures\">\n");
    p->in_grid = true;
  }
  html_add(h, "<figure>\n<div class=\"wide\">");
  html_add(h, wide);
  html_add(h, "</div>\n<div class=\"narrow\">");
  html_add(h, narrow);
  html_format(h, "</div>\n<figcaption><b>Figure %d. ", ++p->figures);
  html_text(h, title);
  html_add(h, ".</b> ");
  html_add(h, caption);
  html_add(h, "</figcaption>\n</figure>\n");
}

/* The two sizes of a picture, which `draw` draws. */
static void figure(page *p, status (*draw)(const void *what, int width, int height, char **svg), const void *what,
                   int wide_high, int narrow_high, const char *title, const char *caption) {
  char *wide = NULL, *narrow = NULL;
  if (p->trouble[0] != 0) {
    return;
  }
  if (draw(what, WIDE, wide_high, &wide) == STATUS_OK && draw(what, NARROW, narrow_high, &narrow) == STATUS_OK) {
    add_figure(p, wide, narrow, title, caption);
  } else {
    page_figures_end(p);
    no_pictures(p);
  }
  free(wide);
  free(narrow);
}

static status draw_plot(const void *what, int width, int height, char **svg) {
  return plot_svg(what, width, height, svg);
}

static status draw_bars(const void *what, int width, int height, char **svg) {
  return plot_bars_svg(what, width, height, svg);
}

void page_figure(page *p, const plot *what, const char *title, const char *caption) {
  if (!plot_has_points(what)) {
    return;
  }
  figure(p, draw_plot, what, WIDE_HIGH, NARROW_HIGH, title, caption);
}

void page_bars(page *p, const plot_bars *what, const char *title, const char *caption) {
  enum { BAR = 24, AXIS = 60 };
  figure(p, draw_bars, what, AXIS + BAR * what->n, AXIS + BAR * what->n, title, caption);
}

void page_figures_end(page *p) {
  if (p->in_grid) {
    html_add(&p->h, "</div>\n");
    p->in_grid = false;
  }
}

void page_key(html *h, int colour, bool dashed, const char *name) {
  html_format(h, "<span class=\"key%s\"><i style=\"border-color:var(--s%d)\"></i>", dashed ? " dashed" : "",
              colour % PLOT_COLOURS + 1);
  html_text(h, name);
  html_add(h, "</span>");
}

void page_commands(page *p, const char *lines) {
  html_add(&p->h, "<pre>");
  html_text(&p->h, lines);
  html_add(&p->h, "</pre>\n");
}

void page_free(page *p) {
  html_free(&p->h);
}
