/* What all pages of reports share: head with style and a policy that forbids every request, sections, tables, figures.
 */
#ifndef PSANN_REPORT_PAGE_H
#define PSANN_REPORT_PAGE_H

#include "report/html.h"
#include "report/plot.h"

typedef struct {
  html h;
  int figures;       /* so far */
  bool in_grid;      /* inside a grid of figures */
  char trouble[512]; /* why pictures are missing; "": they aren't */
} page;

/* From the doctype to the page's heading. `kind` stands above it, `line` below it; NULL: none. */
void page_begin(page *p, const char *kind, const char *title, const char *line);

/* Foot and end. */
void page_end(page *p);

/* A heading with an anchor of that name; both are constants of the program. */
void page_section(page *p, const char *anchor, const char *title);

/* A row of a table of two columns: constant or foreign text both. */
void page_row(page *p, const char *name, const char *value);

/* A table of two columns. */
void page_table_begin(page *p, const char *class_name);
void page_table_end(page *p);

/* A wide table that scrolls in a frame of its own when the window is narrow; A column whose name begins with '#'
 * holds numbers. `label` is a constant. */
void page_wide_table_begin(page *p, const char *label, const char *const *columns, int n);
void page_wide_table_end(page *p);
void page_cell(page *p, const char *text);
void page_long_cell(page *p, const char *text); /* wide enough for a sentence */
void page_number_cell(page *p, double value);   /* empty when it is NaN */

/* A figure with its number and caption (markup), in a size for wide and one for narrow windows. Figures that follow
 * each other stand side by side. When a picture cannot be drawn, the page says why, once, and leaves out the others.
 * One without a point is left out. */
void page_figure(page *p, const plot *what, const char *title, const char *caption);
void page_bars(page *p, const plot_bars *what, const char *title, const char *caption);
void page_figures_end(page *p);

/* A coloured mark with its (foreign) name, for captions and legends. */
void page_key(html *h, int colour, bool dashed, const char *name);

/* Lines of a shell. */
void page_commands(page *p, const char *lines);

void page_free(page *p);

#endif
