/* The steps of psann_bench validate. Each adds its keys and its verdict to `result`; a failure means that it could not
 * be done at all. */
#ifndef PSANN_BENCH_STEPS_H
#define PSANN_BENCH_STEPS_H

#include "bench/validation.h"

status step_learns(validation *v, cJSON *result);    /* GPU-01: an update lowers the loss */
status step_precision(validation *v, cJSON *result); /* GPU-02: bf16 against fp32 */
/* What step_precision does with bf16, for any precision that the engine has. */
status validation_compare_precisions(validation *v, const char *precision, cJSON *result);
status step_throughput(validation *v, cJSON *result); /* GPU-03 */
status step_recompute(validation *v, cJSON *result);  /* GPU-04: memory with and without recompute */
status step_ddp(validation *v, cJSON *result);        /* GPU-05: several ranks against one */
status step_full_shard(validation *v, cJSON *result); /* GPU-06: the same under the sharded strategies */
status step_writes(validation *v, cJSON *result);     /* GPU-07: trains on text and writes */
status step_continues(validation *v, cJSON *result);  /* GPU-08: save, load, continue */

#endif
