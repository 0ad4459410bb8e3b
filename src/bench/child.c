#include "bench/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"

extern char **environ;

static const double PATIENCE_S = 10; /* between a request to end and the end by force */
static const size_t LARGEST_LOG = (size_t)64 << 20;

status child_programs(char **out) {
  char path[4096];
  ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
  if (n < 0) {
    FAIL("can't tell where this program lies: %s", strerror(errno));
  }
  path[n] = 0;
  *strrchr(path, '/') = 0;
  return memory_format(out, "%s", path);
}

static int start(const char *const argv[], const char *log, pid_t *pid) {
  posix_spawn_file_actions_t actions;
  int error = posix_spawn_file_actions_init(&actions);
  if (error != 0) {
    return error;
  }
  error = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  if (error == 0) {
    error = posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0666);
  }
  if (error == 0) {
    error = posix_spawn_file_actions_adddup2(&actions, 1, 2);
  }
  if (error == 0) {
    error = posix_spawnp(pid, argv[0], &actions, NULL, (char *const *)argv, environ);
  }
  posix_spawn_file_actions_destroy(&actions);
  return error;
}

/* Whether the process has ended before that time; *state is what waitpid says. */
static bool ends_by(pid_t pid, double deadline, int *state) {
  const struct timespec nap = {.tv_nsec = 5000000};
  for (;;) {
    pid_t ended = waitpid(pid, state, WNOHANG);
    if (ended == pid || (ended < 0 && errno != EINTR)) {
      return true;
    }
    if (clock_seconds() > deadline) {
      return false;
    }
    nanosleep(&nap, NULL);
  }
}

status child_run(const char *const argv[], const char *log, double limit, int *code) {
  pid_t pid;
  int state = 0, error = start(argv, log, &pid);
  if (error != 0) {
    FAIL("can't start '%s': %s", argv[0], strerror(error));
  }
  if (!ends_by(pid, clock_seconds() + limit, &state)) {
    kill(pid, SIGTERM); /* mpirun ends its ranks, psann_train saves */
    if (!ends_by(pid, clock_seconds() + PATIENCE_S, &state)) {
      kill(pid, SIGKILL);
      waitpid(pid, &state, 0);
    }
    FAIL("'%s' took longer than %.0f s and was ended; its output is in '%s'", argv[0], limit, log);
  }
  *code = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
  return STATUS_OK;
}

/* Cuts `line` at its end and drops what a terminal would not print. */
static void clean(char *line) {
  char *to = line;
  for (const char *from = line; *from != 0; from++) {
    if (*from == '\r') {
      to = line; /* what a progress line shows is written over */
    } else if ((unsigned char)*from >= ' ') {
      *to++ = *from;
    }
  }
  *to = 0;
}

void child_last_line(const char *log, char *line, int room) {
  char *text = NULL;
  size_t bytes;
  line[0] = 0;
  if (file_read(log, LARGEST_LOG, &text, &bytes) == STATUS_OK) {
    for (char *at = text; at != NULL && *at != 0;) {
      char *end = strchr(at, '\n');
      if (end != NULL) {
        *end++ = 0;
      }
      clean(at);
      /* mpirun's frame around its own notes says nothing */
      if (at[0] != 0 && strspn(at, "- ") != strlen(at)) {
        snprintf(line, (size_t)room, "%s", at);
      }
      at = end;
    }
  }
  free(text);
}

/* The line in which a program of ours says what went wrong, otherwise the last one. */
static void reason(const char *log, char *line, int room) {
  static const char mark[] = ": error: ";
  char *text = NULL;
  size_t bytes;
  child_last_line(log, line, room);
  if (file_read(log, LARGEST_LOG, &text, &bytes) == STATUS_OK) {
    char *found = NULL;
    for (char *at = text; (at = strstr(at, mark)) != NULL; at += sizeof mark - 1) {
      found = at + sizeof mark - 1;
    }
    if (found != NULL) {
      found[strcspn(found, "\r\n")] = 0;
      snprintf(line, (size_t)room, "%s", found);
    }
  }
  free(text);
}

status child_expect(const char *const argv[], const char *log, double limit) {
  int code;
  TRY(child_run(argv, log, limit, &code));
  if (code != 0) {
    char line[512];
    const char *slash = strrchr(argv[0], '/');
    reason(log, line, sizeof line);
    FAIL("%s ended with %d: %s", slash != NULL ? slash + 1 : argv[0], code, line[0] != 0 ? line : "it said nothing");
  }
  return STATUS_OK;
}
