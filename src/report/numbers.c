#include "report/numbers.h"

#include <math.h>
#include <stdio.h>

const char *number_grouped(int64_t n, char *text) {
  char digits[24];
  int length = snprintf(digits, sizeof digits, "%lld", (long long)n);
  char *out = text;
  for (int i = 0; i < length; i++) {
    if (i > 0 && (length - i) % 3 == 0 && digits[i - 1] != '-') {
      *out++ = ',';
    }
    *out++ = digits[i];
  }
  *out = 0;
  return text;
}

const char *number_short(double value, char *text) {
  double size = fabs(value);
  if (!isfinite(value)) {
    return snprintf(text, 32, "%s", isnan(value) ? "not a number" : value > 0 ? "∞" : "−∞"), text;
  }
  if ((size >= 1000 || value == round(value)) && size < 1e15) {
    return number_grouped(llround(value), text);
  }
  snprintf(text, 32,
           size >= 1e15                ? "%.3g"
           : size >= 100               ? "%.1f"
           : size >= 1                 ? "%.3f"
           : size >= 0.01 || size == 0 ? "%.4f"
                                       : "%.3g",
           value);
  return text;
}
