// The gradient of a 3x3 convolution's weights on a CPU, of channels-last maps (convolution.py calls it):
//
//     dw[o][ky][kx][i] = sum over images n, rows r and columns c of g[n][r][c][o] x[n][r + ky - P][c + kx - P][i]
//
// Sums of four outputs, three taps and kVectors vectors of inputs stay in registers while the maps pass. Maps are first
// copied, a chunk at a time that the second cache holds, into the order in which they are read, with their padding. In
// bfloat16 the copy also pairs the images: an element holds the same value of two, as the instruction that multiplies
// bfloat16 (vdpbf16ps) adds two products to each sum. Sums are in float, a chunk's first. Threads take equal shares of the
// images, and their sums are added in order: the same thread count gives the same bits.
//
// All is for AVX-512, whose 32 registers hold so many sums; with AVX2's 16 little was gained over oneDNN's. On CPUs
// without it this file is empty.

#if defined(__AVX512F__)

#include "vectors.h"

// What the function takes; convolution.py has the same fields.
struct Convolution {
  int64_t n, h, w;          // maps of x
  int64_t inputs, outputs;  // channels
  int64_t padding;          // P
  int64_t threads;          // at least 1

  int64_t out_h() const { return h + 2 * padding - 2; }
  int64_t out_w() const { return w + 2 * padding - 2; }
  int64_t width() const { return w + 2 * padding; }
};

namespace {

constexpr int64_t kVectors = 2, kOutputs = 4, kTaps = 3;
constexpr int64_t kChunkBytes = 512 << 10;  // half of a common second cache

// Copies of some rows of some images: x by vectors, g by fours of outputs, each in the order of images, rows and columns.
template <class F>
class Chunk {
 public:
  Chunk(const Convolution& c, int64_t units)
      : c_(c),
        vectors_(up(c.inputs, kLanes)),
        fours_(up(c.outputs, kOutputs)),
        units_(std::max<int64_t>(1, std::min(units, kChunkBytes / bytes(c.out_h())))),
        rows_(bytes(c.out_h()) <= kChunkBytes ? c.out_h() : fitting()),
        x_(vectors_ * x_size()),
        g_(fours_ * g_size()) {}

  int64_t images() const { return units_ * F::kImages; }
  int64_t rows() const { return rows_; }  // of g; x has two more

  // Fills in the rows from `top` on, of the images from `begin` to `end`.
  void copy(const typename F::value* x, const typename F::value* g, int64_t begin, int64_t end, int64_t top) {
    top_ = top;
    lines_ = std::min(rows_, c_.out_h() - top);
    filled_ = up(end - begin, F::kImages);
    for (int64_t unit = 0; unit < filled_; unit++) {
      const int64_t image = begin + unit * F::kImages;
      const bool both = F::kImages == 2 && image + 1 < end;
      for (int64_t r = 0; r < lines_ + 2; r++)
        if (inside(r)) copy_x(x + (image * c_.h + top_ + r - c_.padding) * c_.w * c_.inputs, both, unit, r);
      for (int64_t r = 0; r < lines_; r++)
        copy_g(g + (image * c_.out_h() + top_ + r) * c_.out_w() * c_.outputs, both, unit, r);
    }
  }

  // Adds the products to sums[four][ky][vector][output of four][kx], each a vector.
  void multiply(Floats* sums) const {
    for (int64_t four = 0; four < fours_; four++)
      for (int64_t ky = 0; ky < kTaps; ky++) {
        Floats* own = sums + (four * kTaps + ky) * vectors_ * kOutputs * kTaps;
        int64_t v = 0;
        for (; v + kVectors <= vectors_; v += kVectors) multiply<kVectors>(four, ky, v, own);
        for (; v < vectors_; v++) multiply<1>(four, ky, v, own);
      }
  }

 private:
  int64_t bytes(int64_t rows) const {
    const int64_t x = c_.width() * vectors_ * kLanes, g = c_.out_w() * fours_ * kOutputs;
    return ((rows + 2) * x + rows * g) * sizeof(typename F::element);
  }
  int64_t fitting() const { return std::max<int64_t>(1, (kChunkBytes - bytes(0)) / (bytes(1) - bytes(0))); }
  int64_t x_size() const { return units_ * (rows_ + 2) * c_.width() * kLanes; }  // of one vector
  int64_t g_size() const { return units_ * rows_ * c_.out_w() * kOutputs; }      // of one four
  bool inside(int64_t r) const { return top_ + r >= c_.padding && top_ + r - c_.padding < c_.h; }

  void copy_x(const typename F::value* from, bool both, int64_t unit, int64_t r) {
    const int64_t next = c_.h * c_.w * c_.inputs;
    auto* to = x_.data() + ((unit * (rows_ + 2) + r) * c_.width() + c_.padding) * kLanes;
    for (int64_t column = 0; column < c_.w; column++, from += c_.inputs, to += kLanes)
      for (int64_t v = 0; v < vectors_; v++)
        store(to + v * x_size(), load(from + v * kLanes, both, next, c_.inputs - v * kLanes));
  }

  void copy_g(const typename F::value* from, bool both, int64_t unit, int64_t r) {
    const int64_t next = c_.out_h() * c_.out_w() * c_.outputs;
    auto* to = g_.data() + (unit * rows_ + r) * c_.out_w() * kOutputs;
    for (int64_t column = 0; column < c_.out_w(); column++, from += c_.outputs, to += kOutputs)
      for (int64_t o = 0; o < c_.outputs; o += kLanes) {
        const auto v = load(from + o, both, next, c_.outputs - o);
        const int64_t fours = std::min(kLanes / kOutputs, fours_ - o / kOutputs);
        for (int64_t k = 0; k < fours; k++)
          std::memcpy(to + (o / kOutputs + k) * g_size(), (const char*)&v + k * sizeof(v) * kOutputs / kLanes,
                      kOutputs * sizeof(typename F::element));
      }
  }

  static typename F::vector load(const typename F::value* from, bool both, int64_t next, int64_t count) {
    __builtin_prefetch((const char*)from + kAhead);
    if (both) __builtin_prefetch((const char*)(from + next) + kAhead);
    return F::load(from, both ? from + next : nullptr, count);
  }
  static void store(typename F::element* to, const typename F::vector& v) { std::memcpy(to, &v, sizeof(v)); }

  template <int64_t V>
  void multiply(int64_t four, int64_t ky, int64_t v, Floats* sums) const {
    Floats kept[V][kOutputs][kTaps]{};  // in registers, as all its indices are constants once the loops are unrolled
    const int64_t x_apart = x_size(), out_w = c_.out_w();
    for (int64_t unit = 0; unit < filled_; unit++)
      for (int64_t r = 0; r < lines_; r++) {
        if (!inside(r + ky)) continue;
        const auto* x = x_.data() + v * x_apart + (unit * (rows_ + 2) + r + ky) * c_.width() * kLanes;
        const auto* g = g_.data() + four * g_size() + (unit * rows_ + r) * out_w * kOutputs;
        for (int64_t column = 0; column < out_w; column++, x += kLanes, g += kOutputs) {
          typename F::vector taps[V][kTaps];
          for (int64_t k = 0; k < V; k++)
            for (int64_t kx = 0; kx < kTaps; kx++) taps[k][kx] = fetch<F>(x + k * x_apart + kx * kLanes);
          for (int64_t o = 0; o < kOutputs; o++)
            for (int64_t k = 0; k < V; k++)
              for (int64_t kx = 0; kx < kTaps; kx++) kept[k][o][kx] = F::added(kept[k][o][kx], taps[k][kx], g[o]);
        }
      }
    Floats* own = sums + v * kOutputs * kTaps;
    for (int64_t k = 0; k < V; k++)
      for (int64_t o = 0; o < kOutputs; o++)
        for (int64_t kx = 0; kx < kTaps; kx++) own[(k * kOutputs + o) * kTaps + kx] += kept[k][o][kx];
  }

  const Convolution c_;
  const int64_t vectors_, fours_, units_, rows_;
  Buffer<typename F::element> x_, g_;
  int64_t top_ = 0, lines_ = 0, filled_ = 0;
};

// dw: (outputs, 3, 3, inputs).
template <class F>
void weight_gradient(const Convolution& c, const typename F::value* x, const typename F::value* g, float* dw) {
  const int64_t vectors = up(c.inputs, kLanes), size = up(c.outputs, kOutputs) * kTaps * vectors * kOutputs * kTaps;
  const int64_t units = up(c.n, F::kImages), threads = std::max<int64_t>(1, std::min(c.threads, units));
  std::vector<Buffer<Floats>> sums(threads, Buffer<Floats>(0));  // of each thread its own
  parallel(threads, [&](int64_t t) {
    const int64_t begin = units * t / threads * F::kImages, end = std::min(c.n, units * (t + 1) / threads * F::kImages);
    sums[t] = Buffer<Floats>(size);
    Chunk<F> chunk(c, up(end - begin, F::kImages));
    for (int64_t n = begin; n < end; n += chunk.images())
      for (int64_t top = 0; top < c.out_h(); top += chunk.rows()) {
        chunk.copy(x, g, n, std::min(n + chunk.images(), end), top);
        chunk.multiply(sums[t].data());
      }
  });
  parallel(threads, [&](int64_t t) {
    for (int64_t o = c.outputs * t / threads; o < c.outputs * (t + 1) / threads; o++)
      for (int64_t ky = 0; ky < kTaps; ky++)
        for (int64_t v = 0; v < vectors; v++)
          for (int64_t kx = 0; kx < kTaps; kx++) {
            const int64_t four = o / kOutputs, i = v * kLanes;
            const int64_t at = (((four * kTaps + ky) * vectors + v) * kOutputs + o % kOutputs) * kTaps + kx;
            Floats sum{};
            for (auto& one : sums) sum += one.data()[at];
            std::memcpy(dw + ((o * kTaps + ky) * kTaps + kx) * c.inputs + i, &sum,
                        std::min(kLanes, c.inputs - i) * sizeof(float));
          }
  });
}

}  // namespace

extern "C" {
void weight_gradient_float(const Convolution* c, const float* x, const float* g, float* dw) {
  weight_gradient<Float>(*c, x, g, dw);
}
#if defined(PAIRS)
void weight_gradient_bfloat16(const Convolution* c, const uint16_t* x, const uint16_t* g, float* dw) {
  weight_gradient<Pair>(*c, x, g, dw);
}
#endif
}

#endif
