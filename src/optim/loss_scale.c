#include "optim/loss_scale.h"

#include <math.h>

loss_scaling loss_scaling_from(const config *c) {
  if (c->train.precision != PRECISION_FP16) {
    return (loss_scaling){.scale = 1};
  }
  if (c->train.loss_scale > 0) {
    return (loss_scaling){.scale = (double)c->train.loss_scale};
  }
  return (loss_scaling){.scale = (double)c->train.loss_scale_init,
                        .growth_interval = c->train.loss_scale_growth_interval,
                        .least = (double)c->train.loss_scale_min,
                        .most = (double)c->train.loss_scale_max};
}

loss_scaling loss_scaling_resumed(const config *c, double scale, int64_t good_steps) {
  loss_scaling s = loss_scaling_from(c);
  if (s.growth_interval > 0) {
    s.scale = fmin(fmax(scale, s.least), s.most);
    s.good_steps = good_steps;
  }
  return s;
}
