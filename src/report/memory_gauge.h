/* Memory that a run takes at its peak: on a GPU what the driver reports as gone since the start (the context,
 * which is there before it, is not counted; ranks that share a GPU are counted together), on the CPU the resident
 * memory of the process. */
#ifndef PSANN_REPORT_MEMORY_GAUGE_H
#define PSANN_REPORT_MEMORY_GAUGE_H

#include <stdbool.h>

typedef struct {
  bool on_gpu;
  int gpu;
  double free_before, lowest; /* bytes */
} memory_gauge;

/* `gpu`: number among those that this process sees; ignored when not on_gpu. Call before the engine is made. */
void gauge_start(memory_gauge *g, bool on_gpu, int gpu);

/* Memory is only given back at the end, so samples after warm-up and at the end see the peak. */
void gauge_sample(memory_gauge *g);

/* Bytes; 0: not known. */
double gauge_peak(const memory_gauge *g);

#endif
