#include "base/board.h"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>

/* What we use of nvml.h: its functions return 0 for success. */
typedef struct nvml_device nvml_device;
typedef struct {
  unsigned long long total, available, used; /* bytes */
} nvml_memory;
typedef int (*nvml_call)(void);
typedef int (*nvml_by_address)(const char *address, nvml_device **out);
typedef int (*nvml_energy)(nvml_device *device, unsigned long long *millijoules);
typedef int (*nvml_clock)(nvml_device *device, int domain, unsigned *mhz);
typedef int (*nvml_memory_info)(nvml_device *device, nvml_memory *memory);

struct board {
  void *library;
  nvml_call shutdown;
  nvml_energy energy; /* NULL: this version does not tell it */
  nvml_clock clock;
  nvml_memory_info memory;
  nvml_device *device;
};

static void *library_open(void) {
  void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  nvml_call start = library != NULL ? (nvml_call)dlsym(library, "nvmlInit_v2") : NULL;
  if (library != NULL && (start == NULL || start() != 0)) {
    dlclose(library);
    return NULL;
  }
  return library;
}

board *board_open(const char *pci_address) {
  void *library = pci_address[0] != 0 ? library_open() : NULL;
  if (library == NULL) {
    return NULL;
  }
  board *b = malloc(sizeof *b);
  nvml_call shutdown = (nvml_call)dlsym(library, "nvmlShutdown");
  nvml_by_address find = (nvml_by_address)dlsym(library, "nvmlDeviceGetHandleByPciBusId_v2");
  if (b != NULL && shutdown != NULL && find != NULL) {
    *b = (board){.library = library,
                 .shutdown = shutdown,
                 .energy = (nvml_energy)dlsym(library, "nvmlDeviceGetTotalEnergyConsumption"),
                 .clock = (nvml_clock)dlsym(library, "nvmlDeviceGetClockInfo"),
                 .memory = (nvml_memory_info)dlsym(library, "nvmlDeviceGetMemoryInfo")};
    if (find(pci_address, &b->device) == 0) {
      return b;
    }
  }
  if (shutdown != NULL) {
    shutdown();
  }
  dlclose(library);
  free(b);
  return NULL;
}

void board_close(board *b) {
  if (b != NULL) {
    b->shutdown();
    dlclose(b->library);
    free(b);
  }
}

double board_joules(const board *b) {
  unsigned long long millijoules = 0;
  return b != NULL && b->energy != NULL && b->energy(b->device, &millijoules) == 0 ? (double)millijoules / 1000 : NAN;
}

double board_sm_mhz(const board *b) {
  enum { OF_MULTIPROCESSORS = 1 };
  unsigned mhz = 0;
  return b != NULL && b->clock != NULL && b->clock(b->device, OF_MULTIPROCESSORS, &mhz) == 0 ? (double)mhz : NAN;
}

double board_memory_used(const board *b) {
  nvml_memory m;
  return b != NULL && b->memory != NULL && b->memory(b->device, &m) == 0 ? (double)m.used : NAN;
}
