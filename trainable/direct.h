// The direct algorithm, for small maps: a unit is an image, a place a pixel, and a tap a product where it sees one. Of
// the 36 products of a 2x2 map 16 are left so, of the 9 of a 1x1 map one: the others multiply zeros of the padding.

#pragma once

#include "convolution.h"

namespace {

struct Direct {
  const Convolution c;
  const int64_t input_places = c.h * c.w, output_places = c.out_h() * c.out_w();
  static constexpr int64_t kFilterPlaces = kTaps, units = 1;  // of an image

  // Products of an image.
  int64_t count() const { return meetings(c.h, c.out_h()) * meetings(c.w, c.out_w()); }

  Products products() const {
    Products all;
    for (int64_t y = 0; y < c.out_h(); y++)
      for (int64_t x = 0; x < c.out_w(); x++)
        for (int64_t tap = 0; tap < kTaps; tap++) {
          const int64_t in_y = y + tap / 3 - c.padding, in_x = x + tap % 3 - c.padding;
          if (c.has_row(in_y) && c.has_column(in_x)) all.push_back({in_y * c.w + in_x, tap, y * c.out_w() + x});
        }
    return all;
  }

  static void from_taps(const Floats* w, Floats* u) { std::copy_n(w, kTaps, u); }
  static void to_taps(const Floats* u, Floats* w) { std::copy_n(u, kTaps, w); }

  template <class L>
  void read(const typename L::value* x, int64_t begin, int64_t end, Matrices<typename L::element>& to) const {
    copy<L>(x, input_places, c.inputs, begin, end, to);
  }

  template <class L>
  void read_gradient(const typename L::value* g, int64_t begin, int64_t end, Matrices<typename L::element>& to) const {
    copy<L>(g, output_places, c.outputs, begin, end, to);
  }

  template <class V>
  void write_outputs(const Matrices<Floats>& from, int64_t begin, int64_t end, int64_t channel, V* y) const {
    for (int64_t image = begin; image < end; image++)
      for (int64_t pixel = 0; pixel < output_places; pixel++)
        write(y + (image * output_places + pixel) * c.outputs + channel, c.outputs - channel,
              from.row(image - begin)[pixel]);
  }

 private:
  template <class L>
  void copy(const typename L::value* maps, int64_t pixels, int64_t channels, int64_t begin, int64_t end,
            Matrices<typename L::element>& to) const {
    for (int64_t unit = begin; unit < end; unit++) {
      const int64_t image = unit * L::kImages, next = image + 1 < c.n ? pixels * channels : 0;
      const auto places = to.row(unit - begin);
      for (int64_t pixel = 0; pixel < pixels; pixel++)
        for (int64_t channel = 0; channel < channels; channel += L::kGroup) {
          Floats v[L::kJoined];
          L::load(maps + (image * pixels + pixel) * channels + channel, next, left<L>(channels - channel), v);
          L::store(places[pixel] + channel / L::kGroup * kLanes, v);
        }
    }
  }

  // How often the three taps of a line see an input, from all its outputs.
  int64_t meetings(int64_t inputs, int64_t outputs) const {
    int64_t found = 0;
    for (int64_t at = 0; at < outputs; at++)
      for (int64_t tap = 0; tap < 3; tap++) found += at + tap >= c.padding && at + tap - c.padding < inputs;
    return found;
  }
};

}  // namespace
