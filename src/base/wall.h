/* The wall: a file from elsewhere is first opened by another process. HDF5 and SentencePiece can crash, hang, or take
 * all memory on damaged files; what they do then must not happen to a run. `psann_probe` makes the same calls that the
 * caller is about to make (structure, attributes, tokenizer; no tensor and no token), with limits on memory, processor
 * time and wall time. The caller opens the file only when that went well. What the elements of large arrays hold is the
 * business of digests, not of the wall: reading them interprets nothing.
 *
 * The probe is started with posix_spawn (no copy of this process, so it is safe under MPI and with threads), without
 * this process's files and environment. It stands beside the program, or in libexec when installed; PSANN_PROBE names
 * another place.
 */
#ifndef PSANN_BASE_WALL_H
#define PSANN_BASE_WALL_H

#include <stdbool.h>

#include "base/status.h"

typedef enum { WALL_CHECKPOINT, WALL_STORE, WALL_TOKENIZER, WALL_GOLDEN, WALL_KINDS } wall_kind;

/* What psann_probe calls a kind: "checkpoint", "store", "tokenizer", "golden". */
extern const char *const wall_names[WALL_KINDS];

/* Looks at `path` from outside. The probe's own complaint comes back as it is; a probe that dies or goes past a limit
 * makes a user error that calls the file damaged. What is no regular file is left to the caller. A file that passed,
 * or that wall_know named, is not looked at again until its size, time or inode changes. */
status wall_check(wall_kind kind, const char *path);

/* This process has just written the file and knows what is in it. */
void wall_know(const char *path);

/* While lowered nothing is looked at: another rank of this host has done so, or this process is the probe. */
void wall_lower(bool lowered);

/* Seconds that a probe may take; 60 unless told otherwise. */
void wall_patience(double seconds);

/* The probe's answer: what went wrong when `result` is no success, as status_message has it. */
enum { WALL_ANSWER = 8192 };
void wall_answer(status result, char text[WALL_ANSWER]);

#endif
