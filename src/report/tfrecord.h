/* The framing of a TFRecord file: length, its checksum, the payload, its checksum, all little-endian. */
#ifndef PSANN_REPORT_TFRECORD_H
#define PSANN_REPORT_TFRECORD_H

#include <stddef.h>
#include <stdint.h>

enum { TFRECORD_HEAD = 12, TFRECORD_TAIL = 4 }; /* bytes around a payload */

/* CRC-32C (Castagnoli). */
uint32_t crc32c(const void *data, size_t bytes);

/* As the format stores it: rotated and shifted, so that a checksum of data which holds checksums stays useful. */
uint32_t crc32c_masked(const void *data, size_t bytes);

/* Fills the head and the tail of a record whose payload of `bytes` lies at record + TFRECORD_HEAD. */
void tfrecord_frame(uint8_t *record, size_t bytes);

#endif
