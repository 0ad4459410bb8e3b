#include "optim/update.h"

update_spec update_from(const config *c) {
  return (update_spec){.beta1 = c->train.beta1,
                       .beta2 = c->train.beta2,
                       .eps = c->train.eps,
                       .weight_decay = c->train.weight_decay,
                       .grad_clip = c->train.grad_clip};
}
