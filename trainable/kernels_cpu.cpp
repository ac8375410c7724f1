// The tail of a block on a CPU: batch norm, max pooling, ReLU and dropout of channels-last maps, in one pass over
// memory each way where PyTorch takes four. See block_tail.py for the maths and the shapes, kernels_cpu.py for the calls.
//
// Each function walks maps of (N, H, W, C) values row by row; of a row it takes as many channels at a time as a register
// has floats, so that the channels' constants and sums stay in registers and the row in the nearest cache. Windows are
// recomputed in the backward pass from the input, which is read there anyhow, so that no index is kept. Sums over a row
// are in the accumulating type (float, or double for double), sums over rows in double. Threads take equal shares of the
// N maps, and their sums are added in order: the same thread count gives the same bits.

#include "vectors.h"

#include <type_traits>

namespace {

constexpr int64_t kLargestPool = 16;

struct bfloat16 {
  uint16_t bits;
};

template <class T>
struct Traits {
  using acc = T;
};
template <>
struct Traits<bfloat16> {
  using acc = float;
};
template <class T>
using Acc = typename Traits<T>::acc;

template <class A>
struct Vectors;
template <>
struct Vectors<float> {
  using value = Floats;
  using mask = Ints;
};
template <>
struct Vectors<double> {
  using value = Doubles;
  using mask = Longs;
};
template <class T>
using Vec = typename Vectors<Acc<T>>::value;
template <class T>
using Mask = typename Vectors<Acc<T>>::mask;

template <class T>
inline Vec<T> read(const T* from, int64_t lanes) {
  if constexpr (kLanes == 16) __builtin_prefetch((const char*)from + kAhead);  // of others it was not measured
  if constexpr (std::is_same_v<T, bfloat16>) {
    const Bits bits = __builtin_convertvector(load<Halves>(from, lanes), Bits) << 16;
    return (Floats)bits;
  } else {
    return load<Vec<T>>(from, lanes);
  }
}

template <class T>
inline Vec<T> constant(const double* from, int64_t lanes) {
  return __builtin_convertvector(load<Doubles>(from, lanes), Vec<T>);
}

template <class T>
inline void write(T* to, const Vec<T>& v, int64_t lanes) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    const Halves half = rounded(v);
    std::memcpy(to, &half, lanes * sizeof(bfloat16));
  } else {
    std::memcpy(to, &v, lanes * sizeof(T));
  }
}

}  // namespace

// What all functions take; kernels_cpu.py has the same fields.
struct Tail {
  int64_t n, h, w, c;  // maps of x: channels last
  int64_t pool;        // side of a window, at least 1 and at most h and w
  int64_t threads;     // at least 1
  int64_t relu;        // 0 or 1
  int64_t drop;        // 0 or 1: whether outputs are dropped
  int64_t seed, threshold;  // as of `dropped`
  double kept;              // what an output that is not dropped is multiplied with

  int64_t out_h() const { return h / pool; }
  int64_t out_w() const { return w / pool; }
};

namespace {

// Calls work(share, begin, end) with equal shares of `rows`, each on a thread of its own.
template <class Work>
void divide(int64_t rows, int64_t threads, const Work& work) {
  parallel(threads, [&](int64_t t) { work(t, rows * t / threads, rows * (t + 1) / threads); });
}

// Calls work(channel, lanes) for kLanes channels at a time; lanes is a constant but for the last ones.
template <class Work>
inline void channels(int64_t c, Work work) {
  int64_t at = 0;
  for (; at + kLanes <= c; at += kLanes) work(at, std::integral_constant<int64_t, kLanes>{});
  if (at < c) work(at, c - at);
}

// Two sums a channel, of each thread its own until they are read.
class Sums {
 public:
  Sums(int64_t c, int64_t threads) : c_(c), sums_(2 * c * threads) {}

  template <class V>
  void add(int64_t thread, int64_t at, const V& first, const V& second, int64_t lanes) {
    double* own = sums_.data() + 2 * c_ * thread;
    for (int64_t lane = 0; lane < lanes; lane++) {
      own[at + lane] += first[lane];
      own[c_ + at + lane] += second[lane];
    }
  }
  double first(int64_t channel) const { return total(channel); }
  double second(int64_t channel) const { return total(c_ + channel); }

 private:
  double total(int64_t at) const {
    double sum = 0;
    for (; at < int64_t(sums_.size()); at += 2 * c_) sum += sums_[at];
    return sum;
  }
  int64_t c_;
  std::vector<double> sums_;
};

// A window's largest normalised value, the first one as in PyTorch, or NaN where there is one.
template <class T>
struct Window {
  Vec<T> input, top;
};

template <class T, int64_t P>
inline Window<T> largest(const T* x, const Tail& t, const Vec<T>& a, const Vec<T>& b, int64_t lanes) {
  const int64_t p = P ? P : t.pool;
  const Vec<T> input = read(x, lanes);
  Window<T> found{input, a * input + b};
  for (int64_t k = 1; k < p * p; k++) {
    const Vec<T> other = read(x + (k / p * t.w + k % p) * t.c, lanes), v = a * other + b;
    const Mask<T> better = (v > found.top) | (v != v);
    found.input = better ? other : found.input;
    found.top = better ? v : found.top;
  }
  return found;
}

// ReLU: `v` where `top` is positive or NaN.
template <class T>
inline Vec<T> rectified(const Tail& t, const Vec<T>& top, const Vec<T>& v) {
  return t.relu ? (top <= 0 ? Vec<T>{} : v) : v;
}

// Dropout: what the outputs from `at` on, or their gradients, are multiplied with.
template <class T>
inline Vec<T> kept(const Tail& t, int64_t at) {
  const auto none = __builtin_convertvector(dropped(t.seed, t.threshold, at), Mask<T>);
  return none ? Vec<T>{} : Vec<T>{} + Acc<T>(t.kept);
}

// The gradient that arrives at the largest value of a window.
template <class T>
inline Vec<T> arriving(const Tail& t, const T* g, const Vec<T>& top, int64_t at, int64_t lanes) {
  const Vec<T> v = rectified<T>(t, top, read(g + at, lanes));
  return t.drop ? v * kept<T>(t, at) : v;
}

template <class T>
void statistics(const Tail& t, const T* x, double* mean, double* variance) {
  // Sums of differences from the first value of each channel: a large mean costs no digits.
  std::vector<Acc<T>> origins(t.c);
  channels(t.c, [&](int64_t at, auto lanes) {
    const Vec<T> v = read(x + at, lanes);
    std::memcpy(origins.data() + at, &v, lanes * sizeof(Acc<T>));
  });
  Sums sums(t.c, t.threads);
  divide(t.n * t.h, t.threads, [&](int64_t thread, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++)
      channels(t.c, [&](int64_t at, auto lanes) {
        const Vec<T> origin = load<Vec<T>>(origins.data() + at, lanes);
        Vec<T> sum{}, squares{};
        for (int64_t w = 0; w < t.w; w++) {
          const Vec<T> d = read(x + (row * t.w + w) * t.c + at, lanes) - origin;
          sum += d;
          squares += d * d;
        }
        sums.add(thread, at, sum, squares, lanes);
      });
  });
  const double count = double(t.n) * t.h * t.w;
  for (int64_t c = 0; c < t.c; c++) {
    const double d = sums.first(c) / count;
    mean[c] = origins[c] + d;
    variance[c] = std::max(sums.second(c) / count - d * d, 0.0);  // rounding; NaN stays NaN
  }
}

template <class T, int64_t P>
void forward(const Tail& t, const T* x, const double* a, const double* b, T* y) {
  const int64_t p = P ? P : t.pool;
  divide(t.n * t.out_h(), t.threads, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const T* line = x + (row / t.out_h() * t.h + row % t.out_h() * p) * t.w * t.c;
      channels(t.c, [&](int64_t at, auto lanes) {
        const Vec<T> scale = constant<T>(a + at, lanes), shift = constant<T>(b + at, lanes);
        for (int64_t w = 0; w < t.out_w(); w++) {
          const int64_t out = (row * t.out_w() + w) * t.c + at;
          const Vec<T> top = largest<T, P>(line + w * p * t.c + at, t, scale, shift, lanes).top;
          const Vec<T> v = rectified<T>(t, top, top);
          write(y + out, t.drop ? v * kept<T>(t, out) : v, lanes);
        }
      });
    }
  });
}

template <class T, int64_t P>
void backward_sums(const Tail& t, const T* x, const T* g, const double* a, const double* b, const double* mean,
                   double* sum, double* product) {
  const int64_t p = P ? P : t.pool;
  Sums sums(t.c, t.threads);
  divide(t.n * t.out_h(), t.threads, [&](int64_t thread, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const T* line = x + (row / t.out_h() * t.h + row % t.out_h() * p) * t.w * t.c;
      channels(t.c, [&](int64_t at, auto lanes) {
        const Vec<T> scale = constant<T>(a + at, lanes), shift = constant<T>(b + at, lanes);
        const Vec<T> centre = constant<T>(mean + at, lanes);
        Vec<T> total{}, products{};
        for (int64_t w = 0; w < t.out_w(); w++) {
          const int64_t out = (row * t.out_w() + w) * t.c + at;
          const Window<T> found = largest<T, P>(line + w * p * t.c + at, t, scale, shift, lanes);
          const Vec<T> arrived = arriving<T>(t, g, found.top, out, lanes);
          total += arrived;
          products += arrived * (found.input - centre);
        }
        sums.add(thread, at, total, products, lanes);
      });
    }
  });
  for (int64_t c = 0; c < t.c; c++) {
    sum[c] = sums.first(c);
    product[c] = sums.second(c);
  }
}

template <class T, int64_t P>
void backward_input(const Tail& t, const T* x, const T* g, const double* a, const double* b, const double* u,
                    const double* v, T* dx) {
  const int64_t p = P ? P : t.pool;
  constexpr int64_t kValues = P ? P * P : kLargestPool * kLargestPool;
  divide(t.n, t.threads, [&](int64_t, int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; n++)
      for (int64_t h = 0; h < t.h; h += p) {
        const int64_t line = (n * t.h + h) * t.w * t.c;
        const int64_t out = (n * t.out_h() + h / p) * t.out_w() * t.c;
        const int64_t covered = h + p <= t.h ? t.out_w() * p : 0;  // windows leave a rest at the right and below
        channels(t.c, [&](int64_t at, auto lanes) {
          const Vec<T> scale = constant<T>(a + at, lanes), shift = constant<T>(b + at, lanes);
          const Vec<T> slope = constant<T>(u + at, lanes), offset = constant<T>(v + at, lanes);
          const Vec<T> none{};
          for (int64_t w = 0; w < covered; w += p) {
            const int64_t from = line + w * t.c + at, to = out + w / p * t.c + at;
            Vec<T> inputs[kValues], values[kValues], top{};
            for (int64_t k = 0; k < p * p; k++) {
              inputs[k] = read(x + from + (k / p * t.w + k % p) * t.c, lanes);
              values[k] = scale * inputs[k] + shift;
              top = k == 0 ? values[k] : values[k] > top ? values[k] : top;
            }
            Vec<T> left = scale * arriving<T>(t, g, top, to, lanes);
            for (int64_t k = 0; k < p * p; k++) {
              const Mask<T> taken = values[k] == top;
              const Vec<T> own = taken ? left : none;
              left = taken ? none : left;  // the first of equals has it all
              write(dx + from + (k / p * t.w + k % p) * t.c, slope * inputs[k] + offset + own, lanes);
            }
          }
          for (int64_t i = 0; i < std::min(p, t.h - h); i++)
            for (int64_t w = covered; w < t.w; w++) {
              const int64_t here = line + (i * t.w + w) * t.c + at;
              write(dx + here, slope * read(x + here, lanes) + offset, lanes);
            }
        });
      }
  });
}

// Calls work with the pool's size as a constant where it is a common one. Returns as in_memory.
template <class Work>
int with_pool(int64_t pool, const Work& work) {
  return in_memory([&] {
    if (pool == 1) return work(std::integral_constant<int64_t, 1>{});
    if (pool == 2) return work(std::integral_constant<int64_t, 2>{});
    work(std::integral_constant<int64_t, 0>{});
  });
}

}  // namespace

#define FUNCTIONS(T)                                                                                              \
  int statistics_##T(const Tail* t, const T* x, double* mean, double* variance) {                                 \
    return in_memory([&] { statistics<T>(*t, x, mean, variance); });                                              \
  }                                                                                                               \
  int forward_##T(const Tail* t, const T* x, const double* a, const double* b, T* y) {                            \
    return with_pool(t->pool, [&](auto p) { forward<T, p>(*t, x, a, b, y); });                                    \
  }                                                                                                               \
  int backward_sums_##T(const Tail* t, const T* x, const T* g, const double* a, const double* b,                  \
                        const double* mean, double* sum, double* product) {                                       \
    return with_pool(t->pool, [&](auto p) { backward_sums<T, p>(*t, x, g, a, b, mean, sum, product); });          \
  }                                                                                                               \
  int backward_input_##T(const Tail* t, const T* x, const T* g, const double* a, const double* b,                 \
                         const double* u, const double* v, T* dx) {                                               \
    return with_pool(t->pool, [&](auto p) { backward_input<T, p>(*t, x, g, a, b, u, v, dx); });                   \
  }

extern "C" {
FUNCTIONS(float)
FUNCTIONS(double)
FUNCTIONS(bfloat16)
}
