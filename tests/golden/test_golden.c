/* The recorded cases pass in fp64 and fp32, and a case that is wrong in any way fails. The folder of the cases is the
 * first argument. */
/* cmocka.h needs these before it. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <glob.h>
#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "check/golden.h"

static const char *folder;

static bool passes(int n, char **files, config_precision precision) {
  bool all = false;
  assert_int_equal(golden_run(n, files, DEVICE_CPU, precision, &all), STATUS_OK);
  return all;
}

static void run_all(config_precision precision) {
  char pattern[1024];
  glob_t found;
  snprintf(pattern, sizeof(pattern), "%s/*.h5", folder);
  assert_int_equal(glob(pattern, 0, NULL, &found), 0);
  assert_true(found.gl_pathc >= 19);
  assert_true(passes((int)found.gl_pathc, found.gl_pathv, precision));
  globfree(&found);
}

static void test_fp64(void **unused) {
  run_all(PRECISION_FP64);
}
static void test_fp32(void **unused) {
  run_all(PRECISION_FP32);
}

/* ---- cases that must not pass ---- */

static char altered[] = "/tmp/psann-golden-XXXXXX.h5";

/* A copy of a case that the test may change. */
static void copy_case(const char *name) {
  char path[1024];
  char *data;
  size_t bytes;
  snprintf(path, sizeof(path), "%s/%s", folder, name);
  assert_int_equal(file_read(path, 1 << 24, &data, &bytes), STATUS_OK);
  assert_int_equal(file_write_atomic(altered, data, bytes), STATUS_OK);
  free(data);
}

static bool altered_passes(void) {
  char *files[] = {altered};
  return passes(1, files, PRECISION_FP64);
}

/* Multiplies element 0 of a dataset, or puts NaN there. */
static void change_value(const char *dataset, double factor) {
  hid_t file = H5Fopen(altered, H5F_ACC_RDWR, H5P_DEFAULT);
  hid_t id = H5Dopen2(file, dataset, H5P_DEFAULT), space = H5Dget_space(id);
  hssize_t n = H5Sget_simple_extent_npoints(space);
  assert_true(n > 0);
  double *values = test_malloc((size_t)n * sizeof(double));
  assert_true(H5Dread(id, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
  for (hssize_t i = 0; i < n; i++) {
    values[i] *= isnan(factor) && i > 0 ? 1 : factor;
  }
  assert_true(H5Dwrite(id, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >= 0);
  test_free(values);
  H5Sclose(space);
  H5Dclose(id);
  H5Fclose(file);
}

static void test_wrong_values(void **unused) {
  const struct {
    const char *dataset;
    double factor;
  } changes[] = {
      {"logits", 1 + 3e-6},
      {"logits", NAN},
      {"loss", 1 - 3e-6},
      {"loss", NAN},
      {"grads/blocks.1.alpha", 1 + 3e-5},
      {"grads/blocks.0.mlp.act._d", NAN},
      {"grads/embed.weight", 0},
      {"train/loss", 1 + 3e-6},
      {"train/grad_norm", 1 + 3e-5},
      {"train/lr", 1 + 1e-6},
      {"params_after/lm_head.weight", 1 + 3e-5},
      {"params_after/blocks.0.norm1.scale", NAN},
      {"params/blocks.0.attn.q_proj.weight", 1.001},
  };
  copy_case("respsann-rope.h5");
  assert_true(altered_passes());
  for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
    copy_case("respsann-rope.h5");
    change_value(changes[i].dataset, changes[i].factor);
    if (altered_passes()) {
      fail_msg("a case with a changed %s passes", changes[i].dataset);
    }
  }
}

static void rename_link(const char *from, const char *to) {
  hid_t file = H5Fopen(altered, H5F_ACC_RDWR, H5P_DEFAULT);
  assert_true(
      (to != NULL ? H5Lmove(file, from, file, to, H5P_DEFAULT, H5P_DEFAULT) : H5Ldelete(file, from, H5P_DEFAULT)) >= 0);
  H5Fclose(file);
}

static void test_missing_and_extra(void **unused) {
  const struct {
    const char *from, *to;
  } changes[] = {
      {"params/blocks.0.alpha", NULL},
      {"params/blocks.0.alpha", "params/blocks.7.alpha"},
      {"grads/ln_f.scale", NULL},
      {"grads/ln_f.scale", "grads/ln_f.bias"},
      {"params_after/embed.weight", NULL},
      {"logits", NULL},
      {"train/loss", NULL},
      {"input_ids", NULL},
  };
  for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
    copy_case("respsann-alibi-3heads.h5");
    rename_link(changes[i].from, changes[i].to);
    if (altered_passes()) {
      fail_msg("a case without %s passes", changes[i].from);
    }
  }
}

static void set_text(const char *attribute, const char *value) {
  hid_t file = H5Fopen(altered, H5F_ACC_RDWR, H5P_DEFAULT);
  hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
  H5Tset_size(type, strlen(value) + 1);
  H5Adelete(file, attribute); /* may not be there */
  hid_t id = H5Acreate2(file, attribute, type, space, H5P_DEFAULT, H5P_DEFAULT);
  assert_true(H5Awrite(id, type, value) >= 0);
  H5Aclose(id);
  H5Sclose(space);
  H5Tclose(type);
  H5Fclose(file);
}

static void set_integer(const char *attribute, long long value) {
  hid_t file = H5Fopen(altered, H5F_ACC_RDWR, H5P_DEFAULT);
  hid_t space = H5Screate(H5S_SCALAR);
  H5Adelete(file, attribute);
  hid_t id = H5Acreate2(file, attribute, H5T_NATIVE_LLONG, space, H5P_DEFAULT, H5P_DEFAULT);
  assert_true(H5Awrite(id, H5T_NATIVE_LLONG, &value) >= 0);
  H5Aclose(id);
  H5Sclose(space);
  H5Fclose(file);
}

static void test_attributes(void **unused) {
  const struct {
    const char *name;
    long long value;
  } wrong[] = {{"n_heads", 5},     {"n_layers", 3},         {"d_mlp", 63},    {"vocab_size", 10},  {"total_steps", 5},
               {"total_steps", 0}, {"grad_accum_steps", 2}, {"n_colours", 3}, {"warmup_steps", 5}, {"vocab_size", -1}};
  copy_case("waveresnet-interleave-causal.h5");
  set_text("case", "a name for people");
  assert_true(altered_passes());
  for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
    copy_case("waveresnet-interleave-causal.h5");
    set_integer(wrong[i].name, wrong[i].value);
    if (altered_passes()) {
      fail_msg("a case with %s = %lld passes", wrong[i].name, wrong[i].value);
    }
  }
  copy_case("waveresnet-interleave-causal.h5");
  set_text("wave_padding", "same");
  assert_false(altered_passes());
  copy_case("waveresnet-interleave-causal.h5");
  set_text("positional_encoding", "ropes");
  assert_false(altered_passes());
  set_text("base", "sgrpsann"); /* not offered: skipped, which is no failure */
  assert_true(altered_passes());
}

static void test_damaged(void **unused) {
  char *data, *missing[] = {"/tmp/no/such/file.h5"};
  size_t bytes;
  assert_false(passes(1, missing, PRECISION_FP64));
  copy_case("transformer-relu.h5");
  assert_int_equal(file_read(altered, 1 << 24, &data, &bytes), STATUS_OK);
  for (int i = 1; i < 8; i++) {
    assert_int_equal(file_write_atomic(altered, data, bytes * (size_t)i / 8), STATUS_OK);
    assert_false(altered_passes());
  }
  assert_int_equal(file_write_atomic(altered, data, 0), STATUS_OK);
  assert_false(altered_passes());
  free(data);
}

static int make_name(void **unused) {
  int handle = mkstemps(altered, 3);
  return handle < 0 ? -1 : close(handle);
}

static int remove_file(void **unused) {
  return unlink(altered);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_fp64),         cmocka_unit_test(test_fp32),
      cmocka_unit_test(test_wrong_values), cmocka_unit_test(test_missing_and_extra),
      cmocka_unit_test(test_attributes),   cmocka_unit_test(test_damaged),
  };
  if (argc != 2) {
    fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  folder = argv[1];
  return cmocka_run_group_tests_name("golden", tests, make_name, remove_file);
}
