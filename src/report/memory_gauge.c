#include "report/memory_gauge.h"

#include <stdio.h>
#include <string.h>

#include "engine/select.h"

/* Linux counts the peak anew after this; where it may not be written, the peak is that of the whole process so far. */
static void reset_resident_peak(void) {
  FILE *f = fopen("/proc/self/clear_refs", "we");
  if (f != NULL) {
    fputs("5", f);
    fclose(f);
  }
}

static double resident_peak(void) {
  FILE *f = fopen("/proc/self/status", "re");
  char line[256];
  double kib = 0;
  while (f != NULL && fgets(line, sizeof line, f) != NULL) {
    if (sscanf(line, "VmHWM: %lf", &kib) == 1) {
      break;
    }
  }
  if (f != NULL) {
    fclose(f);
  }
  return 1024 * kib;
}

void gauge_start(memory_gauge *g, bool on_gpu, int gpu) {
  *g = (memory_gauge){.on_gpu = on_gpu, .gpu = gpu};
  if (!on_gpu) {
    reset_resident_peak();
    return;
  }
  g->free_before = g->lowest = engine_gpu_memory_free(gpu);
}

void gauge_sample(memory_gauge *g) {
  double available = g->on_gpu ? engine_gpu_memory_free(g->gpu) : 0;
  g->lowest = available < g->lowest ? available : g->lowest;
}

double gauge_peak(const memory_gauge *g) {
  return g->on_gpu ? g->free_before - g->lowest : resident_peak();
}
