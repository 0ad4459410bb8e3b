#include "train/plans.h"

#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"

enum { LARGEST_TABLE = 16 << 20 };

/* NULL where neither the config nor the environment names a place. */
static status table_path(const char *given, char **path) {
  *path = NULL;
  const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
  if (strcmp(given, "auto") != 0) {
    return memory_format(path, "%s", given);
  }
  if (cache != NULL && cache[0] == '/') {
    return memory_format(path, "%s/psann/gemm_plans_2.txt", cache);
  }
  return home != NULL && home[0] == '/' ? memory_format(path, "%s/.cache/psann/gemm_plans_2.txt", home) : STATUS_OK;
}

static status read_table(engine *e, const char *path) {
  if (path == NULL || !file_exists(path)) {
    return STATUS_OK;
  }
  char *text = NULL;
  size_t bytes;
  TRY(file_read(path, LARGEST_TABLE, &text, &bytes));
  status s = e->ops->read_plans(e, text, path);
  free(text);
  return s;
}

/* A cache that can't be written costs the next run its timing, not this run. */
static void write_table(const char *path, const char *text) {
  if (path == NULL) {
    return;
  }
  char *folder = strdup(path);
  char *end = folder != NULL ? strrchr(folder, '/') : NULL;
  if (end != NULL) {
    *end = '\0';
    if (file_make_folder(folder) != STATUS_OK) {
      log_warning("%s", status_message());
    }
  }
  free(folder);
  if (file_write_atomic(path, text, strlen(text)) != STATUS_OK) {
    log_warning("the plans of the matrix products are not kept: %s", status_message());
  }
}

static status make_table(engine *e, const engine_limits *limits, const char *given, char **text) {
  char *path = NULL;
  status s = table_path(given, &path);
  if (s == STATUS_OK) {
    s = read_table(e, path);
  }
  if (s == STATUS_OK) {
    s = e->ops->tune(e, limits);
  }
  if (s == STATUS_OK) {
    s = e->ops->plans(e, text);
  }
  if (s == STATUS_OK) {
    write_table(path, *text);
  }
  free(path);
  return s;
}

static status digest_used(engine *e, char used[DIGEST_TEXT]) {
  char *lines = NULL;
  TRY(e->ops->used_plans(e, &lines));
  digest_of(lines, strlen(lines), used);
  free(lines);
  return STATUS_OK;
}

/* From rank 0, whose engine has made the products. */
static status share_digest(const dist *d, engine *e, char used[DIGEST_TEXT]) {
  void *data = used;
  size_t bytes = DIGEST_TEXT;
  TRY(dist_agree(d, d->rank == 0 ? digest_used(e, used) : STATUS_OK));
  TRY(dist_broadcast(d, &data, &bytes));
  if (d->rank != 0) {
    memcpy(used, data, DIGEST_TEXT);
    free(data);
  }
  log_line("plans     of the matrix products: %s", used);
  return STATUS_OK;
}

status plans_share(const dist *d, engine *e, const engine_limits *limits, const char *path, char used[DIGEST_TEXT]) {
  used[0] = 0;
  if (e->ops->tune == NULL) {
    return STATUS_OK;
  }
  char *text = NULL;
  TRY(dist_agree(d, d->rank == 0 ? make_table(e, limits, path, &text) : STATUS_OK));
  size_t bytes = text != NULL ? strlen(text) + 1 : 0;
  void *data = text;
  TRY(dist_broadcast(d, &data, &bytes));
  status s = d->rank == 0 ? STATUS_OK : e->ops->read_plans(e, data, "rank 0's plans");
  free(data);
  TRY(dist_agree(d, s));
  return share_digest(d, e, used);
}
