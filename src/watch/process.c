#include "watch/process.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Field 3 (state) and field 22 (start time) of /proc/PID/stat; the name in field 2 may hold spaces and brackets. */
static int read_stat(int64_t pid, char *state, int64_t *started) {
  char path[64], line[1024];
  snprintf(path, sizeof path, "/proc/%lld/stat", (long long)pid);
  FILE *in = fopen(path, "re");
  if (in == NULL) {
    return -1;
  }
  size_t length = fread(line, 1, sizeof line - 1, in);
  fclose(in);
  line[length] = '\0';
  const char *rest = strrchr(line, ')');
  long long ticks;
  if (rest == NULL ||
      sscanf(rest + 1, " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %lld", state,
             &ticks) != 2) {
    return -1;
  }
  *started = ticks;
  return 0;
}

process_id process_self(void) {
  process_id p = {.pid = getpid()};
  char state;
  if (read_stat(p.pid, &state, &p.started) != 0) {
    p.started = 0;
  }
  return p;
}

process_state process_look(const process_id *p) {
  char state;
  int64_t started;
  if (read_stat(p->pid, &state, &started) != 0 || started != p->started || state == 'Z' || state == 'X') {
    return PROCESS_GONE;
  }
  return state == 'T' || state == 't' ? PROCESS_STOPPED : PROCESS_RUNS;
}

void process_kill(const process_id *p) {
  int handle = p->pid > 1 ? (int)syscall(SYS_pidfd_open, (pid_t)p->pid, 0) : -1;
  if (handle < 0) {
    return;
  }
  /* The handle stays with the process that has the number now: what is looked at next is what the signal reaches. */
  if (process_look(p) != PROCESS_GONE) {
    syscall(SYS_pidfd_send_signal, handle, SIGKILL, NULL, 0);
  }
  close(handle);
}
