/* Looks at one file from elsewhere, for base/wall.h: started by the other programs, with an answer on standard output.
 */
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "base/wall.h"
#include "check/probe_golden.h"
#include "ckpt/probe_checkpoint.h"
#include "data/probe_data.h"

static const char usage[] =
    "usage: psann_probe checkpoint|store|tokenizer|golden FILE\n"
    "\n"
    "Opens a file as the other programs would, with limits on memory (2 GiB) and processor time (20 s). They start it\n"
    "before they open a file themselves. A damaged file may end it by any signal.\n";

/* A sanitizer's shadow memory is larger than any limit. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = true };
#elif defined(__has_feature)
enum { SANITIZED = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) };
#else
enum { SANITIZED = false };
#endif

static void limit(__rlimit_resource_t what, rlim_t to) {
  struct rlimit now;
  if (getrlimit(what, &now) == 0) {
    now.rlim_cur = now.rlim_max == RLIM_INFINITY || to < now.rlim_max ? to : now.rlim_max;
    setrlimit(what, &now);
  }
}

/* The largest tokenizer model that a file may hold is 256 MiB, of which two copies and a table are made. */
static void set_limits(void) {
  if (!SANITIZED) {
    limit(RLIMIT_AS, (rlim_t)2 << 30);
  }
  limit(RLIMIT_CPU, 20);
  limit(RLIMIT_CORE, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  /* Sent to all processes of a job; the limits end this one soon enough. */
  static const int meant_for_others[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2};
  for (size_t i = 0; i < sizeof meant_for_others / sizeof meant_for_others[0]; i++) {
    signal(meant_for_others[i], SIG_IGN);
  }
}

static status (*const probes[WALL_KINDS])(const char *path) = {
    [WALL_CHECKPOINT] = probe_checkpoint,
    [WALL_STORE] = probe_store,
    [WALL_TOKENIZER] = probe_tokenizer,
    [WALL_GOLDEN] = probe_golden,
};

int main(int argc, char **argv) {
  for (int kind = 0; argc == 3 && kind < WALL_KINDS; kind++) {
    if (strcmp(argv[1], wall_names[kind]) == 0) {
      char answer[WALL_ANSWER];
      set_limits();
      wall_lower(true);
      log_set_rank(1, 2, ""); /* rank 0 alone prints */
      wall_answer(probes[kind](argv[2]), answer);
      fputs(answer, stdout);
      return fflush(stdout) == 0 ? STATUS_OK : STATUS_FAILURE;
    }
  }
  bool asked = argc == 2 && strcmp(argv[1], "--help") == 0;
  fputs(usage, asked ? stdout : stderr);
  return asked ? STATUS_OK : STATUS_USER_ERROR;
}
