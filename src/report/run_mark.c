#include "report/run_mark.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"

static status text_of(const run_mark *m, char **text) {
  static const char *const states[] = {"running", "finished", "stopped", "failed"};
  char now[32];
  char *reason;
  TRY(memory_format(&reason, "%s", m->reason));
  for (char *at = reason; (at = strpbrk(at, "\r\n")) != NULL;) {
    *at = ' ';
  }
  status s = memory_format(text, "state = %s\nstep = %lld\nmax_steps = %lld\nreason = %s\ntime = %s\n",
                           states[m->state], (long long)m->step, (long long)m->max_steps, reason, clock_utc(now));
  free(reason);
  return s;
}

status run_mark_write(const char *folder, const run_mark *m) {
  char *path = NULL, *text = NULL;
  status s = file_join(&path, folder, RUN_MARK_FILE);
  if (s == STATUS_OK) {
    s = text_of(m, &text);
  }
  if (s == STATUS_OK) {
    s = file_write_atomic(path, text, strlen(text));
  }
  free(text);
  free(path);
  return s;
}
