/* The order of summation: a binary counter over micro-batches. Level k holds the sum of 2^k leaves; adding a leaf
 * merges equal levels. */
#ifndef PSANN_SHARD_TREE_H
#define PSANN_SHARD_TREE_H

#include <stdint.h>

/* Buffers needed to sum `leaves` leaves, the fresh leaf included. */
int64_t tree_buffers(int64_t leaves);

/* Calls node(context, to, from) for every merge (buffer `to` += buffer `from`; `to` holds the earlier leaves) that
 * follows when leaf number `leaf` (from 0) of `leaves` has been put into buffer tree_slot(leaf); after the last leaf
 * the total is in buffer 0. */
int64_t tree_slot(int64_t leaf);
int tree_merges(int64_t leaf, int64_t leaves, int (*node)(void *context, int64_t to, int64_t from), void *context);

#endif
