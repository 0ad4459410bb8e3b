/* HTML text that grows in memory. Whatever comes from a file or a person goes through html_text. */
#ifndef PSANN_REPORT_HTML_H
#define PSANN_REPORT_HTML_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

typedef struct {
  char *text; /* NULL: empty */
  size_t bytes, capacity;
  bool failed; /* there was no memory for all of it */
} html;

/* Markup, as it is. */
void html_add(html *h, const char *markup);

/* Markup with numbers or constants in it: nothing that could hold markup of its own. */
void html_format(html *h, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Text, for element content and for attributes in double quotes. What HTML gives a meaning is escaped; bytes that are
 * no UTF-8, control characters other than newline and tab, and characters that turn the direction of writing become
 * U+FFFD. NULL adds nothing. */
void html_text(html *h, const char *text);

/* Writes it atomically. */
status html_write(const html *h, const char *path);

void html_free(html *h);

#endif
