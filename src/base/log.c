#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/file.h"

/* One lock for all: a line is whole, whichever thread writes it. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int my_rank = 0;
static int n_ranks = 1;
static char my_host[256] = "";
static FILE *file = NULL;
static bool progress_shown = false;

void log_set_rank(int rank, int ranks, const char *host) {
  my_rank = rank;
  n_ranks = ranks;
  snprintf(my_host, sizeof my_host, "%s", host);
}

status log_open_file(const char *path) {
  int handle;
  status result = file_open_append(path, &handle);
  if (result != STATUS_OK) {
    return status_prefix(result, "cannot open the log file");
  }
  FILE *opened = fdopen(handle, "a");
  if (opened == NULL) {
    close(handle);
    FAIL("cannot open the log file '%s': %s", path, strerror(errno));
  }
  log_close_file();
  pthread_mutex_lock(&lock);
  file = opened;
  pthread_mutex_unlock(&lock);
  return STATUS_OK;
}

void log_close_file(void) {
  pthread_mutex_lock(&lock);
  if (file != NULL) {
    fclose(file);
    file = NULL;
  }
  pthread_mutex_unlock(&lock);
}

/* Reads "Name" and "PPid" of a process. */
static bool process_parent(long process, char name[32], long *parent) {
  char path[64];
  char line[128];
  snprintf(path, sizeof path, "/proc/%ld/status", process);
  FILE *in = fopen(path, "re");
  if (in == NULL) {
    return false;
  }
  int found = 0;
  while (found < 2 && fgets(line, sizeof line, in) != NULL) {
    found += sscanf(line, "Name: %31s", name) == 1;
    found += sscanf(line, "PPid: %ld", parent) == 1;
  }
  fclose(in);
  return found == 2;
}

/* Open MPI gives every rank a pseudo-terminal, also when mpirun's own output goes to a file; what counts is where the
 * launcher writes. */
static bool launcher_writes_to_terminal(void) {
  static const char *const launchers[] = {"mpirun", "mpiexec", "orterun", "prterun", "orted", "prted"};
  long process = (long)getpid();
  char name[32];
  for (int depth = 0; depth < 16 && process > 1; depth++) {
    long parent;
    if (!process_parent(process, name, &parent)) {
      return false;
    }
    for (size_t i = 0; i < sizeof launchers / sizeof launchers[0]; i++) {
      if (strcmp(name, launchers[i]) == 0) {
        char path[64];
        char target[256];
        snprintf(path, sizeof path, "/proc/%ld/fd/1", process);
        ssize_t length = readlink(path, target, sizeof target - 1);
        target[length < 0 ? 0 : length] = '\0';
        return strncmp(target, "/dev/pts/", 9) == 0 || strncmp(target, "/dev/tty", 8) == 0 ||
               strcmp(target, "/dev/console") == 0;
      }
    }
    process = parent;
  }
  return false;
}

bool log_is_terminal(void) {
  static int known = -1;
  if (known < 0) {
    const char *term = getenv("TERM");
    bool terminal = isatty(STDOUT_FILENO) && (term == NULL || strcmp(term, "dumb") != 0);
    if (terminal && getenv("OMPI_COMM_WORLD_SIZE") != NULL) {
      terminal = launcher_writes_to_terminal();
    }
    known = terminal;
  }
  return known && my_rank == 0;
}

/* Names and messages may come from files: what a terminal would take for a command becomes a question mark. */
static void disarm(char *text) {
  for (unsigned char *at = (unsigned char *)text; *at != '\0'; at++) {
    bool control = (*at < 0x20 && *at != '\n' && *at != '\t') || *at == 0x7F;
    bool control_in_utf8 = at[0] == 0xC2 && at[1] >= 0x80 && at[1] <= 0x9F;
    if (control || control_in_utf8) {
      *at = '?';
    }
    if (control_in_utf8) {
      *++at = '?';
    }
  }
}

/* Takes the lock. With `hurry` somebody may hold it for ever: false after a second without it. */
static bool take_lock(bool hurry) {
  struct timespec limit;
  clock_gettime(CLOCK_REALTIME, &limit);
  limit.tv_sec++;
  return (hurry ? pthread_mutex_timedlock(&lock, &limit) : pthread_mutex_lock(&lock)) == 0;
}

/* Writes "<before><text>\n" as one piece to `out`, over a status line if there is one, and to the log file. Where the
 * lock is not to be had in a hurry, past them to standard error alone. */
static void emit(FILE *out, bool hurry, const char *before, const char *format, va_list args) {
  char *text = NULL;
  char *line = NULL;
  if (vasprintf(&text, format, args) < 0) {
    return;
  }
  disarm(text);
  int length = asprintf(&line, "%s%s\n", before, text);
  free(text);
  if (length < 0) {
    return;
  }
  if (!take_lock(hurry)) {
    ssize_t ignored = write(STDERR_FILENO, line, (size_t)length);
    (void)ignored;
    free(line);
    return;
  }
  if (progress_shown) {
    fputs("\r\033[K", stdout);
    fflush(stdout);
    progress_shown = false;
  }
  fwrite(line, 1, (size_t)length, out);
  fflush(out);
  if (file != NULL) {
    fwrite(line, 1, (size_t)length, file);
    fflush(file);
  }
  pthread_mutex_unlock(&lock);
  free(line);
}

void log_line(const char *format, ...) {
  if (my_rank != 0) {
    return;
  }
  va_list args;
  va_start(args, format);
  emit(stdout, false, "", format, args);
  va_end(args);
}

void log_warning(const char *format, ...) {
  if (my_rank != 0) {
    return;
  }
  va_list args;
  va_start(args, format);
  emit(stderr, false, "warning: ", format, args);
  va_end(args);
}

static void emit_error(bool hurry, const char *format, va_list args) {
  char before[512];
  int length = snprintf(before, sizeof before, "%s: error: ", program_invocation_short_name);
  if (n_ranks > 1 && length > 0 && (size_t)length < sizeof before) {
    snprintf(before + length, sizeof before - (size_t)length, "rank %d of %d on %s: ", my_rank, n_ranks, my_host);
  }
  emit(stderr, hurry, before, format, args);
}

void log_error(const char *format, ...) {
  va_list args;
  va_start(args, format);
  emit_error(false, format, args);
  va_end(args);
}

void log_last_words(const char *format, ...) {
  va_list args;
  va_start(args, format);
  emit_error(true, format, args);
  va_end(args);
}

/* The part of `text` that fits on one line of the terminal: a line that wraps could not be overwritten. */
static int fitting_bytes(const char *text) {
  struct winsize size;
  int columns = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
  int used = 0;
  int i = 0;
  for (; text[i] != '\0' && text[i] != '\n'; i++) {
    bool starts = ((unsigned char)text[i] & 0xC0) != 0x80; /* of a UTF-8 character */
    if (starts && used == columns - 1) {
      break;
    }
    used += starts;
  }
  return i;
}

void log_progress(const char *format, ...) {
  if (!log_is_terminal()) {
    return;
  }
  char *text = NULL;
  va_list args;
  va_start(args, format);
  int length = vasprintf(&text, format, args);
  va_end(args);
  if (length < 0) {
    return;
  }
  pthread_mutex_lock(&lock);
  fprintf(stdout, "\r%.*s\033[K", fitting_bytes(text), text);
  fflush(stdout);
  progress_shown = true;
  pthread_mutex_unlock(&lock);
  free(text);
}
