// The scale that the kernels give an operand of 8 bits, compiled for the host, against engine/fp8.h, which the CPU
// engine uses: they must agree to the bit, or the engines round differently.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <initializer_list>
#include <random>

#include "host_intrinsics.h"

static inline int max(int a, int b) {
  return a > b ? a : b;
}
static inline int min(int a, int b) {
  return a < b ? a : b;
}
#include "fp8_scale.cuh"

static int bad;

static void check(fp8_format f, float amax) {
  float scale, factor;
  fp8_scale(amax, f.top, &scale, &factor);
  double wanted = std::ldexp(1.0, fp8_shift(f, (double)amax));
  if (std::isfinite(amax) ? (double)scale != wanted || (double)factor != 1 / wanted
                          : !std::isnan(scale) || !std::isnan(factor)) {
    std::printf("FAILED: of %.9g: scale %g, factor %g; wanted %g\n", (double)amax, (double)scale, (double)factor,
                wanted);
    bad++;
  }
}

int main() {
  unsigned seed = (unsigned)std::time(nullptr);
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  for (fp8_format f : {fp8_e4m3, fp8_e5m2}) {
    for (int e = -149; e <= 127; e++) { /* around every power of two, and around 0.875 of it */
      for (float at : {std::ldexp(1.0f, e), std::ldexp(1.75f, e)}) {
        check(f, at);
        check(f, std::nextafter(at, 0.0f));
        check(f, std::nextafter(at, INFINITY));
      }
    }
    for (int i = 0; i < 1000000; i++)
      check(f, __uint_as_float(random() >> 1));
    check(f, 0);
    check(f, INFINITY);
    check(f, NAN);
  }
  if (bad == 0)
    std::printf("all scales agree\n");
  return bad != 0;
}
