/* Errors. A function that can fail returns a status; 0 is success, any other value is the exit code
 * that the program ends with. The message of the last failure on a thread is kept until the next one.
 *
 * A message is one sentence: what, with the values, and what to do about it. Library code never ends
 * the process; only a main does.
 */
#ifndef PSANN_BASE_STATUS_H
#define PSANN_BASE_STATUS_H

typedef int status;

enum {
  STATUS_OK = 0,
  STATUS_FAILURE = 1,    /* run-time failure: disk, network, memory, a broken invariant */
  STATUS_USER_ERROR = 2, /* something that the user gave is wrong */
};

/* Records a formatted message with the place where it arose; returns `code`. */
status status_set(status code, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Puts "context: " before the message of the last failure; returns `code` unchanged. */
status status_prefix(status code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Message of this thread's last failure, without the place; "" when there was none. Valid until the next failure. */
const char *status_message(void);

/* "file:line" where this thread's last failure arose. */
const char *status_place(void);

/* The code stands beside the call once more: compilers and analyzers of a single file see that no failure is STATUS_OK. */
#define FAIL(...) return status_set(STATUS_FAILURE, __FILE__, __LINE__, __VA_ARGS__), STATUS_FAILURE
#define USER_ERROR(...) return status_set(STATUS_USER_ERROR, __FILE__, __LINE__, __VA_ARGS__), STATUS_USER_ERROR

/* Propagates a failure. */
#define TRY(call)                   \
  do {                              \
    status try_status_ = (call);    \
    if (try_status_ != STATUS_OK) { \
      return try_status_;           \
    }                               \
  } while (0)

/* States a precondition; the message must hold the values that broke it. */
#define REQUIRE(condition, ...) \
  do {                          \
    if (!(condition)) {         \
      FAIL(__VA_ARGS__);        \
    }                           \
  } while (0)

#endif
