#include "base/hdf_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/activity.h"
#include "base/bulk_io.h"

#if H5_VERSION_GE(1, 13, 0)
#include <H5FDdevelop.h>
#endif

typedef struct {
  H5FD_t base; /* first: HDF5's own part */
  int descriptor;
  haddr_t eoa, eof; /* end of what is allocated, and of what is written */
  bool writable;
  bulk_file bulk;
  hdf_driver_fault *fault;
} driver_file;

enum { LARGEST_TRANSFER = 1 << 30 }; /* pread and pwrite move less than 2 GiB a call */

static void note(driver_file *f, int error) {
  if (f->fault->error == 0) {
    f->fault->error = error != 0 ? error : EIO;
  }
}

static H5FD_t *driver_open(const char *name, unsigned flags, hid_t access, haddr_t max_address) {
  hdf_driver_fault *const *fault = (hdf_driver_fault *const *)H5Pget_driver_info(access);
  driver_file *f = calloc(1, sizeof *f);
  if (f == NULL || fault == NULL) {
    free(f);
    return NULL;
  }
  f->fault = *fault;
  f->writable = (flags & H5F_ACC_RDWR) != 0;
  int mode = f->writable ? O_RDWR : O_RDONLY;
  mode |= flags & H5F_ACC_TRUNC ? O_TRUNC : 0;
  mode |= flags & H5F_ACC_CREAT ? O_CREAT : 0;
  mode |= flags & H5F_ACC_EXCL ? O_EXCL : 0;
  mode |= f->writable ? O_NOFOLLOW : O_NONBLOCK; /* a pipe without a writer is no reason to wait */
  if (!f->writable && f->fault->opened) {
    free(f);
    return NULL;
  }
  f->fault->opened = true;
  f->descriptor = open(name, mode | O_CLOEXEC, 0666);
  struct stat information;
  if (f->descriptor < 0 || fstat(f->descriptor, &information) != 0) {
    note(f, errno);
    if (f->descriptor >= 0) {
      close(f->descriptor);
    }
    free(f);
    return NULL;
  }
  f->eof = (haddr_t)information.st_size;
  bulk_open(&f->bulk, f->descriptor, f->writable);
  return &f->base;
}

static herr_t driver_close(H5FD_t *file) {
  driver_file *f = (driver_file *)file;
  bulk_close(&f->bulk);
  if (close(f->descriptor) != 0) {
    note(f, errno);
  }
  free(f);
  return 0;
}

static herr_t driver_query(const H5FD_t *file, unsigned long *flags) {
  *flags = H5FD_FEAT_AGGREGATE_METADATA | H5FD_FEAT_ACCUMULATE_METADATA | H5FD_FEAT_AGGREGATE_SMALLDATA |
           H5FD_FEAT_DEFAULT_VFD_COMPATIBLE;
  return 0;
}

static haddr_t driver_get_eoa(const H5FD_t *file, H5FD_mem_t type) {
  return ((const driver_file *)file)->eoa;
}

static herr_t driver_set_eoa(H5FD_t *file, H5FD_mem_t type, haddr_t address) {
  ((driver_file *)file)->eoa = address;
  return 0;
}

static haddr_t driver_get_eof(const H5FD_t *file, H5FD_mem_t type) {
  return ((const driver_file *)file)->eof;
}

/* What lies past the end reads as zero, as HDF5 expects of its drivers. */
static herr_t driver_read(H5FD_t *file, H5FD_mem_t type, hid_t transfer, haddr_t address, size_t size, void *buffer) {
  driver_file *f = (driver_file *)file;
  char *to = buffer;
  while (size > 0) {
    size_t part = size < LARGEST_TRANSFER ? size : LARGEST_TRANSFER;
    ssize_t got = bulk_pread(&f->bulk, to, part, (off_t)address);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      note(f, errno);
      return -1;
    }
    if (got == 0) {
      memset(to, 0, size);
      break;
    }
    activity_tick();
    to += got;
    address += (haddr_t)got;
    size -= (size_t)got;
  }
  return 0;
}

static herr_t driver_write(H5FD_t *file, H5FD_mem_t type, hid_t transfer, haddr_t address, size_t size,
                           const void *buffer) {
  driver_file *f = (driver_file *)file;
  const char *from = buffer;
  haddr_t end = address + size;
  while (size > 0 && f->fault->error == 0) {
    size_t part = size < LARGEST_TRANSFER ? size : LARGEST_TRANSFER;
    ssize_t put = bulk_pwrite(&f->bulk, from, part, (off_t)address);
    if (put < 0 && errno == EINTR) {
      continue;
    }
    if (put <= 0) {
      note(f, put < 0 ? errno : ENOSPC);
      break;
    }
    activity_tick();
    from += put;
    address += (haddr_t)put;
    size -= (size_t)put;
  }
  f->eof = end > f->eof ? end : f->eof;
  return 0;
}

/* The descriptor, for hdf_descriptor. */
static herr_t driver_get_handle(H5FD_t *file, hid_t access, void **handle) {
  *handle = &((driver_file *)file)->descriptor;
  return 0;
}

/* The file must end where HDF5 says that it ends, or it is taken for a truncated one. */
static herr_t driver_truncate(H5FD_t *file, hid_t transfer, hbool_t closing) {
  driver_file *f = (driver_file *)file;
  if (f->writable && f->eof != f->eoa) {
    if (f->fault->error == 0 && ftruncate(f->descriptor, (off_t)f->eoa) != 0) {
      note(f, errno);
    }
    f->eof = f->eoa;
  }
  return 0;
}

static const H5FD_class_t driver_class = {
#if H5_VERSION_GE(1, 13, 0)
    .version = H5FD_CLASS_VERSION,
    .value = (H5FD_class_value_t)384, /* of the range for drivers that are not registered with the HDF Group */
#endif
    .name = "psann",
    .maxaddr = (haddr_t)INT64_MAX,
    .fc_degree = H5F_CLOSE_STRONG,
    .fapl_size = sizeof(hdf_driver_fault *),
    .open = driver_open,
    .close = driver_close,
    .query = driver_query,
    .get_eoa = driver_get_eoa,
    .set_eoa = driver_set_eoa,
    .get_eof = driver_get_eof,
    .get_handle = driver_get_handle,
    .read = driver_read,
    .write = driver_write,
    .truncate = driver_truncate,
    .fl_map = H5FD_FLMAP_DICHOTOMY,
};

hid_t hdf_driver_access(hdf_driver_fault *fault) {
  static hid_t driver = H5I_INVALID_HID;
  *fault = (hdf_driver_fault){0};
  if (driver < 0) {
    driver = H5FDregister(&driver_class);
    H5PLset_loading_state(0);
  }
  hid_t access = driver < 0 ? H5I_INVALID_HID : H5Pcreate(H5P_FILE_ACCESS);
  if (access >= 0 && H5Pset_driver(access, driver, &fault) < 0) {
    H5Pclose(access);
    return H5I_INVALID_HID;
  }
  return access;
}

int hdf_descriptor(hid_t file) {
  void *handle = NULL;
  return H5Fget_vfd_handle(file, H5P_DEFAULT, &handle) >= 0 ? *(const int *)handle : -1;
}

bool hdf_one_piece(hid_t set, int64_t *offset, uint64_t *bytes) {
  hid_t creation = H5Dget_create_plist(set), file = H5Iget_file_id(set), space = H5Dget_space(set);
  hsize_t length = 0;
  bool fits = creation >= 0 && file >= 0 && space >= 0 && H5Pget_layout(creation) == H5D_CONTIGUOUS &&
              H5Pget_external_count(creation) == 0 && H5Fget_filesize(file, &length) >= 0;
  if (fits) {
    haddr_t address = H5Dget_offset(set);
    *bytes = H5Dget_storage_size(set);
    *offset = (int64_t)address;
    /* An array without elements has no place. */
    fits = *bytes == 0 ? H5Sget_simple_extent_npoints(space) == 0
                       : address != HADDR_UNDEF && *bytes <= length && address <= length - *bytes;
  }
  H5Sclose(space);
  H5Fclose(file);
  H5Pclose(creation);
  return fits;
}
