#include "watch/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static volatile int terminal = -1;     /* descriptor of /dev/tty while we have the foreground */
static volatile pid_t previous_group;  /* the group that had it */

/* A background process that calls tcsetpgrp is stopped by SIGTTOU unless it blocks the signal. */
static void set_foreground(int tty, pid_t group) {
  sigset_t block, before;
  sigemptyset(&block);
  sigaddset(&block, SIGTTOU);
  sigprocmask(SIG_BLOCK, &block, &before);
  tcsetpgrp(tty, group);
  sigprocmask(SIG_SETMASK, &before, NULL);
}

bool terminal_take(void) {
  if (terminal >= 0 || getenv("OMPI_COMM_WORLD_SIZE") == NULL) {
    return false;
  }
  int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
  if (tty < 0) {
    return false;
  }
  pid_t foreground = tcgetpgrp(tty);
  if (foreground <= 0 || foreground == getpgrp() || foreground != getpgid(getppid())) {
    close(tty); /* started in the background, or on another host than the terminal's */
    return false;
  }
  previous_group = foreground;
  set_foreground(tty, getpgrp());
  if (tcgetpgrp(tty) != getpgrp()) {
    close(tty);
    return false;
  }
  signal(SIGTSTP, SIG_IGN); /* Ctrl-Z would stop rank 0 alone, and the shell would not learn of it */
  terminal = tty;
  return true;
}

void terminal_give_back(void) {
  int tty = terminal;
  if (tty < 0) {
    return;
  }
  terminal = -1;
  int saved = errno;
  if (tcgetpgrp(tty) == getpgrp()) {
    set_foreground(tty, previous_group);
  }
  close(tty);
  errno = saved;
}
