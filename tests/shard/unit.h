/* cmocka, which needs these headers before it; formatting would sort them. */
#ifndef PSANN_TESTS_SHARD_UNIT_H
#define PSANN_TESTS_SHARD_UNIT_H

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#endif
