/* Inputs and options that several operations have, made from a case. What they return lives as long as the trial. */
#ifndef PSANN_TESTS_ENGINE_OPERATION_INPUTS_H
#define PSANN_TESTS_ENGINE_OPERATION_INPUTS_H

#include "operations.h"

/* Rows of the head at once: all where the case names no chunk. */
int64_t op_chunk(const op_case *c);

/* Rows that start at positions up to `most`, one of them there; all at 0 where the case has no past. */
void *op_past(trial *t, const op_case *c, int64_t most);

dropout_spec op_dropout(const op_case *c);

/* The largest magnitude of an input, or room for that of a result that was rounded `stored` times; NULL where the case
 * is not in 8 bits. */
void *op_amax(trial *t, const op_case *c, const char *name, const char *of, int64_t n);
void *op_amax_result(trial *t, const op_case *c, const char *name, rounding r);

/* The norm at the end of an operation on N rows, whose input was rounded `stored` times. */
norm_spec op_norm(trial *t, const op_case *c, int64_t N, int stored);

/* The residual's factor, not near 0; NULL where the case has none. */
void *op_alpha(trial *t, const op_case *c);

/* The activation of F features. `far`: with features beyond softplus's threshold, which turn 20 times faster and are
 * for inputs that are not rounded on the way. */
act_spec op_act(trial *t, const op_case *c, int64_t F, bool far);

/* What a backward through the activation adds to `terms`: a far feature's frequency, 25, is itself rounded to fp32, and
 * its derivative multiplies the angle's error by 25 again. */
int64_t op_act_terms(const op_case *c, int64_t F);

/* What a backward through the activation multiplies a result's magnitude by, as a root mean square over features: in a
 * short sum the far feature's terms may cancel, while their rounding errors stay. */
double op_act_size(const op_case *c, int64_t F);

/* Gradients of the activation's parameters. */
act_grads op_act_grads(trial *t, const op_case *c, int64_t F, rounding r);

#endif
