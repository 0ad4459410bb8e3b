#include "base/wall.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"

extern char **environ;

const char *const wall_names[WALL_KINDS] = {"checkpoint", "store", "tokenizer", "golden"};
static const char *const nouns[WALL_KINDS] = {"checkpoint", "token store", "tokenizer model", "parity case"};

static const char greeting[] = "psann_probe\n";

/* What tells that a file is still the one that was looked at. */
typedef struct {
  dev_t device;
  ino_t inode;
  off_t bytes;
  struct timespec changed;
} identity;

enum { REMEMBERED = 32 };
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all that follows */
static struct {
  identity known[REMEMBERED];
  size_t next;
  bool lowered;
  double patience;
  char program[4096]; /* empty: not looked for yet */
} wall = {.patience = 60};

/* --- files that need no look --- */

static bool identify(const char *path, identity *id) {
  struct stat about;
  if (stat(path, &about) != 0 || !S_ISREG(about.st_mode)) {
    return false;
  }
  memset(id, 0, sizeof *id); /* compared as bytes */
  id->device = about.st_dev;
  id->inode = about.st_ino;
  id->bytes = about.st_size;
  id->changed = about.st_mtim;
  return true;
}

static bool is_known(const identity *id) {
  bool found = false;
  pthread_mutex_lock(&lock);
  for (size_t i = 0; i < REMEMBERED && !found; i++) {
    found = memcmp(&wall.known[i], id, sizeof *id) == 0;
  }
  pthread_mutex_unlock(&lock);
  return found;
}

static void remember(const identity *id) {
  pthread_mutex_lock(&lock);
  wall.known[wall.next++ % REMEMBERED] = *id;
  pthread_mutex_unlock(&lock);
}

void wall_know(const char *path) {
  identity id;
  if (identify(path, &id) && !is_known(&id)) {
    remember(&id);
  }
}

void wall_lower(bool lowered) {
  pthread_mutex_lock(&lock);
  wall.lowered = lowered;
  pthread_mutex_unlock(&lock);
}

void wall_patience(double seconds) {
  pthread_mutex_lock(&lock);
  wall.patience = seconds;
  pthread_mutex_unlock(&lock);
}

/* --- the probe --- */

static bool is_program(const char *path) {
  struct stat about;
  return stat(path, &about) == 0 && S_ISREG(about.st_mode) && access(path, X_OK) == 0;
}

/* Beside the program, below its prefix, or where it was to be installed. */
static bool find_program(char *path, size_t room) {
  const char *given = secure_getenv("PSANN_PROBE");
  if (given != NULL && given[0] != '\0') {
    snprintf(path, room, "%s", given);
    return is_program(path);
  }
  static const char *const places[] = {"", "../" PSANN_LIBEXEC "/"};
  char own[2048];
  ssize_t length = readlink("/proc/self/exe", own, sizeof own - 1);
  own[length < 0 ? 0 : length] = '\0';
  char *slash = strrchr(own, '/');
  for (size_t i = 0; slash != NULL && i < sizeof places / sizeof places[0]; i++) {
    snprintf(path, room, "%.*s/%spsann_probe", (int)(slash - own), own, places[i]);
    if (is_program(path)) {
      return true;
    }
  }
  snprintf(path, room, "%s/psann_probe", PSANN_LIBEXEC_PATH);
  return is_program(path);
}

static status program(char path[sizeof wall.program]) {
  pthread_mutex_lock(&lock);
  bool found = wall.program[0] != '\0' || find_program(wall.program, sizeof wall.program);
  memcpy(path, wall.program, sizeof wall.program);
  if (!found) {
    wall.program[0] = '\0';
  }
  pthread_mutex_unlock(&lock);
  REQUIRE(found,
          "psann_probe, which looks at files before other programs read them, is neither beside this program nor at "
          "'%s'; install the programs together",
          path);
  return STATUS_OK;
}

/* The environment is not the launcher's: a process that finds MPI's variables may take itself for a rank. */
static size_t probe_environment(char **to, size_t room) {
  static const char *const kept[] = {
      "LD_LIBRARY_PATH=", "HDF5_DISABLE_VERSION_CHECK=", "ASAN_OPTIONS=", "UBSAN_OPTIONS="};
  static char perturb[] = "MALLOC_PERTURB_=165"; /* reads of what is not theirs show sooner */
  size_t count = 0;
  to[count++] = perturb;
  for (char **at = environ; *at != NULL && count + 1 < room; at++) {
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
      if (strncmp(*at, kept[i], strlen(kept[i])) == 0 && count + 1 < room) {
        to[count++] = *at;
      }
    }
  }
  to[count] = NULL;
  return count;
}

/* Standard output is the pipe; nothing else stays open. A group of its own: a Ctrl-C is not meant for it. */
static int spawn(const char *probe, wall_kind kind, const char *path, int answer, pid_t *child) {
  char *const words[] = {(char[]){"psann_probe"}, (char *)wall_names[kind], (char *)path, NULL};
  char *environment[8];
  probe_environment(environment, sizeof environment / sizeof environment[0]);
  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawn_file_actions_init(&files);
  posix_spawnattr_init(&attributes);
  int error = posix_spawn_file_actions_adddup2(&files, answer, STDOUT_FILENO); /* first: `answer` may be any of them */
  error = error != 0 ? error : posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  error = error != 0 ? error : posix_spawn_file_actions_addopen(&files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  error = error != 0 ? error : posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
  error = error != 0 ? error : posix_spawnattr_setsigmask(&attributes, &none);
  error = error != 0 ? error : posix_spawnattr_setsigdefault(&attributes, &all);
  error = error != 0 ? error : posix_spawnattr_setpgroup(&attributes, 0);
  error = error != 0 ? error
                     : posix_spawnattr_setflags(&attributes,
                                                POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  error = error != 0 ? error : posix_spawn(child, probe, &files, &attributes, words, environment);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  return error;
}

/* Reads up to the end of the pipe; *late when that takes too long. */
static size_t listen_to(int answer, double deadline, char text[WALL_ANSWER], bool *late) {
  size_t used = 0;
  *late = false;
  for (;;) {
    double left = deadline - clock_seconds();
    struct pollfd ready = {.fd = answer, .events = POLLIN};
    int got = left > 0 ? poll(&ready, 1, (int)(left * 1e3) + 1) : 0;
    if (got == 0) {
      *late = true;
      break;
    }
    ssize_t bytes = got < 0 ? -1 : read(answer, text + used, WALL_ANSWER - 1 - used);
    if (bytes == 0 || (bytes < 0 && errno != EINTR)) {
      break;
    }
    used += bytes > 0 ? (size_t)bytes : 0;
    if (used == WALL_ANSWER - 1) {
      break;
    }
  }
  text[used] = '\0';
  return used;
}

/* How the probe ended, as a clause; waits no longer than the deadline and a little. */
static void end_of(pid_t child, bool late, double deadline, char clause[128]) {
  int code = 0;
  pid_t ended = 0;
  if (late) {
    kill(child, SIGKILL);
  }
  while ((ended = waitpid(child, &code, WNOHANG)) == 0 || (ended < 0 && errno == EINTR)) {
    if (clock_seconds() > deadline) {
      kill(child, SIGKILL);
    }
    usleep(200);
  }
  if (late) {
    snprintf(clause, 128, "did not come to an end in time");
  } else if (ended == child && WIFSIGNALED(code) && WTERMSIG(code) == SIGXCPU) {
    snprintf(clause, 128, "took too much processor time");
  } else if (ended == child && WIFSIGNALED(code)) {
    snprintf(clause, 128, "was ended by signal %d (%s)", WTERMSIG(code), strsignal(WTERMSIG(code)));
  } else {
    snprintf(clause, 128, "ended without an answer");
  }
}

void wall_answer(status result, char text[WALL_ANSWER]) {
  snprintf(text, WALL_ANSWER, "%s%d\n%s\n", greeting, result, result == STATUS_OK ? "" : status_message());
}

/* An answer that came to its end, or nothing. */
static bool understand(char *text, size_t bytes, status *result, char **message) {
  size_t head = sizeof greeting - 1;
  if (bytes < head + 3 || memcmp(text, greeting, head) != 0 || text[bytes - 1] != '\n') {
    return false;
  }
  *result = text[head] - '0';
  *message = text + head + 2;
  text[bytes - 1] = '\0';
  return text[head + 1] == '\n' && *result >= STATUS_OK && *result <= STATUS_USER_ERROR;
}

static status look(wall_kind kind, const char *path) {
  char probe[sizeof wall.program], text[WALL_ANSWER], clause[128], *message = NULL;
  int pipe_ends[2];
  pid_t child;
  status result = STATUS_OK;
  bool late;
  TRY(program(probe));
  pthread_mutex_lock(&lock);
  double deadline = clock_seconds() + wall.patience;
  pthread_mutex_unlock(&lock);
  if (pipe2(pipe_ends, O_CLOEXEC) != 0) {
    FAIL("a pipe for psann_probe can't be made: %s; raise the limit on open files (ulimit -n)", strerror(errno));
  }
  int error = spawn(probe, kind, path, pipe_ends[1], &child);
  close(pipe_ends[1]);
  if (error != 0) {
    close(pipe_ends[0]);
    FAIL("'%s' can't be started: %s; check its permissions and the limit on processes (ulimit -u)", probe,
         strerror(error));
  }
  size_t bytes = listen_to(pipe_ends[0], deadline, text, &late);
  close(pipe_ends[0]);
  end_of(child, late, deadline, clause);
  if (late || !understand(text, bytes, &result, &message)) {
    USER_ERROR(
        "the %s '%s' is damaged: the process that looked at it first %s; use another one, or copy or make this one "
        "again",
        nouns[kind], path, clause);
  }
  return result == STATUS_OK ? STATUS_OK : status_set(result, __FILE__, __LINE__, "%s", message);
}

status wall_check(wall_kind kind, const char *path) {
  identity id;
  pthread_mutex_lock(&lock);
  bool lowered = wall.lowered;
  pthread_mutex_unlock(&lock);
  if (lowered || !identify(path, &id) || is_known(&id)) {
    return STATUS_OK;
  }
  TRY(look(kind, path));
  remember(&id);
  return STATUS_OK;
}
