/* cmocka, after the headers that it needs. */
#ifndef PSANN_TESTS_INFER_UNIT_H
#define PSANN_TESTS_INFER_UNIT_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#endif
