#include "base/clock.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

double clock_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static const char *utc(const char *format, char *text) {
  time_t now = time(NULL);
  struct tm parts;
  gmtime_r(&now, &parts);
  strftime(text, 32, format, &parts); /* NOLINT: one of the formats below */
  return text;
}

const char *clock_utc(char *text) {
  return utc("%Y-%m-%dT%H:%M:%SZ", text);
}

const char *clock_stamp(char *text) {
  return utc("%Y%m%d_%H%M%S", text);
}

const char *clock_duration(double seconds, char *text) {
  if (!(seconds >= 0) || seconds > 3.2e10) { /* a thousand years: an estimate from next to nothing */
    snprintf(text, 32, "?");
    return text;
  }
  long long whole = llround(seconds);
  if (whole < 60) {
    snprintf(text, 32, "%llds", whole);
  } else if (whole < 3600) {
    snprintf(text, 32, "%lldm%02llds", whole / 60, whole % 60);
  } else {
    snprintf(text, 32, "%lldh%02lldm", whole / 3600, whole % 3600 / 60);
  }
  return text;
}
