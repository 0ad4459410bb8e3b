/* What the machine gives at best: a square matrix product and a copy, through the engine that runs use. */
#ifndef PSANN_BENCH_MACHINE_PEAK_H
#define PSANN_BENCH_MACHINE_PEAK_H

#include <stdbool.h>

#include "config/config.h"
#include "dist/dist.h"

typedef struct {
  bool on_gpu;
  char engine[160];        /* its description */
  char precision[16];      /* of the product */
  int64_t gemm_size;       /* n of n × n × n */
  double gemm_peak_tflops; /* of this rank's device, TFLOP/s */
  double copy_gb_s;        /* bytes read and written inside the device's memory, GB/s */
} machine_peak;

/* Device and threads are those of the config. On a GPU bf16, 8192³ and a copy of 2 GiB; on the CPU fp32, 1024³
 * and 256 MiB. Random operands: a GPU is faster on zeros. All ranks measure at once, rank 0's figures count.
 * Collective. */
status machine_peak_measure(const config *c, const dist *d, machine_peak *p);

#endif
