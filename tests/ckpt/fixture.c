#include "fixture.h"

#include <dirent.h>
#include <fcntl.h>
#include <hdf5.h>
#include <math.h>
#include <sys/stat.h>

#include "base/log.h"

static status store_read(weight_store *s, int u, state_kind what, void *values) {
  fixture *f = (fixture *)((char *)s - offsetof(fixture, w));
  if (f->fail_after == 0) {
    FAIL("the store gives up");
  }
  f->fail_after -= f->fail_after > 0;
  if (f->d.rank == 0) { /* other ranks may give NULL */
    memcpy(values, f->values[what][u], (size_t)f->m->units[u].count * sizeof(float));
  }
  return STATUS_OK;
}

static status store_write(weight_store *s, int u, state_kind what, const void *values) {
  fixture *f = (fixture *)((char *)s - offsetof(fixture, w));
  if (f->fail_after == 0) {
    FAIL("the store gives up");
  }
  f->fail_after -= f->fail_after > 0;
  for (int64_t i = 0; f->d.rank == 0 && i < f->m->units[u].count; i++) {
    f->values[what][u][i] = f->e.state == DTYPE_F64 ? (float)((const double *)values)[i] : ((const float *)values)[i];
  }
  return STATUS_OK;
}

/* Uneven on purpose: the first rank has all of a unit, or the last, or each a part. */
static void store_own(const weight_store *s, int u, int64_t *first, int64_t *count) {
  const fixture *f = (const fixture *)((const char *)s - offsetof(fixture, w));
  int64_t all = f->m->units[u].count, rank = f->d.rank, ranks = f->d.ranks;
  int64_t starts[2] = {all * rank / ranks, all * (rank + 1) / ranks};
  if (u % 3 == 1) {
    starts[0] = rank == 0 ? 0 : all;
    starts[1] = all;
  } else if (u % 3 == 2) {
    starts[0] = 0;
    starts[1] = rank == ranks - 1 ? all : 0;
  }
  *first = starts[0];
  *count = starts[1] - starts[0];
}

static status store_read_own(weight_store *s, int u, state_kind what, void *values) {
  fixture *f = (fixture *)((char *)s - offsetof(fixture, w));
  int64_t first, count;
  if (f->fail_after == 0) {
    FAIL("the store gives up");
  }
  f->fail_after -= f->fail_after > 0;
  store_own(s, u, &first, &count);
  memcpy(values, f->values[what][u] + first, (size_t)count * sizeof(float));
  return STATUS_OK;
}

static const weight_store_ops store_ops = {
    .read = store_read, .own = store_own, .read_own = store_read_own, .write = store_write};

static status engine_synchronize(engine *e) {
  return STATUS_OK;
}

static const engine_ops memory_engine = {.synchronize = engine_synchronize};

static int64_t between(fixture *f, int64_t lo, int64_t hi) {
  return lo + (int64_t)(test_random(&f->random) % (uint64_t)(hi - lo + 1));
}

static void set(config *c, const char *section, const char *name, const char *format, ...) {
  char value[256];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(value, sizeof value, format, arguments);
  va_end(arguments);
  assert_ok(config_set(c, section, name, value, "test"));
}

static void make_config(fixture *f, int scale) {
  static const char *const bases[] = {"respsann", "waveresnet", "transformer"};
  int base = (int)between(f, 0, 2);
  long long heads = between(f, 1, 3), width = 2 * heads * between(f, 1, 5) * scale;
  assert_ok(config_new(&f->c));
  set(f->c, "run", "dir", "somewhere");
  set(f->c, "run", "seed", "%lld", (long long)between(f, 0, 1 << 30));
  set(f->c, "data", "train", "a store.h5");
  set(f->c, "model", "base", "%s", bases[base]);
  set(f->c, "model", "n_heads", "%lld", heads);
  set(f->c, "model", "d_model", "%lld", width);
  set(f->c, "model", "n_layers", "%lld", (long long)between(f, 1, scale > 1 ? 3 : 12));
  set(f->c, "model", "vocab_size", "%lld", (long long)between(f, 2, 400) * scale);
  if (base == 1 && between(f, 0, 1) == 1) {
    set(f->c, "model", "wave_interleave", "true");
    set(f->c, "model", "wave_replace", "%s", between(f, 0, 1) == 1 ? "true" : "false");
  }
  if (!f->c->model.wave_replace) {
    set(f->c, "model", "d_mlp", "%lld", (long long)between(f, 1, 40) * scale);
  }
  if (base != 2) {
    static const char *const learn[] = {"none", "amplitude", "frequency,decay", "amplitude,frequency,decay"};
    set(f->c, "model", "sine_learnable", "%s", learn[between(f, 0, 3)]);
  }
  set(f->c, "data", "seq_len", "8");
  set(f->c, "train", "batch_tokens", "64");
  set(f->c, "train", "micro_batch", "2");
  set(f->c, "train", "max_steps", "100");
  assert_ok(config_resolve(f->c));
}

static void make_tokens(fixture *f) {
  token_store *t = &f->tokens;
  t->path = strdup("a store.h5");
  t->vocab_size = f->c->model.vocab_size;
  t->end_of_text = (int32_t)between(f, -1, t->vocab_size - 1);
  bool external = between(f, 0, 3) == 0;
  snprintf(t->tokenizer, sizeof t->tokenizer, "%s", external ? "external" : "chars");
  t->tokenizer_bytes = external ? 0 : (size_t)between(f, 1, 3000);
  t->tokenizer_data = t->tokenizer_bytes > 0 ? malloc(t->tokenizer_bytes) : NULL;
  for (size_t i = 0; i < t->tokenizer_bytes; i++) {
    ((unsigned char *)t->tokenizer_data)[i] = (unsigned char)test_random(&f->random);
  }
  digest_of(&f->random, sizeof f->random, t->digest);
}

static void allocate(fixture *f) {
  f->e.state = f->e.compute = DTYPE_F32;
  f->e.ops = &memory_engine;
  f->w = (weight_store){.ops = &store_ops, .m = f->m, .e = &f->e, .d = &f->d};
  f->d = (dist){.rank = 0, .ranks = 1, .local_ranks = 1, .hosts = 1, .host = "here"};
  f->fail_after = -1;
  for (int kind = 0; kind < 3; kind++) {
    f->values[kind] = calloc((size_t)f->m->n_units, sizeof *f->values[kind]);
    for (int u = 0; u < f->m->n_units; u++) {
      f->values[kind][u] = calloc((size_t)f->m->units[u].count, sizeof(float));
    }
  }
}

void fixture_fill(fixture *f) {
  for (int kind = 0; kind < 3; kind++) {
    for (int u = 0; u < f->m->n_units; u++) {
      for (int i = 0; i < f->m->units[u].n_tensors; i++) {
        const tensor *t = &f->m->units[u].tensors[i];
        for (int64_t e = 0; e < t->count && (kind == 0 || t->trainable); e++) {
          uint32_t bits = (uint32_t)test_random(&f->random);
          memcpy(&f->values[kind][u][t->offset + e], &bits, sizeof bits);
        }
      }
    }
  }
}

fixture *fixture_new(uint64_t seed, int scale) {
  fixture *f = calloc(1, sizeof *f);
  f->random = seed;
  make_config(f, scale);
  assert_ok(model_create(&f->c->model, NULL, &f->m));
  make_tokens(f);
  allocate(f);
  fixture_fill(f);
  f->state = (run_state){.step = between(f, 1, 1000000),
                         .sequences = between(f, 0, INT64_MAX / 4),
                         .tokens = between(f, 0, INT64_MAX / 4),
                         .loss_scale = 1.0 / 3.0,
                         .good_steps = between(f, 0, 1),
                         .best_val_loss = INFINITY,
                         .best_step = -1,
                         .val_loss = NAN};
  f->state.updates = f->state.step - 1;
  memcpy(f->state.train_digest, f->tokens.digest, sizeof f->state.train_digest);
  if (between(f, 0, 1) == 1) { /* as on a GPU */
    digest_of(&f->state.step, sizeof f->state.step, f->state.plans_digest);
  }
  return f;
}

fixture *fixture_like(const fixture *other) {
  fixture *f = calloc(1, sizeof *f);
  f->random = other->random + 1;
  assert_ok(config_copy(other->c, &f->c));
  assert_ok(model_create(&f->c->model, NULL, &f->m));
  f->tokens = other->tokens;
  f->tokens.path = strdup(other->tokens.path);
  f->tokens.tokenizer_data = malloc(other->tokens.tokenizer_bytes + 1);
  if (other->tokens.tokenizer_bytes > 0) {
    memcpy(f->tokens.tokenizer_data, other->tokens.tokenizer_data, other->tokens.tokenizer_bytes);
  }
  f->state = other->state;
  allocate(f);
  fixture_fill(f);
  return f;
}

void fixture_free(fixture *f) {
  for (int kind = 0; kind < 3; kind++) {
    for (int u = 0; u < f->m->n_units; u++) {
      free(f->values[kind][u]);
    }
    free(f->values[kind]);
  }
  free(f->tokens.path);
  free(f->tokens.tokenizer_data);
  model_free(f->m);
  config_free(f->c);
  free(f);
}

void fixture_assert_same(const fixture *a, const fixture *b, bool moments) {
  for (int kind = 0; kind < (moments ? 3 : 1); kind++) {
    for (int u = 0; u < a->m->n_units; u++) {
      size_t bytes = (size_t)a->m->units[u].count * sizeof(float);
      if (memcmp(a->values[kind][u], b->values[kind][u], bytes) != 0) {
        fail_msg("kind %d of unit %s differs", kind, a->m->units[u].name);
      }
    }
  }
}

status fixture_save(fixture *f, const char *folder, int64_t step) {
  f->state.step = step;
  f->state.updates = step;
  return checkpoint_save(folder, f->c, f->m, &f->w, &f->state, &f->tokens, &f->d);
}

checkpoint_writer *fixture_writer(fixture *f, const char *folder, bool background) {
  const checkpoint_writer_spec spec = {
      .folder = folder, .c = f->c, .m = f->m, .w = &f->w, .tokenizer_of = &f->tokens, .d = &f->d};
  checkpoint_writer *writer;
  assert_ok(checkpoint_writer_create(&spec, background, &writer));
  return writer;
}

void fixture_start(fixture *f, checkpoint_writer *writer, int64_t step) {
  f->state.step = step;
  f->state.updates = step;
  assert_ok(checkpoint_writer_start(writer, &f->state));
}

char *fixture_path(const char *folder, int64_t step) {
  char *path = NULL;
  assert_true(asprintf(&path, "%s/step_%08lld.h5", folder, (long long)step) > 0);
  return path;
}

unsigned char *fixture_read_file(const char *path, size_t *bytes) {
  FILE *in = fopen(path, "rb");
  struct stat about;
  assert_non_null(in);
  assert_int_equal(fstat(fileno(in), &about), 0);
  *bytes = (size_t)about.st_size;
  unsigned char *data = malloc(*bytes + 1);
  assert_int_equal(fread(data, 1, *bytes, in), *bytes);
  fclose(in);
  return data;
}

void fixture_write_file(const char *path, const void *data, size_t bytes) {
  FILE *out = fopen(path, "wb");
  assert_non_null(out);
  assert_int_equal(fwrite(data, 1, bytes, out), bytes);
  assert_int_equal(fclose(out), 0);
}

int64_t fixture_handles(void) {
  return H5Fget_obj_count((hid_t)H5F_OBJ_ALL, H5F_OBJ_ALL);
}

int fixture_count(const char *folder) {
  DIR *d = opendir(folder);
  int count = 0;
  assert_non_null(d);
  for (struct dirent *e; (e = readdir(d)) != NULL;) {
    count += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
  }
  closedir(d);
  return count;
}

void fixture_remove(const char *folder) {
  DIR *d = opendir(folder);
  for (struct dirent *e; d != NULL && (e = readdir(d)) != NULL;) {
    unlinkat(dirfd(d), e->d_name, 0);
  }
  if (d != NULL) {
    closedir(d);
  }
  rmdir(folder);
}

char *fixture_output(void (*print)(void *context), void *context) {
  FILE *file = tmpfile();
  assert_non_null(file);
  fflush(stdout);
  fflush(stderr);
  int out = dup(STDOUT_FILENO), error = dup(STDERR_FILENO);
  dup2(fileno(file), STDOUT_FILENO);
  dup2(fileno(file), STDERR_FILENO);
  print(context);
  fflush(stdout);
  fflush(stderr);
  dup2(out, STDOUT_FILENO);
  dup2(error, STDERR_FILENO);
  close(out);
  close(error);
  long bytes = lseek(fileno(file), 0, SEEK_END);
  char *text = calloc((size_t)bytes + 1, 1);
  assert_int_equal(pread(fileno(file), text, (size_t)bytes, 0), bytes);
  fclose(file);
  return text;
}
