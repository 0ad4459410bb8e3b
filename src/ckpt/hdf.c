#include "ckpt/hdf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bulk_io.h"
#include "base/memory.h"
#include "base/wall.h"

enum { REASON = 160, LARGEST_TEXT = 1 << 24 };

static herr_t take_first(unsigned n, const H5E_error2_t *e, void *reason) {
  if (n == 0 && e->desc != NULL) {
    snprintf(reason, REASON, "%s", e->desc);
  }
  return 0;
}

/* What HDF5 said at the place where it failed. */
static const char *hdf_reason(char reason[REASON]) {
  snprintf(reason, REASON, "no reason given");
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_first, reason);
  return reason;
}

static status hdf_failed(const char *what, const char *name) {
  char reason[REASON];
  FAIL("HDF5 could not %s %s (%s)", what, name, hdf_reason(reason));
}

status hdf_damaged(const char *file, int line, const char *path, const char *format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  status_set(STATUS_USER_ERROR, file, line,
             "checkpoint %s is damaged: %s; use another checkpoint, or copy this one again", path, text);
  return STATUS_USER_ERROR;
}

/* --- files --- */

static void hdf_quiet(void) {
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

/* Nothing is evicted while writing: after a failed write there would be nothing to read back. */
static herr_t keep_metadata(hid_t access) {
  H5AC_cache_config_t cache = {.version = H5AC__CURR_CACHE_CONFIG_VERSION};
  if (H5Pget_mdc_config(access, &cache) < 0) {
    return -1;
  }
  cache.evictions_enabled = false;
  cache.incr_mode = H5C_incr__off;
  cache.flash_incr_mode = H5C_flash_incr__off;
  cache.decr_mode = H5C_decr__off;
  return H5Pset_mdc_config(access, &cache);
}

status hdf_create(const char *path, hdf_driver_fault *fault, hid_t *file) {
  hdf_quiet();
  hid_t access = hdf_driver_access(fault);
  hid_t creation = H5Pcreate(H5P_FILE_CREATE);
  *file = H5I_INVALID_HID;
  /* The format of the 1.8 line carries checksums of all its structures, so a flipped bit there is noticed. */
  if (access >= 0 && creation >= 0 && H5Pset_libver_bounds(access, H5F_LIBVER_V18, H5F_LIBVER_V18) >= 0 &&
      keep_metadata(access) >= 0 && H5Pset_obj_track_times(creation, false) >= 0 &&
      H5Pset_link_creation_order(creation, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED) >= 0) {
    *file = H5Fcreate(path, H5F_ACC_TRUNC, creation, access);
  }
  status result = *file >= 0 ? STATUS_OK : hdf_failed("create", path);
  if (*file < 0 && fault->error != 0) {
    result = hdf_fault(path, fault);
  }
  H5Pclose(creation);
  H5Pclose(access);
  return result;
}

/* What can be told before HDF5 looks at the file. */
static status check_file(const char *path) {
  static const unsigned char signature[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1A, '\n'};
  unsigned char start[8];
  struct stat information;
  int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0 || fstat(descriptor, &information) != 0) {
    int error = errno;
    if (descriptor >= 0) {
      close(descriptor);
    }
    USER_ERROR("checkpoint %s can't be opened: %s; check the path", path, strerror(error));
  }
  size_t got = 0;
  for (ssize_t n = 1; S_ISREG(information.st_mode) && n > 0 && got<sizeof start; got += n> 0 ? (size_t)n : 0) {
    n = pread(descriptor, start + got, sizeof start - got, (off_t)got);
  }
  close(descriptor);
  if (!S_ISREG(information.st_mode)) {
    USER_ERROR("checkpoint %s is not a file; give a file step_….h5 or a run folder", path);
  }
  if (information.st_size == 0) {
    USER_ERROR("checkpoint %s is empty; use another checkpoint, or copy this one again", path);
  }
  if (got != sizeof start || memcmp(start, signature, sizeof start) != 0) {
    USER_ERROR("checkpoint %s is not an HDF5 file; give a checkpoint that psann_train wrote", path);
  }
  return STATUS_OK;
}

status hdf_open(const char *path, hdf_driver_fault *fault, hid_t *file) {
  hdf_quiet();
  *file = H5I_INVALID_HID;
  TRY(check_file(path));
  TRY(wall_check(WALL_CHECKPOINT, path));
  hid_t access = hdf_driver_access(fault);
  if (access < 0) {
    return hdf_failed("open", path);
  }
  *file = H5Fopen(path, H5F_ACC_RDONLY, access);
  if (*file < 0) {
    char reason[REASON];
    hdf_reason(reason);
    H5Pclose(access);
    DAMAGED(path, "it is cut off or its structure is broken (HDF5: %s)", reason);
  }
  H5Pclose(access);
  return STATUS_OK;
}

status hdf_fault(const char *path, const hdf_driver_fault *fault) {
  if (fault->error != 0) {
    FAIL("checkpoint %s could not be written: %s; free some space or check the disk, earlier checkpoints are whole",
         path, strerror(fault->error));
  }
  return STATUS_OK;
}

status hdf_finish(const char *path, const hdf_driver_fault *fault, hid_t file) {
  herr_t flushed = H5Fflush(file, H5F_SCOPE_GLOBAL);
  herr_t closed = H5Fclose(file);
  TRY(hdf_fault(path, fault));
  if (flushed < 0 || closed < 0) {
    return hdf_failed("finish", path);
  }
  return STATUS_OK;
}

/* --- writing --- */

status hdf_make_group(hid_t parent, const char *name, hid_t *group) {
  hid_t creation = H5Pcreate(H5P_GROUP_CREATE);
  *group = H5I_INVALID_HID;
  if (creation >= 0 && H5Pset_obj_track_times(creation, false) >= 0 &&
      H5Pset_link_creation_order(creation, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED) >= 0) {
    *group = H5Gcreate2(parent, name, H5P_DEFAULT, creation, H5P_DEFAULT);
  }
  status result = *group >= 0 ? STATUS_OK : hdf_failed("create group", name);
  H5Pclose(creation);
  return result;
}

static status put_attribute(hid_t object, const char *name, hid_t file_type, hid_t memory_type, const void *value) {
  hid_t space = H5Screate(H5S_SCALAR);
  hid_t attribute = H5Acreate2(object, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT);
  status result = STATUS_OK;
  if (attribute < 0 || H5Awrite(attribute, memory_type, value) < 0) {
    result = hdf_failed("write attribute", name);
  }
  H5Aclose(attribute);
  H5Sclose(space);
  return result;
}

status hdf_put_text(hid_t object, const char *name, const char *text) {
  hid_t type = H5Tcopy(H5T_C_S1);
  status result;
  if (H5Tset_size(type, strlen(text) + 1) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0) {
    result = hdf_failed("write attribute", name);
  } else {
    result = put_attribute(object, name, type, type, text);
  }
  H5Tclose(type);
  return result;
}

status hdf_put_int(hid_t object, const char *name, int64_t value) {
  return put_attribute(object, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
}

status hdf_put_real(hid_t object, const char *name, double value) {
  return put_attribute(object, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value);
}

status hdf_put_data(hid_t group, const char *name, hid_t type, int dims, const int64_t *shape, const void *data,
                    char text[DIGEST_TEXT]) {
  REQUIRE(dims >= 1 && dims <= HDF_DIMS, "dataset %s has %d dimensions", name, dims);
  hsize_t extent[HDF_DIMS];
  size_t bytes = H5Tget_size(type);
  for (int i = 0; i < dims; i++) {
    extent[i] = (hsize_t)shape[i];
    bytes *= (size_t)shape[i];
  }
  digest_of(bytes > 0 ? data : "", bytes, text);
  hid_t creation = H5Pcreate(H5P_DATASET_CREATE);
  hid_t space = H5Screate_simple(dims, extent, NULL);
  hid_t set = H5I_INVALID_HID;
  if (creation >= 0 && space >= 0 && H5Pset_obj_track_times(creation, false) >= 0 &&
      H5Pset_layout(creation, H5D_CONTIGUOUS) >= 0 && H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER) >= 0) {
    set = H5Dcreate2(group, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
  }
  status result = STATUS_OK;
  if (set < 0 || (bytes > 0 && H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)) {
    result = hdf_failed("write dataset", name);
  }
  if (result == STATUS_OK) {
    result = hdf_put_text(set, "digest", text);
  }
  H5Dclose(set);
  H5Sclose(space);
  H5Pclose(creation);
  return result;
}

/* --- reading --- */

status hdf_open_group(hid_t file, const char *path, const char *name, hid_t *group) {
  *group = H5Gopen2(file, name, H5P_DEFAULT);
  if (*group < 0) {
    char reason[REASON];
    DAMAGED(path, "group %s is missing or broken (HDF5: %s)", name, hdf_reason(reason));
  }
  return STATUS_OK;
}

static status open_attribute(hid_t object, const char *path, const char *name, H5T_class_t kind, hid_t *attribute) {
  *attribute = H5Aopen(object, name, H5P_DEFAULT);
  if (*attribute < 0) {
    char reason[REASON];
    DAMAGED(path, "attribute %s is missing or broken (HDF5: %s)", name, hdf_reason(reason));
  }
  hid_t type = H5Aget_type(*attribute);
  hid_t space = H5Aget_space(*attribute);
  bool fits = H5Tget_class(type) == kind && H5Sget_simple_extent_npoints(space) == 1 && H5Tis_variable_str(type) <= 0;
  H5Tclose(type);
  H5Sclose(space);
  if (!fits) {
    H5Aclose(*attribute);
    DAMAGED(path, "attribute %s is of another kind than expected", name);
  }
  return STATUS_OK;
}

static status get_attribute(hid_t object, const char *path, const char *name, H5T_class_t kind, hid_t memory_type,
                            void *value) {
  hid_t attribute;
  TRY(open_attribute(object, path, name, kind, &attribute));
  herr_t got = H5Aread(attribute, memory_type, value);
  H5Aclose(attribute);
  if (got < 0) {
    char reason[REASON];
    DAMAGED(path, "attribute %s can't be read (HDF5: %s)", name, hdf_reason(reason));
  }
  return STATUS_OK;
}

status hdf_get_text(hid_t object, const char *path, const char *name, char **text) {
  hid_t attribute;
  *text = NULL;
  TRY(open_attribute(object, path, name, H5T_STRING, &attribute));
  hid_t type = H5Aget_type(attribute);
  size_t bytes = H5Tget_size(type);
  status result = STATUS_OK;
  if (bytes == 0 || bytes > LARGEST_TEXT) {
    result = hdf_damaged(__FILE__, __LINE__, path, "attribute %s claims %zu bytes", name, bytes);
  }
  if (result == STATUS_OK) {
    result = memory_new(text, bytes + 1, 1, name);
  }
  if (result == STATUS_OK && H5Aread(attribute, type, *text) < 0) {
    char reason[REASON];
    hdf_reason(reason);
    free(*text);
    *text = NULL;
    hdf_damaged(__FILE__, __LINE__, path, "attribute %s can't be read (HDF5: %s)", name, reason);
    result = STATUS_USER_ERROR;
  }
  H5Tclose(type);
  H5Aclose(attribute);
  return result;
}

status hdf_get_digest(hid_t object, const char *path, const char *name, char text[DIGEST_TEXT]) {
  char *value;
  TRY(hdf_get_text(object, path, name, &value));
  size_t length = strlen(value);
  snprintf(text, DIGEST_TEXT, "%s", value);
  free(value);
  if (length != DIGEST_TEXT - 1) {
    DAMAGED(path, "attribute %s is no digest", name);
  }
  return STATUS_OK;
}

status hdf_get_int(hid_t object, const char *path, const char *name, int64_t *value) {
  return get_attribute(object, path, name, H5T_INTEGER, H5T_NATIVE_INT64, value);
}

status hdf_get_real(hid_t object, const char *path, const char *name, double *value) {
  return get_attribute(object, path, name, H5T_FLOAT, H5T_NATIVE_DOUBLE, value);
}

static status open_data(hid_t group, const char *path, const char *name, hid_t type, hid_t *set) {
  *set = H5Dopen2(group, name, H5P_DEFAULT);
  if (*set < 0) {
    char reason[REASON];
    DAMAGED(path, "dataset %s is missing or broken (HDF5: %s)", name, hdf_reason(reason));
  }
  hid_t stored = H5Dget_type(*set);
  bool same = H5Tequal(stored, type) > 0;
  H5Tclose(stored);
  if (!same) {
    H5Dclose(*set);
    DAMAGED(path, "dataset %s has another element type than expected", name);
  }
  return STATUS_OK;
}

/* The size that a shape claims must be what the file stores, before anything is allocated for it. */
static status check_extent(hid_t set, const char *path, const char *name, hid_t type, int *dims, int64_t *shape) {
  hid_t space = H5Dget_space(set);
  hsize_t extent[H5S_MAX_RANK];
  int rank = H5Sget_simple_extent_dims(space, extent, NULL);
  H5Sclose(space);
  if (rank < 1 || rank > HDF_DIMS) {
    DAMAGED(path, "dataset %s has %d dimensions, expected 1 to %d", name, rank, HDF_DIMS);
  }
  uint64_t bytes = H5Tget_size(type);
  bool sound = true;
  for (int i = 0; i < rank; i++) {
    sound = sound && extent[i] <= (hsize_t)INT64_MAX && !__builtin_mul_overflow(bytes, (uint64_t)extent[i], &bytes);
    shape[i] = (int64_t)extent[i];
  }
  *dims = rank;
  int64_t offset;
  uint64_t stored = 0;
  if (!hdf_one_piece(set, &offset, &stored)) {
    DAMAGED(path, "the elements of dataset %s don't lie within the file in one piece", name);
  }
  if (!sound || stored != bytes) {
    DAMAGED(path, "dataset %s stores %llu bytes, which is not what its shape needs", name, (unsigned long long)stored);
  }
  return STATUS_OK;
}

status hdf_data_shape(hid_t group, const char *path, const char *name, hid_t type, int *dims, int64_t *shape,
                      char text[DIGEST_TEXT]) {
  hid_t set;
  TRY(open_data(group, path, name, type, &set));
  status result = check_extent(set, path, name, type, dims, shape);
  if (result == STATUS_OK) {
    result = hdf_get_digest(set, path, "digest", text);
  }
  H5Dclose(set);
  return result;
}

static status compare_digests(const char *path, const char *name, const char *found, const char *recorded) {
  if (strcmp(found, recorded) != 0) {
    DAMAGED(path, "the digest of %s is %s, recorded %s", name, found, recorded);
  }
  return STATUS_OK;
}

status hdf_get_data(hid_t group, const char *path, const char *name, hid_t type, size_t bytes, const char *recorded,
                    void *data) {
  hid_t set;
  TRY(open_data(group, path, name, type, &set));
  bool fits = H5Dget_storage_size(set) == bytes;
  herr_t got = fits && bytes > 0 ? H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) : 0;
  H5Dclose(set);
  if (!fits || got < 0) {
    char reason[REASON];
    DAMAGED(path, "dataset %s can't be read (HDF5: %s)", name, fits ? hdf_reason(reason) : "its size changed");
  }
  char found[DIGEST_TEXT];
  digest_of(data, bytes, found);
  return compare_digests(path, name, found, recorded);
}

/* Elements are stored as they are in memory, so the digest can be taken of the file's own bytes. */
static status digest_region(int descriptor, const char *path, const char *name, int64_t offset, size_t bytes,
                            char found[DIGEST_TEXT]) {
  char *block;
  digest *running = NULL;
  bulk_file file;
  TRY(memory_new(&block, BULK_BYTES, 1, "a block of a checkpoint"));
  bulk_open(&file, descriptor, false);
  status result = digest_new(&running);
  while (bytes > 0 && result == STATUS_OK) {
    ssize_t got = bulk_pread(&file, block, bytes < BULK_BYTES ? bytes : BULK_BYTES, (off_t)offset);
    if (got > 0) {
      digest_add(running, block, (size_t)got);
      offset += got;
      bytes -= (size_t)got;
    } else if (got == 0 || errno != EINTR) {
      result = hdf_damaged(__FILE__, __LINE__, path, "dataset %s can't be read (%s)", name,
                           got == 0 ? "the file became shorter" : strerror(errno));
    }
  }
  if (result == STATUS_OK) {
    digest_text(running, found);
  }
  digest_free(running);
  bulk_close(&file);
  free(block);
  return result;
}

status hdf_check_data(hid_t group, const char *path, const char *name, hid_t type, size_t bytes, const char *recorded) {
  hid_t set;
  char found[DIGEST_TEXT];
  int64_t offset;
  uint64_t stored = 0;
  TRY(open_data(group, path, name, type, &set));
  hid_t file = H5Iget_file_id(set);
  bool fits = hdf_one_piece(set, &offset, &stored) && stored == bytes;
  status result = fits ? digest_region(hdf_descriptor(file), path, name, offset, bytes, found)
                       : hdf_damaged(__FILE__, __LINE__, path, "dataset %s can't be read (its size changed)", name);
  H5Fclose(file);
  H5Dclose(set);
  TRY(result);
  return compare_digests(path, name, found, recorded);
}

status hdf_members(hid_t group, const char *path, int64_t *count) {
  H5G_info_t information;
  if (H5Gget_info(group, &information) < 0) {
    char reason[REASON];
    DAMAGED(path, "a group can't be listed (HDF5: %s)", hdf_reason(reason));
  }
  *count = (int64_t)information.nlinks;
  return STATUS_OK;
}

status hdf_member(hid_t group, const char *path, int64_t i, char **name) {
  *name = NULL;
  ssize_t length = H5Lget_name_by_idx(group, ".", H5_INDEX_CRT_ORDER, H5_ITER_INC, (hsize_t)i, NULL, 0, H5P_DEFAULT);
  if (length <= 0 || length > LARGEST_TEXT) {
    char reason[REASON];
    DAMAGED(path, "a group can't be listed (HDF5: %s)", hdf_reason(reason));
  }
  TRY(memory_new(name, (size_t)length + 1, 1, "name of a dataset"));
  if (H5Lget_name_by_idx(group, ".", H5_INDEX_CRT_ORDER, H5_ITER_INC, (hsize_t)i, *name, (size_t)length + 1,
                         H5P_DEFAULT) != length) {
    free(*name);
    *name = NULL;
    DAMAGED(path, "a group can't be listed");
  }
  return STATUS_OK;
}
