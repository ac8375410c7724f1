// A 3x3 convolution of channels-last maps on a CPU, and the gradient of its weights (convolution.py calls them). The
// gradient of its inputs is a convolution, too: of the outputs' gradient, padded with 2 - P, by the same weights turned
// by half a turn, inputs and outputs changing places. On CPUs without AVX-512 this file is empty.
//
// Units go in blocks, so small that the second cache holds all their matrices. Sums are in float. Threads take equal
// shares of the units, and their sums are added in order: the same thread count gives the same bits.

#if defined(__AVX512F__)

#include <memory>

#include "direct.h"
#include "filters.h"
#include "winograd.h"

namespace {

constexpr int64_t kBlock = 6 * kRows;        // units at a time for the outputs
constexpr int64_t kBlockBytes = 448 << 10;  // of their matrices for the gradient

// sums[r][k], or what is added to it, = sum over the steps i of rows[i][r * apart] columns[i][k]. A step goes on by
// `columns_step` and `rows_step` elements. Not inlined, as what is around it would take registers; unrolled early, as
// the compiler else keeps the sums in memory.
template <class F, bool add>
__attribute__((noinline)) void multiply(const typename F::element* columns, int64_t columns_step,
                                        const typename F::element* rows, int64_t rows_step, int64_t apart,
                                        int64_t steps, Floats* sums, int64_t sums_apart) {
  Floats kept[kRows][kVectors]{};
  for (int64_t i = 0; i < steps; i++, columns += columns_step, rows += rows_step) {
    typename F::vector own[kVectors];
#pragma GCC unroll 8
    for (int64_t k = 0; k < kVectors; k++) own[k] = fetch<F>(columns + k * kLanes);
#pragma GCC unroll 8
    for (int64_t r = 0; r < kRows; r++)
#pragma GCC unroll 8
      for (int64_t k = 0; k < kVectors; k++) kept[r][k] = F::added(kept[r][k], own[k], rows[r * apart]);
  }
#pragma GCC unroll 8
  for (int64_t r = 0; r < kRows; r++)
#pragma GCC unroll 8
    for (int64_t k = 0; k < kVectors; k++) {
      Floats& sum = sums[r * sums_apart + k];
      sum = add ? sum + kept[r][k] : kept[r][k];
    }
}

template <class F, class Algorithm>
class Outputs {
  using L = typename Layout<F>::outputs;

 public:
  Outputs(const Algorithm& algorithm, const Filters<F, Algorithm>& filters)
      : algorithm_(algorithm),
        filters_(filters),
        products_(by(&Product::output, algorithm.outputs, algorithm.products())),
        inputs_(algorithm.inputs, kBlock, filters.elements()),
        sums_(algorithm.outputs, kBlock, kVectors) {}

  // y of the units from `begin` on, at most kBlock.
  void make(const typename F::value* x, int64_t begin, int64_t end, typename F::value* y) {
    algorithm_.template read<L>(x, begin, end, inputs_);
    for (int64_t strip = 0; strip < filters_.strips(); strip++) {
      for (int64_t place = 0; place < algorithm_.outputs; place++)
        for (int64_t row = 0; row < end - begin; row += kRows) add(place, strip, row);
      algorithm_.write_outputs(sums_, begin, end, strip * kVectors * kLanes, y);
    }
  }

 private:
  void add(int64_t place, int64_t strip, int64_t row) {
    const auto filters = filters_.strip(strip);
    const auto inputs = inputs_.row(row);
    const int64_t elements = inputs_.size();
    auto* write = multiply<F, false>;
    for (const Product& one : products_[place]) {
      write(filters[one.filter], kVectors * kLanes, inputs[one.input], 1, elements, elements, sums_.row(row)[place],
            kVectors);
      write = multiply<F, true>;
    }
  }

  const Algorithm& algorithm_;
  const Filters<F, Algorithm>& filters_;
  const std::vector<std::vector<Product>> products_;
  Matrices<typename F::element> inputs_;
  Matrices<Floats> sums_;
};

template <class F, class Algorithm>
void outputs(const Algorithm& algorithm, const typename F::value* x, const float* weights, bool turned,
             typename F::value* y) {
  const Filters<F, Algorithm> filters(algorithm, weights, turned);
  const int64_t units = algorithm.c.n * algorithm.units, blocks = up(units, kBlock);
  const int64_t threads = std::min(algorithm.c.threads, blocks);
  parallel(threads, [&](int64_t t) {
    Outputs<F, Algorithm> own(algorithm, filters);
    for (int64_t block = blocks * t / threads; block < blocks * (t + 1) / threads; block++)
      own.make(x, block * kBlock, std::min(units, (block + 1) * kBlock), y);
  });
}

// The filters' gradient in an algorithm's places.
template <class F, class Algorithm>
class Gradient {
  using L = typename Layout<F>::gradient;

 public:
  explicit Gradient(const Algorithm& algorithm)
      : algorithm_(algorithm),
        products_(by(&Product::filter, algorithm.filters, algorithm.products())),
        vectors_(up(algorithm.c.inputs, kVectors * kLanes) * kVectors),
        outputs_(up(algorithm.c.outputs, kLanes) * kLanes),
        block_(std::max<int64_t>(kRows, kBlockBytes / bytes())),
        x_(algorithm.inputs, block_, vectors_ * kLanes),
        g_(algorithm.outputs, block_, outputs_),
        sums_(algorithm.filters, outputs_, vectors_) {}

  // Adds that of the units from `begin` on.
  void add(const typename F::value* x, const typename F::value* g, int64_t begin, int64_t end) {
    for (; begin < end; begin += block_) {
      const int64_t stop = std::min(begin + block_, end);
      algorithm_.template read<L>(x, begin, stop, x_);
      algorithm_.template read_gradient<L>(g, begin, stop, g_);
      for (int64_t place = 0; place < algorithm_.filters; place++)
        for (int64_t vector = 0; vector < vectors_; vector += kVectors)
          for (int64_t output = 0; output < outputs_; output += kRows)
            for (const Product& one : products_[place])
              multiply<F, true>(x_.row(0)[one.input] + vector * kLanes, x_.size(), g_.row(0)[one.output] + output,
                                g_.size(), 1, stop - begin, sums_.row(output)[place] + vector, sums_.size());
    }
  }

  const Floats& sum(int64_t place, int64_t output, int64_t vector) const { return sums_.row(output)[place][vector]; }

 private:
  int64_t bytes() const {  // of a unit
    return (algorithm_.inputs * vectors_ * kLanes + algorithm_.outputs * outputs_) * sizeof(typename F::element);
  }

  const Algorithm& algorithm_;
  const std::vector<std::vector<Product>> products_;
  const int64_t vectors_, outputs_, block_;  // vectors of inputs, outputs, units at a time
  Matrices<typename F::element> x_, g_;
  Matrices<Floats> sums_;
};

// dw: (outputs, 3, 3, inputs).
template <class F, class Algorithm>
void weight_gradient(const Algorithm& algorithm, const typename F::value* x, const typename F::value* g, float* dw) {
  const Convolution& c = algorithm.c;
  const int64_t units = up(c.n, Layout<F>::gradient::kImages) * algorithm.units, threads = std::min(c.threads, units);
  std::vector<std::unique_ptr<Gradient<F, Algorithm>>> shares(threads);
  parallel(threads, [&](int64_t t) {
    shares[t] = std::make_unique<Gradient<F, Algorithm>>(algorithm);
    shares[t]->add(x, g, units * t / threads, units * (t + 1) / threads);
  });
  for (int64_t output = 0; output < c.outputs; output++)
    for (int64_t vector = 0; vector < up(c.inputs, kLanes); vector++) {
      Floats u[Algorithm::filters]{}, taps[kTaps];
      for (const auto& share : shares)
        for (int64_t place = 0; place < Algorithm::filters; place++) u[place] += share->sum(place, output, vector);
      Algorithm::to_taps(u, taps);
      const auto there = left<Single>(c.inputs - vector * kLanes);
      for (int64_t tap = 0; tap < kTaps; tap++)
        _mm512_mask_storeu_ps(dw + (output * kTaps + tap) * c.inputs + vector * kLanes, there, (__m512)taps[tap]);
    }
}

// Calls work(algorithm) with the one that takes less: Winograd's transforms count for a quarter of its products.
template <class Work>
void by_the_faster(const Convolution& c, const Work& work) {
  const Winograd winograd{c};
  const Direct direct{c};
  if (5 * winograd.count() < 4 * direct.count())
    work(winograd);
  else
    work(direct);
}

}  // namespace

#define FUNCTIONS(NAME, F)                                                                                           \
  void outputs_##NAME(const Convolution* c, int64_t turned, const F::value* x, const float* weights, F::value* y) {  \
    by_the_faster(*c, [&](const auto& algorithm) { outputs<F>(algorithm, x, weights, turned, y); });                 \
  }                                                                                                                  \
  void weight_gradient_##NAME(const Convolution* c, const F::value* x, const F::value* g, float* dw) {               \
    by_the_faster(*c, [&](const auto& algorithm) { weight_gradient<F>(algorithm, x, g, dw); });                      \
  }

extern "C" {
FUNCTIONS(float, Float)
#if defined(PAIRS)
FUNCTIONS(bfloat16, Pair)
#endif
}

#endif
