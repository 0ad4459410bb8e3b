#include "report/system.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "report/version.h"

/* The text after `key` and `separator` on the first line of `path` that starts with `key`, without quotes; "" when
 * there is none. */
static void file_value(const char *path, const char *key, char separator, char *out, size_t room) {
  out[0] = 0;
  FILE *f = fopen(path, "re");
  char line[1024];
  while (f != NULL && fgets(line, sizeof line, f) != NULL) {
    char *value = strchr(line, separator);
    if (strncmp(line, key, strlen(key)) != 0 || value == NULL) {
      continue;
    }
    value += 1 + strspn(value + 1, " \t\"");
    value[strcspn(value, "\"\n")] = 0;
    snprintf(out, room, "%s", value);
    break;
  }
  if (f != NULL) {
    fclose(f);
  }
}

static double meminfo(const char *key) {
  char value[64];
  file_value("/proc/meminfo", key, ':', value, sizeof value);
  return strtod(value, NULL) * 1024;
}

/* A number in a control file; infinity for "max" and for files that are not there. */
static double control_number(const char *folder, const char *name) {
  char path[4224];
  char text[64] = "";
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *f = fopen(path, "re");
  bool read = f != NULL && fgets(text, sizeof text, f) != NULL;
  if (f != NULL) {
    fclose(f);
  }
  char *end = NULL;
  double value = strtod(text, &end);
  return read && end != text ? value : INFINITY;
}

/* Limits of the control groups (version 2) that this process is in, from its own up to the root. */
static void apply_control_groups(system_facts *f) {
  char group[4096];
  file_value("/proc/self/cgroup", "0:", ':', group, sizeof group);
  char *relative = strchr(group, '/');
  if (relative == NULL) {
    return;
  }
  for (;;) {
    char folder[4200];
    snprintf(folder, sizeof folder, "/sys/fs/cgroup%s", relative);
    double limit = control_number(folder, "memory.max");
    double used = control_number(folder, "memory.current");
    if (isfinite(limit)) {
      f->memory_total = fmin(f->memory_total, limit);
      f->memory_available = fmin(f->memory_available, fmax(0, limit - (isfinite(used) ? used : 0)));
    }
    char *last = strrchr(relative, '/');
    if (last == NULL || relative[0] == 0) {
      return;
    }
    *last = 0;
  }
}

void system_read(system_facts *f) {
  memset(f, 0, sizeof *f);
  clock_utc(f->read_at);
  file_value("/proc/cpuinfo", "model name", ':', f->cpu, sizeof f->cpu);
  struct utsname u;
  bool known = uname(&u) == 0;
  if (f->cpu[0] == 0) {
    snprintf(f->cpu, sizeof f->cpu, "%s processor", known ? u.machine : "unknown");
  }
  cpu_set_t set;
  long online = sysconf(_SC_NPROCESSORS_ONLN);
  f->machine_cores = online > 0 ? (int)online : 1;
  f->cores = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : f->machine_cores;
  f->memory_total = meminfo("MemTotal");
  f->memory_available = meminfo("MemAvailable");
  apply_control_groups(f);
  char distribution[96];
  file_value("/etc/os-release", "PRETTY_NAME", '=', distribution, sizeof distribution);
  snprintf(f->os, sizeof f->os, "%s%s%.32s %.24s", distribution, distribution[0] ? ", " : "", known ? u.sysname : "",
           known ? u.release : "");
}

static cJSON *command_line(int argc, char **argv) {
  cJSON *array = cJSON_CreateArray();
  for (int i = 0; i < argc; i++) {
    cJSON_AddItemToArray(array, cJSON_CreateString(argv[i]));
  }
  return array;
}

struct cJSON *system_object(const system_facts *f, const dist *d, const char *engine, int argc, char **argv) {
  cJSON *o = cJSON_CreateObject();
  cJSON_AddStringToObject(o, "started", f->read_at);
  cJSON_AddItemToObject(o, "command", command_line(argc, argv));
  cJSON_AddStringToObject(o, "host", d->host);
  cJSON_AddNumberToObject(o, "ranks", d->ranks);
  cJSON_AddNumberToObject(o, "hosts", d->hosts);
  if (engine != NULL) {
    cJSON_AddStringToObject(o, "engine", engine);
  }
  cJSON_AddStringToObject(o, "cpu", f->cpu);
  cJSON_AddNumberToObject(o, "cores", f->machine_cores);
  cJSON_AddNumberToObject(o, "memory_bytes", f->memory_total);
  cJSON_AddNumberToObject(o, "memory_available_bytes", f->memory_available);
  if (f->memory_reported > 0) {
    cJSON_AddNumberToObject(o, "gpu_memory_planned_bytes", f->memory_planned);
    cJSON_AddNumberToObject(o, "gpu_memory_reported_bytes", f->memory_reported);
  }
  cJSON_AddStringToObject(o, "os", f->os);
  cJSON_AddStringToObject(o, "version", version_number());
  cJSON_AddStringToObject(o, "commit", version_commit());
  cJSON_AddStringToObject(o, "build", version_build());
  int n = 0;
  const version_library *l = version_libraries(&n);
  cJSON *libraries = cJSON_AddObjectToObject(o, "libraries");
  for (int i = 0; i < n; i++) {
    cJSON_AddStringToObject(libraries, l[i].name, l[i].version);
  }
  return o;
}

status system_write(const char *path, const system_facts *f, const dist *d, const char *engine, int argc, char **argv) {
  cJSON *o = system_object(f, d, engine, argc, argv);
  status s = json_write(path, o);
  cJSON_Delete(o);
  return s;
}
