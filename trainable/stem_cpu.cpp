// The first block on a CPU: a 3x3 convolution of images of three channels, without padding, and what follows it, of
// channels-last maps. stem.py has the maths and calls it.
//
// A pixel of the output sees a patch of K = 27 values: three runs of nine, as the values of three neighbours follow each
// other in a row. That is so few that the output before the batch norm is never kept: `outputs` goes from images to what
// the next block reads, and `products` sums what all else is made of, the products of patches with each other or with
// the gradient that arrives.
//
// In bfloat16 an element holds two values: of the weights two neighbours of a run, of which there are five pairs, the
// last one with a zero; in products the same value of two images, as in convolution.h. Sums over a thousand pixels are
// in float, over more in double. Threads take equal shares of the images, and their sums are added in order: the same
// thread count gives the same bits.

#include "vectors.h"

// What the functions take; stem.py has the same fields.
struct Stem {
  int64_t n, h, w;  // images
  int64_t outputs;  // channels
  int64_t threads;  // at least 1
  int64_t drop;     // 0 or 1: whether outputs are dropped
  int64_t seed, threshold;  // as of `dropped`
  double kept;              // what an output that is not dropped is multiplied with

  int64_t out_h() const { return h - 2; }
  int64_t out_w() const { return w - 2; }
  int64_t vectors() const { return ceil_div(outputs, kLanes); }  // of a pixel's outputs
};

namespace {

constexpr int64_t kChannels = 3, kSide = 3, kRun = 9, kPatch = kSide * kRun;
constexpr bool kWide = kLanes == 16;  // AVX-512 has twice the registers, too
constexpr int64_t kPixels = kWide ? 8 : 4, kVectors = 2;  // of outputs at a time
constexpr int64_t kTogether = kWide ? 2 : 1;              // vectors of values at a time
constexpr int64_t kInFloat = 1024;                        // pixels, whole rows, that are summed in float

// What is to be known of a format here.
template <class F>
struct Format;

template <>
struct Format<Float> {
  static constexpr int64_t kSteps = kRun;
  static constexpr float kOnes = 1;

  // Of a run, what a step multiplies.
  static float step(const float* run, int64_t number) { return run[number]; }
  static float weight(const float* run, int64_t number) { return run[number]; }

  // A vector of g where y, an output of ReLU, is not zero; of the second image, too, `next` values on, if that is not 0.
  static Floats where_passed(const float* g, const float* y, int64_t, int64_t count) {
    __builtin_prefetch((const char*)g + kAhead);
    __builtin_prefetch((const char*)y + kAhead);
    const Floats values = Float::load(g, nullptr, count);
    return Float::load(y, nullptr, count) != 0 ? values : Floats{};
  }
  static void write(float* to, const Floats& v, int64_t lanes) { std::memcpy(to, &v, lanes * sizeof(float)); }
};

#if defined(PAIRS)
template <>
struct Format<Pair> {
  static constexpr int64_t kSteps = 5;
  static constexpr uint32_t kOnes = 0x3f803f80;

  // The last pair begins with a value of the one before: so it ends with the run, and counts that value with a zero.
  static uint32_t step(const uint16_t* run, int64_t number) {
    uint32_t both;
    std::memcpy(&both, run + std::min<int64_t>(2 * number, kRun - 2), sizeof(both));
    return both;
  }
  static uint32_t weight(const uint16_t* run, int64_t number) {
    return number + 1 < kSteps ? step(run, number) : uint32_t(run[kRun - 1]) << 16;
  }

  static __m512i where_passed(const uint16_t* g, const uint16_t* y, int64_t next, int64_t count) {
    const __m512i low = _mm512_cvtepu16_epi32(where_passed(g, y, count));
    if (next == 0) return low;
    const __m512i high = _mm512_cvtepu16_epi32(where_passed(g + next, y + next, count));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
  }
  static __m256i where_passed(const uint16_t* g, const uint16_t* y, int64_t count) {
    __builtin_prefetch((const char*)g + kAhead);
    __builtin_prefetch((const char*)y + kAhead);
    const __mmask16 there = count < kLanes ? (1 << count) - 1 : -1;
    const __m256i outputs = _mm256_maskz_loadu_epi16(there, y);
    return _mm256_maskz_loadu_epi16(_mm256_test_epi16_mask(outputs, outputs), g);
  }
  static void write(uint16_t* to, const Floats& v, int64_t lanes) {
    const Halves half = rounded(v);
    std::memcpy(to, &half, lanes * sizeof(uint16_t));
  }
};
#endif

// The outputs of one row of pixels.
template <class F>
class Row {
 public:
  Row(const Stem& s, const typename F::value* weights, const double* scale, const double* shift)
      : s_(s), weights_(s.vectors() * kSide * Format<F>::kSteps * kLanes), scale_(s.vectors()), shift_(s.vectors()) {
    for (int64_t o = 0; o < s.outputs; o++) {
      scale_.data()[o / kLanes][o % kLanes] = scale[o];
      shift_.data()[o / kLanes][o % kLanes] = shift[o];
      for (int64_t ky = 0; ky < kSide; ky++)
        for (int64_t step = 0; step < Format<F>::kSteps; step++)
          weights_.data()[((o / kLanes * kSide + ky) * Format<F>::kSteps + step) * kLanes + o % kLanes] =
              Format<F>::weight(weights + o * kPatch + ky * kRun, step);
    }
  }

  // `x`: the first of the three rows of the image that are seen; `first`: the number of the row's first output.
  void write(const typename F::value* x, int64_t first, typename F::value* y) const {
    int64_t v = 0;
    for (; v + kVectors <= s_.vectors(); v += kVectors) write<kVectors>(x, v, first, y);
    for (; v < s_.vectors(); v++) write<1>(x, v, first, y);
  }

 private:
  template <int64_t V>
  void write(const typename F::value* x, int64_t v, int64_t first, typename F::value* y) const {
    // The last pixels are written together with some before them, which are the same again.
    for (int64_t column = 0; column < s_.out_w(); column += kPixels)
      if (s_.out_w() >= kPixels)
        write<V, kPixels>(x, v, first, std::min(column, s_.out_w() - kPixels), y);
      else
        for (int64_t one = 0; one < s_.out_w(); one++) write<V, 1>(x, v, first, one, y);
  }

  template <int64_t V, int64_t P>
  void write(const typename F::value* x, int64_t v, int64_t first, int64_t column, typename F::value* y) const {
    constexpr int64_t steps = Format<F>::kSteps;
    Floats sums[P][V]{};  // in registers, as all its indices are constants once the loops are unrolled
    for (int64_t ky = 0; ky < kSide; ky++) {
      const auto* run = x + (ky * s_.w + column) * kChannels;
      const auto* weights = weights_.data() + (v * kSide + ky) * steps * kLanes;
      for (int64_t step = 0; step < steps; step++) {
        typename F::vector own[V];
        for (int64_t k = 0; k < V; k++) own[k] = fetch<F>(weights + (k * kSide * steps + step) * kLanes);
        for (int64_t p = 0; p < P; p++)
          for (int64_t k = 0; k < V; k++)
            sums[p][k] = F::added(sums[p][k], own[k], Format<F>::step(run + p * kChannels, step));
      }
    }
    for (int64_t p = 0; p < P; p++)
      for (int64_t k = 0; k < V; k++) {
        const int64_t channel = (v + k) * kLanes, out = first + (column + p) * s_.outputs + channel;
        Floats value = scale_.data()[v + k] * sums[p][k] + shift_.data()[v + k];
        value = value <= 0 ? Floats{} : value;  // NaN stays
        if (channel + kLanes <= s_.outputs)
          finish(value, out, kLanes, y);
        else
          finish(value, out, s_.outputs - channel, y);
      }
  }

  void finish(Floats value, int64_t out, int64_t lanes, typename F::value* y) const {
    if (s_.drop) value = dropped(s_.seed, s_.threshold, out) ? Floats{} : value * float(s_.kept);
    Format<F>::write(y + out, value, lanes);
  }

  const Stem s_;
  Buffer<typename F::element> weights_;
  Buffer<Floats> scale_, shift_;
};

template <class F>
void outputs(const Stem& s, const typename F::value* x, const typename F::value* weights, const double* scale,
             const double* shift, typename F::value* y) {
  const Row<F> row(s, weights, scale, shift);
  parallel(s.threads, [&](int64_t t) {
    for (int64_t n = s.n * t / s.threads; n < s.n * (t + 1) / s.threads; n++)
      for (int64_t r = 0; r < s.out_h(); r++)
        row.write(x + (n * s.h + r) * s.w * kChannels, (n * s.out_h() + r) * s.out_w() * s.outputs, y);
  });
}

// Sums of the products of patches with some values of the same pixels, of as many images as an element holds.
template <class F>
class ProductSums {
 public:
  // `values`: of a pixel.
  ProductSums(const Stem& s, int64_t values)
      : s_(s),
        values_(values),
        vectors_(ceil_div(values, kLanes)),
        rows_(std::max<int64_t>(1, kInFloat / s.out_w())),
        x_(s.h * s.w * kChannels + kLanes),
        u_(s.out_w() * vectors_ * kLanes),
        sums_((kPatch + 1) * vectors_) {}

  // Adds those of one image, or two, to sums[28][values]; the last row is of the values alone. `fill(row, x, u)` writes
  // the values of a row's pixels into u, whose patches begin at x.
  template <class Fill>
  void add(const typename F::value* x, int64_t images, const Fill& fill, double* sums) {
    const int64_t size = s_.h * s_.w * kChannels;
    for (int64_t i = 0; i < size; i += kLanes) {
      const auto v = F::load(x + i, images == 2 ? x + size + i : nullptr, size - i);
      std::memcpy(x_.data() + i, &v, sizeof(v));
    }
    for (int64_t row = 0; row < s_.out_h(); row++) {
      const auto* seen = x_.data() + row * s_.w * kChannels;
      fill(row, seen, u_.data());
      for (int64_t ky = 0; ky < kSide; ky++) multiply<kRun>(seen + ky * s_.w * kChannels, kChannels, ky * kRun);
      multiply<1>(&Format<F>::kOnes, 0, kPatch);
      if ((row + 1) % rows_ == 0 || row + 1 == s_.out_h()) take(sums);
    }
  }

 private:
  // Adds what was summed in float since the last time.
  void take(double* sums) {
    for (int64_t k = 0; k <= kPatch; k++)
      for (int64_t i = 0; i < values_; i++)
        sums[k * values_ + i] += sums_.data()[k * vectors_ + i / kLanes][i % kLanes];
    std::fill_n(sums_.data(), (kPatch + 1) * vectors_, Floats{});
  }

  template <int64_t K>
  void multiply(const typename F::element* x, int64_t apart, int64_t first) {
    int64_t v = 0;
    for (; v + kTogether <= vectors_; v += kTogether) multiply<K, kTogether>(v, x, apart, first);
    for (; v < vectors_; v++) multiply<K, 1>(v, x, apart, first);
  }

  // V vectors of each pixel's values times K elements, which are `apart` from pixel to pixel.
  template <int64_t K, int64_t V>
  void multiply(int64_t v, const typename F::element* x, int64_t apart, int64_t first) {
    Floats accumulators[K][V]{};  // in registers
    const auto* u = u_.data() + v * kLanes;
    for (int64_t column = 0; column < s_.out_w(); column++, x += apart, u += vectors_ * kLanes) {
      typename F::vector own[V];
      for (int64_t k = 0; k < V; k++) own[k] = fetch<F>(u + k * kLanes);
      for (int64_t tap = 0; tap < K; tap++)
        for (int64_t k = 0; k < V; k++) accumulators[tap][k] = F::added(accumulators[tap][k], own[k], x[tap]);
    }
    for (int64_t tap = 0; tap < K; tap++)
      for (int64_t k = 0; k < V; k++) sums_.data()[(first + tap) * vectors_ + v + k] += accumulators[tap][k];
  }

  const Stem s_;
  const int64_t values_, vectors_, rows_;
  Buffer<typename F::element> x_, u_;
  Buffer<Floats> sums_;
};

// sums: (28, values). `fill(image, images, row, x, u)` is as for ProductSums, of the images from `image` on.
template <class F, class Fill>
void products(const Stem& s, const typename F::value* x, int64_t values, const Fill& fill, double* sums) {
  const int64_t units = ceil_div(s.n, F::kImages), threads = std::max<int64_t>(1, std::min(s.threads, units));
  const int64_t size = (kPatch + 1) * values;
  std::vector<std::vector<double>> own(threads, std::vector<double>(size));
  parallel(threads, [&](int64_t t) {
    ProductSums<F> products(s, values);
    for (int64_t unit = units * t / threads; unit < units * (t + 1) / threads; unit++) {
      const int64_t image = unit * F::kImages, images = std::min(F::kImages, s.n - image);
      const auto filled = [&](int64_t row, const auto* seen, auto* u) { fill(image, images, row, seen, u); };
      products.add(x + image * s.h * s.w * kChannels, images, filled, own[t].data());
    }
  });
  std::fill_n(sums, size, 0.0);
  for (const auto& one : own)
    for (int64_t i = 0; i < size; i++) sums[i] += one[i];
}

// Of patches with themselves.
template <class F>
void patch_products(const Stem& s, const typename F::value* x, double* sums) {
  const auto fill = [&](int64_t, int64_t, int64_t, const typename F::element* seen, typename F::element* u) {
    for (int64_t column = 0; column < s.out_w(); column++, u += ceil_div(kPatch, kLanes) * kLanes)
      for (int64_t ky = 0; ky < kSide; ky++)
        std::memcpy(u + ky * kRun, seen + (ky * s.w + column) * kChannels, kRun * sizeof(*u));
  };
  products<F>(s, x, kPatch, fill, sums);
}

// Of patches with the gradients that pass ReLU and dropout: where the output is not zero.
template <class F>
void gradient_products(const Stem& s, const typename F::value* x, const typename F::value* y,
                       const typename F::value* g, double* sums) {
  const auto fill = [&](int64_t image, int64_t images, int64_t row, const auto*, typename F::element* u) {
    const int64_t next = images == 2 ? s.out_h() * s.out_w() * s.outputs : 0;
    int64_t at = (image * s.out_h() + row) * s.out_w() * s.outputs;
    for (int64_t column = 0; column < s.out_w(); column++, at += s.outputs)
      for (int64_t o = 0; o < s.outputs; o += kLanes, u += kLanes) {
        const auto v = Format<F>::where_passed(g + at + o, y + at + o, next, s.outputs - o);
        std::memcpy(u, &v, sizeof(v));
      }
  };
  products<F>(s, x, s.outputs, fill, sums);
}

}  // namespace

#define FUNCTIONS(NAME, F)                                                                                 \
  int outputs_##NAME(const Stem* s, const F::value* x, const F::value* weights, const double* scale,       \
                     const double* shift, F::value* y) {                                                   \
    return in_memory([&] { outputs<F>(*s, x, weights, scale, shift, y); });                                \
  }                                                                                                        \
  int patch_products_##NAME(const Stem* s, const F::value* x, double* sums) {                              \
    return in_memory([&] { patch_products<F>(*s, x, sums); });                                             \
  }                                                                                                        \
  int gradient_products_##NAME(const Stem* s, const F::value* x, const F::value* y, const F::value* g,     \
                               double* sums) {                                                             \
    return in_memory([&] { gradient_products<F>(*s, x, y, g, sums); });                                    \
  }

extern "C" {
FUNCTIONS(float, Float)
#if defined(PAIRS)
FUNCTIONS(bfloat16, Pair)
#endif
}
