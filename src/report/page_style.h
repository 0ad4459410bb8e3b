/* The style of all pages. For page.c. */
#ifndef PSANN_REPORT_PAGE_STYLE_H
#define PSANN_REPORT_PAGE_STYLE_H

extern const char page_style[];

#endif
