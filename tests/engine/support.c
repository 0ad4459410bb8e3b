#include "support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/philox.h"

enum { MOST_ALLOCATIONS = 4096, SAMPLE = 48 };

static void *allocations[MOST_ALLOCATIONS];
static int n_allocations;

void check_status(status s, const char *call, const char *file, int line) {
  if (s != STATUS_OK) {
    print_error("%s: %s (%s)\n", call, status_message(), status_place());
    _fail(file, line);
  }
}

static uint64_t test_seed(void) {
  static uint64_t seed;
  if (seed == 0) {
    const char *given = getenv("TEST_SEED");
    seed = given ? strtoull(given, NULL, 10) : (uint64_t)time(NULL);
    printf("TEST_SEED=%llu\n", (unsigned long long)seed);
  }
  return seed;
}

static uint32_t counter, random_stream;

static philox_block next_block(void) {
  return philox(test_seed(), PHILOX_DATA, counter++, random_stream, 0, 0);
}

void restart_random(uint32_t stream) {
  counter = 0;
  random_stream = stream;
}

double uniform(double lo, double hi) {
  philox_block b = next_block();
  return lo + (hi - lo) * philox_uniform53(b.x[0], b.x[1]);
}

double normal(void) {
  philox_block b = next_block();
  double u = philox_uniform53(b.x[0], b.x[1]), v = philox_uniform53(b.x[2], b.x[3]);
  return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

double bell(void) {
  philox_block b = next_block();
  double sum = 0;
  for (int i = 0; i < 4; i++) {
    sum += (double)b.x[i] * 0x1p-32 - 0.5;
  }
  return sum * sqrt(3);
}

int64_t below(int64_t n) {
  int64_t i = (int64_t)uniform(0, (double)n);
  return i < n ? i : n - 1;
}

engine_limits limits_of(int64_t B, int64_t T, int64_t D, int64_t H, int64_t M, int64_t V) {
  return (engine_limits){.B = B, .T = T, .D = D, .H = H, .M = M, .V = V, .Vp = (V + 127) / 128 * 128, .chunk = 37};
}

engine *open_engine(dtype compute, int threads, const engine_limits *limits) {
  engine *e;
  OK(engine_cpu_create(compute, threads, 12345, &e));
  OK(e->ops->prepare(e, limits));
  return e;
}

void close_engine(engine *e) {
  e->ops->destroy(e);
}

void *zeros(size_t count, size_t size) {
  assert_true(n_allocations < MOST_ALLOCATIONS);
  size_t bytes = (count * size + 255) / 256 * 256 + 256;
  void *p = aligned_alloc(256, bytes);
  assert_non_null(p);
  memset(p, 0, bytes);
  allocations[n_allocations++] = p;
  return p;
}

double *random_doubles(int64_t n, double scale) {
  double *x = zeros((size_t)n, sizeof *x);
  for (int64_t i = 0; i < n; i++) {
    /* Rounded to fp32, so that an engine in fp32 sees the same numbers. */
    x[i] = (double)(float)(scale * normal());
  }
  return x;
}

float *to_floats(const double *x, int64_t n) {
  float *y = zeros((size_t)n, sizeof *y);
  for (int64_t i = 0; i < n; i++) {
    y[i] = (float)x[i];
  }
  return y;
}

double *to_doubles(const float *x, int64_t n) {
  double *y = zeros((size_t)n, sizeof *y);
  for (int64_t i = 0; i < n; i++) {
    y[i] = (double)x[i];
  }
  return y;
}

void free_all(void) {
  while (n_allocations > 0) {
    free(allocations[--n_allocations]);
  }
}

double dot(const double *w, const double *x, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) {
    sum += w[i] * x[i];
  }
  return sum;
}

double relative_error(const double *a, const double *b, int64_t n) {
  double difference = 0, norm = 0, own = 0;
  for (int64_t i = 0; i < n; i++) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
    own += a[i] * a[i];
  }
  double error = norm > 0 ? sqrt(difference / norm) : sqrt(own);
  return isnan(error) ? INFINITY : error;
}

double relative_error_f(const float *a, const double *b, int64_t n) {
  double *wide = to_doubles(a, n);
  return relative_error(wide, b, n);
}

void assert_close(const char *what, const double *a, const double *b, int64_t n, double tolerance) {
  double error = relative_error(a, b, n);
  if (!(error < tolerance)) {
    fail_msg("%s: relative error %.3g, not below %.3g", what, error, tolerance);
  }
}

void assert_close_f(const char *what, const float *a, const double *b, int64_t n, double tolerance) {
  assert_close(what, to_doubles(a, n), b, n, tolerance);
}

void check_gradient(const char *what, objective f, void *context, double *x, const double *gradient, int64_t n) {
  /* Small, since kinks must be rare; of fourth order, since a frequency of 25 has a large third derivative. */
  const double step = 3e-6;
  int64_t samples = n <= SAMPLE ? n : SAMPLE;
  double measured[SAMPLE], given[SAMPLE];
  for (int64_t s = 0; s < samples; s++) {
    int64_t i = n <= SAMPLE ? s : below(n);
    double kept = x[i], at[4];
    for (int k = 0; k < 4; k++) {
      x[i] = kept + step * (k < 2 ? k - 2 : k - 1);
      at[k] = f(context);
    }
    x[i] = kept;
    measured[s] = (8 * (at[2] - at[1]) - (at[3] - at[0])) / (12 * step);
    given[s] = gradient[i];
  }
  double norm = sqrt(dot(measured, measured, samples)), difference = 0;
  for (int64_t s = 0; s < samples; s++) {
    difference += (measured[s] - given[s]) * (measured[s] - given[s]);
  }
  /* The rounding of f, a sum of terms that may be larger than f itself, limits what differences can show. */
  double rounding = 2e-15 * fmax(fabs(f(context)), 20) / step * sqrt((double)samples);
  if (!(sqrt(difference) < 1e-6 * norm + rounding)) {
    fail_msg("gradient of %s: differs by %.3g from central differences of norm %.3g", what, sqrt(difference), norm);
  }
}
