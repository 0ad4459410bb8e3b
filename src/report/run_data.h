/* A run folder as a report needs it: series from metrics.jsonl, events, config.ini, system.json, status.ini. Nothing
 * but metrics.jsonl must be there; lines and fields that are not known, torn or missing are passed over. */
#ifndef PSANN_REPORT_RUN_DATA_H
#define PSANN_REPORT_RUN_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* run_fields has the names that they have in the file. */
typedef enum {
  RUN_LOSS,
  RUN_PPL,
  RUN_LR,
  RUN_GRAD_NORM,
  RUN_TOK_S,
  RUN_STEP_MS,
  RUN_TOKENS,
  RUN_EPOCH,
  RUN_SKIPPED,
  RUN_LOSS_SCALE,
  RUN_VAL_LOSS,
  RUN_VAL_PPL,
  RUN_VAL_BITS_PER_BYTE,
  /* From lines of steps or events, whichever have them. */
  RUN_VAL_ACCURACY,
  RUN_PEAK_BYTES,
  RUN_RANK_MS_MIN, /* a step's time on the fastest, the middle, and the slowest rank */
  RUN_RANK_MS_MEDIAN,
  RUN_RANK_MS_MAX,
  RUN_SLOWEST, /* its number */
  RUN_FIELDS
} run_field;

/* Values of one field, in the order of the file; a null is NaN. */
typedef struct {
  double *steps, *values;
  size_t n, steps_capacity, values_capacity;
} run_series;

typedef struct {
  int64_t step;
  struct cJSON *line; /* the whole object: "event", "message", and what belongs to it */
} run_event;

typedef struct {
  char *section, *name, *value;
} run_key;

typedef struct {
  char *folder; /* as given */
  char *name;   /* its last part */
  run_series fields[RUN_FIELDS];
  run_event *events;
  size_t n_events, events_capacity;
  run_key *keys; /* of config.ini */
  size_t n_keys, keys_capacity;
  struct cJSON *system; /* NULL: no system.json */
  char *state, *reason; /* of status.ini; NULL: no such file */
  int64_t steps;        /* lines of steps */
  int64_t last_step;
  size_t unread; /* lines that are no JSON */
} run_data;

/* Whether the folder holds a run. */
bool run_data_is_run(const char *folder);

/* The last part of a path, also of "runs/a/" and "."; the folder that "." is has a name too. */
status run_data_name(const char *folder, char **name);

status run_data_read(const char *folder, run_data *r);
void run_data_free(run_data *r);

/* Text fields of an event; "" where there are none. */
const char *run_event_kind(const run_event *e);
const char *run_event_message(const run_event *e);

/* A text of system.json; NULL where there is none. */
const char *run_system_text(const run_data *r, const char *name);

/* The value of a key of config.ini; NULL where it is not. */
const char *run_config_value(const run_data *r, const char *section, const char *name);

/* Whether at least one value is finite. */
bool run_series_has_values(const run_series *s);

/* The last value that is finite; NaN: none. */
double run_series_last(const run_series *s);

/* The lowest finite value and, when `step` is not NULL, the step of it; NaN: none. */
double run_series_lowest(const run_series *s, double *step);

/* Median of the finite values; NaN: none, or no memory. */
double run_series_median(const run_series *s);

#endif
