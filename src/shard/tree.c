/* The counter is a stack: before leaf l is put on it, it holds one sum for each bit set in l, the longest at the
 * bottom. */
#include "shard/tree.h"

int64_t tree_slot(int64_t leaf) {
  return __builtin_popcountll((unsigned long long)leaf);
}

int64_t tree_buffers(int64_t leaves) {
  /* No number below `leaves` has more bits set than the largest 2^k − 1 among them. */
  int64_t buffers = 1;
  while (leaves > 1) {
    leaves /= 2;
    buffers++;
  }
  return buffers;
}

int tree_merges(int64_t leaf, int64_t leaves, int (*node)(void *context, int64_t to, int64_t from), void *context) {
  int64_t top = tree_slot(leaf);
  int64_t bottom =
      leaf + 1 == leaves ? 0 : tree_slot(leaf + 1) - 1; /* equal levels meet: a carry; at the end all is folded */
  for (; top > bottom; top--) {
    int failed = node(context, top - 1, top);
    if (failed != 0) {
      return failed;
    }
  }
  return 0;
}
