/* The loss scale of fp16: gradients are computed times a power of two, so that small ones don't vanish in a type whose
 * smallest number is 6e-8, and divided by it in the update. Halved after a step whose gradient left the finite numbers,
 * doubled after a number of steps in a row that did not (Micikevicius et al., "Mixed precision training", ICLR 2018).
 * Engines keep one and decide with this function at the end of a step, so that the next step begins with the new scale
 * whenever the host reads the result. CUDA kernels include this file.
 */
#ifndef PSANN_ENGINE_LOSS_SCALE_H
#define PSANN_ENGINE_LOSS_SCALE_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __CUDACC__
#define LOSS_SCALE_FUNCTION static inline __host__ __device__
#else
#define LOSS_SCALE_FUNCTION static inline
#endif

typedef struct {
  double scale;            /* a power of two: scaling then changes no bit of a gradient that fits the type */
  int64_t good_steps;      /* finite steps in a row since the scale last changed */
  int64_t growth_interval; /* of these double it; 0: the scale is fixed */
  double least, most;      /* it stays between them */
} loss_scaling;

/* The scale after a step; finite: neither its loss nor its gradient's norm left the finite numbers. */
LOSS_SCALE_FUNCTION void loss_scaling_after(loss_scaling *s, bool finite) {
  if (s->growth_interval <= 0) {
    return;
  }
  if (!finite) {
    s->scale = s->scale / 2 > s->least ? s->scale / 2 : s->least;
    s->good_steps = 0;
  } else if (++s->good_steps >= s->growth_interval) {
    s->scale = s->scale * 2 < s->most ? s->scale * 2 : s->most;
    s->good_steps = 0;
  }
}

#endif
