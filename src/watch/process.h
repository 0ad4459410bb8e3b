/* Another process on this host, told from a later one with the same number by the time at which it started. */
#ifndef PSANN_WATCH_PROCESS_H
#define PSANN_WATCH_PROCESS_H

#include <stdint.h>

typedef struct {
  int64_t pid;
  int64_t started; /* clock ticks after boot: field 22 of /proc/PID/stat; 0: not known */
} process_id;

typedef enum {
  PROCESS_GONE,    /* or another one has its number now, or it is a zombie */
  PROCESS_STOPPED, /* by a signal or a debugger */
  PROCESS_RUNS,
} process_state;

process_id process_self(void);

process_state process_look(const process_id *p);

/* Sends SIGKILL when it is still that process; nothing else can be hit. */
void process_kill(const process_id *p);

#endif
