/* Command lines that a person can copy. */
#ifndef PSANN_REPORT_SHELL_WORDS_H
#define PSANN_REPORT_SHELL_WORDS_H

#include <stddef.h>

/* Appends " argument" to `line` (room bytes, zero-terminated), quoted as a shell needs it; cut off where there is no
 * room. */
void shell_add_word(char *line, size_t room, const char *argument);

#endif
