// Winograd's algorithm: a tile of 2x2 outputs takes 16 products a channel instead of 36, one of 3x3 outputs 25 instead
// of 81. A unit is a tile.
//
//     Y = A' [(G w G') * (B' d B)] A  (Lavin and Gray 2016, Fast Algorithms for Convolutional Neural Networks, eq. 8)
//
// with * place by place, and summed over the channels before A. In bfloat16 what the transforms make is rounded once
// more before the products. A value that is not finite makes all outputs of the tiles that see it NaN.

#pragma once

#include "convolution.h"
#include "lines.h"

namespace {

template <class Line>
struct Winograd {
  static constexpr int64_t kIn = Line::kIn, kOut = Line::kOut;
  const Convolution c;
  const int64_t down = ceil_div(c.out_h(), kOut), across = ceil_div(c.out_w(), kOut);
  const int64_t units = down * across;  // of an image
  static constexpr int64_t kFilterPlaces = kIn * kIn, input_places = kFilterPlaces, output_places = kFilterPlaces;

  // Products of an image.
  int64_t count() const { return units * kFilterPlaces; }

  static Products products() {
    Products all;
    for (int64_t place = 0; place < kFilterPlaces; place++) all.push_back({place, place, place});
    return all;
  }

  static void from_taps(const Floats* w, Floats* u) {
    Floats rows[kIn][3];
    for (int64_t x = 0; x < 3; x++) {
      const Floats column[3] = {w[x], w[3 + x], w[6 + x]};
      Floats made[kIn];
      Line::filters(column, made);
      for (int64_t y = 0; y < kIn; y++) rows[y][x] = made[y];
    }
    for (int64_t y = 0; y < kIn; y++) Line::filters(rows[y], u + y * kIn);
  }

  static void to_taps(const Floats* u, Floats* w) {
    Floats rows[3][kIn];
    for (int64_t x = 0; x < kIn; x++) {
      Floats column[kIn], made[3];
      for (int64_t y = 0; y < kIn; y++) column[y] = u[y * kIn + x];
      Line::taps(column, made);
      for (int64_t y = 0; y < 3; y++) rows[y][x] = made[y];
    }
    for (int64_t y = 0; y < 3; y++) Line::taps(rows[y], w + 3 * y);
  }

  // B' d B of the units from `begin` on.
  template <class L>
  void read(const typename L::value* x, int64_t begin, int64_t end, Matrices<typename L::element>& to) const {
    runs<L>(begin, end, [&](int64_t image, int64_t row, int64_t column, int64_t at, int64_t tiles) {
      for (int64_t channel = 0; channel < c.inputs; channel += L::kGroup) {
        const Rows<L> rows(c, x, image, kOut * row - c.padding, channel);
        auto places = to.row(at);
        places.numbers += channel / L::kGroup * kLanes;
        const int64_t size = to.size();
        int64_t next = kOut * column - c.padding;
        Column<L> seen[kIn];
        for (int64_t i = 0; i < kIn - kOut; i++) seen[i] = rows.column(next++);
        for (int64_t tile = 0; tile < tiles; tile++, places.numbers += size) {
#pragma GCC unroll 8
          for (int64_t i = kIn - kOut; i < kIn; i++) seen[i] = rows.column(next++);
          for (int64_t y = 0; y < kIn; y++) {
            Floats made[kIn][L::kJoined];
#pragma GCC unroll 8
            for (int64_t k = 0; k < L::kJoined; k++) {
              Floats line[kIn], t[kIn];
#pragma GCC unroll 8
              for (int64_t i = 0; i < kIn; i++) line[i] = seen[i].rows[y][k];
              Line::inputs(line, t);
#pragma GCC unroll 8
              for (int64_t i = 0; i < kIn; i++) made[i][k] = t[i];
            }
            for (int64_t i = 0; i < kIn; i++) L::store(places[y * kIn + i], made[i]);
          }
#pragma GCC unroll 8
          for (int64_t i = 0; i < kIn - kOut; i++) seen[i] = seen[i + kOut];
        }
      }
    });
  }

  // A g A' of the units from `begin` on.
  template <class L>
  void read_gradient(const typename L::value* g, int64_t begin, int64_t end, Matrices<typename L::element>& to) const {
    const int64_t width = c.out_w(), pixel = c.outputs, row_size = width * pixel, image_size = c.out_h() * row_size;
    runs<L>(begin, end, [&](int64_t image, int64_t row, int64_t column, int64_t at, int64_t tiles) {
      const int64_t next = image + 1 < c.n ? image_size : 0, rows = std::min(kOut, c.out_h() - kOut * row);
      for (int64_t channel = 0; channel < c.outputs; channel += L::kGroup) {
        const auto there = left<L>(c.outputs - channel);
        const auto* from = g + image * image_size + kOut * row * row_size + kOut * column * pixel + channel;
        auto places = to.row(at);
        places.numbers += channel / L::kGroup * kLanes;
        const int64_t size = to.size();
        for (int64_t tile = 0; tile < tiles; tile++, places.numbers += size, from += kOut * pixel) {
          const int64_t columns = std::min(kOut, width - kOut * (column + tile));
          Floats values[L::kJoined][kOut][kOut]{};  // by columns
          for (int64_t y = 0; y < rows; y++)
            for (int64_t x = 0; x < columns; x++) {
              const auto* value = from + y * row_size + x * pixel;
              __builtin_prefetch(value + kOut * row_size);
              if (L::kImages == 2) __builtin_prefetch(value + next + kOut * row_size);
              Floats v[L::kJoined];
              L::load(value, next, there, v);
              for (int64_t k = 0; k < L::kJoined; k++) values[k][x][y] = v[k];
            }
          Floats columns_made[L::kJoined][kOut][kIn];
          for (int64_t k = 0; k < L::kJoined; k++)
            for (int64_t x = 0; x < kOut; x++) Line::gradient(values[k][x], columns_made[k][x]);
          for (int64_t y = 0; y < kIn; y++) {
            Floats made[kIn][L::kJoined];
            for (int64_t k = 0; k < L::kJoined; k++) {
              Floats line[kOut], t[kIn];
              for (int64_t x = 0; x < kOut; x++) line[x] = columns_made[k][x][y];
              Line::gradient(line, t);
              for (int64_t i = 0; i < kIn; i++) made[i][k] = t[i];
            }
            for (int64_t i = 0; i < kIn; i++) L::store(places[y * kIn + i], made[i]);
          }
        }
      }
    });
  }

  // A' m A to the outputs of the units from `begin` on, from a channel on.
  template <class V>
  void write_outputs(const Matrices<Floats>& from, int64_t begin, int64_t end, int64_t channel, V* y) const {
    const int64_t width = c.out_w(), pixel = c.outputs, row_size = width * pixel, channels = c.outputs - channel;
    runs<Single>(begin, end, [&](int64_t image, int64_t row, int64_t column, int64_t at, int64_t tiles) {
      const int64_t rows = std::min(kOut, c.out_h() - kOut * row);
      V* to = y + image * c.out_h() * row_size + kOut * row * row_size + kOut * column * pixel + channel;
      auto places = from.row(at);
      for (int64_t tile = 0; tile < tiles; tile++, places.numbers += kVectors, to += kOut * pixel) {
        Floats out[kOut][kOut][kVectors];
#pragma GCC unroll 8
        for (int64_t k = 0; k < kVectors; k++) {
          Floats columns_made[kOut][kIn];
#pragma GCC unroll 8
          for (int64_t x = 0; x < kIn; x++) {
            Floats m[kIn], made[kOut];
#pragma GCC unroll 8
            for (int64_t y = 0; y < kIn; y++) m[y] = places[y * kIn + x][k];
            Line::outputs(m, made);
#pragma GCC unroll 8
            for (int64_t y = 0; y < kOut; y++) columns_made[y][x] = made[y];
          }
#pragma GCC unroll 8
          for (int64_t y = 0; y < kOut; y++) {
            Floats made[kOut];
            Line::outputs(columns_made[y], made);
#pragma GCC unroll 8
            for (int64_t x = 0; x < kOut; x++) out[y][x][k] = made[x];
          }
        }
        for (int64_t y = kOut; y < 2 * kOut; y++)  // the rows of the next tiles
          for (int64_t x = 0; x < kOut; x++) __builtin_prefetch(to + y * row_size + x * pixel, 1);
        const int64_t columns = std::min(kOut, width - kOut * (column + tile));
        for (int64_t y = 0; y < rows; y++)
          for (int64_t x = 0; x < columns; x++) write(to + y * row_size + x * pixel, channels, out[y][x]);
      }
    });
  }

 private:
  // Tiles are counted image by image (or two by two), row by row. Calls work(image, row, column, at, tiles) for those
  // that follow each other in a row, `at` units after `begin`.
  template <class L, class Work>
  void runs(int64_t begin, int64_t end, const Work& work) const {
    for (int64_t unit = begin; unit < end;) {
      const int64_t column = unit % across, row = unit / across % down, image = unit / units * L::kImages;
      const int64_t tiles = std::min(across - column, end - unit);
      work(image, row, column, unit - begin, tiles);
      unit += tiles;
    }
  }

  template <class L>
  struct Column {
    Floats rows[kIn][L::kJoined];
  };

  // The rows of inputs that a row of tiles sees, from row `top` and a channel on.
  template <class L>
  class Rows {
   public:
    Rows(const Convolution& c, const typename L::value* x, int64_t image, int64_t top, int64_t channel)
        : width_(c.w),
          pixel_(c.inputs),
          next_(image + 1 < c.n ? c.h * c.w * c.inputs : 0),
          below_(kOut * c.w * c.inputs),
          there_(left<L>(c.inputs - channel)) {
      for (int64_t y = 0; y < kIn; y++)
        rows_[y] = c.has_row(top + y) ? x + (image * c.h + top + y) * c.w * c.inputs + channel : nullptr;
    }

    // B' d of a column.
    Column<L> column(int64_t at) const {
      Floats d[L::kJoined][kIn]{};
      if (at >= 0 && at < width_)
        for (int64_t y = 0; y < kIn; y++) {
          if (rows_[y] == nullptr) continue;
          const auto* from = rows_[y] + at * pixel_;
          if (y >= kIn - kOut) {  // the rows of the next tiles
            __builtin_prefetch(from + below_);
            if (L::kImages == 2) __builtin_prefetch(from + next_ + below_);
          }
          Floats v[L::kJoined];
          L::load(from, next_, there_, v);
          for (int64_t k = 0; k < L::kJoined; k++) d[k][y] = v[k];
        }
      Column<L> found;
      for (int64_t k = 0; k < L::kJoined; k++) {
        Floats made[kIn];
        Line::inputs(d[k], made);
        for (int64_t y = 0; y < kIn; y++) found.rows[y][k] = made[y];
      }
      return found;
    }

   private:
    const int64_t width_, pixel_, next_, below_;
    const typename L::mask there_;
    const typename L::value* rows_[kIn];
  };
};

}  // namespace
