/* Published figures of the PyTorch reference, which ours stand beside. */
#ifndef PSANN_BENCH_PUBLISHED_H
#define PSANN_BENCH_PUBLISHED_H

#include <stdint.h>

/* The GPU that they were measured on: its name holds this. */
#define PUBLISHED_GPU "H200"

/* Tokens a second of the reference's forward pass in fp32 without TF32, on one H200, of D 256, L 4, H 4, M 1024,
 * V 32000; the better one where several were published. NaN where none was. */
double published_forward(const char *base, int64_t B, int64_t T);

/* What the same model, bf16 and trained, must reach against the published forward pass, and forward in fp32 against
 * the same. */
#define PUBLISHED_TIMES_FORWARD 2.1
#define PUBLISHED_TIMES_TRAINING 3.5

#endif
