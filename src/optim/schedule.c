#include "optim/schedule.h"

#include <math.h>

schedule schedule_from(const config *c) {
  return (schedule){
      .lr = c->train.lr, .min_lr = c->train.min_lr, .warmup_steps = c->train.warmup_steps, .steps = c->train.max_steps};
}

double schedule_lr(const schedule *s, int64_t step) {
  if (step <= s->warmup_steps) {
    return s->lr * (double)step / (double)s->warmup_steps;
  }
  if (s->steps <= s->warmup_steps) {
    return s->lr;
  }
  double part = (double)(step - s->warmup_steps) / (double)(s->steps - s->warmup_steps);
  return s->min_lr + (s->lr - s->min_lr) * 0.5 * (1 + cos(M_PI * fmin(1, part)));
}
