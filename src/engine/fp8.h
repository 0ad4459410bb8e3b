/* Operands of matrix products in 8 bits, by per-tensor current scaling: x becomes the nearest number (ties to even) of
 * a format times a power of two that belongs to the whole tensor. The power is the largest that keeps the tensor's
 * largest magnitude inside the format (and within 2^±FP8_SHIFT_LIMIT), so scaling itself rounds nothing and every
 * engine gets the same values. Activations and weights take e4m3, gradients e5m2, as the field does (Micikevicius et
 * al., "FP8 Formats for Deep Learning", 2022).
 */
#ifndef PSANN_ENGINE_FP8_H
#define PSANN_ENGINE_FP8_H

#include <math.h>

/* FP8_MULTIPLE: of the dimensions of a product, so that every row of its operands starts on 16 bytes. */
enum { FP8_MULTIPLE = 16, FP8_LEAST_BLOCKS = 3, FP8_SHIFT_LIMIT = 100 };

typedef struct {
  int mantissa; /* bits behind the point */
  int least;    /* exponent of the smallest normal number */
  int top;      /* the largest number is 0.875 · 2^top */
} fp8_format;

static const fp8_format fp8_e4m3 = {.mantissa = 3, .least = -6, .top = 9};   /* up to 448 */
static const fp8_format fp8_e5m2 = {.mantissa = 2, .least = -14, .top = 16}; /* up to 57344 */

/* The exponent of the power of two that a tensor with the largest magnitude amax is multiplied with before it is
 * rounded; 0 for a tensor of zeros. amax is finite. */
static inline int fp8_shift(fp8_format f, double amax) {
  if (amax <= 0) {
    return 0;
  }
  int exponent;
  int shift = frexp(amax, &exponent) <= 0.875 ? f.top - exponent : f.top - 1 - exponent;
  return shift > FP8_SHIFT_LIMIT ? FP8_SHIFT_LIMIT : shift < -FP8_SHIFT_LIMIT ? -FP8_SHIFT_LIMIT : shift;
}

#endif
