#include "report/gnuplot.h"

#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"

extern char **environ;

static status memory_file(const char *name, FILE **out) {
  int file = memfd_create(name, MFD_CLOEXEC);
  *out = file >= 0 ? fdopen(file, "w+") : NULL;
  if (*out == NULL) {
    int error = errno;
    if (file >= 0) {
      close(file);
    }
    FAIL("no file in memory can be made for gnuplot: %s", strerror(error));
  }
  return STATUS_OK;
}

status gnuplot_script(FILE **out) {
  return memory_file("gnuplot script", out);
}

/* The files are read and written from their beginning; nothing waits for a pipe. */
static status spawn(FILE *in, FILE *out, FILE *errors, int *result) {
  posix_spawn_file_actions_t actions;
  char *const argv[] = {"gnuplot", "-d", NULL};
  pid_t child;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, fileno(in), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, fileno(out), STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, fileno(errors), STDERR_FILENO);
  int error = posix_spawnp(&child, argv[0], &actions, NULL, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error == ENOENT) {
    FAIL("the program gnuplot was not found; install it (Debian, Ubuntu: the package gnuplot-nox) and run again");
  }
  if (error != 0) {
    FAIL("the program gnuplot cannot be started: %s", strerror(error));
  }
  while (waitpid(child, result, 0) < 0) {
    if (errno != EINTR) {
      FAIL("the end of gnuplot cannot be waited for: %s", strerror(errno));
    }
  }
  return STATUS_OK;
}

static status content(FILE *f, char **text) {
  long bytes = fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
  REQUIRE(bytes >= 0, "what gnuplot wrote cannot be read: %s", strerror(errno));
  TRY(memory_new(text, (size_t)bytes + 1, 1, "what gnuplot wrote"));
  rewind(f);
  if (fread(*text, 1, (size_t)bytes, f) != (size_t)bytes) {
    free(*text);
    *text = NULL;
    FAIL("what gnuplot wrote cannot be read: %s", strerror(errno));
  }
  return STATUS_OK;
}

static status collect(int result, FILE *out, FILE *errors, char **output) {
  if (WIFEXITED(result) && WEXITSTATUS(result) == 0) {
    return content(out, output);
  }
  if (WIFEXITED(result) && WEXITSTATUS(result) == 127) { /* how a shell or an older C library says so */
    FAIL("the program gnuplot was not found; install it (Debian, Ubuntu: the package gnuplot-nox) and run again");
  }
  char *text = NULL;
  TRY(content(errors, &text));
  char *line = text + strspn(text, "\n ");
  line[strcspn(line, "\n")] = 0;
  status s = status_set(STATUS_FAILURE, __FILE__, __LINE__, "gnuplot could not draw a picture (%s %d): %.200s",
                        WIFSIGNALED(result) ? "signal" : "exit code",
                        WIFSIGNALED(result) ? WTERMSIG(result) : WEXITSTATUS(result), line);
  free(text);
  return s;
}

status gnuplot_run(FILE *script, char **output) {
  FILE *out = NULL, *errors = NULL;
  int result = 0;
  *output = NULL;
  status s = fflush(script) == 0 && !ferror(script)
                 ? STATUS_OK
                 : status_set(STATUS_FAILURE, __FILE__, __LINE__, "no memory for what gnuplot is to draw");
  rewind(script);
  if (s == STATUS_OK) {
    s = memory_file("gnuplot output", &out);
  }
  if (s == STATUS_OK) {
    s = memory_file("gnuplot messages", &errors);
  }
  if (s == STATUS_OK) {
    s = spawn(script, out, errors, &result);
  }
  if (s == STATUS_OK) {
    s = collect(result, out, errors, output);
  }
  fclose(script);
  if (out != NULL) {
    fclose(out);
  }
  if (errors != NULL) {
    fclose(errors);
  }
  return s;
}
