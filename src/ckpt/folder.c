#include "ckpt/folder.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"

const char *ckpt_step_name(int64_t step, char name[STEP_NAME]) {
  snprintf(name, STEP_NAME, "step_%08" PRId64 ".h5", step);
  return name;
}

const char *ckpt_temporary_name(int64_t step, char name[STEP_NAME]) {
  snprintf(name, STEP_NAME, ".step_%08" PRId64 ".h5.tmp", step);
  return name;
}

/* The step that a name stands for, −1 when it is no name of ours. */
static int64_t step_of(const char *name, const char *(*format)(int64_t, char *)) {
  const char *digits = strpbrk(name, "0123456789");
  char again[STEP_NAME];
  errno = 0;
  long long step = digits != NULL ? strtoll(digits, NULL, 10) : -1;
  return errno == 0 && step >= 0 && strcmp(format(step, again), name) == 0 ? step : -1;
}

static int ascending(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

status ckpt_list_steps(const char *folder, int64_t **steps, size_t *count) {
  size_t capacity = 0;
  *steps = NULL;
  *count = 0;
  DIR *d = opendir(folder);
  if (d == NULL) {
    if (errno == ENOENT) {
      return STATUS_OK;
    }
    USER_ERROR("checkpoint folder %s can't be listed: %s; check the path and its permissions", folder, strerror(errno));
  }
  status result = STATUS_OK;
  for (struct dirent *entry; result == STATUS_OK && (entry = readdir(d)) != NULL;) {
    int64_t step = step_of(entry->d_name, ckpt_step_name);
    if (step >= 0) {
      result = memory_grow(steps, &capacity, *count + 1, sizeof **steps, "list of checkpoints");
      if (result == STATUS_OK) {
        (*steps)[(*count)++] = step;
      }
    }
  }
  closedir(d);
  if (result != STATUS_OK) {
    free(*steps);
    *steps = NULL;
    *count = 0;
    return result;
  }
  if (*count > 0) {
    qsort(*steps, *count, sizeof **steps, ascending);
  }
  return STATUS_OK;
}

status ckpt_remove_leftovers(const char *folder) {
  DIR *d = opendir(folder);
  if (d == NULL) {
    USER_ERROR("checkpoint folder %s can't be listed: %s; check the path and its permissions", folder, strerror(errno));
  }
  for (struct dirent *entry; (entry = readdir(d)) != NULL;) {
    if (step_of(entry->d_name, ckpt_temporary_name) >= 0 && unlinkat(dirfd(d), entry->d_name, 0) != 0) {
      log_warning("%s/%s, left by a run that was cut short, can't be removed: %s", folder, entry->d_name,
                  strerror(errno));
    }
  }
  closedir(d);
  return STATUS_OK;
}

status ckpt_named_step(const char *folder, const char *pointer, int64_t *step) {
  char *path, *text = NULL;
  size_t bytes;
  *step = -1;
  TRY(file_join(&path, folder, pointer));
  if (!file_exists(path)) {
    free(path);
    return STATUS_OK;
  }
  status result = file_read(path, 4096, &text, &bytes);
  if (result == STATUS_OK) {
    text[strcspn(text, "\r\n")] = '\0';
    *step = step_of(text, ckpt_step_name);
    if (*step < 0) {
      result = status_set(STATUS_USER_ERROR, __FILE__, __LINE__,
                          "%s holds \"%.40s\", which names no checkpoint; give a file step_….h5 itself", path, text);
    }
  }
  free(text);
  free(path);
  return result;
}

status ckpt_name_step(const char *folder, const char *pointer, int64_t step) {
  char *path, name[STEP_NAME], line[STEP_NAME + 1];
  TRY(file_join(&path, folder, pointer));
  int length = snprintf(line, sizeof line, "%s\n", ckpt_step_name(step, name));
  status result = file_write_atomic(path, line, (size_t)length);
  free(path);
  return result;
}

static void remove_step(const char *folder, int64_t step) {
  char *path, name[STEP_NAME];
  if (file_join(&path, folder, ckpt_step_name(step, name)) != STATUS_OK) {
    log_warning("checkpoint %s/%s is not removed: %s", folder, name, status_message());
    return;
  }
  if (unlink(path) != 0) {
    log_warning("checkpoint %s, which keep_last no longer keeps, can't be removed: %s", path, strerror(errno));
  }
  free(path);
}

void ckpt_prune(const char *folder, int64_t now, int64_t keep_last, int64_t keep_every) {
  int64_t *steps, latest, best;
  size_t count;
  if (keep_last <= 0) {
    return;
  }
  if (ckpt_named_step(folder, "latest", &latest) != STATUS_OK || ckpt_named_step(folder, "best", &best) != STATUS_OK ||
      ckpt_list_steps(folder, &steps, &count) != STATUS_OK) {
    log_warning("old checkpoints are not removed: %s", status_message());
    return;
  }
  int64_t newer = 0;
  for (size_t i = count; i-- > 0;) {
    if (steps[i] > now) {
      continue;
    }
    bool kept =
        newer < keep_last || (keep_every > 0 && steps[i] % keep_every == 0) || steps[i] == latest || steps[i] == best;
    newer++;
    if (!kept) {
      remove_step(folder, steps[i]);
    }
  }
  free(steps);
}
