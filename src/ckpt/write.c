#include "ckpt/write.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/wall.h"
#include "ckpt/folder.h"
#include "ckpt/hdf.h"
#include "ckpt/record.h"

/* Space that HDF5 takes beside the elements: a header and a link for each dataset, and the file's own parts. Measured
 * at less than half of it. */
enum { BYTES_A_DATASET = 2048, BYTES_A_FILE = 256 * 1024 };

struct ckpt_write {
  const ckpt_content *content;
  int next; /* part */
  char *temporary, *path;
  hid_t file, groups[TABLES];
  hdf_driver_fault fault;
  ckpt_entries tables[TABLES];
  ckpt_digests digests;
  char *identity;
  struct sigaction on_file_size;
  bool size_signal_off;
};

state_kind ckpt_part_kind(const model *m, int part) {
  static const state_kind kinds[TABLES] = {STATE_WEIGHTS, STATE_M, STATE_V};
  return kinds[ckpt_part_table(m, part)];
}

static bool stands_in(const tensor *t, int table) {
  return table == TABLE_MODEL || t->trainable;
}

static uint64_t expected_bytes(const model *m, const token_store *t) {
  uint64_t bytes = BYTES_A_FILE + t->tokenizer_bytes;
  for (int u = 0; u < m->n_units; u++) {
    for (int i = 0; i < m->units[u].n_tensors; i++) {
      const tensor *each = &m->units[u].tensors[i];
      uint64_t sets = each->trainable ? 3 : 1;
      bytes += sets * ((uint64_t)each->count * sizeof(float) + BYTES_A_DATASET);
    }
  }
  return bytes;
}

static status check_space(const char *folder, uint64_t needed) {
  uint64_t free_bytes;
  char have[32], want[32];
  TRY(file_free_space(folder, &free_bytes));
  if (free_bytes < needed) {
    FAIL(
        "a checkpoint of %s does not fit in %s, where %s are free; free some space, lower checkpoint.keep_last, or set "
        "run.dir on another disk",
        memory_text((double)needed, want), folder, memory_text((double)free_bytes, have));
  }
  return STATUS_OK;
}

/* A write past the process's file size limit is to fail with an errno like any other, not to end the process. */
static void size_signal(ckpt_write *s, bool on) {
  struct sigaction ignore = {.sa_handler = SIG_IGN};
  if (!on) {
    s->size_signal_off = sigaction(SIGXFSZ, &ignore, &s->on_file_size) == 0;
  } else if (s->size_signal_off) {
    sigaction(SIGXFSZ, &s->on_file_size, NULL);
  }
}

static status begin(ckpt_write *s) {
  const ckpt_content *c = s->content;
  char name[STEP_NAME];
  REQUIRE(c->state.step >= 0, "a checkpoint of step %" PRId64, c->state.step);
  size_signal(s, false);
  TRY(file_make_folder(c->folder));
  TRY(ckpt_remove_leftovers(c->folder));
  TRY(check_space(c->folder, expected_bytes(c->m, c->tokenizer_of)));
  TRY(file_join(&s->path, c->folder, ckpt_step_name(c->state.step, name)));
  TRY(file_join(&s->temporary, c->folder, ckpt_temporary_name(c->state.step, name)));
  TRY(ckpt_identity(c->c, &s->identity));
  TRY(hdf_create(s->temporary, &s->fault, &s->file));
  hid_t optim;
  TRY(hdf_make_group(s->file, "optim", &optim));
  H5Gclose(optim);
  for (int table = 0; table < TABLES; table++) {
    TRY(hdf_make_group(s->file, ckpt_table_names[table], &s->groups[table]));
  }
  return hdf_fault(s->path, &s->fault);
}

status ckpt_write_begin(const ckpt_content *content, ckpt_write **out) {
  TRY(memory_new(out, 1, sizeof **out, "the writing of a checkpoint"));
  (*out)->content = content;
  return begin(*out);
}

status ckpt_write_part(ckpt_write *s, const float *values) {
  const model *m = s->content->m;
  REQUIRE(s->next < ckpt_parts(m), "a checkpoint of %d parts gets one more", ckpt_parts(m));
  const unit *u = ckpt_part_unit(m, s->next);
  int table = ckpt_part_table(m, s->next++);
  for (int i = 0; i < u->n_tensors; i++) {
    const tensor *t = &u->tensors[i];
    if (!stands_in(t, table)) {
      continue;
    }
    ckpt_entry entry = {.dims = t->dims};
    snprintf(entry.name, sizeof entry.name, "%s", t->name);
    memcpy(entry.shape, t->shape, sizeof entry.shape);
    TRY(hdf_put_data(s->groups[table], t->name, H5T_IEEE_F32LE, t->dims, t->shape, values + t->offset, entry.digest));
    TRY(hdf_fault(s->path, &s->fault));
    TRY(ckpt_entries_add(&s->tables[table], &entry));
  }
  return STATUS_OK;
}

static status write_launch(hid_t file, const config *c, const dist *d) {
  hid_t group;
  char now[32];
  status result = hdf_make_group(file, "launch", &group);
  if (result == STATUS_OK) {
    result = hdf_put_int(group, "ranks", d->ranks);
  }
  if (result == STATUS_OK) {
    result = hdf_put_int(group, "hosts", d->hosts);
  }
  if (result == STATUS_OK) {
    result = hdf_put_text(group, "host", d->host);
  }
  if (result == STATUS_OK) {
    result = hdf_put_text(group, "strategy", config_strategy_name(c->parallel.strategy));
  }
  if (result == STATUS_OK) {
    result = hdf_put_text(group, "version", PSANN_VERSION);
  }
  if (result == STATUS_OK) {
    result = hdf_put_text(group, "saved", clock_utc(now));
  }
  H5Gclose(group);
  return result;
}

/* To the disk, and out of the page cache where that is possible: what is verified next is what the disk holds. */
static status to_disk(const char *path) {
  int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (descriptor < 0 || fsync(descriptor) != 0) {
    int error = errno;
    if (descriptor >= 0) {
      close(descriptor);
    }
    FAIL("checkpoint %s could not be brought to disk: %s; check the disk, earlier checkpoints are whole", path,
         strerror(error));
  }
  posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED);
  close(descriptor);
  return STATUS_OK;
}

static status read_back(const char *path, const ckpt_digests *written) {
  checkpoint *k;
  wall_know(path);
  status result = checkpoint_open(path, false, &k);
  if (result == STATUS_OK) {
    result = ckpt_digests_compare(path, &k->parts->digests, written);
    if (result == STATUS_OK) {
      result = checkpoint_verify(k);
    }
    checkpoint_close(k);
  }
  if (result != STATUS_OK) {
    /* Not the user's doing: the file is a second old. */
    return status_prefix(STATUS_FAILURE, "what was just written does not read back, check the disk and the memory");
  }
  return STATUS_OK;
}

static void close_groups(ckpt_write *s) {
  for (int table = 0; table < TABLES; table++) {
    if (s->groups[table] > 0) {
      H5Gclose(s->groups[table]);
    }
    s->groups[table] = 0;
  }
}

static status name_file(const ckpt_write *s) {
  const ckpt_content *c = s->content;
  if (c->before_naming != NULL) {
    c->before_naming(c->context);
  }
  status named = ckpt_name_step(c->folder, "latest", c->state.step);
  if (named == STATUS_OK && c->state.step == c->state.best_step) {
    named = ckpt_name_step(c->folder, "best", c->state.step);
  }
  return named == STATUS_OK ? named
                            : status_prefix(named, "checkpoint %s is written and whole, but not named", s->path);
}

status ckpt_write_end(ckpt_write *s) {
  const ckpt_content *c = s->content;
  REQUIRE(s->next == ckpt_parts(c->m), "a checkpoint of %d parts ends after %d", ckpt_parts(c->m), s->next);
  TRY(ckpt_state_write(s->file, &c->state));
  TRY(ckpt_config_write(s->file, c->c, s->identity));
  TRY(ckpt_tokenizer_write(s->file, c->tokenizer_of, s->digests.tokenizer));
  TRY(write_launch(s->file, c->c, c->d));
  TRY(ckpt_format_write(s->file));
  TRY(ckpt_digests_make(s->tables, &c->state, s->identity, &s->digests));
  TRY(ckpt_digests_write(s->file, &s->digests));
  close_groups(s);
  hid_t file = s->file;
  s->file = 0;
  TRY(hdf_finish(s->path, &s->fault, file));
  TRY(to_disk(s->temporary));
  TRY(read_back(s->temporary, &s->digests));
  TRY(file_commit(s->temporary, s->path));
  free(s->temporary);
  s->temporary = NULL;
  TRY(name_file(s));
  ckpt_prune(c->folder, c->state.step, c->c->checkpoint.keep_last, c->c->checkpoint.keep_every);
  return STATUS_OK;
}

void ckpt_write_free(ckpt_write *s) {
  if (s == NULL) {
    return;
  }
  close_groups(s);
  if (s->file > 0) {
    s->fault.error = s->fault.error != 0 ? s->fault.error : ECANCELED; /* nothing more is written */
    H5Fclose(s->file);
  }
  if (s->temporary != NULL) {
    unlink(s->temporary);
  }
  size_signal(s, true);
  for (int table = 0; table < TABLES; table++) {
    ckpt_entries_free(&s->tables[table]);
  }
  free(s->temporary);
  free(s->path);
  free(s->identity);
  free(s);
}
