/* The memory plan of a run: what it will take before anything is allocated, the size of a micro-batch that follows from
 * it, and what the device says afterwards. */
#ifndef PSANN_TRAIN_MEMORY_H
#define PSANN_TRAIN_MEMORY_H

#include "train/setup.h"

/* What the plan and the device's report may differ by before a warning: a share of the report, and what kernels that
 * are loaded at their first use take at least. */
#define MEMORY_TOLERANCE 0.03
#define MEMORY_LOADED_LATE (128.0 * 1024 * 1024)

/* t->plan, t->memory_available and t->host_available of a run whose micro-batch is known: weight store, activations,
 * scratch, and on a GPU what the libraries and the context take. */
void memory_plan_run(training *t);

/* The rows of the last kind: what the engine has taken so far, as the device reports it, and what is expected for NCCL
 * and for the libraries' kernels until memory_measured puts their true size there. */
void memory_plan_device(training *t);

/* A row gets what the device has given since the last measurement (or the engine's start). No effect on the CPU. */
void memory_measured(training *t, const char *row);

enum { MEMORY_NCCL, MEMORY_KERNELS };
extern const char *const memory_rows[];

/* Collective. train.micro_batch of `auto` on a GPU: the largest that the plan of one rank admits on a device of the
 * smallest total memory among the ranks' less a reserve. It follows from the config and the kind of device: never from
 * the number of ranks, the strategy or what is free. Harmless where the size is known. */
status memory_resolve_micro_batch(training *t);

/* The same for a device of `total` bytes, on this rank alone. A model whose weights do not leave enough for a single
 * sequence is meant for more ranks that share them: then activations may take half of the device. */
int64_t memory_micro_batch(training *t, double total);

/* Bytes of a device that the plan of a micro-batch of `auto` leaves to the context, the libraries and NCCL. */
double memory_reserve(double total);

/* Whether the plan needs no more than this rank has, of either memory, or that is not known. */
bool memory_fits(const training *t);

/* A user error on this rank, with the numbers and with what would fit, when the plan needs more than there is. */
status memory_check(training *t);

/* After the first step, on rank 0: a line with what was planned and what the device reports, a warning when they differ
 * by more than the tolerance, the event "memory", and the fields in system.json. Nothing on the CPU or where ranks
 * share a GPU. */
void memory_compare(training *t);

/* Bytes that this rank has taken at most, as t->gauge saw it: the process on the CPU, of the device on a GPU; NaN: not
 * known. */
double memory_peak(training *t);

#endif
