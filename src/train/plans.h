/* The plans of the matrix products, on engines that have a choice: one table a user, so that runs of the same shapes use the same algorithms and give the same bits. */
#ifndef PSANN_TRAIN_PLANS_H
#define PSANN_TRAIN_PLANS_H

#include "base/digest.h"
#include "dist/dist.h"
#include "engine/engine.h"

/* Rank 0 reads the table at `path` ("auto": psann/gemm_plans_2.txt in the user's cache folder), times what it lacks, and writes it back; all ranks then use its plans. Nothing happens on engines without a
 * choice. `used` becomes the digest of the plans that these shapes use, whatever else the table holds; "" on engines without
 * a choice. Collective. */
status plans_share(const dist *d, engine *e, const engine_limits *limits, const char *path, char used[DIGEST_TEXT]);

#endif
