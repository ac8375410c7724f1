// What 3x3 convolutions of channels-last maps on a CPU are made of, whatever the algorithm (winograd.h, direct.h).
//
// An algorithm turns the maps into a matrix for each of some input places, with a row for each unit (a tile, or an
// image), and the weights into one for each of some filter places; what it gets in output places it turns into the
// units' outputs. It lists the products of matrices that are added:
//
//     output[p] = sum of input[q] filter[r] over its (q, r, p),   d filter[r] = sum of input[q]' d output[p].
//
// All is for AVX-512: AVX2's registers hold half as many sums, of half the length.

#pragma once

#include "vectors.h"

// What the functions take; convolution.py has the same fields.
struct Convolution {
  int64_t n, h, w;          // maps of x
  int64_t inputs, outputs;  // channels
  int64_t padding;          // P, 0 to 2
  int64_t threads;          // at least 1

  int64_t out_h() const { return h + 2 * padding - 2; }
  int64_t out_w() const { return w + 2 * padding - 2; }
  bool has_row(int64_t y) const { return y >= 0 && y < h; }
  bool has_column(int64_t x) const { return x >= 0 && x < w; }
};

namespace {

constexpr int64_t kTaps = 9;
constexpr int64_t kRows = 8, kVectors = 2;  // of a matrix's sums that are in registers at a time

// One product, by the places of its matrices.
struct Product {
  int64_t input, filter, output;
};

// Those that are added to each place of a kind.
using Products = std::vector<Product>;
inline std::vector<Products> by(int64_t Product::*kind, int64_t places, const Products& all) {
  std::vector<Products> found(places);
  for (const Product& one : all) found[one.*kind].push_back(one);
  return found;
}

// How values become elements, of which a step multiplies and adds one a lane: `load` reads kGroup channels of kImages
// images as kJoined vectors of float (zeros where `mask` says so; the second image is `next` values after the first, or
// missing where that is 0), `store` writes them as a vector of elements.
struct Single {
  using value = float;
  using element = float;
  using mask = __mmask16;
  static constexpr int64_t kJoined = 1, kImages = 1, kGroup = kLanes;

  static void load(const float* from, int64_t, mask there, Floats* v) {
    v[0] = (Floats)_mm512_maskz_loadu_ps(there, from);
  }
  static void store(float* to, const Floats* v) { std::memcpy(to, v, sizeof(*v)); }
  static int64_t channel(int64_t element, int64_t) { return element; }
};

#if defined(PAIRS)
// An element joins two images' values of a channel: for sums over images.
struct ImagePairs {
  using value = uint16_t;
  using element = uint32_t;
  using mask = __mmask16;
  static constexpr int64_t kJoined = 2, kImages = 2, kGroup = kLanes;

  static void load(const uint16_t* from, int64_t next, mask there, Floats* v) {
    v[0] = load(from, there);
    v[1] = load(from + next, next ? there : 0);
  }
  static Floats load(const uint16_t* from, mask there) {
    return (Floats)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, from)), 16);
  }
  static void store(uint32_t* to, const Floats* v) {
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)v[1], (__m512)v[0]);
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    _mm512_storeu_si512(to, _mm512_permutexvar_epi16(order, both));
  }
};

// An element joins two channels' values of an image: for sums over channels. Read are the even channels and the odd
// ones, which takes two instructions, and they are written one after the other: joined are channels that are two apart.
struct ChannelPairs {
  using value = uint16_t;
  using element = uint32_t;
  using mask = __mmask32;
  static constexpr int64_t kJoined = 2, kImages = 1, kGroup = 2 * kLanes;

  static void load(const uint16_t* from, int64_t, mask there, Floats* v) {
    const __m512i both = _mm512_maskz_loadu_epi16(there, from);
    v[0] = (Floats)_mm512_slli_epi32(both, 16);
    v[1] = (Floats)_mm512_and_si512(both, _mm512_set1_epi32(0xffff0000));
  }
  static void store(uint32_t* to, const Floats* v) {
    const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)v[1], (__m512)v[0]);
    std::memcpy(to, &both, sizeof(both));
  }
  // The channel of a group that is an element's first half, or second.
  static int64_t channel(int64_t element, int64_t half) {
    const int64_t at = 2 * element + half;
    return at < kLanes ? 2 * at : 2 * (at - kLanes) + 1;
  }
};
#endif

// By format: the layouts of maps whose outputs are asked for, of maps whose filters' gradient is, and, of the filters,
// one that joins two vectors lane by lane.
template <class F>
struct Layout {
  using outputs = Single;
  using gradient = Single;
  using filters = Single;
};
#if defined(PAIRS)
template <>
struct Layout<Pair> {
  using outputs = ChannelPairs;
  using gradient = ImagePairs;
  using filters = ImagePairs;
};
#endif

// Which of a group's channels there are, if `count` are left.
template <class L>
typename L::mask left(int64_t count) {
  return count < L::kGroup ? (typename L::mask(1) << count) - 1 : -1;
}

// kVectors vectors to the first `count` channels of a pixel.
inline void write(float* to, int64_t count, const Floats* v) {
  for (int64_t k = 0; k < kVectors && count > 0; k++, count -= kLanes)
    _mm512_mask_storeu_ps(to + k * kLanes, left<Single>(count), (__m512)v[k]);
}
#if defined(PAIRS)
inline void write(uint16_t* to, int64_t count, const Floats* v) {
  const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)v[1], (__m512)v[0]);
  _mm512_mask_storeu_epi16(to, left<ChannelPairs>(count), both);
}
#endif

// A row of each place's matrix.
template <class T>
struct Places {
  T* numbers;
  int64_t apart;
  T* operator[](int64_t place) const { return numbers + place * apart; }
};

// A matrix for each place, of rows of `size`. They are an odd number of cache lines apart: else a row of all of them,
// which is written place by place, would share the few lines that a cache has for an address.
template <class T>
class Matrices {
 public:
  Matrices(int64_t places, int64_t rows, int64_t size)
      : size_(size), apart_((ceil_div(rows * size * sizeof(T), 64) | 1) * 64 / sizeof(T)), numbers_(places * apart_) {}
  Places<T> row(int64_t at) { return {numbers_.data() + at * size_, apart_}; }
  Places<const T> row(int64_t at) const { return {numbers_.data() + at * size_, apart_}; }
  Places<const T> from(int64_t column) const { return {numbers_.data() + column, apart_}; }  // row 0
  int64_t size() const { return size_; }

 private:
  const int64_t size_, apart_;
  Buffer<T> numbers_;
};

}  // namespace
