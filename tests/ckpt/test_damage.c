/* Files that are no whole checkpoints: each must end in one sentence, and no damage may go unnoticed. */
#include <hdf5.h>
#include <sys/stat.h>

#include "fixture.h"

static uint64_t seed;

/* HDF5 itself loses memory on some damaged files; that we close what we open is counted in handles. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void) {
  return "leak:libhdf5\n";
}

static void refused(const char *path, const char *part) {
  checkpoint *k = (checkpoint *)&seed;
  assert_fails(STATUS_USER_ERROR, part, checkpoint_open(path, false, &k));
  assert_null(k);
  assert_non_null(strstr(status_message(), path));
  assert_null(strchr(status_message(), '\n'));
}

static void no_checkpoint_at_all(void **unused) {
  char *folder = test_folder(), *path = fixture_path(folder, 1);
  refused(path, "No such file");
  refused(folder, "holds no checkpoint");
  fixture_write_file(path, "", 0);
  refused(path, "is empty");
  fixture_write_file(path, "\x89HD", 3);
  refused(path, "not an HDF5 file");
  unsigned char noise[5000];
  for (size_t i = 0; i < sizeof noise; i++) {
    noise[i] = (unsigned char)test_random(&seed);
  }
  fixture_write_file(path, noise, sizeof noise);
  refused(path, "not an HDF5 file");
  memcpy(noise, "\x89HDF\r\n\x1a\n", 8);
  fixture_write_file(path, noise, sizeof noise);
  refused(path, "is damaged");
  unlink(path);
  assert_int_equal(mkfifo(path, 0600), 0);
  refused(path, "is not a file");
  unlink(path);

  hid_t foreign = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
  assert_true(H5Gclose(H5Gcreate2(foreign, "model", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT)) >= 0);
  assert_true(H5Fclose(foreign) >= 0);
  refused(path, "no psann checkpoint");
  fixture_remove(folder);
  free(path);
  free(folder);
}

static void pointers_that_lead_nowhere(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 1);
  char *folder = test_folder(), latest[4096];
  checkpoint *k;
  assert_ok(fixture_save(f, folder, 7));
  snprintf(latest, sizeof latest, "%s/latest", folder);
  static const char *const texts[] = {"", "../step_00000007.h5\n", "step_7.h5\n", "step_00000007.h5.tmp\n",
                                      "/etc/passwd"};
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
    fixture_write_file(latest, texts[i], strlen(texts[i]));
    assert_fails(STATUS_USER_ERROR, "names no checkpoint", checkpoint_open(folder, false, &k));
  }
  fixture_write_file(latest, "step_00000008.h5\n", 17);
  assert_fails(STATUS_USER_ERROR, "step_00000008.h5", checkpoint_open(folder, false, &k));
  unlink(latest); /* the newest file then */
  assert_ok(checkpoint_open(folder, true, &k));
  assert_int_equal(k->state.step, 7);
  checkpoint_close(k);
  fixture_remove(folder);
  free(folder);
  fixture_free(f);
}

static void cut_off_anywhere(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 1);
  char *folder = test_folder(), *path = fixture_path(folder, 1);
  size_t bytes;
  assert_ok(fixture_save(f, folder, 1));
  unsigned char *whole = fixture_read_file(path, &bytes);
  for (int i = 0; i < 60; i++) {
    size_t kept = i < 2 ? bytes - 1 - (size_t)i : 1 + test_random(&seed) % (bytes - 1);
    fixture_write_file(path, whole, kept);
    refused(path, kept < 8 ? "not an HDF5 file" : "is damaged");
  }
  free(whole);
  fixture_remove(folder);
  free(path);
  free(folder);
  fixture_free(f);
}

/* Opens, verifies and loads what is at `path`. When all three succeed the damage must have hit nothing that counts.
 * Whether it was noticed. */
static bool noticed(const char *path, const fixture *f, const run_state *state, const char *root) {
  fixture *g = fixture_like(f);
  checkpoint *k = NULL;
  status result = checkpoint_open(path, false, &k);
  if (result == STATUS_OK) {
    status verified = checkpoint_verify(k);
    result = checkpoint_load(k, g->m, &g->w, true, &g->d);
    assert_int_equal(verified, result);
  }
  if (result == STATUS_OK) {
    fixture_assert_same(f, g, true);
    assert_memory_equal(&k->state, state, sizeof *state);
    assert_string_equal(k->digest, root);
    assert_int_equal(k->tokenizer_bytes, f->tokens.tokenizer_bytes);
    if (k->tokenizer_bytes > 0) {
      assert_memory_equal(k->tokenizer_data, f->tokens.tokenizer_data, k->tokenizer_bytes);
    }
    char *before, *after;
    assert_ok(config_text(f->c, &before));
    assert_ok(config_text(k->config, &after));
    assert_string_equal(before, after);
    free(before);
    free(after);
  } else {
    assert_int_equal(result, STATUS_USER_ERROR);
    assert_non_null(strstr(status_message(), path));
  }
  checkpoint_close(k);
  fixture_free(g);
  return result != STATUS_OK;
}

/* Damages `count` bytes at `at` in one of three ways: a bit, a byte, a run of zeros as a lost page leaves it. */
static void damage(unsigned char *at, size_t room) {
  switch (test_random(&seed) % 3) {
    case 0:
      *at ^= (unsigned char)(1u << (test_random(&seed) % 8));
      break;
    case 1:
      *at ^= (unsigned char)(1u + test_random(&seed) % 255);
      break;
    default: {
      size_t zeros = 1 + test_random(&seed) % 4096;
      memset(at, 0, zeros < room ? zeros : room);
    }
  }
}

static void damage_many(int times, bool data_only) {
  fixture *f = fixture_new(test_random(&seed), 1);
  char *folder = test_folder(), *path = fixture_path(folder, 9), root[DIGEST_TEXT];
  checkpoint *k;
  size_t bytes;
  int seen = 0, changed = 0;
  assert_ok(fixture_save(f, folder, 9));
  run_state state = f->state;
  assert_ok(checkpoint_open(path, false, &k));
  memcpy(root, k->digest, sizeof root);
  checkpoint_close(k);
  unsigned char *whole = fixture_read_file(path, &bytes), *copy = malloc(bytes);
  const float *values = f->values[0][0] + f->m->units[0].tensors[0].offset;
  size_t length = (size_t)f->m->units[0].tensors[0].count * sizeof *values;
  unsigned char *data = memmem(whole, bytes, values, length);
  assert_non_null(data);
  int64_t handles = fixture_handles();
  for (int i = 0; i < times; i++) {
    size_t first = data_only ? (size_t)(data - whole) : 0, room = data_only ? length : bytes;
    size_t at = test_random(&seed) % room;
    memcpy(copy, whole, bytes);
    damage(copy + first + at, room - at);
    fixture_write_file(path, copy, bytes);
    changed += memcmp(copy, whole, bytes) != 0;
    seen += noticed(path, f, &state, root);
  }
  assert_int_equal(fixture_handles(), handles);
  if (data_only) {
    assert_int_equal(seen, changed);
  } else {
    print_message("%d of %d damages noticed, the others hit nothing that counts (%zu bytes)\n", seen, changed, bytes);
    assert_true(seen > 0);
  }
  free(copy);
  free(whole);
  fixture_remove(folder);
  free(path);
  free(folder);
  fixture_free(f);
}

static void damage_in_a_tensor(void **unused) {
  damage_many(60, true);
}

static void damage_anywhere(void **unused) {
  const char *times = getenv("CKPT_DAMAGES"); /* more of them for a longer look */
  damage_many(times != NULL ? atoi(times) : 250, false);
}

/* A whole dataset in another one's place carries its own digest with it. */
static void swapped_tensors(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 1);
  char *folder = test_folder(), *path = fixture_path(folder, 2);
  assert_ok(fixture_save(f, folder, 2));
  hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
  assert_true(file >= 0);
  hid_t m = H5Gopen2(file, "optim/m", H5P_DEFAULT), v = H5Gopen2(file, "optim/v", H5P_DEFAULT);
  const char *name = f->m->units[0].tensors[0].name;
  assert_true(H5Lmove(m, name, v, "aside", H5P_DEFAULT, H5P_DEFAULT) >= 0);
  assert_true(H5Lmove(v, name, m, name, H5P_DEFAULT, H5P_DEFAULT) >= 0);
  assert_true(H5Lmove(v, "aside", v, name, H5P_DEFAULT, H5P_DEFAULT) >= 0);
  H5Gclose(m);
  H5Gclose(v);
  H5Fclose(file);
  refused(path, "the digest of /optim");
  fixture_remove(folder);
  free(path);
  free(folder);
  fixture_free(f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(no_checkpoint_at_all), cmocka_unit_test(pointers_that_lead_nowhere),
      cmocka_unit_test(cut_off_anywhere),     cmocka_unit_test(damage_in_a_tensor),
      cmocka_unit_test(damage_anywhere),      cmocka_unit_test(swapped_tensors),
  };
  seed = test_seed();
  return cmocka_run_group_tests_name("damage", tests, NULL, NULL);
}
