// What the kernels for a CPU share: vectors as long as its registers, formats of numbers, threads.

#pragma once

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <thread>
#include <vector>

// PAIRS: the CPU adds the products of two pairs of bfloat16 to a float (AVX512-BF16). LANES is a test's: another length
// of vectors, as other CPUs have.
#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__) && !defined(LANES)
#define PAIRS
#endif

namespace {

// Of vectors wider than the CPU's registers GCC makes code that is several times slower than PyTorch's operators.
#if defined(LANES)
constexpr int64_t kLanes = LANES;
#elif defined(__AVX512F__)
constexpr int64_t kLanes = 16;
#elif defined(__AVX2__)
constexpr int64_t kLanes = 8;
#else
constexpr int64_t kLanes = 4;
#endif
constexpr int64_t kAhead = 4096;  // bytes to prefetch: the hardware's own ends with each page

typedef float Floats __attribute__((vector_size(kLanes * 4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4)));
typedef uint32_t Bits __attribute__((vector_size(kLanes * 4)));
typedef uint16_t Halves __attribute__((vector_size(kLanes * 2)));
typedef double Doubles __attribute__((vector_size(kLanes * 8)));
typedef int64_t Longs __attribute__((vector_size(kLanes * 8)));

constexpr int64_t ceil_div(int64_t value, int64_t unit) { return (value + unit - 1) / unit; }

// `lanes` is a constant where all are there: then these are single instructions (two, of double).
template <class V, class P>
inline V load(const P* from, int64_t lanes) {
  V v{};
  std::memcpy(&v, from, lanes * sizeof(P));
  return v;
}

// To bfloat16: to the nearest, ties to even; NaN stays NaN. The CPU's own instruction makes zeros of subnormal values.
#if defined(__AVX512BF16__) && !defined(LANES)
inline Halves rounded(const Floats& v) { return (Halves)_mm512_cvtneps_pbh((__m512)v); }
#else
inline Halves rounded(const Floats& v) {
  const Bits bits = (Bits)v;
  const Bits high = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return __builtin_convertvector(v == v ? high : high * 0 + 0x7fc0, Halves);
}
#endif

// Dropout's numbers of the outputs from `at` on: they are counted in steps of an odd number, from another one on, which
// are the halves of a seed, and each count is mixed until every bit depends on all (Wellons 2018, Prospecting for Hash
// Functions, lowbias32). kernels.py has the same.
inline Ints noise(int64_t seed, int64_t at) {
  Bits x{};
  for (int64_t lane = 0; lane < kLanes; lane++) x[lane] = lane;
  x = (x + uint32_t(at)) * (uint32_t(seed) | 1) + uint32_t(seed >> 32);
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return (Ints)(x ^ (x >> 16));
}

// Where outputs are dropped: where their noise is below the threshold.
inline Ints dropped(int64_t seed, int64_t threshold, int64_t at) {
  return noise(seed, at) < Ints{} + int32_t(threshold);
}

// A format of maps that are multiplied: `element`s are what a step multiplies and adds to float sums, a vector of them
// with one.
struct Float {
  using value = float;    // of the maps
  using element = float;
  using vector = Floats;
  static constexpr int64_t kImages = 1;  // whose values are in an element

  static vector load(const float* first, const float*, int64_t count) {
    vector v{};
    std::memcpy(&v, first, std::min(count, kLanes) * sizeof(float));
    return v;
  }
  static Floats added(const Floats& sum, const vector& x, element g) { return sum + x * g; }
};

#if defined(PAIRS)
// Two bfloat16 a lane: vdpbf16ps adds both products to a sum.
struct Pair {
  using value = uint16_t;
  using element = uint32_t;
  using vector = __m512i;
  static constexpr int64_t kImages = 2;

  static vector load(const uint16_t* first, const uint16_t* second, int64_t count) {
    const __mmask16 there = count < kLanes ? (1 << count) - 1 : -1;
    const vector low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, first));
    if (second == nullptr) return low;
    const vector high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, second));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
  }
  static Floats added(const Floats& sum, const vector& x, element g) {
    return (Floats)_mm512_dpbf16_ps((__m512)sum, (__m512bh)x, (__m512bh)_mm512_set1_epi32(g));
  }
};
#endif

template <class F>
inline typename F::vector fetch(const typename F::element* from) {
  typename F::vector v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}

// Zeros, at the start of a cache line.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t size) : lines_(ceil_div(size * sizeof(T), sizeof(Line))) {}
  T* data() { return (T*)lines_.data(); }
  const T* data() const { return (const T*)lines_.data(); }

 private:
  struct alignas(64) Line {
    char bytes[64];
  };
  std::vector<Line> lines_;
};

// Calls work(t) for each t below `threads`, each on a thread of its own, as long as the system gives some. When all
// have ended, throws what one of them has thrown.
template <class Work>
void parallel(int64_t threads, const Work& work) {
  if (threads < 1) return;
  std::vector<std::exception_ptr> thrown(threads);
  const auto caught = [&](int64_t t) {
    try {
      work(t);
    } catch (...) {
      thrown[t] = std::current_exception();
    }
  };
  std::vector<std::thread> others;
  others.reserve(threads);
  int64_t t = 1;
  try {
    for (; t < threads; t++) others.emplace_back(caught, t);
  } catch (const std::exception&) {  // of the system, or of memory
    for (; t < threads; t++) caught(t);
  }
  caught(0);
  for (auto& other : others) other.join();
  for (const auto& one : thrown)
    if (one) std::rethrow_exception(one);
}

// Calls work. Returns whether there was memory for it: compiled.py, which asks, knows no exceptions of C++, and takes
// what a function returns for an int.
template <class Work>
int in_memory(const Work& work) {
  try {
    work();
  } catch (const std::bad_alloc&) {
    return 0;
  }
  return 1;
}

}  // namespace
