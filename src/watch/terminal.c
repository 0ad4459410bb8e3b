#include "watch/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/types.h>
#include <termios.h>
#include <unistd.h>

#include "base/log.h"

static volatile sig_atomic_t taken;
static int tty = -1;         /* /dev/tty */
static int guard_pipe = -1;  /* its end tells the guard that we are gone */
static pid_t previous_group; /* that had the foreground */
static struct termios previous_modes;

/* What a background process does to the terminal stops it with SIGTTOU unless the signal is blocked. */
static void block_output_signal(sigset_t *before) {
  sigset_t block;
  sigemptyset(&block);
  sigaddset(&block, SIGTTOU);
  sigprocmask(SIG_BLOCK, &block, before);
}

static void put_back(void) {
  sigset_t before;
  block_output_signal(&before);
  tcsetattr(tty, TCSAFLUSH, &previous_modes);
  tcsetpgrp(tty, previous_group);
  sigprocmask(SIG_SETMASK, &before, NULL);
}

/* Lines end at no key: what is typed stays with the terminal, and mpirun finds nothing to read. Signals by keys go on
 * working. */
static struct termios without_lines(struct termios modes) {
  modes.c_iflag &= ~(tcflag_t)ICRNL;
  modes.c_iflag |= INLCR;
  modes.c_cc[VEOF] = modes.c_cc[VEOL] = modes.c_cc[VEOL2] = _POSIX_VDISABLE;
  return modes;
}

/* The guard: waits for our end. A byte first means that all is put back already. It is a copy of an MPI process, so it
 * calls nothing but the system. */
static void guard(int from_rank, pid_t group) {
  setpgid(0, 0); /* mpirun kills the ranks' process groups */
  unsigned low = (unsigned)(from_rank < tty ? from_rank : tty), high = (unsigned)(from_rank < tty ? tty : from_rank);
  close_range(0, low - 1, 0); /* the rank's pipes and sockets must end with the rank */
  close_range(low + 1, high - 1, 0);
  close_range(high + 1, ~0U, 0);
  char byte;
  ssize_t count;
  do {
    count = read(from_rank, &byte, 1);
  } while (count < 0 && errno == EINTR);
  if (count == 0 && tcgetpgrp(tty) == group) {
    put_back();
  }
  _exit(0);
}

static bool start_guard(void) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return false;
  }
  pid_t group = getpgrp();
  pid_t child = fork();
  if (child == 0) {
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    guard(ends[0], group);
  }
  close(ends[0]);
  guard_pipe = ends[1];
  if (child < 0) {
    close(ends[1]);
    return false;
  }
  setpgid(child, child); /* as the guard does itself: whoever comes first */
  return true;
}

static bool take(void) {
  pid_t foreground = tcgetpgrp(tty);
  if (foreground <= 0 || foreground == getpgrp() || foreground != getpgid(getppid()) ||
      tcgetattr(tty, &previous_modes) != 0) {
    return false; /* started in the background, or on another host than the terminal's */
  }
  previous_group = foreground;
  if (!start_guard()) {
    return false;
  }
  struct termios modes = without_lines(previous_modes);
  sigset_t before;
  block_output_signal(&before);
  bool done = tcsetattr(tty, TCSANOW, &modes) == 0 && tcsetpgrp(tty, getpgrp()) == 0;
  sigprocmask(SIG_SETMASK, &before, NULL);
  return done;
}

bool terminal_take(void) {
  if (taken || !log_is_terminal() || getenv("OMPI_COMM_WORLD_SIZE") == NULL) {
    return false;
  }
  tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
  if (tty < 0) {
    return false;
  }
  if (!take()) {
    if (guard_pipe >= 0) {
      put_back();
      close(guard_pipe);
      guard_pipe = -1;
    }
    close(tty);
    tty = -1;
    return false;
  }
  signal(SIGTSTP, SIG_IGN); /* Ctrl-Z would stop rank 0 alone, and the shell would not learn of it */
  taken = 1;
  return true;
}

void terminal_give_back(void) {
  if (!taken) {
    return;
  }
  taken = 0;
  int saved = errno;
  if (tcgetpgrp(tty) == getpgrp()) {
    put_back();
  }
  ssize_t ignored = write(guard_pipe, "", 1);
  (void)ignored;
  close(guard_pipe);
  close(tty);
  errno = saved;
}
