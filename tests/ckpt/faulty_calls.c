/* A disk that fails when told to: wrappers around the system calls that checkpoints are written and read back with.
 * Linked into a test, or loaded before psann_train itself (LD_PRELOAD), so the programs need no hook of their own.
 *
 *   PSANN_FAULT=CALL:FIRST:COUNT:WHAT[,…]
 *
 * From the FIRST-th such call on (1: the first), COUNT of them (0: all) go wrong; only files of checkpoints count.
 *   CALL  open, pwrite, pread, data (a pread that is longer than what HDF5 reads on suspicion), fsync, ftruncate,
 * rename, or any WHAT  kill (SIGKILL), an errno (ENOSPC, EIO, EROFS, EDQUOT, EACCES), short (half the bytes), flip (one
 * bit, pread), slow=MS (milliseconds more) PSANN_FAULT_LOG=FILE  at the end, a process with such calls writes "<calls>
 * <calls that went wrong>" there
 */
#include "faulty_calls.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

typedef enum {
  CALL_OPEN,
  CALL_PWRITE,
  CALL_PREAD,
  CALL_DATA,
  CALL_FSYNC,
  CALL_FTRUNCATE,
  CALL_RENAME,
  CALLS
} call_kind;
static const char *const call_names[CALLS + 1] = {"open",  "pwrite",    "pread",  "data",
                                                  "fsync", "ftruncate", "rename", "any"};

static const struct {
  const char *name;
  int number;
} errors[] = {{"ENOSPC", ENOSPC}, {"EIO", EIO}, {"EROFS", EROFS}, {"EDQUOT", EDQUOT}, {"EACCES", EACCES}};

typedef enum { DO_NOTHING, DO_KILL, DO_FAIL, DO_SHORT, DO_FLIP, DO_SLOW } deed;

typedef struct {
  int call; /* CALLS: any */
  long first, count;
  deed what;
  int value; /* errno, milliseconds */
  long seen;
} fault;

enum { FAULTS = 8, LOOKED_AHEAD = 512 /* bytes: of these, not all are used */ };
static fault faults[FAULTS];
static int n_faults;
static long calls, wrong;
static bool ready;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static bool parse_what(const char *text, fault *f) {
  for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
    if (strcmp(text, errors[i].name) == 0) {
      f->what = DO_FAIL;
      f->value = errors[i].number;
    }
  }
  if (strcmp(text, "kill") == 0) {
    f->what = DO_KILL;
  } else if (strcmp(text, "short") == 0) {
    f->what = DO_SHORT;
  } else if (strcmp(text, "flip") == 0) {
    f->what = DO_FLIP;
  } else if (sscanf(text, "slow=%d", &f->value) == 1) {
    f->what = DO_SLOW;
  }
  return f->what != DO_NOTHING;
}

static bool parse_fault(const char *text, fault *f) {
  char call[16], what[16];
  *f = (fault){.call = -1};
  if (sscanf(text, "%15[a-z]:%ld:%ld:%15[A-Za-z=0-9]", call, &f->first, &f->count, what) != 4) {
    return false;
  }
  for (int i = 0; i <= CALLS; i++) {
    f->call = strcmp(call, call_names[i]) == 0 ? i : f->call;
  }
  return f->call >= 0 && parse_what(what, f);
}

/* With the lock held. */
static void set_faults(const char *text) {
  char copy[512], *rest = copy;
  n_faults = 0;
  calls = wrong = 0;
  snprintf(copy, sizeof copy, "%s", text);
  for (char *one; (one = strsep(&rest, ",")) != NULL;) {
    if (*one != '\0' && (n_faults == FAULTS || !parse_fault(one, &faults[n_faults++]))) {
      fprintf(stderr, "PSANN_FAULT: '%s' is no fault\n", one);
      _exit(99);
    }
  }
  ready = true;
}

void faulty_calls_set(const char *text) {
  pthread_mutex_lock(&lock);
  set_faults(text);
  pthread_mutex_unlock(&lock);
}

long faulty_calls_wrong(long *all) {
  pthread_mutex_lock(&lock);
  long result = wrong;
  *all = calls;
  pthread_mutex_unlock(&lock);
  return result;
}

__attribute__((destructor)) static void write_log(void) {
  const char *path = getenv("PSANN_FAULT_LOG");
  if (path != NULL && calls > 0) {
    FILE *out = fopen(path, "w");
    if (out != NULL) {
      fprintf(out, "%ld %ld\n", calls, wrong);
      fclose(out);
    }
  }
}

static bool of_a_checkpoint(const char *path) {
  const char *slash = strrchr(path, '/');
  const char *name = slash != NULL ? slash + 1 : path;
  return strncmp(name, ".step_", 6) == 0 || strncmp(name, "step_", 5) == 0 || strncmp(name, "latest", 6) == 0 ||
         strncmp(name, "best", 4) == 0 || strcmp(name, "checkpoints") == 0;
}

static bool handle_of_a_checkpoint(int handle) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", handle);
  ssize_t length = readlink(link, path, sizeof path - 1);
  path[length > 0 ? length : 0] = '\0';
  return length > 0 && of_a_checkpoint(path);
}

/* What this call is to do; the harm that needs no result is done here. */
static fault take(call_kind call, bool counts) {
  fault hit = {.what = DO_NOTHING};
  if (!counts) {
    return hit;
  }
  pthread_mutex_lock(&lock);
  if (!ready) {
    set_faults(getenv("PSANN_FAULT") != NULL ? getenv("PSANN_FAULT") : "");
  }
  calls++;
  for (int i = 0; i < n_faults && hit.what == DO_NOTHING; i++) {
    fault *f = &faults[i];
    if (f->call == CALLS || f->call == (int)call || (f->call == CALL_PREAD && call == CALL_DATA)) {
      f->seen++;
      hit = f->seen >= f->first && (f->count == 0 || f->seen < f->first + f->count) ? *f : hit;
    }
  }
  wrong += hit.what != DO_NOTHING;
  pthread_mutex_unlock(&lock);
  if (hit.what == DO_KILL) {
    kill(getpid(), SIGKILL);
    pause(); /* it is on its way */
  }
  if (hit.what == DO_SLOW) {
    nanosleep(&(struct timespec){.tv_sec = hit.value / 1000, .tv_nsec = hit.value % 1000 * 1000000L}, NULL);
  }
  if (hit.what == DO_FAIL) {
    errno = hit.value;
  }
  return hit;
}

static size_t shortened(const fault *f, size_t bytes) {
  return f->what == DO_SHORT && bytes > 1 ? bytes / 2 : bytes;
}

/* The system's own function of that name. (With 64-bit offsets, as Meson sets them, `open` here is the system's open64,
 * and so on.) */
#define SYSTEM(name)                                         \
  static void *address;                                      \
  void *found = __atomic_load_n(&address, __ATOMIC_RELAXED); \
  if (found == NULL) {                                       \
    found = dlsym(RTLD_NEXT, #name);                         \
    __atomic_store_n(&address, found, __ATOMIC_RELAXED);     \
  }                                                          \
  __typeof__(&name) real = (__typeof__(&name))found;

int open(const char *path, int flags, ...) {
  SYSTEM(open)
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  fault f = take(CALL_OPEN, (flags & O_CREAT) != 0 && of_a_checkpoint(path));
  return f.what == DO_FAIL ? -1 : real(path, flags, mode);
}

ssize_t pwrite(int handle, const void *data, size_t bytes, off_t at) {
  SYSTEM(pwrite)
  fault f = take(CALL_PWRITE, handle_of_a_checkpoint(handle));
  return f.what == DO_FAIL ? -1 : real(handle, data, shortened(&f, bytes), at);
}

ssize_t pread(int handle, void *data, size_t bytes, off_t at) {
  SYSTEM(pread)
  fault f = take(bytes > LOOKED_AHEAD ? CALL_DATA : CALL_PREAD, handle_of_a_checkpoint(handle));
  if (f.what == DO_FAIL) {
    return -1;
  }
  ssize_t got = real(handle, data, shortened(&f, bytes), at);
  if (f.what == DO_FLIP && got > 0) {
    ((unsigned char *)data)[got / 2] ^= 1;
  }
  return got;
}

int fsync(int handle) {
  SYSTEM(fsync)
  fault f = take(CALL_FSYNC, handle_of_a_checkpoint(handle));
  return f.what == DO_FAIL ? -1 : real(handle);
}

int ftruncate(int handle, off_t length) {
  SYSTEM(ftruncate)
  fault f = take(CALL_FTRUNCATE, handle_of_a_checkpoint(handle));
  return f.what == DO_FAIL ? -1 : real(handle, length);
}

int rename(const char *from, const char *to) {
  SYSTEM(rename)
  fault f = take(CALL_RENAME, of_a_checkpoint(to));
  return f.what == DO_FAIL ? -1 : real(from, to);
}
