// The split kernels on an emulated GPU (emulated_gpu.h), against fp64 and against plain fp32 sums.
#define PSANN_EMULATED
#include "emulated_gpu.h"
// The kernels after the machine they run on.
#include "attention_split_kernels.cuh"
#include "split_gemm_kernels.cuh"

namespace {

int failures;

void check(bool good, const char *what, double value, double limit) {
  printf("%-4s %s: %.3g, limit %.3g\n", good ? "ok" : "FAIL", what, value, limit);
  failures += !good;
}

std::vector<float> normal(size_t n, unsigned seed, float scale) {
  std::mt19937 random(seed);
  std::normal_distribution<float> d(0, scale);
  std::vector<float> x(n);
  for (float &v : x) v = d(random);
  return x;
}

struct operand {
  std::vector<char> data;
  std::vector<float> scale;
};

template <bool RIGHT>
operand split(const std::vector<float> &x, int64_t rows, int64_t k, int64_t padded) {
  int k_blocks = (int)((k + SPLIT_K - 1) / SPLIT_K);
  operand o = {std::vector<char>((size_t)(padded * k_blocks * SPLIT_LINE)), std::vector<float>((size_t)padded)};
  split_gemm::source s = {x.data(), rows, k};
  split_gemm::blocks b = {o.data.data(), o.scale.data()};
  dim3 grid = {(unsigned)padded / split_gemm::SPLIT_WARPS};
  emulated::run(grid, split_gemm::SPLIT_WARPS * 32, 0, [&] {
    if (k % 4 == 0)
      split_gemm::split_rows<RIGHT, true>(s, b, k_blocks);
    else
      split_gemm::split_rows<RIGHT, false>(s, b, k_blocks);
  });
  return o;
}

int64_t up(int64_t x, int64_t to) {
  return (x + to - 1) / to * to;
}

std::vector<float> multiply(int64_t n, int64_t m, int64_t k, const std::vector<float> &x, const std::vector<float> &w,
                            unsigned blocks, float alpha, const std::vector<float> *base, bool wgmma) {
  using namespace split_gemm;
  operand left = split<false>(x, n, k, up(n, TILE_ROWS)), right = split<true>(w, m, k, up(m, TILE_COLUMNS));
  std::vector<float> result = base ? *base : std::vector<float>((size_t)(n * m), NAN);
  product p = {};
  p.left = {left.data.data(), left.scale.data()};
  p.right = {right.data.data(), right.scale.data()};
  p.k_blocks = (int)((k + SPLIT_K - 1) / SPLIT_K);
  p.row_tiles = (int)(up(n, TILE_ROWS) / TILE_ROWS);
  p.column_tiles = (int)(up(m, TILE_COLUMNS) / TILE_COLUMNS);
  p.rows = n;
  p.columns = m;
  p.result = result.data();
  p.stride = m;
  p.alpha = &alpha;
  p.accumulate = base != nullptr;
  p.streaming = true;
  p.wide = m % 4 == 0;
  if (wgmma)
    emulated::run({blocks}, WARPS * 32, SHARED_BYTES, [&] { product_wgmma(p); });
  else
    emulated::run({blocks}, WARPS * 32, SHARED_BYTES, [&] { product_mma(p); });
  return result;
}

// Frobenius error against fp64, of the result and of sums in plain fp32.
void compare(const char *what, int64_t n, int64_t m, int64_t k, unsigned blocks, float scale, float alpha,
             bool accumulate, bool wgmma) {
  std::vector<float> x = normal((size_t)(n * k), 1, 1), w = normal((size_t)(m * k), 2, scale), base;
  if (accumulate) base = normal((size_t)(n * m), 3, scale);
  std::vector<float> y = multiply(n, m, k, x, w, blocks, alpha, accumulate ? &base : nullptr, wgmma);
  double error = 0, plain_error = 0, norm = 0;
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < m; j++) {
      double exact = 0;
      float plain = 0;
      for (int64_t l = 0; l < k; l++) {
        exact += (double)x[(size_t)(i * k + l)] * w[(size_t)(j * k + l)];
        plain = fmaf(x[(size_t)(i * k + l)], w[(size_t)(j * k + l)], plain);
      }
      float old = accumulate ? base[(size_t)(i * m + j)] : 0.0f;
      exact = alpha * exact + old;
      double d = y[(size_t)(i * m + j)] - exact, e = (old + alpha * plain) - exact;
      error += d * d, plain_error += e * e, norm += exact * exact;
    }
  error = sqrt(error / norm), plain_error = sqrt(plain_error / norm);
  check(error <= plain_error, what, error, plain_error);
}

// A row's bits do not depend on how many rows or columns there are.
void same_bits(bool wgmma) {
  std::vector<float> x = normal(140 * 64, 1, 1), w = normal(300 * 64, 2, 1);
  std::vector<float> all = multiply(140, 300, 64, x, w, 2, 1, nullptr, wgmma);
  std::vector<float> some(x.begin() + 130 * 64, x.end());
  std::vector<float> part = multiply(10, 300, 64, some, w, 1, 1, nullptr, wgmma);
  check(memcmp(all.data() + 130 * 300, part.data(), 10 * 300 * 4) == 0, "bits of ten rows alone and among others", 0,
        0);
}

void extremes(bool wgmma) {
  std::vector<float> x = normal(3 * 32, 1, 1), w = normal(8 * 32, 2, 1);
  for (int i = 0; i < 32; i++) x[(size_t)i] *= 1e30f, w[(size_t)i] *= 1e-30f, x[(size_t)(32 + i)] = 0;
  x[64] = NAN;
  std::vector<float> y = multiply(3, 8, 32, x, w, 1, 1, nullptr, wgmma);
  double exact = 0;
  for (int i = 0; i < 32; i++) exact += (double)x[(size_t)i] * w[(size_t)i];
  check(fabs(y[0] - exact) < 1e-5 * (1 + fabs(exact)), "factors of 1e30 and 1e-30", fabs(y[0] - exact), 1e-5);
  bool zero = true, nan = true;
  for (int j = 0; j < 8; j++) zero = zero && y[(size_t)(8 + j)] == 0, nan = nan && std::isnan(y[(size_t)(16 + j)]);
  check(zero, "a row of zeros", 0, 0);
  check(nan, "a row with a NaN", 0, 0);
}

float slope_reference(int64_t head, int64_t H) {
  return attention_split::slope_of(head, H);
}

template <int PARTS, int MT, bool ALIBI>
void attend(const char *what, int64_t T, int64_t H, int64_t h, float strength) {
  using namespace attention_split;
  int64_t B = 2, D = H * h;
  std::vector<float> qkv = normal((size_t)(B * T * 3 * D), 5, strength), out((size_t)(B * T * D), NAN),
                     lse((size_t)(B * H * T), NAN);
  int tiles = (int)(up(T, QUERIES) / KEYS);
  std::vector<char> data((size_t)(B * H * 3 * tiles * PARTS) * PART_BYTES);
  std::vector<float> scale((size_t)(B * H * 3 * tiles));
  problem s = {};
  s.T = T, s.H = H, s.h = h, s.tiles = tiles, s.alibi = ALIBI;
  s.qkv = qkv.data(), s.data = data.data(), s.scale = scale.data(), s.out = out.data(), s.lse = lse.data();
  unsigned pairs = (unsigned)(B * H);
  emulated::run({(unsigned)tiles, 3, pairs}, SPLIT_THREADS, 0, [&] { split_tiles<PARTS>(s); });
  emulated::run({(unsigned)tiles / 2, pairs}, QUERIES / MT * 2, memory_map<PARTS>::BYTES,
                [&] { forward<PARTS, MT, ALIBI>(s); });
  double error = 0, plain_error = 0, norm = 0, lse_error = 0;
  for (int64_t b = 0; b < B; b++)
    for (int64_t head = 0; head < H; head++)
      for (int64_t i = 0; i < T; i++) {
        auto at = [&](int64_t row, int64_t which, int64_t d) {
          return qkv[(size_t)(((b * T + row) * 3 + which) * D + head * h + d)];
        };
        std::vector<double> p((size_t)i + 1);
        std::vector<float> pf((size_t)i + 1);
        double top = -1e300, total = 0;
        float topf = -INFINITY, totalf = 0, slope = ALIBI ? slope_reference(head, H) : 0;
        for (int64_t j = 0; j <= i; j++) {
          double dot = 0;
          float dotf = 0;
          for (int64_t d = 0; d < h; d++)
            dot += (double)at(i, 0, d) * at(j, 1, d), dotf = fmaf(at(i, 0, d), at(j, 1, d), dotf);
          p[(size_t)j] = dot / sqrt((double)h) - (double)slope * (double)(i - j);
          pf[(size_t)j] = dotf * (float)(1 / sqrt((double)h)) - slope * (float)(i - j);
          top = fmax(top, p[(size_t)j]), topf = fmaxf(topf, pf[(size_t)j]);
        }
        for (int64_t j = 0; j <= i; j++)
          total += p[(size_t)j] = exp(p[(size_t)j] - top), totalf += pf[(size_t)j] = expf(pf[(size_t)j] - topf);
        for (int64_t d = 0; d < h; d++) {
          double o = 0;
          float of = 0;
          for (int64_t j = 0; j <= i; j++) o += p[(size_t)j] * at(j, 2, d), of = fmaf(pf[(size_t)j], at(j, 2, d), of);
          double e = out[(size_t)((b * T + i) * D + head * h + d)] - o / total, f = of / totalf - o / total;
          error += e * e, plain_error += f * f, norm += o * o / total / total;
        }
        lse_error = fmax(lse_error, fabs(lse[(size_t)((b * H + head) * T + i)] - top - log(total)));
        if (std::isnan(lse[(size_t)((b * H + head) * T + i)])) lse_error = INFINITY;
      }
  error = sqrt(error / norm), plain_error = sqrt(plain_error / norm);
  check(error <= 1.5 * plain_error, what, error, 1.5 * plain_error);
  check(lse_error < 4e-6, "  log of sums", lse_error, 4e-6);
}

}  // namespace

int main() {
  for (int v = 0; v < 2; v++) {
    printf("%s\n", v ? "wgmma" : "mma");
    compare("128 × 256 × 256, one block", 128, 256, 256, 1, 0.02f, 1, false, v);
    compare("300 × 520 × 96, three blocks", 300, 520, 96, 3, 1, 1, false, v);
    compare("33 × 7 × 45, odd everywhere", 33, 7, 45, 1, 1, 1, false, v);
    compare("130 × 36 × 132, accumulated, times 0.3", 130, 36, 132, 2, 1, 0.3f, true, v);
    compare("130 × 37 × 100, accumulated, odd", 130, 37, 100, 2, 1, 1, true, v);
    same_bits(v);
    extremes(v);
  }
  attend<2, 2, false>("attention T 200, h 64", 200, 2, 64, 1);
  attend<2, 2, true>("attention T 130, h 64, ALiBi", 130, 3, 64, 1);
  attend<1, 2, false>("attention T 70, h 20", 70, 1, 20, 3);
  attend<3, 1, false>("attention T 140, h 96", 140, 1, 96, 1);
  attend<4, 1, true>("attention T 129, h 128, ALiBi", 129, 1, 128, 1);
  printf(failures ? "%d checks failed\n" : "all checks passed\n", failures);
  return failures != 0;
}
