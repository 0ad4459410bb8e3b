/* Saves and loads by several ranks, of which one fails: all must learn of it, and none may wait for ever. Run under
 * mpirun. */
#include <signal.h>
#include <sys/resource.h>

#include "dist/dist.h"
#include "fixture.h"

static dist d;
static uint64_t seed;
static char *folder;

/* The same folder and the same model on all ranks. */
static fixture *start(void) {
  void *bytes = NULL;
  size_t count = 0;
  if (d.rank == 0) {
    folder = test_folder();
    bytes = folder;
    count = strlen(folder) + 1;
  }
  assert_ok(dist_broadcast(&d, &bytes, &count));
  folder = bytes;
  fixture *f = fixture_new(test_random(&seed), 1);
  f->d = d;
  return f;
}

static void end(fixture *f) {
  assert_ok(dist_barrier(&d));
  if (d.rank == 0) {
    fixture_remove(folder);
  }
  free(folder);
  fixture_free(f);
}

static void all_is_well(void **unused) {
  fixture *f = start(), *g = fixture_like(f);
  g->d = d;
  checkpoint *k = NULL;
  assert_ok(fixture_save(f, folder, 3));
  if (d.rank == 0) {
    assert_ok(checkpoint_open(folder, false, &k));
  }
  assert_ok(checkpoint_load(k, g->m, &g->w, true, &d));
  if (d.rank == 0) {
    fixture_assert_same(f, g, true);
    assert_int_equal(k->state.step, 3);
  }
  checkpoint_close(k);
  fixture_free(g);
  end(f);
}

/* Until the save under way has ended, with training's steps between the looks, or waiting at once. */
static status background_save(fixture *f, checkpoint_writer *writer, int64_t step, bool wait) {
  checkpoint_outcome o;
  fixture_start(f, writer, step);
  do {
    assert_ok(checkpoint_writer_advance(writer, wait, &o));
    if (!wait) {
      usleep((useconds_t)(test_random(&seed) % 2000));
    }
  } while (o.state.step < 0);
  assert_int_equal(o.state.step, step);
  return o.result;
}

/* Ranks share units unevenly; the bytes of the file are those of one rank's. */
static void in_the_background(void **unused) {
  fixture *f = start();
  checkpoint_writer *writer = fixture_writer(f, folder, true);
  for (int64_t step = 1; step <= 6; step++) {
    fixture_fill(f);
    assert_ok(background_save(f, writer, step, step % 2 == 0));
    if (d.rank == 0) {
      fixture *g = fixture_like(f);
      checkpoint *k;
      assert_ok(checkpoint_open(folder, false, &k));
      assert_int_equal(k->state.step, step);
      assert_ok(checkpoint_load(k, g->m, &g->w, true, &g->d));
      fixture_assert_same(f, g, true);
      checkpoint_close(k);
      fixture_free(g);
    }
  }
  checkpoint_writer_destroy(writer);
  end(f);
}

static void a_disk_that_fails_in_the_background(void **unused) {
  fixture *f = start();
  checkpoint_writer *writer = fixture_writer(f, folder, true);
  for (int64_t i = 1; i <= 6; i++) {
    struct rlimit old, limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    limit = old;
    limit.rlim_cur = test_random(&seed) % 20000;
    if (d.rank == 0) {
      assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    }
    status result = background_save(f, writer, 3, i % 2 == 0);
    if (d.rank == 0) {
      assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
      assert_int_equal(fixture_count(folder), i > 3 ? 2 : 0);
    }
    assert_int_equal(result, STATUS_FAILURE);
    assert_non_null(strstr(status_message(), "could not be written"));
    assert_true(d.rank == 0 || strstr(status_message(), "rank 0") != NULL);
    if (i == 3) { /* well again, and then not */
      assert_ok(background_save(f, writer, 2, true));
    }
  }
  checkpoint_writer_destroy(writer);
  end(f);
}

/* The copy fails on one rank: no file, and the next save is well. */
static void a_store_that_fails_in_the_background(void **unused) {
  fixture *f = start();
  checkpoint_writer *writer = fixture_writer(f, folder, true);
  for (int i = 0; i < 4; i++) {
    int failing = (int)(test_random(&seed) % (uint64_t)d.ranks);
    int after = (int)(test_random(&seed) % (uint64_t)(3 * f->m->n_units));
    f->fail_after = d.rank == failing ? after : -1;
    assert_fails(STATUS_FAILURE, "the store gives up", background_save(f, writer, 2, true));
    f->fail_after = -1;
    if (d.rank == 0) {
      assert_int_equal(fixture_count(folder), 0);
    }
  }
  assert_ok(background_save(f, writer, 2, true));
  checkpoint_writer_destroy(writer);
  end(f);
}

static void a_disk_that_fails_on_rank_0(void **unused) {
  fixture *f = start();
  struct rlimit old, limit;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
  for (int i = 0; i < 5; i++) {
    limit = old;
    limit.rlim_cur = test_random(&seed) % 20000;
    if (d.rank == 0) {
      assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    }
    status result = fixture_save(f, folder, 3);
    if (d.rank == 0) {
      assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
      assert_int_equal(fixture_count(folder), 0);
    }
    assert_int_equal(result, STATUS_FAILURE);
    assert_non_null(strstr(status_message(), "could not be written"));
    assert_true(d.rank == 0 || strstr(status_message(), "rank 0") != NULL);
  }
  end(f);
}

static void a_store_that_fails_on_one_rank(void **unused) {
  fixture *f = start(), *g = fixture_like(f);
  checkpoint *k = NULL;
  g->d = d;
  assert_ok(fixture_save(f, folder, 1));
  if (d.rank == 0) {
    assert_ok(checkpoint_open(folder, false, &k));
  }
  for (int i = 0; i < 6; i++) {
    int failing = (int)(test_random(&seed) % (uint64_t)d.ranks);
    int after = (int)(test_random(&seed) % (uint64_t)(3 * f->m->n_units));
    f->fail_after = g->fail_after = d.rank == failing ? after : -1;
    assert_fails(STATUS_FAILURE, "the store gives up", fixture_save(f, folder, 2));
    if (d.rank == 0) {
      assert_int_equal(fixture_count(folder), 2);
    }
    assert_fails(STATUS_FAILURE, "the store gives up", checkpoint_load(k, g->m, &g->w, true, &d));
  }
  checkpoint_close(k);
  fixture_free(g);
  end(f);
}

static void damage_that_shows_on_the_way(void **unused) {
  fixture *f = start(), *g = fixture_like(f);
  checkpoint *k = NULL;
  g->d = d;
  assert_ok(fixture_save(f, folder, 1));
  if (d.rank == 0) {
    char *path = fixture_path(folder, 1);
    size_t bytes;
    unsigned char *data = fixture_read_file(path, &bytes);
    int last = f->m->n_units - 1;
    const tensor *t = &f->m->units[last].tensors[0];
    unsigned char *at = memmem(data, bytes, f->values[0][last] + t->offset, (size_t)t->count * sizeof(float));
    assert_non_null(at);
    at[test_random(&seed) % ((size_t)t->count * sizeof(float))] ^= 1;
    fixture_write_file(path, data, bytes);
    assert_ok(checkpoint_open(path, false, &k));
    free(data);
    free(path);
  }
  assert_fails(STATUS_USER_ERROR, "is damaged: the digest of", checkpoint_load(k, g->m, &g->w, true, &d));
  checkpoint_close(k);
  fixture_free(g);
  end(f);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_is_well),
      cmocka_unit_test(in_the_background),
      cmocka_unit_test(a_disk_that_fails_in_the_background),
      cmocka_unit_test(a_store_that_fails_in_the_background),
      cmocka_unit_test(a_disk_that_fails_on_rank_0),
      cmocka_unit_test(a_store_that_fails_on_one_rank),
      cmocka_unit_test(damage_that_shows_on_the_way),
  };
  if (dist_start(&argc, &argv, &d) != STATUS_OK) {
    fprintf(stderr, "%s\n", status_message());
    return 1;
  }
  void *bytes = &seed;
  size_t count = sizeof seed;
  seed = d.rank == 0 ? test_seed() : 0;
  if (dist_broadcast(&d, &bytes, &count) != STATUS_OK) {
    return 1;
  }
  memcpy(&seed, bytes, sizeof seed);
  int failures = cmocka_run_group_tests_name("ranks", tests, NULL, NULL);
  dist_end(&d, failures == 0 ? STATUS_OK : STATUS_FAILURE);
  return failures;
}
