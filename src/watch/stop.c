#include "watch/stop.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "watch/terminal.h"
#include "watch/watchdog.h"

static volatile sig_atomic_t requested;
static volatile sig_atomic_t announcing;

/* Only calls what POSIX lists as async-signal-safe. */
static void on_signal(int signal_number) {
  if (requested != 0 && signal_number == SIGINT) {
    int kept = errno;
    bool told = watch_interrupt(STOP_EXIT_CODE);
    errno = kept;
    if (told) {
      return; /* other ranks must not take this one for dead */
    }
    terminal_give_back();
    _exit(STOP_EXIT_CODE);
  }
  if (requested != 0) {
    return;
  }
  requested = signal_number;
  if (announcing) {
    static const char text[] = "\nstopping after this step, with a checkpoint; a second Ctrl-C ends at once\n";
    int saved = errno;
    ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
    (void)ignored;
    errno = saved;
  }
}

status stop_install(bool announce) {
  announcing = announce;
  static const int signals[] = {SIGINT, SIGTERM, SIGUSR1, SIGHUP};
  for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++) {
    struct sigaction now, before;
    memset(&now, 0, sizeof now);
    now.sa_handler = on_signal;
    now.sa_flags = SA_RESTART; /* a read or write of a checkpoint must not fail for a signal */
    sigemptyset(&now.sa_mask);
    if (sigaction(signals[i], NULL, &before) != 0) {
      FAIL("the disposition of signal %d cannot be read: %s", signals[i], strerror(errno));
    }
    if (signals[i] == SIGHUP && before.sa_handler == SIG_IGN) {
      continue; /* started by nohup: the run outlives its terminal */
    }
    if (sigaction(signals[i], &now, NULL) != 0) {
      FAIL("no handler can be installed for signal %d: %s", signals[i], strerror(errno));
    }
  }
  if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
    FAIL("SIGPIPE cannot be ignored: %s", strerror(errno));
  }
  return STATUS_OK;
}

int stop_requested(void) {
  return requested;
}
