#include "bench/published.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

double published_forward(const char *base, int64_t B, int64_t T) {
  static const struct {
    const char *base;
    int64_t B, T;
    double tok_s;
  } figures[] = {
      {"respsann", 4, 256, 298966},       {"waveresnet", 4, 256, 301989},   {"respsann", 32, 4096, 614749.6},
      {"waveresnet", 32, 4096, 612637.0}, {"respsann", 64, 4096, 613210.6}, {"waveresnet", 64, 4096, 612338.0},
  };
  for (size_t i = 0; i < sizeof figures / sizeof *figures; i++) {
    if (strcmp(base, figures[i].base) == 0 && B == figures[i].B && T == figures[i].T) {
      return figures[i].tok_s;
    }
  }
  return NAN;
}
