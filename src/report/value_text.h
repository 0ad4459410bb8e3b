/* Values of JSON in words. */
#ifndef PSANN_REPORT_VALUE_TEXT_H
#define PSANN_REPORT_VALUE_TEXT_H

#include <cjson/cJSON.h>

#include "report/html.h"

/* A text, number or truth, or those of a list or an object, of which many are cut short. A name that ends in _bytes has
 * a number of bytes; other numbers stand as they are, or rounded. */
void value_text(html *h, const cJSON *item, bool rounded);

#endif
