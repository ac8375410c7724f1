// The weights of a convolution as its products take them.

#pragma once

#include "convolution.h"

namespace {

// Lines and lanes change places. Each of four rounds joins, of two lines that are half of all apart, one lane after the
// other.
inline void transpose(Floats* lines) {
  const __m512i low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(kLanes / 2));
  Floats joined[kLanes];
#pragma GCC unroll 4
  for (int64_t round = 0; round < 4; round++) {
#pragma GCC unroll 8
    for (int64_t i = 0; i < kLanes / 2; i++) {
      const __m512 one = (__m512)lines[i], other = (__m512)lines[i + kLanes / 2];
      joined[2 * i] = (Floats)_mm512_permutex2var_ps(one, low, other);
      joined[2 * i + 1] = (Floats)_mm512_permutex2var_ps(one, high, other);
    }
    std::copy_n(joined, kLanes, lines);
  }
}

// In each of an algorithm's filter places a matrix for each strip of kVectors vectors of outputs, with a row of them
// for each element of the inputs.
template <class F, class Algorithm>
class Filters {
  using L = typename Layout<F>::outputs;
  using element = typename F::element;

 public:
  // weights: (outputs, 3, 3, inputs), or, if the convolution is another one's gradient, that one's, turned by half a
  // turn: (inputs, 3, 3, outputs).
  Filters(const Algorithm& algorithm, const float* weights, bool turned)
      : c_(algorithm.c),
        strips_(ceil_div(c_.outputs, kVectors * kLanes)),
        elements_(ceil_div(c_.inputs, L::kGroup) * kLanes),
        numbers_(Algorithm::kFilterPlaces, strips_, elements_ * kVectors * kLanes) {
    const int64_t vectors = ceil_div(c_.outputs, kLanes), threads = std::min(c_.threads, vectors);
    parallel(threads, [&](int64_t t) {
      for (int64_t vector = vectors * t / threads; vector < vectors * (t + 1) / threads; vector++)
        for (int64_t group = 0; group < ceil_div(c_.inputs, L::kGroup); group++) fill(weights, turned, vector, group);
    });
  }

  Places<const element> strip(int64_t at) const { return numbers_.row(at); }
  int64_t strips() const { return strips_; }
  int64_t elements() const { return elements_; }  // of the inputs

 private:
  void fill(const float* weights, bool turned, int64_t vector, int64_t group) {
    Floats taps[L::kGroup][kTaps], u[L::kJoined][Algorithm::kFilterPlaces];
    if (turned)
      read_turned(weights, group * L::kGroup, vector * kLanes, taps);
    else
      read(weights, group * L::kGroup, vector * kLanes, taps);
    const auto strip = numbers_.row(vector / kVectors);
    for (int64_t element = 0; element < kLanes; element++) {
      for (int64_t half = 0; half < L::kJoined; half++)
        Algorithm::from_taps(taps[L::channel(element, half)], u[half]);
      const int64_t at = ((group * kLanes + element) * kVectors + vector % kVectors) * kLanes;
      for (int64_t place = 0; place < Algorithm::kFilterPlaces; place++) {
        Floats joined[L::kJoined];
        for (int64_t half = 0; half < L::kJoined; half++) joined[half] = u[half][place];
        Layout<F>::filters::store(strip[place] + at, joined);
      }
    }
  }

  // The taps of a group of inputs, each a vector of outputs.
  void read(const float* weights, int64_t input, int64_t output, Floats (*taps)[kTaps]) const {
    for (int64_t i = 0; i < L::kGroup; i += kLanes)
      for (int64_t tap = 0; tap < kTaps; tap++) {
        const auto there = left<Single>(std::max<int64_t>(0, c_.inputs - input - i));
        Floats lines[kLanes]{};
        for (int64_t lane = 0; lane < std::min(kLanes, c_.outputs - output); lane++)
          Single::load(weights + ((output + lane) * kTaps + tap) * c_.inputs + input + i, 0, there, lines + lane);
        transpose(lines);
        for (int64_t k = 0; k < kLanes; k++) taps[i + k][tap] = lines[k];
      }
  }

  void read_turned(const float* weights, int64_t input, int64_t output, Floats (*taps)[kTaps]) const {
    for (int64_t i = 0; i < L::kGroup; i++)
      for (int64_t tap = 0; tap < kTaps; tap++) {
        const auto there = input + i < c_.inputs ? left<Single>(c_.outputs - output) : 0;
        const float* from = weights + ((input + i) * kTaps + kTaps - 1 - tap) * c_.outputs + output;
        Single::load(from, 0, there, &taps[i][tap]);
      }
  }

  const Convolution c_;
  const int64_t strips_, elements_;
  Matrices<element> numbers_;
};

}  // namespace
