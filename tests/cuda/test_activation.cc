// The mathematics of cuda/activation.cuh, compiled for the host, against fp64: the polynomials and reductions that the
// kernels use are checked where there is no GPU, too. (nvcc may fuse a multiplication with an addition where this build
// does not; where the error depends on it, the header writes fmaf.)
extern "C" {
// cmocka needs the four before it.
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
}

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <random>

#include "host_intrinsics.h"

#include "activation.cuh"

namespace {

constexpr double BOUND = 4e-7;  // of the polynomials of sine and cosine, for |f·z| up to FARTHEST
constexpr double FARTHEST = 1e4;
constexpr int POINTS = 2000000;

std::mt19937_64 &generator() {
  static std::mt19937_64 rng = [] {
    const char *given = std::getenv("TEST_SEED");
    uint64_t seed = given ? std::strtoull(given, nullptr, 10) : static_cast<uint64_t>(std::time(nullptr));
    std::printf("TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
    return std::mt19937_64(seed);
  }();
  return rng;
}

double uniform(double lo, double hi) {
  return std::uniform_real_distribution<double>(lo, hi)(generator());
}

struct worst {
  double error = 0, f = 0, z = 0;
  void add(double value, double exact, float at_f, float at_z) {
    double e = std::fabs(value - exact);
    if (!(e <= error)) {  // a NaN comes in here, and stays
      error = e, f = at_f, z = at_z;
    }
  }
  void below(const char *what, double bound) const {
    std::printf("%-24s largest error %.3g at f = %.9g, z = %.9g (bound %.3g)\n", what, error, f, z, bound);
    assert_true(error <= bound);
  }
};

// The angle of a sine with amplitude 1 and no decay, reduced near or far as the kernels choose.
half_turn angle_of(float f, float z) {
  const sine_feature p[1] = {effective_sine(1, f, 0, 1)};
  return any_far<ACT_SINE, 1>(p, {z}) ? reduced<true>(p[0], z) : reduced<false>(p[0], z);
}

struct sine_errors {
  worst sine, cosine;
  void add(float f, float z) {
    double angle = static_cast<double>(f) * static_cast<double>(z);  // exact
    half_turn t = angle_of(f, z);
    sine.add(flipped(sin_half_turn(t.r), t.flip), std::sin(angle), f, z);
    cosine.add(flipped(cos_half_turn(t.r), t.flip), std::cos(angle), f, z);
  }
  void below() const {
    sine.below("sine", BOUND);
    cosine.below("cosine", BOUND);
  }
};

// Angles in equal steps over the whole range, each as the product of another f and z.
void test_dense_grid(void **) {
  sine_errors e;
  for (int i = 0; i <= POINTS; i++) {
    double angle = FARTHEST * (2.0 * i / POINTS - 1);
    float f = static_cast<float>(std::exp(uniform(std::log(1e-3), std::log(FARTHEST))));
    e.add(f, static_cast<float>(angle / f));
  }
  e.below();
}

// Where reductions go wrong: beside multiples of π/2 and π/4, near 0, and at the ends.
void test_hard_angles(void **) {
  sine_errors e;
  const double quarter = 0.78539816339744831;
  for (int k = -12732; k <= 12732; k++) {
    for (int i = 0; i < 40; i++) {
      float f = static_cast<float>(std::exp(uniform(std::log(1e-3), std::log(FARTHEST))));
      e.add(f, static_cast<float>(k * quarter * (1 + uniform(-3e-7, 3e-7)) / f));
    }
  }
  for (int i = 0; i < POINTS / 4; i++) {
    float f = static_cast<float>(uniform(1e-3, 30));
    e.add(f, static_cast<float>(std::exp(uniform(std::log(1e-20), 0.0)) / f));
  }
  e.add(1.0f, 0.0f);
  e.add(1.0f, static_cast<float>(FARTHEST));
  e.add(1.0f, static_cast<float>(-FARTHEST));
  e.below();
}

// On both sides of where a pack is reduced in fp64, and as far as that goes.
void test_far_angles(void **) {
  sine_errors e;
  for (int i = 0; i < POINTS / 4; i++) {
    float f = static_cast<float>(uniform(1, 30));
    e.add(f, static_cast<float>(std::exp(uniform(std::log(FARTHEST), std::log(9e12))) / f));
    e.add(f, static_cast<float>(uniform(0.5, 2) * 3.14159265 * FAR / f));
  }
  e.below();
  assert_true(std::isnan(angle_of(2, 1e13f).r) && std::isnan(angle_of(1, INFINITY).r) && std::isnan(angle_of(1, NAN).r));
}

// The frequency comes back from its two terms as it was.
void test_far_frequency(void **) {
  for (int i = 0; i < POINTS / 4; i++) {
    float f = static_cast<float>(std::exp(uniform(std::log(1e-6), std::log(1e6))));
    sine_feature p = effective_sine(1, f, 0, 1);
    assert_true(static_cast<float>((static_cast<double>(p.turns) + p.turns_low) * 3.1415926535897931) == f);
  }
}

template <int DECAY>
void check_derivatives() {
  worst y, dz, dA, df, dd, db, envelope;
  for (int i = 0; i < POINTS / 10; i++) {
    float frequency = static_cast<float>(uniform(0.1, 4)), damping = static_cast<float>(uniform(0.01, 3));
    const sine_feature p = effective_sine(static_cast<float>(uniform(0.1, 2)), frequency, damping, 1);
    float z = static_cast<float>(uniform(-8, 8));
    double g = DECAY == ACT_DECAY_ABS ? std::fabs(z) : DECAY == ACT_DECAY_RELU ? std::max(z, 0.0f) : 0;
    double slope = DECAY == ACT_DECAY_ABS ? (z > 0) - (z < 0) : DECAY == ACT_DECAY_RELU ? z > 0 : 0;
    double A = p.A, f = frequency, d = damping, E = std::exp(-d * g), s = std::sin(f * z), c = std::cos(f * z);
    float sums[SUMS] = {}, slope_z = act_gradient<ACT_SINE, DECAY, false>(p, 1.0f, z, 1.0f, sums);
    float value = act_value<ACT_SINE, DECAY, false>(p, z);
    envelope.add(sine_envelope<DECAY>(p, z), E, frequency, z);
    y.add(value, A * E * s, frequency, z);
    dz.add(slope_z, A * E * (f * c - d * slope * s), frequency, z);
    dA.add(sums[SUM_VALUE], E * s, frequency, z);
    df.add(p.A * sums[SUM_FREQUENCY], A * E * c * z, frequency, z);
    dd.add(-p.A * sums[SUM_DAMPING], -g * A * E * s, frequency, z);
    db.add(sums[SUM_BIAS], A * E * (f * c - d * slope * s), frequency, z);
  }
  // Each has up to A = 2, f = 4, |z| = 8 and a few roundings as factors of the sine's bound.
  envelope.below("envelope", BOUND);
  y.below("y", 3 * BOUND);
  dz.below("dy/dz", 16 * BOUND);
  db.below("dy/db", 16 * BOUND);
  dA.below("dy/dA", 2 * BOUND);
  df.below("dy/df", 20 * BOUND);
  dd.below("dy/dd", 20 * BOUND);
}

void test_derivatives(void **) {
  check_derivatives<ACT_DECAY_ABS>();
  check_derivatives<ACT_DECAY_RELU>();
  check_derivatives<ACT_DECAY_NONE>();
}

void test_gelu_relu_and_softplus(void **) {
  worst value, slope, plus, plus_slope;
  const sine_feature none = {};
  for (int i = 0; i < POINTS / 10; i++) {
    float z = static_cast<float>(uniform(-8, 8));
    double phi = 0.5 * std::erfc(-z * 0.70710678118654752), density = 0.39894228040143268 * std::exp(-0.5 * z * z);
    float sums[SUMS] = {}, relu[SUMS] = {};
    slope.add(act_gradient<ACT_GELU, ACT_DECAY_NONE, false>(none, 1.0f, z, 1.0f, sums), phi + z * density, 0, z);
    value.add(act_value<ACT_GELU, ACT_DECAY_NONE, false>(none, z), z * phi, 0, z);
    value.add(sums[SUM_VALUE], z * phi, 0, z);
    assert_true((act_value<ACT_RELU, ACT_DECAY_NONE, false>(none, z) == std::max(z, 0.0f)));
    assert_true((act_gradient<ACT_RELU, ACT_DECAY_NONE, false>(none, 1.0f, z, 1.0f, relu) == (z > 0 ? 1.0f : 0.0f)));
    float raw = static_cast<float>(uniform(-20, 25));
    plus.add(softplus(raw), raw > 20 ? raw : std::log1p(std::exp(static_cast<double>(raw))), 0, raw);
    plus_slope.add(softplus_slope(raw), raw > 20 ? 1 : 1 / (1 + std::exp(-static_cast<double>(raw))), 0, raw);
  }
  value.below("GELU", 5 * BOUND);  // of values up to 8
  slope.below("GELU's slope", 2 * BOUND);
  plus.below("softplus", 5 * BOUND);  // of values up to 20
  plus_slope.below("softplus's slope", BOUND);
}

}  // namespace

int main() {
  const CMUnitTest tests[] = {cmocka_unit_test(test_dense_grid), cmocka_unit_test(test_hard_angles),
                              cmocka_unit_test(test_far_angles), cmocka_unit_test(test_far_frequency),
                              cmocka_unit_test(test_derivatives), cmocka_unit_test(test_gelu_relu_and_softplus)};
  return cmocka_run_group_tests(tests, nullptr, nullptr);
}
