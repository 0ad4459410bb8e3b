/* What the tests of the engine share: random inputs with a printed seed, engines of every kind, and gradients by
 * central differences. */
#ifndef PSANN_TESTS_ENGINE_SUPPORT_H
#define PSANN_TESTS_ENGINE_SUPPORT_H

/* cmocka.h needs the others before it. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
/* clang-format on */

#include "engine/engine.h"

/* Fails the test with the message of the failed status. */
#define OK(call) check_status((call), #call, __FILE__, __LINE__)
void check_status(status s, const char *call, const char *file, int line);

/* Random numbers; the seed comes from the clock, or from TEST_SEED, and is printed once. */
double uniform(double lo, double hi);
double normal(void);
int64_t below(int64_t n);
/* Mean 0, deviation 1, never beyond 2·sqrt(3): quicker than normal(). */
double bell(void);
/* The numbers of another stream of the same seed, from its start, so that a case gets the same inputs on its own. */
void restart_random(uint32_t stream);

/* An engine prepared for shapes up to these; dropout seed fixed. */
engine *open_engine(dtype compute, int threads, const engine_limits *limits);
engine_limits limits_of(int64_t B, int64_t T, int64_t D, int64_t H, int64_t M, int64_t V);
void close_engine(engine *e);

/* Memory that check_clean frees: zeros, or normal numbers times `scale`. */
void *zeros(size_t count, size_t size);
double *random_doubles(int64_t n, double scale);
/* The same values as float, or as the engine's type. */
float *to_floats(const double *x, int64_t n);
double *to_doubles(const float *x, int64_t n);
void free_all(void);

/* Σ w ⊙ x */
double dot(const double *w, const double *x, int64_t n);

/* ‖a − b‖ / ‖b‖ (or ‖a‖ when b is 0); a NaN gives infinity. */
double relative_error(const double *a, const double *b, int64_t n);
double relative_error_f(const float *a, const double *b, int64_t n);

/* Fails when relative_error is not below `tolerance`. */
void assert_close(const char *what, const double *a, const double *b, int64_t n, double tolerance);
void assert_close_f(const char *what, const float *a, const double *b, int64_t n, double tolerance);

/* A scalar function of everything in `context`. */
typedef double (*objective)(void *context);

/* Compares `gradient` with central differences of f by the elements of x: all of them, or a random sample of a long
 * tensor. */
void check_gradient(const char *what, objective f, void *context, double *x, const double *gradient, int64_t n);

#endif
