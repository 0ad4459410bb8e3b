/* Time. */
#ifndef PSANN_BASE_CLOCK_H
#define PSANN_BASE_CLOCK_H

/* Seconds of a clock that never goes back. */
double clock_seconds(void);

/* UTC now as "2026-01-31T12:34:56Z" into text (at least 32 bytes); returns text. */
const char *clock_utc(char *text);

/* UTC now as "20260131_123456", the name of a report's folder, into text (at least 32 bytes); returns text. */
const char *clock_stamp(char *text);

/* "1h02m", "3m20s", "12s" into text (at least 32 bytes); returns text. */
const char *clock_duration(double seconds, char *text);

#endif
