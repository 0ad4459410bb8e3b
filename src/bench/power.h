/* Energy that a GPU board has taken, by NVIDIA's management library. The library is looked for at run time, so programs
 * don't depend on it. */
#ifndef PSANN_BENCH_POWER_H
#define PSANN_BENCH_POWER_H

typedef struct power_meter power_meter;

/* The meter of the GPU at that PCI address; NULL where the library, the GPU or its counter is not there. */
power_meter *power_open(const char *pci_address);
void power_close(power_meter *p);

/* Joules since the driver was loaded; NaN when they can't be told, or p is NULL. The counter moves some ten times a
 * second. */
double power_joules(const power_meter *p);

#endif
