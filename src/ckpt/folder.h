/* The folder of checkpoints: step files, the files `latest` and `best` that name one of them, and what a killed run
 * left behind. */
#ifndef PSANN_CKPT_FOLDER_H
#define PSANN_CKPT_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { STEP_NAME = 48 };

/* "step_00001000.h5" and ".step_00001000.h5.tmp" into name; return name. */
const char *ckpt_step_name(int64_t step, char name[STEP_NAME]);
const char *ckpt_temporary_name(int64_t step, char name[STEP_NAME]);

/* The steps of all step files, ascending; *steps is the caller's. A folder that isn't there has none. */
status ckpt_list_steps(const char *folder, int64_t **steps, size_t *count);

/* Removes temporary files of earlier saves that were cut short. */
status ckpt_remove_leftovers(const char *folder);

/* The step that `latest` or `best` (`pointer`) names; −1 when there is no such file; a user error when it names no step
 * file. */
status ckpt_named_step(const char *folder, const char *pointer, int64_t *step);
status ckpt_name_step(const char *folder, const char *pointer, int64_t step);

/* Removes step files that neither keep_last (0: all stay) nor keep_every (0: off) nor `latest` nor `best` keeps. Steps
 * past `now` belong to a continuation that was given up; they are left alone. What can't be removed is named in a
 * warning. */
void ckpt_prune(const char *folder, int64_t now, int64_t keep_last, int64_t keep_every);

#endif
