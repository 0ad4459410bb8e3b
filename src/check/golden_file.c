#include "check/golden_file.h"

#include <errno.h>
#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/hdf_driver.h"
#include "base/memory.h"
#include "base/wall.h"

enum { VALUE_TEXT = 512, ATTRIBUTE_NUMBERS = 8 };

struct golden_file {
  hid_t id;
  hdf_driver_fault fault;
  char *path;
};

static status open_file(golden_file *f) {
  struct stat about;
  if (stat(f->path, &about) != 0) {
    USER_ERROR("%s can't be read: %s; check the path", f->path, strerror(errno));
  }
  if (!S_ISREG(about.st_mode)) {
    USER_ERROR("%s is no file; give the path of a parity case", f->path);
  }
  TRY(wall_check(WALL_GOLDEN, f->path));
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL); /* failures are told in our own words */
  hid_t access = hdf_driver_access(&f->fault);
  if (access >= 0) {
    f->id = H5Fopen(f->path, H5F_ACC_RDONLY, access);
    H5Pclose(access);
  }
  if (f->id < 0) {
    USER_ERROR("%s is damaged, or no HDF5 file", f->path);
  }
  return STATUS_OK;
}

status golden_file_open(const char *path, golden_file **out) {
  *out = NULL;
  golden_file *f = NULL;
  TRY(memory_new(&f, 1, sizeof(golden_file), "parity case"));
  f->id = H5I_INVALID_HID;
  status result = memory_format(&f->path, "%s", path);
  if (result == STATUS_OK) {
    result = open_file(f);
  }
  if (result != STATUS_OK) {
    golden_file_close(f);
    return result;
  }
  *out = f;
  return STATUS_OK;
}

void golden_file_close(golden_file *f) {
  if (f == NULL) {
    return;
  }
  if (f->id >= 0) {
    H5Fclose(f->id);
  }
  free(f->path);
  free(f);
}

const char *golden_file_path(const golden_file *f) {
  return f->path;
}

/* ---- attributes ---- */

static bool text_value(hid_t attribute, hid_t type, char *text) {
  if (H5Tis_variable_str(type) > 0) {
    char *value = NULL;
    hid_t memory = H5Tcopy(H5T_C_S1);
    H5Tset_size(memory, H5T_VARIABLE);
    H5Tset_cset(memory, H5Tget_cset(type));
    bool good = H5Aread(attribute, memory, (void *)&value) >= 0 && value != NULL;
    H5Tclose(memory);
    if (good) {
      snprintf(text, VALUE_TEXT, "%s", value);
      H5free_memory(value);
    }
    return good;
  }
  size_t size = H5Tget_size(type);
  if (size >= VALUE_TEXT) {
    return false;
  }
  memset(text, 0, VALUE_TEXT);
  return H5Aread(attribute, type, text) >= 0;
}

static bool bool_value(hid_t attribute, hid_t type, char *text) {
  unsigned char raw[16] = {0};
  char name[16] = "";
  if (H5Tget_size(type) > sizeof(raw) || H5Aread(attribute, type, raw) < 0 ||
      H5Tenum_nameof(type, raw, name, sizeof(name)) < 0) {
    return false;
  }
  bool yes = strcmp(name, "TRUE") == 0;
  snprintf(text, VALUE_TEXT, "%s", yes ? "true" : "false");
  return yes || strcmp(name, "FALSE") == 0;
}

static bool integer_value(hid_t attribute, hssize_t count, char *text) {
  long long value = 0;
  if (count != 1 || H5Aread(attribute, H5T_NATIVE_LLONG, &value) < 0) {
    return false;
  }
  snprintf(text, VALUE_TEXT, "%lld", value);
  return true;
}

static bool real_value(hid_t attribute, hssize_t count, char *text) {
  double values[ATTRIBUTE_NUMBERS];
  if (count < 1 || count > ATTRIBUTE_NUMBERS || H5Aread(attribute, H5T_NATIVE_DOUBLE, values) < 0) {
    return false;
  }
  text[0] = '\0';
  for (hssize_t i = 0; i < count; i++) {
    size_t used = strlen(text);
    const char *comma = i > 0 ? ", " : "";
    if (isnan(values[i])) {
      snprintf(text + used, VALUE_TEXT - used, "%snone", comma);
    } else {
      snprintf(text + used, VALUE_TEXT - used, "%s%.17g", comma, values[i]);
    }
  }
  return true;
}

static bool attribute_text(hid_t attribute, char *text) {
  hid_t type = H5Aget_type(attribute);
  hid_t space = H5Aget_space(attribute);
  hssize_t count = H5Sget_simple_extent_npoints(space);
  bool good = false;
  switch (H5Tget_class(type)) {
    case H5T_STRING:
      good = count == 1 && text_value(attribute, type, text);
      break;
    case H5T_ENUM:
      good = count == 1 && bool_value(attribute, type, text);
      break;
    case H5T_INTEGER:
      good = integer_value(attribute, count, text);
      break;
    case H5T_FLOAT:
      good = real_value(attribute, count, text);
      break;
    default:
      break;
  }
  H5Sclose(space);
  H5Tclose(type);
  return good;
}

typedef struct {
  const golden_file *f;
  status (*each)(void *context, const char *name, const char *value);
  void *context;
  status result;
} attribute_walk;

static herr_t visit_attribute(hid_t object, const char *name, const H5A_info_t *info, void *data) {
  (void)info;
  attribute_walk *walk = data;
  char text[VALUE_TEXT];
  hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
  bool good = attribute >= 0 && attribute_text(attribute, text);
  if (attribute >= 0) {
    H5Aclose(attribute);
  }
  walk->result = good ? walk->each(walk->context, name, text)
                      : status_set(STATUS_USER_ERROR, __FILE__, __LINE__,
                                   "%s: the attribute '%s' is damaged or of a type that parity cases don't have",
                                   walk->f->path, name);
  return walk->result == STATUS_OK ? 0 : -1;
}

status golden_file_attributes(golden_file *f, status (*each)(void *context, const char *name, const char *value),
                              void *context) {
  attribute_walk walk = {.f = f, .each = each, .context = context};
  herr_t code = H5Aiterate2(f->id, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_attribute, &walk);
  TRY(walk.result);
  if (code < 0) {
    USER_ERROR("%s: the attributes can't be read; the file is damaged", f->path);
  }
  return STATUS_OK;
}

/* ---- datasets ---- */

typedef struct {
  status (*each)(void *context, const char *name);
  void *context;
  status result;
} name_walk;

static herr_t visit_name(hid_t group, const char *name, const H5L_info_t *info, void *data) {
  (void)group;
  (void)info;
  name_walk *walk = data;
  walk->result = walk->each(walk->context, name);
  return walk->result == STATUS_OK ? 0 : -1;
}

status golden_file_names(golden_file *f, const char *group, status (*each)(void *context, const char *name),
                         void *context) {
  if (!golden_file_has(f, group)) {
    return STATUS_OK;
  }
  name_walk walk = {.each = each, .context = context};
  hid_t id = H5Gopen2(f->id, group, H5P_DEFAULT);
  herr_t code = id >= 0 ? H5Literate(id, H5_INDEX_NAME, H5_ITER_INC, NULL, visit_name, &walk) : -1;
  if (id >= 0) {
    H5Gclose(id);
  }
  TRY(walk.result);
  if (code < 0) {
    USER_ERROR("%s: the group '%s' can't be read; the file is damaged", f->path, group);
  }
  return STATUS_OK;
}

/* A path exists when every group on it does. */
bool golden_file_has(golden_file *f, const char *dataset) {
  char path[VALUE_TEXT];
  int length = snprintf(path, sizeof(path), "%s", dataset);
  if (length < 0 || length >= VALUE_TEXT) {
    return false;
  }
  for (char *slash = strchr(path, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
    *slash = '\0';
    bool there = H5Lexists(f->id, path, H5P_DEFAULT) > 0;
    *slash = '/';
    if (!there) {
      return false;
    }
  }
  return H5Lexists(f->id, path, H5P_DEFAULT) > 0;
}

static status open_dataset(golden_file *f, const char *dataset, hid_t *id) {
  if (!golden_file_has(f, dataset)) {
    USER_ERROR("%s has no dataset '%s'", f->path, dataset);
  }
  *id = H5Dopen2(f->id, dataset, H5P_DEFAULT);
  if (*id < 0) {
    USER_ERROR("%s: '%s' is damaged or no dataset", f->path, dataset);
  }
  return STATUS_OK;
}

static status shape_of(golden_file *f, const char *dataset, hid_t id, int *dims, int64_t shape[GOLDEN_DIMS]) {
  hsize_t sizes[GOLDEN_DIMS] = {0};
  hid_t space = H5Dget_space(id);
  int n = space >= 0 ? H5Sget_simple_extent_ndims(space) : -1;
  bool good = n >= 0 && n <= GOLDEN_DIMS && H5Sget_simple_extent_dims(space, sizes, NULL) == n;
  if (space >= 0) {
    H5Sclose(space);
  }
  if (!good) {
    USER_ERROR("%s: '%s' is damaged or has more than %d dimensions", f->path, dataset, GOLDEN_DIMS);
  }
  *dims = n;
  for (int i = 0; i < n; i++) {
    shape[i] = (int64_t)sizes[i];
  }
  return STATUS_OK;
}

/* A shape that the file has no room for is not handed out: callers allocate by it. */
static status check_stored(golden_file *f, const char *dataset, hid_t id, int dims, const int64_t *shape) {
  hid_t type = H5Dget_type(id);
  uint64_t needed = type >= 0 ? H5Tget_size(type) : 0, stored = 0;
  int64_t offset;
  bool fits = type >= 0;
  for (int i = 0; i < dims; i++) {
    fits = fits && shape[i] >= 0 && !__builtin_mul_overflow(needed, (uint64_t)shape[i], &needed);
  }
  if (type >= 0) {
    H5Tclose(type);
  }
  if (!fits || !hdf_one_piece(id, &offset, &stored) || stored != needed) {
    USER_ERROR("%s: the numbers of '%s' don't lie within the file in one piece", f->path, dataset);
  }
  return STATUS_OK;
}

status golden_file_shape(golden_file *f, const char *dataset, int *dims, int64_t shape[GOLDEN_DIMS]) {
  hid_t id = H5I_INVALID_HID;
  TRY(open_dataset(f, dataset, &id));
  status result = shape_of(f, dataset, id, dims, shape);
  if (result == STATUS_OK) {
    result = check_stored(f, dataset, id, *dims, shape);
  }
  H5Dclose(id);
  return result;
}

static status read_opened(golden_file *f, const char *dataset, hid_t id, int64_t count, hid_t memory, H5T_class_t kind,
                          void *values) {
  int dims;
  int64_t shape[GOLDEN_DIMS], there = 1;
  TRY(shape_of(f, dataset, id, &dims, shape));
  TRY(check_stored(f, dataset, id, dims, shape));
  for (int i = 0; i < dims; i++) {
    there = shape[i] > 0 && there <= INT64_MAX / shape[i] ? there * shape[i] : 0;
  }
  if (there != count) {
    USER_ERROR("%s: '%s' holds %lld numbers, %lld are needed", f->path, dataset, (long long)there, (long long)count);
  }
  hid_t type = H5Dget_type(id);
  bool right = type >= 0 && H5Tget_class(type) == kind;
  if (type >= 0) {
    H5Tclose(type);
  }
  if (!right) {
    USER_ERROR("%s: '%s' does not hold %s", f->path, dataset, kind == H5T_FLOAT ? "real numbers" : "integers");
  }
  if (H5Dread(id, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0) {
    USER_ERROR("%s: '%s' can't be read; the file is damaged", f->path, dataset);
  }
  return STATUS_OK;
}

static status read_all(golden_file *f, const char *dataset, int64_t count, hid_t memory, H5T_class_t kind,
                       void *values) {
  hid_t id = H5I_INVALID_HID;
  TRY(open_dataset(f, dataset, &id));
  status result = read_opened(f, dataset, id, count, memory, kind, values);
  H5Dclose(id);
  return result;
}

status golden_file_reals(golden_file *f, const char *dataset, int64_t count, double *values) {
  return read_all(f, dataset, count, H5T_NATIVE_DOUBLE, H5T_FLOAT, values);
}

status golden_file_integers(golden_file *f, const char *dataset, int64_t count, int32_t *values) {
  return read_all(f, dataset, count, H5T_NATIVE_INT32, H5T_INTEGER, values);
}
