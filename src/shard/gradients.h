/* The step's gradient on this rank, from micro-batches to the sum over all ranks.
 *
 * In blocks (ddp, shard_optimizer) every unit has whole buffers in which this rank's micro-batches are summed; one
 * exchange follows. In rounds (shard_grad, full_shard, hybrid) a unit's gradient leaves after every micro-batch, and
 * only slices of sums stay.
 */
#ifndef PSANN_SHARD_GRADIENTS_H
#define PSANN_SHARD_GRADIENTS_H

#include "model/plan.h"
#include "shard/reduce.h"

typedef struct gradients gradients;

/* everywhere: the sum is gathered, so that every rank has all of it (blocks only). The reduction must outlive it. */
status gradients_create(reduction *r, bool everywhere, gradients **out);
void gradients_destroy(gradients *g);

status gradients_begin(gradients *g, int64_t j); /* this rank's j-th micro-batch of the step */
/* As weight_source. */
status gradients_buffer(gradients *g, int unit_index, void **out);
status gradients_done(gradients *g, int unit_index);
/* Micro-batch j was launched as a graph; j = this rank's number of them: so was the step's end. */
status gradients_repeated(gradients *g, int64_t j);
/* After the last micro-batch. All sums are under way, and the squared norms of this rank's leaves. */
status gradients_finish(gradients *g);
/* With `everywhere` the gathering of the unit whose sum came last is kept back, so that norms don't wait for it:
 * gradients_hand_out starts it; gradients_arrived makes STREAM_MAIN see it. The sums of the other units are there when
 * reduction_gather is done. gradients_late is that unit's index; −1: there is none. */
status gradients_hand_out(gradients *g);
status gradients_arrived(gradients *g);
int gradients_late(const gradients *g);

/* This rank's slice of the summed gradient (s). */
void *gradients_own(const gradients *g, int unit_index);
/* The whole sum; with `everywhere`, or on one rank. */
void *gradients_whole(const gradients *g, int unit_index);

/* Rows of the plan of the rank with the most. */
void gradients_plan(const model *m, dtype state, int shard_ranks, int ranks, bool rounds, int64_t micro_batches,
                    memory_plan *p);

#endif
