#include "bench/power.h"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>

/* What we use of nvml.h: its functions return 0 for success. */
typedef struct nvml_device nvml_device;
typedef int (*nvml_call)(void);
typedef int (*nvml_by_address)(const char *address, nvml_device **out);
typedef int (*nvml_energy)(nvml_device *device, unsigned long long *millijoules);

struct power_meter {
  void *library;
  nvml_call shutdown;
  nvml_energy energy;
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

power_meter *power_open(const char *pci_address) {
  void *library = pci_address[0] != 0 ? library_open() : NULL;
  if (library == NULL) {
    return NULL;
  }
  power_meter *p = malloc(sizeof *p);
  nvml_call shutdown = (nvml_call)dlsym(library, "nvmlShutdown");
  nvml_by_address find = (nvml_by_address)dlsym(library, "nvmlDeviceGetHandleByPciBusId_v2");
  nvml_energy energy = (nvml_energy)dlsym(library, "nvmlDeviceGetTotalEnergyConsumption");
  unsigned long long millijoules;
  if (p != NULL && shutdown != NULL && find != NULL && energy != NULL) {
    *p = (power_meter){.library = library, .shutdown = shutdown, .energy = energy};
    if (find(pci_address, &p->device) == 0 && energy(p->device, &millijoules) == 0) {
      return p;
    }
  }
  if (shutdown != NULL) {
    shutdown();
  }
  dlclose(library);
  free(p);
  return NULL;
}

void power_close(power_meter *p) {
  if (p != NULL) {
    p->shutdown();
    dlclose(p->library);
    free(p);
  }
}

double power_joules(const power_meter *p) {
  unsigned long long millijoules = 0;
  return p != NULL && p->energy(p->device, &millijoules) == 0 ? (double)millijoules / 1000 : NAN;
}
