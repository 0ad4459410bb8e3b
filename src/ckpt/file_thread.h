/* The thread that writes a checkpoint's file on rank 0, and the only caller of HDF5 while it runs. One thread a save.
 */
#ifndef PSANN_CKPT_FILE_THREAD_H
#define PSANN_CKPT_FILE_THREAD_H

#include <stdbool.h>

#include "ckpt/write.h"

typedef struct file_thread file_thread;

/* Starts to write. `values` is called on the thread for each part in turn, once it is ready: unit.count values, good
 * until it is called for another part. `content` and `context` must live until the join. */
status file_thread_start(const ckpt_content *content, const float *(*values)(void *context, int part), void *context,
                         file_thread **out);

/* Parts [0, parts) are ready. */
void file_thread_ready(file_thread *t, int parts);

/* How many parts were written; *ended: the thread is done, also after a failure. */
int file_thread_written(file_thread *t, bool *ended);

/* Waits for the end of the save and frees; the save's status, with its message. */
status file_thread_join(file_thread *t);

/* The same for a save that is given up: it ends before the next part that is not ready, and leaves nothing behind. */
void file_thread_abandon(file_thread *t);

#endif
