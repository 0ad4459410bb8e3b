/* What a person reads. Rank 0 prints to standard output, and every line also goes to the run folder's
 * log.txt once log_open_file has been called. Errors go to standard error on any rank.
 */
#ifndef PSANN_BASE_LOG_H
#define PSANN_BASE_LOG_H

#include <stdbool.h>

#include "base/status.h"

/* Names this process in error lines; before the call it is rank 0 of 1. */
void log_set_rank(int rank, int ranks, const char *host);

/* Appends to `path` (created with the user's umask). */
status log_open_file(const char *path);
void log_close_file(void);

/* A line on standard output and in the log file; silent on ranks other than 0. No newline in the format. */
void log_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same with "warning: " before it, on standard error. */
void log_warning(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "psann_train: error: …" on standard error, from any rank; names rank and host when there are several. */
void log_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same from a thread that ends the process: it does not wait for one that hangs in a line of its own. */
void log_last_words(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A status line that the next line of any kind overwrites; prints nothing when standard output is no terminal. */
void log_progress(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Whether standard output is a terminal on rank 0. */
bool log_is_terminal(void);

#endif
