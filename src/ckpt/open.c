#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "ckpt/checkpoint.h"
#include "ckpt/folder.h"
#include "ckpt/hdf.h"
#include "ckpt/record.h"

/* The step file that a folder of checkpoints offers: what `best` or `latest` names, or else the newest. */
static status pick_step(const char *folder, bool prefer_best, int64_t *step) {
  *step = -1;
  if (prefer_best) {
    TRY(ckpt_named_step(folder, "best", step));
  }
  if (*step < 0) {
    TRY(ckpt_named_step(folder, "latest", step));
  }
  if (*step < 0) {
    int64_t *steps;
    size_t count;
    TRY(ckpt_list_steps(folder, &steps, &count));
    *step = count > 0 ? steps[count - 1] : -1;
    free(steps);
  }
  return STATUS_OK;
}

static status find_file(const char *path, bool prefer_best, char **file) {
  if (!file_is_folder(path)) {
    return memory_format(file, "%s", path);
  }
  char *inner, name[STEP_NAME];
  int64_t step;
  TRY(file_join(&inner, path, "checkpoints"));
  const char *folder = file_is_folder(inner) ? inner : path;
  status result = pick_step(folder, prefer_best, &step);
  if (result == STATUS_OK && step < 0) {
    result = status_set(STATUS_USER_ERROR, __FILE__, __LINE__,
                        "folder %s holds no checkpoint; give a run folder, or a file step_….h5", path);
  }
  if (result == STATUS_OK) {
    result = file_join(file, folder, ckpt_step_name(step, name));
  }
  free(inner);
  return result;
}

/* Every part but the elements of tensors; the digests of the parts are compared with what is read. */
static status read_parts(checkpoint *k) {
  struct checkpoint_parts *p = k->parts;
  hid_t file;
  ckpt_digests found;
  TRY(hdf_open(k->path, &p->fault, &file));
  k->file = file;
  TRY(ckpt_format_check(file, k->path));
  TRY(ckpt_digests_read(file, k->path, &p->digests));
  TRY(ckpt_state_read(file, k->path, &k->state));
  TRY(ckpt_config_read(file, k->path, &k->config, &p->identity));
  TRY(ckpt_tokenizer_read(k, found.tokenizer));
  for (int table = 0; table < TABLES; table++) {
    TRY(ckpt_entries_read(file, k->path, table, &p->tables[table]));
  }
  TRY(ckpt_digests_make(p->tables, &k->state, p->identity, &found));
  TRY(ckpt_digests_compare(k->path, &p->digests, &found));
  snprintf(k->digest, sizeof k->digest, "%s", found.all);
  return STATUS_OK;
}

status checkpoint_open(const char *path, bool prefer_best, checkpoint **out) {
  checkpoint *k;
  *out = NULL;
  TRY(memory_new(&k, 1, sizeof *k, "checkpoint"));
  k->file = -1;
  status result = memory_new(&k->parts, 1, sizeof *k->parts, "checkpoint");
  if (result == STATUS_OK) {
    result = find_file(path, prefer_best, &k->path);
  }
  if (result == STATUS_OK) {
    result = read_parts(k);
  }
  if (result != STATUS_OK) {
    checkpoint_close(k);
    return result;
  }
  *out = k;
  return STATUS_OK;
}

void checkpoint_close(checkpoint *k) {
  if (k == NULL) {
    return;
  }
  if (k->file >= 0) {
    H5Fclose(k->file);
  }
  if (k->parts != NULL) {
    for (int table = 0; table < TABLES; table++) {
      ckpt_entries_free(&k->parts->tables[table]);
    }
    free(k->parts->identity);
    free(k->parts);
  }
  config_free(k->config);
  free(k->tokenizer_data);
  free(k->path);
  free(k);
}

static status verify_table(const checkpoint *k, int table) {
  const ckpt_entries *e = &k->parts->tables[table];
  hid_t group;
  TRY(hdf_open_group(k->file, k->path, ckpt_table_names[table], &group));
  status result = STATUS_OK;
  for (size_t i = 0; i < e->count && result == STATUS_OK; i++) {
    const ckpt_entry *each = &e->list[i];
    result = hdf_check_data(group, k->path, each->name, H5T_IEEE_F32LE,
                            (size_t)ckpt_entry_count(each) * sizeof(float), each->digest);
  }
  H5Gclose(group);
  return result;
}

status checkpoint_verify(const checkpoint *k) {
  for (int table = 0; table < TABLES; table++) {
    TRY(verify_table(k, table));
  }
  return STATUS_OK;
}

static status open_and_verify(const char *path) {
  checkpoint *k;
  TRY(checkpoint_open(path, false, &k));
  status result = checkpoint_verify(k);
  checkpoint_close(k);
  return result;
}

/* *whole tells the outcome; a damaged or missing file is no failure here, it is named in a warning. */
static status try_step(const char *folder, int64_t step, char **path, bool *whole) {
  char name[STEP_NAME];
  TRY(file_join(path, folder, ckpt_step_name(step, name)));
  status result = open_and_verify(*path);
  *whole = result == STATUS_OK;
  if (!*whole) {
    free(*path);
    *path = NULL;
    if (result == STATUS_USER_ERROR) {
      log_warning("%s", status_message());
      return STATUS_OK;
    }
  }
  return result;
}

status checkpoint_newest(const char *folder, char **path) {
  int64_t latest, *steps = NULL;
  size_t count = 0, damaged = 0;
  bool whole = false;
  *path = NULL;
  if (ckpt_named_step(folder, "latest", &latest) != STATUS_OK) {
    log_warning("%s", status_message());
    latest = -1;
  }
  if (latest >= 0) {
    TRY(try_step(folder, latest, path, &whole));
    damaged += !whole;
  }
  if (whole) {
    return STATUS_OK;
  }
  TRY(ckpt_list_steps(folder, &steps, &count));
  status result = STATUS_OK;
  for (size_t i = count; i-- > 0 && !whole && result == STATUS_OK;) {
    if (steps[i] != latest) {
      result = try_step(folder, steps[i], path, &whole);
      damaged += !whole;
    }
  }
  free(steps);
  TRY(result);
  if (whole && damaged > 0) {
    log_warning("the newest whole checkpoint is %s", *path);
  }
  if (!whole && damaged > 0) {
    USER_ERROR("none of the %zu checkpoints in %s is whole; remove them, or set run.dir to a new folder, to start anew",
               damaged, folder);
  }
  return STATUS_OK;
}
