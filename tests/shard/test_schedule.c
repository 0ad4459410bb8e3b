/* The learning rate over a run. */
#include <math.h>

#include "optim/schedule.h"
#include "optim/update.h"
#include "random_values.h"
#include "unit.h"

static void near(double got, double wanted, double tolerance) {
  if (!(fabs(got - wanted) <= tolerance)) {
    fail_msg("%.17g is not within %g of %.17g", got, tolerance, wanted);
  }
}

/* W = 4, N = 10, peak 1, no floor: the table of the reference. */
static void ten_updates_with_four_of_warm_up(void **state) {
  (void)state;
  const schedule s = {.lr = 1, .min_lr = 0, .warmup_steps = 4, .steps = 10};
  const double wanted[] = {0.25, 0.5, 0.75, 1, 0.9330127018922193, 0.75, 0.5, 0.25, 0.0669872981077807, 0};
  for (int n = 1; n <= 10; n++) {
    near(schedule_lr(&s, n), wanted[n - 1], 1e-15);
  }
}

static void six_updates_of_the_golden_run(void **state) {
  (void)state;
  const schedule s = {.lr = 0.01, .min_lr = 0, .warmup_steps = 2, .steps = 6};
  const double wanted[] = {0.005, 0.01, 0.0085355339, 0.005, 0.0014644661, 0};
  for (int n = 1; n <= 6; n++) {
    near(schedule_lr(&s, n), wanted[n - 1], 5e-11);
  }
}

static void a_run_inside_its_warm_up(void **state) {
  (void)state;
  const schedule s = {.lr = 2, .min_lr = 0.5, .warmup_steps = 8, .steps = 4};
  near(schedule_lr(&s, 1), 0.25, 0);
  near(schedule_lr(&s, 4), 1, 0);
  near(schedule_lr(&s, 9), 2, 0);
  const schedule equal = {.lr = 2, .min_lr = 0.5, .warmup_steps = 8, .steps = 8};
  near(schedule_lr(&equal, 8), 2, 0);
  near(schedule_lr(&equal, 9), 2, 0);
}

static void falls_from_peak_to_floor(void **state) {
  (void)state;
  uint64_t seed = test_seed();
  print_message("seed %llu\n", (unsigned long long)seed);
  for (uint64_t i = 0; i < 200; i++) {
    int64_t warmup = random_between(seed, 0, i, 0, 50), steps = warmup + random_between(seed, 1, i, 1, 400);
    double lr = 1e-4 * (double)random_between(seed, 2, i, 1, 100),
           min_lr = fmin(lr, lr * 0.01 * (double)random_between(seed, 3, i, 0, 100));
    const schedule s = {.lr = lr, .min_lr = min_lr, .warmup_steps = warmup, .steps = steps};
    double last = 0;
    for (int64_t n = 1; n <= steps; n++) {
      double now = schedule_lr(&s, n);
      double most = (n == 1 ? lr : last) * (1 + 4e-16); /* a flat stretch may round up by a last bit */
      assert_true(n <= warmup ? now > last : now <= most && now >= min_lr * (1 - 1e-12));
      last = now;
    }
    if (warmup > 0) {
      near(schedule_lr(&s, warmup), lr, lr * 1e-15);
    }
    near(schedule_lr(&s, steps), min_lr, lr * 1e-15);
    near(schedule_lr(&s, steps + 7), min_lr, lr * 1e-15); /* a run that went on longer stays at its floor */
  }
}

static void comes_from_the_config(void **state) {
  (void)state;
  config c = {0};
  c.train.lr = 0.003;
  c.train.min_lr = 0.0003;
  c.train.warmup_steps = 7;
  c.train.max_steps = 19;
  c.train.beta1 = 0.8;
  c.train.beta2 = 0.95;
  c.train.eps = 1e-7;
  c.train.weight_decay = 0.04;
  c.train.grad_clip = 0.7;
  schedule s = schedule_from(&c);
  near(schedule_lr(&s, 7), 0.003, 0);
  near(schedule_lr(&s, 13), 0.00165, 1e-17);
  near(schedule_lr(&s, 19), 0.0003, 1e-18);
  update_spec u = update_from(&c);
  near(u.beta1, 0.8, 0);
  near(u.beta2, 0.95, 0);
  near(u.eps, 1e-7, 0);
  near(u.weight_decay, 0.04, 0);
  near(u.grad_clip, 0.7, 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(ten_updates_with_four_of_warm_up),
      cmocka_unit_test(six_updates_of_the_golden_run),
      cmocka_unit_test(a_run_inside_its_warm_up),
      cmocka_unit_test(falls_from_peak_to_floor),
      cmocka_unit_test(comes_from_the_config),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
