#include "report/shell_words.h"

#include <stdio.h>
#include <string.h>

void shell_add_word(char *line, size_t room, const char *argument) {
  static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./,:@%";
  size_t used = strlen(line);
  if (argument[0] != 0 && strspn(argument, plain) == strlen(argument)) {
    snprintf(line + used, room - used, " %s", argument);
    return;
  }
  if (used + 4 > room) {
    return;
  }
  used += (size_t)snprintf(line + used, room - used, " '");
  for (const char *a = argument; *a != 0 && used + 6 < room; a++) {
    used += (size_t)snprintf(line + used, room - used, *a == '\'' ? "'\\''" : "%c", *a);
  }
  snprintf(line + used, room - used, "'");
}
