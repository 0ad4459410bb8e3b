/* The machine that a run is on, for the start of the log, the memory check, and system.json. */
#ifndef PSANN_REPORT_SYSTEM_H
#define PSANN_REPORT_SYSTEM_H

#include "base/status.h"
#include "dist/dist.h"

typedef struct {
  char cpu[128];           /* model name */
  int cores;               /* that this process may use */
  int machine_cores;       /* that the machine has */
  double memory_total;     /* bytes; a container's limit when it is lower */
  double memory_available; /* bytes that can be allocated now without swapping */
  double memory_planned;   /* bytes of rank 0's GPU by the memory plan, and as the GPU */
  double memory_reported;  /* reports them after the first step; 0: not compared */
  char os[160];            /* distribution and kernel */
  char read_at[32];        /* UTC */
} system_facts;

void system_read(system_facts *f);

/* The object of system.json, a cJSON * that the caller deletes; NULL without memory. `engine` may be NULL. */
struct cJSON *system_object(const system_facts *f, const dist *d, const char *engine, int argc, char **argv);

/* Writes system.json: host, CPU, memory, OS, ranks, engine, program version, commit, build, libraries, command line,
 * and when the machine was read, as the start. */
status system_write(const char *path, const system_facts *f, const dist *d, const char *engine, int argc, char **argv);

#endif
