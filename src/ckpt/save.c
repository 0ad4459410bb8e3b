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
#include "ckpt/checkpoint.h"
#include "ckpt/folder.h"
#include "ckpt/hdf.h"
#include "ckpt/record.h"

/* Space that HDF5 takes beside the elements: a header and a link for each dataset, and the file's own parts. Measured
 * at less than half of it. */
enum { BYTES_A_DATASET = 2048, BYTES_A_FILE = 256 * 1024 };

/* A save in progress, on rank 0. */
typedef struct {
  const char *folder;
  char *temporary, *path;
  hid_t file, groups[TABLES];
  hdf_driver_fault fault;
  ckpt_entries tables[TABLES];
  ckpt_digests digests;
  char *identity;
  float *values; /* one unit */
  struct sigaction on_file_size;
  bool size_signal_off;
} saving;

static int64_t largest_unit(const model *m) {
  int64_t largest = 0;
  for (int u = 0; u < m->n_units; u++) {
    largest = m->units[u].count > largest ? m->units[u].count : largest;
  }
  return largest;
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
static void size_signal(saving *s, bool on) {
  struct sigaction ignore = {.sa_handler = SIG_IGN};
  if (!on) {
    s->size_signal_off = sigaction(SIGXFSZ, &ignore, &s->on_file_size) == 0;
  } else if (s->size_signal_off) {
    sigaction(SIGXFSZ, &s->on_file_size, NULL);
  }
}

static status save_begin(saving *s, const config *c, const model *m, const weight_store *w, const run_state *state,
                         const token_store *t) {
  char name[STEP_NAME];
  REQUIRE(w->e->state == DTYPE_F32, "a checkpoint holds fp32; the state of this engine is of another type");
  REQUIRE(state->step >= 0, "a checkpoint of step %" PRId64, state->step);
  size_signal(s, false);
  TRY(file_make_folder(s->folder));
  TRY(ckpt_remove_leftovers(s->folder));
  TRY(check_space(s->folder, expected_bytes(m, t)));
  TRY(file_join(&s->path, s->folder, ckpt_step_name(state->step, name)));
  TRY(file_join(&s->temporary, s->folder, ckpt_temporary_name(state->step, name)));
  TRY(memory_new(&s->values, (size_t)largest_unit(m), sizeof *s->values, "a unit of the checkpoint"));
  TRY(ckpt_identity(c, &s->identity));
  TRY(hdf_create(s->temporary, &s->fault, &s->file));
  hid_t optim;
  TRY(hdf_make_group(s->file, "optim", &optim));
  H5Gclose(optim);
  for (int table = 0; table < TABLES; table++) {
    TRY(hdf_make_group(s->file, ckpt_table_names[table], &s->groups[table]));
  }
  return hdf_fault(s->path, &s->fault);
}

static status write_unit(saving *s, const unit *u, int table) {
  for (int i = 0; i < u->n_tensors; i++) {
    const tensor *t = &u->tensors[i];
    if (!stands_in(t, table)) {
      continue;
    }
    ckpt_entry entry = {.dims = t->dims};
    snprintf(entry.name, sizeof entry.name, "%s", t->name);
    memcpy(entry.shape, t->shape, sizeof entry.shape);
    TRY(hdf_put_data(s->groups[table], t->name, H5T_IEEE_F32LE, t->dims, t->shape, s->values + t->offset,
                     entry.digest));
    TRY(hdf_fault(s->path, &s->fault));
    TRY(ckpt_entries_add(&s->tables[table], &entry));
  }
  return STATUS_OK;
}

/* Collective; the ranks agree after each unit, so that none waits for a rank that has given up. */
static status write_tensors(saving *s, const model *m, weight_store *w, const dist *d) {
  static const state_kind kinds[TABLES] = {STATE_WEIGHTS, STATE_M, STATE_V};
  for (int table = 0; table < TABLES; table++) {
    for (int u = 0; u < m->n_units; u++) {
      status mine = w->ops->read(w, u, kinds[table], s->values);
      if (mine == STATUS_OK && d->rank == 0) {
        mine = write_unit(s, &m->units[u], table);
      }
      TRY(dist_agree(d, mine));
    }
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
  int descriptor = open(path, O_RDONLY | O_CLOEXEC);
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

static void close_groups(saving *s) {
  for (int table = 0; table < TABLES; table++) {
    if (s->groups[table] > 0) {
      H5Gclose(s->groups[table]);
    }
    s->groups[table] = 0;
  }
}

static status save_end(saving *s, const config *c, const run_state *state, const token_store *t, const dist *d) {
  TRY(ckpt_state_write(s->file, state));
  TRY(ckpt_config_write(s->file, c, s->identity));
  TRY(ckpt_tokenizer_write(s->file, t, s->digests.tokenizer));
  TRY(write_launch(s->file, c, d));
  TRY(ckpt_format_write(s->file));
  TRY(ckpt_digests_make(s->tables, state, s->identity, &s->digests));
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
  status named = ckpt_name_step(s->folder, "latest", state->step);
  if (named == STATUS_OK && state->step == state->best_step) {
    named = ckpt_name_step(s->folder, "best", state->step);
  }
  if (named != STATUS_OK) {
    return status_prefix(named, "checkpoint %s is written and whole, but not named", s->path);
  }
  ckpt_prune(s->folder, state->step, c->checkpoint.keep_last, c->checkpoint.keep_every);
  return STATUS_OK;
}

static void save_release(saving *s) {
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
  free(s->values);
}

status checkpoint_save(const char *folder, const config *c, const model *m, weight_store *w, const run_state *state,
                       const token_store *tokenizer_of, const dist *d) {
  saving s = {.folder = folder};
  status result = dist_agree(d, d->rank == 0 ? save_begin(&s, c, m, w, state, tokenizer_of) : STATUS_OK);
  if (result == STATUS_OK) {
    result = write_tensors(&s, m, w, d);
  }
  if (result == STATUS_OK) {
    result = dist_agree(d, d->rank == 0 ? save_end(&s, c, state, tokenizer_of, d) : STATUS_OK);
  }
  if (d->rank == 0) {
    save_release(&s);
  }
  return result;
}
