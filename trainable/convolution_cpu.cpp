// A 3x3 convolution of channels-last maps on a CPU, and the gradient of its weights (convolution.py calls them). The
// gradient of its inputs is a convolution, too: of the outputs' gradient, padded with 2 - P, by the same weights turned
// by half a turn, inputs and outputs changing places. On CPUs without AVX-512 this file is empty.
//
// Units go in blocks, whose matrices the second cache is to hold. Sums are in float. An output is made by one thread.
// For the gradient threads take equal shares of the units, and their sums are added in order: the same thread count
// gives the same bits.

#if defined(__AVX512F__)

#include <memory>

#include "direct.h"
#include "filters.h"
#include "winograd.h"

namespace {

// Of a block: bytes that a common second cache holds, and, for the outputs, units, beyond which little is won; for the
// gradient half as many bytes, as its sums want room, too.
constexpr int64_t kBlockBytes = 896 << 10, kBlockUnits = 6 * kRows;

// sums[r][k], or what is added to it, = sum over `products` and the steps i of rows[i][r * apart] columns[i][k], which
// are in the places that they name, for r in `groups` of kRows. A step goes on by `columns_step` and `rows_step`
// elements. Not inlined, as what is around it would take registers; unrolled early, as the compiler else keeps the sums
// in memory.
template <class F, bool add, int64_t Product::*columns_place, int64_t Product::*rows_place>
__attribute__((noinline)) void multiply(const Products& products, Places<const typename F::element> columns,
                                        int64_t columns_step, Places<const typename F::element> rows,
                                        int64_t rows_step, int64_t apart, int64_t steps, int64_t groups, Floats* sums,
                                        int64_t sums_apart) {
  for (int64_t group = 0; group < groups; group++, rows.numbers += kRows * apart, sums += kRows * sums_apart) {
    Floats accumulators[kRows][kVectors]{};
    for (const Product& one : products) {
      const auto *column = columns[one.*columns_place], *row = rows[one.*rows_place];
      for (int64_t i = 0; i < steps; i++, column += columns_step, row += rows_step) {
        typename F::vector own[kVectors];
#pragma GCC unroll 8
        for (int64_t k = 0; k < kVectors; k++) own[k] = fetch<F>(column + k * kLanes);
#pragma GCC unroll 8
        for (int64_t r = 0; r < kRows; r++)
#pragma GCC unroll 8
          for (int64_t k = 0; k < kVectors; k++)
            accumulators[r][k] = F::added(accumulators[r][k], own[k], row[r * apart]);
      }
    }
#pragma GCC unroll 8
    for (int64_t r = 0; r < kRows; r++)
#pragma GCC unroll 8
      for (int64_t k = 0; k < kVectors; k++) {
        Floats& sum = sums[r * sums_apart + k];
        sum = add ? sum + accumulators[r][k] : accumulators[r][k];
      }
  }
}

template <class F, class Algorithm>
class Outputs {
  using L = typename Layout<F>::outputs;

 public:
  // `units`: how many `make` will get at most.
  Outputs(const Algorithm& algorithm, const Filters<F, Algorithm>& filters, int64_t units)
      : algorithm_(algorithm),
        filters_(filters),
        products_(by(&Product::output, algorithm.output_places, algorithm.products())),
        block_(std::min({kBlockUnits, ceil_div(units, kRows) * kRows, std::max(kRows, fitting() / kRows * kRows)})),
        inputs_(algorithm.input_places, block_, filters.elements()),
        sums_(algorithm.output_places, block_, kVectors) {}

  // y of the units from `begin` on.
  void make(const typename F::value* x, int64_t begin, int64_t end, typename F::value* y) {
    for (; begin < end; begin += block_) {
      const int64_t stop = std::min(begin + block_, end);
      algorithm_.template read<L>(x, begin, stop, inputs_);
      for (int64_t strip = 0; strip < filters_.strips(); strip++) {
        for (int64_t place = 0; place < algorithm_.output_places; place++)
          multiply<F, false, &Product::filter, &Product::input>(
              products_[place], filters_.strip(strip), kVectors * kLanes, inputs_.from(0), 1, inputs_.size(),
              inputs_.size(), ceil_div(stop - begin, kRows), sums_.row(0)[place], sums_.size());
        algorithm_.write_outputs(sums_, begin, stop, strip * kVectors * kLanes, y);
      }
    }
  }

 private:
  // Units whose matrices a block may have.
  int64_t fitting() const {
    const int64_t inputs = algorithm_.input_places * filters_.elements() * sizeof(typename F::element);
    return kBlockBytes / (inputs + algorithm_.output_places * kVectors * int64_t(sizeof(Floats)));
  }

  const Algorithm& algorithm_;
  const Filters<F, Algorithm>& filters_;
  const std::vector<Products> products_;
  const int64_t block_;
  Matrices<typename F::element> inputs_;
  Matrices<Floats> sums_;
};

template <class F, class Algorithm>
void outputs(const Algorithm& algorithm, const typename F::value* x, const float* weights, bool turned,
             typename F::value* y) {
  const Filters<F, Algorithm> filters(algorithm, weights, turned);
  const int64_t units = algorithm.c.n * algorithm.units, eights = ceil_div(units, kRows);
  const int64_t threads = std::min(algorithm.c.threads, eights);
  parallel(threads, [&](int64_t t) {
    const int64_t begin = eights * t / threads * kRows, end = std::min(units, eights * (t + 1) / threads * kRows);
    Outputs<F, Algorithm>(algorithm, filters, end - begin).make(x, begin, end, y);
  });
}

// The filters' gradient in an algorithm's places.
template <class F, class Algorithm>
class Gradient {
  using L = typename Layout<F>::gradient;

 public:
  // `units`: how many `add` will get at most.
  Gradient(const Algorithm& algorithm, int64_t units)
      : algorithm_(algorithm),
        products_(by(&Product::filter, Algorithm::kFilterPlaces, algorithm.products())),
        vectors_(ceil_div(algorithm.c.inputs, kVectors * kLanes) * kVectors),
        outputs_(ceil_div(algorithm.c.outputs, kLanes) * kLanes),
        block_(std::min(units, std::max(kRows, kBlockBytes / 2 / bytes()))),
        x_(algorithm.input_places, block_, vectors_ * kLanes),
        g_(algorithm.output_places, block_, outputs_),
        sums_(Algorithm::kFilterPlaces, outputs_, vectors_) {}

  // Adds that of the units from `begin` on.
  void add(const typename F::value* x, const typename F::value* g, int64_t begin, int64_t end) {
    for (; begin < end; begin += block_) {
      const int64_t stop = std::min(begin + block_, end);
      algorithm_.template read<L>(x, begin, stop, x_);
      algorithm_.template read_gradient<L>(g, begin, stop, g_);
      for (int64_t place = 0; place < Algorithm::kFilterPlaces; place++)
        for (int64_t vector = 0; vector < vectors_; vector += kVectors)
          multiply<F, true, &Product::input, &Product::output>(
              products_[place], x_.from(vector * kLanes), x_.size(), g_.from(0), g_.size(), 1, stop - begin,
              ceil_div(algorithm_.c.outputs, kRows), sums_.row(0)[place] + vector, sums_.size());
    }
  }

  const Floats& sum(int64_t place, int64_t output, int64_t vector) const { return sums_.row(output)[place][vector]; }

 private:
  int64_t bytes() const {  // of a unit
    const int64_t elements = algorithm_.input_places * vectors_ * kLanes + algorithm_.output_places * outputs_;
    return elements * sizeof(typename F::element);
  }

  const Algorithm& algorithm_;
  const std::vector<Products> products_;
  const int64_t vectors_, outputs_, block_;  // vectors of inputs, outputs, units at a time
  Matrices<typename F::element> x_, g_;
  Matrices<Floats> sums_;
};

// dw: (outputs, 3, 3, inputs).
template <class F, class Algorithm>
void weight_gradient(const Algorithm& algorithm, const typename F::value* x, const typename F::value* g, float* dw) {
  const Convolution& c = algorithm.c;
  const int64_t units = ceil_div(c.n, Layout<F>::gradient::kImages) * algorithm.units;
  const int64_t threads = std::min(c.threads, units);
  std::vector<std::unique_ptr<Gradient<F, Algorithm>>> shares(threads);
  parallel(threads, [&](int64_t t) {
    const int64_t begin = units * t / threads, end = units * (t + 1) / threads;
    shares[t] = std::make_unique<Gradient<F, Algorithm>>(algorithm, end - begin);
    shares[t]->add(x, g, begin, end);
  });
  const int64_t adding = std::max<int64_t>(1, std::min(threads, c.outputs));
  parallel(adding, [&](int64_t t) {
    for (int64_t output = c.outputs * t / adding; output < c.outputs * (t + 1) / adding; output++)
      for (int64_t vector = 0; vector < ceil_div(c.inputs, kLanes); vector++) {
        Floats u[Algorithm::kFilterPlaces]{}, taps[kTaps];
        for (const auto& share : shares)
          for (int64_t place = 0; place < Algorithm::kFilterPlaces; place++)
            u[place] += share->sum(place, output, vector);
        Algorithm::to_taps(u, taps);
        const auto there = left<Single>(c.inputs - vector * kLanes);
        for (int64_t tap = 0; tap < kTaps; tap++)
          _mm512_mask_storeu_ps(dw + (output * kTaps + tap) * c.inputs + vector * kLanes, there, (__m512)taps[tap]);
      }
  });
}

// Calls work(algorithm) with the one that is estimated to be the fastest, by the products of an image, of which each
// counts more where a tile is transformed; for the gradient also by the matrices of the filters, whose sums are read
// and written again and again. The weights are fitted to Zen 5's times for 64 images of 3x3 to 62x62 pixels. Returns
// as in_memory.
template <class Work>
int by_the_fastest(const Convolution& c, bool gradient, const Work& work) {
  const auto cost = [&](const auto& algorithm, double weight) {
    return weight * algorithm.count() + (gradient ? algorithm.kFilterPlaces : 0);
  };
  const Winograd<F23> two{c};
  const Winograd<F33> three{c};
  const Direct direct{c};
  const double by_two = cost(two, 1.25), by_three = cost(three, 1.4), directly = cost(direct, 1.0);
  return in_memory([&] {
    if (directly <= std::min(by_two, by_three)) return work(direct);
    if (by_two <= by_three) return work(two);
    work(three);
  });
}

}  // namespace

#define FUNCTIONS(NAME, F)                                                                                           \
  int outputs_##NAME(const Convolution* c, bool turned, const F::value* x, const float* weights, F::value* y) {      \
    return by_the_fastest(*c, false, [&](const auto& algorithm) { outputs<F>(algorithm, x, weights, turned, y); });  \
  }                                                                                                                  \
  int weight_gradient_##NAME(const Convolution* c, const F::value* x, const F::value* g, float* dw) {                \
    return by_the_fastest(*c, true, [&](const auto& algorithm) { weight_gradient<F>(algorithm, x, g, dw); });        \
  }

extern "C" {
FUNCTIONS(float, Float)
#if defined(PAIRS)
FUNCTIONS(bfloat16, Pair)
#endif
}

#endif
