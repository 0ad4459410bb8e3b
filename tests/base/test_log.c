/* What appears where: each case runs in a child whose standard output is a pipe or a pseudo-terminal. */
#include <fcntl.h>
#include <pty.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/log.h"
#include "test_support.h"

enum { SIZE = 4096 };

static void read_to_end(int handle, char *text) {
  size_t used = 0;
  ssize_t got;
  while (used < SIZE - 1 && (got = read(handle, text + used, SIZE - 1 - used)) > 0) {
    used += (size_t)got;
  }
  text[used] = '\0';
  close(handle);
}

/* Runs `work` in a child; returns what it wrote. With `columns` > 0 its standard output is a terminal of that width. */
static void run(void (*work)(void), unsigned short columns, char *out, char *err) {
  int output[2];
  int errors[2];
  assert_int_equal(pipe(errors), 0);
  if (columns > 0) {
    struct winsize size = {.ws_row = 24, .ws_col = columns};
    assert_int_equal(openpty(&output[0], &output[1], NULL, NULL, &size), 0);
  } else {
    assert_int_equal(pipe(output), 0);
  }
  fflush(NULL);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    unsetenv("OMPI_COMM_WORLD_SIZE");
    unsetenv("TERM");
    dup2(output[1], STDOUT_FILENO);
    dup2(errors[1], STDERR_FILENO);
    work();
    fflush(NULL);
    _exit(0);
  }
  close(output[1]);
  close(errors[1]);
  read_to_end(output[0], out);
  read_to_end(errors[0], err);
  int result;
  waitpid(child, &result, 0);
  assert_int_equal(result, 0);
}

static void lines(void) {
  log_progress("unseen");
  log_line("loss %.2f", 1.5);
  log_warning("disk %s", "slow");
  log_error("no %s", "data");
}

static void lines_of_rank_one(void) {
  log_set_rank(1, 4, "node7");
  lines();
}

static void rank_zero_without_terminal(void **state) {
  (void)state;
  char out[SIZE], err[SIZE];
  run(lines, 0, out, err);
  assert_string_equal(out, "loss 1.50\n");
  assert_string_equal(err, "warning: disk slow\ntest_base_log: error: no data\n");
}

static void other_ranks_only_err(void **state) {
  (void)state;
  char out[SIZE], err[SIZE];
  run(lines_of_rank_one, 80, out, err);
  assert_string_equal(out, "");
  assert_string_equal(err, "test_base_log: error: rank 1 of 4 on node7: no data\n");
}

static void progress_lines(void) {
  log_progress("one");
  log_progress("zwölf %d", 34567890);
  log_line("done");
  log_progress("three\nfour");
  log_error("bad");
}

/* A line that is over as wide as the terminal is cut to what can be overwritten; the next line clears it. */
static void progress_is_overwritten(void **state) {
  (void)state;
  char out[SIZE], err[SIZE];
  run(progress_lines, 10, out, err);
  assert_string_equal(out, "\rone\033[K\rzwölf 345\033[K\r\033[Kdone\r\n\rthree\033[K\r\033[K");
  assert_string_equal(err, "test_base_log: error: bad\n");
}

static char *log_path;

static void lines_with_file(void) {
  if (log_open_file(log_path) != STATUS_OK) {
    _exit(1);
  }
  log_progress("unseen");
  lines();
  log_close_file();
  log_line("after");
}

static void file_gets_every_line(void **state) {
  (void)state;
  char *folder = test_folder();
  char out[SIZE], err[SIZE];
  assert_ok(file_join(&log_path, folder, "log.txt"));
  for (int times = 1; times <= 2; times++) {
    run(lines_with_file, 80, out, err);
    char *text;
    size_t bytes;
    assert_ok(file_read(log_path, SIZE, &text, &bytes));
    static const char once[] = "loss 1.50\nwarning: disk slow\ntest_base_log: error: no data\n";
    assert_int_equal(bytes, (size_t)times * strlen(once));
    assert_memory_equal(text, once, strlen(once));
    assert_memory_equal(text + bytes - strlen(once), once, strlen(once));
    free(text);
  }
  unlink(log_path);
  rmdir(folder);
  assert_fails(STATUS_USER_ERROR, log_path, log_open_file(log_path));
  free(log_path);
  free(folder);
}

static const char *own_path;

/* Open MPI gives ranks a pseudo-terminal even when its own output is a file: no status lines must go there. */
static void no_progress_into_a_file_under_mpirun(void **state) {
  (void)state;
  if (system("command -v mpirun >/dev/null 2>&1") != 0) {
    skip();
  }
  char *command = NULL;
  assert_true(asprintf(&command, "mpirun -np 1 '%s' progress 2>/dev/null </dev/null", own_path) > 0);
  FILE *in = popen(command, "r");
  assert_non_null(in);
  char text[SIZE];
  size_t got = fread(text, 1, SIZE - 1, in);
  text[got] = '\0';
  assert_int_equal(pclose(in), 0);
  assert_non_null(strstr(text, "done"));
  assert_null(strstr(text, "zw"));
  assert_null(strchr(text, '\033'));
  free(command);
}

/* And under a terminal they must go there. */
static void progress_on_a_terminal_under_mpirun(void **state) {
  (void)state;
  if (system("command -v mpirun >/dev/null 2>&1") != 0) {
    skip();
  }
  int master;
  pid_t child = forkpty(&master, NULL, NULL, NULL);
  assert_true(child >= 0);
  if (child == 0) {
    setenv("TERM", "xterm", 1);
    execlp("mpirun", "mpirun", "-np", "1", own_path, "progress", (char *)NULL);
    _exit(127);
  }
  char text[SIZE];
  read_to_end(master, text);
  waitpid(child, NULL, 0);
  assert_non_null(strstr(text, "done"));
  assert_non_null(strstr(text, "\rzw"));
}

int main(int argc, char **argv) {
  if (argc > 1 && strcmp(argv[1], "progress") == 0) {
    progress_lines();
    return 0;
  }
  own_path = argv[0];
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rank_zero_without_terminal),
      cmocka_unit_test(other_ranks_only_err),
      cmocka_unit_test(progress_is_overwritten),
      cmocka_unit_test(file_gets_every_line),
      cmocka_unit_test(no_progress_into_a_file_under_mpirun),
      cmocka_unit_test(progress_on_a_terminal_under_mpirun),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
