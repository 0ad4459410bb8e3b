#include "data/store_format.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

void store_hdf5_quiet(void) {
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

hid_t store_hdf5_open(int descriptor, hdf_driver_fault *fault) {
  char same[64];
  snprintf(same, sizeof same, "/proc/self/fd/%d", descriptor);
  hid_t access = hdf_driver_access(fault);
  hid_t file = access < 0 ? H5I_INVALID_HID : H5Fopen(same, H5F_ACC_RDONLY, access);
  if (access >= 0) {
    H5Pclose(access);
  }
  return file;
}

static status write_attribute(hid_t object, const char *path, const char *name, hid_t file_type, hid_t memory_type,
                              const void *value) {
  hid_t space = H5Screate(H5S_SCALAR);
  hid_t attribute = H5Acreate2(object, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT);
  herr_t written = attribute < 0 ? -1 : H5Awrite(attribute, memory_type, value);
  if (attribute >= 0) {
    H5Aclose(attribute);
  }
  H5Sclose(space);
  REQUIRE(written >= 0, "cannot write '%s' (attribute %s); check the space on the disk and run again", path, name);
  return STATUS_OK;
}

status store_write_integer(hid_t object, const char *path, const char *name, int64_t value) {
  return write_attribute(object, path, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value);
}

status store_write_text(hid_t object, const char *path, const char *name, const char *text) {
  hid_t type = H5Tcopy(H5T_C_S1);
  H5Tset_size(type, strlen(text) + 1);
  H5Tset_cset(type, H5T_CSET_UTF8);
  status s = write_attribute(object, path, name, type, type, text);
  H5Tclose(type);
  return s;
}

/* Opens the attribute when it is one value of the class; −1 otherwise. */
static hid_t open_scalar(hid_t object, const char *name, H5T_class_t class, size_t *size) {
  hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
  if (attribute < 0) {
    return -1;
  }
  hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
  bool fits = H5Tget_class(type) == class && H5Sget_simple_extent_npoints(space) == 1 &&
              (class != H5T_STRING || H5Tis_variable_str(type) == 0);
  *size = H5Tget_size(type);
  H5Tclose(type);
  H5Sclose(space);
  if (!fits) {
    H5Aclose(attribute);
    return -1;
  }
  return attribute;
}

status store_read_integer(hid_t object, const char *path, const char *name, int64_t *value) {
  size_t size;
  hid_t attribute = open_scalar(object, name, H5T_INTEGER, &size);
  herr_t got = attribute < 0 ? -1 : H5Aread(attribute, H5T_NATIVE_INT64, value);
  if (attribute >= 0) {
    H5Aclose(attribute);
  }
  if (got < 0) {
    USER_ERROR("'%s' is not a whole token store: its attribute %s is missing or not an integer; make it again", path,
               name);
  }
  return STATUS_OK;
}

status store_read_text(hid_t object, const char *path, const char *name, char *text, size_t capacity) {
  size_t size = 0;
  hid_t attribute = open_scalar(object, name, H5T_STRING, &size);
  herr_t got = -1;
  if (attribute >= 0 && size <= capacity) {
    hid_t type = H5Aget_type(attribute);
    got = H5Aread(attribute, type, text);
    H5Tclose(type);
  }
  if (attribute >= 0) {
    H5Aclose(attribute);
  }
  if (got < 0 || memchr(text, '\0', size) == NULL) {
    USER_ERROR(
        "'%s' is not a whole token store: its attribute %s is missing or not a text of at most %zu bytes; make "
        "it again",
        path, name, capacity - 1);
  }
  return STATUS_OK;
}

void store_tokenizer_digest(const char *name, int64_t vocab_size, int32_t end_of_text, const void *model,
                            size_t model_bytes, char text[DIGEST_TEXT]) {
  char identity[160], of_model[DIGEST_TEXT];
  digest_of(model_bytes > 0 ? model : "", model_bytes, of_model);
  int used = snprintf(identity, sizeof identity, "%.15s %" PRId64 " %" PRId32 " %zu %s", name, vocab_size, end_of_text,
                      model_bytes, of_model);
  digest_of(identity, (size_t)used, text);
}
