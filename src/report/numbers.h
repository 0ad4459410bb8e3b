/* Numbers for people. */
#ifndef PSANN_REPORT_NUMBERS_H
#define PSANN_REPORT_NUMBERS_H

#include <stdint.h>

/* "1,234,567" into text (at least 32 bytes); returns text. */
const char *number_grouped(int64_t n, char *text);

/* Four digits or so, grouped where it is large, into text (at least 32 bytes); returns text. */
const char *number_short(double value, char *text);

#endif
