// Winograd's algorithm: of a tile of 2x2 outputs, which sees 4x4 inputs, 16 products a channel instead of 36.
//
//     Y = A' [(G w G') * (B' d B)] A  (Lavin and Gray 2016, Fast Algorithms for Convolutional Neural Networks, eq. 8)
//
// with * place by place, and summed over the channels before A. A unit is a tile, which has 16 places. The transforms
// are additions and halves; what they make is in bfloat16 rounded once more before the products.

#pragma once

#include "convolution.h"

namespace {

struct Winograd {
  static constexpr int64_t kSide = 4;  // of a tile of inputs; 2 of outputs
  const Convolution c;
  const int64_t down = up(c.out_h(), 2), across = up(c.out_w(), 2), units = down * across;  // of an image
  static constexpr int64_t kFilterPlaces = kSide * kSide, input_places = kFilterPlaces, output_places = kFilterPlaces;

  // Products of an image.
  int64_t count() const { return units * kFilterPlaces; }

  static Products products() {
    Products all;
    for (int64_t place = 0; place < kFilterPlaces; place++) all.push_back({place, place, place});
    return all;
  }

  // u = G w G'
  static void from_taps(const Floats* w, Floats* u) {
    Floats rows[kSide][3];
    for (int64_t x = 0; x < 3; x++) {
      const Floats outer = (w[x] + w[6 + x]) * 0.5f, inner = w[3 + x] * 0.5f;
      rows[0][x] = w[x];
      rows[1][x] = outer + inner;
      rows[2][x] = outer - inner;
      rows[3][x] = w[6 + x];
    }
    for (int64_t y = 0; y < kSide; y++, u += kSide) {
      const Floats outer = (rows[y][0] + rows[y][2]) * 0.5f, inner = rows[y][1] * 0.5f;
      u[0] = rows[y][0];
      u[1] = outer + inner;
      u[2] = outer - inner;
      u[3] = rows[y][2];
    }
  }

  // w = G' u G, of sums in which the last row and column of A g A' have the other sign.
  static void to_taps(const Floats* u, Floats* w) {
    Floats rows[3][kSide];
    for (int64_t x = 0; x < kSide; x++) {
      const Floats sum = (u[kSide + x] + u[2 * kSide + x]) * 0.5f;
      rows[0][x] = u[x] + sum;
      rows[1][x] = (u[kSide + x] - u[2 * kSide + x]) * 0.5f;
      rows[2][x] = sum - u[3 * kSide + x];
    }
    for (int64_t y = 0; y < 3; y++, w += 3) {
      const Floats sum = (rows[y][1] + rows[y][2]) * 0.5f;
      w[0] = rows[y][0] + sum;
      w[1] = (rows[y][1] - rows[y][2]) * 0.5f;
      w[2] = sum - rows[y][3];
    }
  }

  // B' d B of the units from `begin` on.
  template <class L>
  void read(const typename L::value* x, int64_t begin, int64_t end, Matrices<typename L::element>& to) const {
    runs<L>(begin, end, [&](int64_t image, int64_t row, int64_t column, int64_t at, int64_t tiles) {
      for (int64_t channel = 0; channel < c.inputs; channel += L::kGroup) {
        const Rows<L> rows(c, x, image, 2 * row - c.padding, channel);
        auto places = to.row(at);
        places.numbers += channel / L::kGroup * kLanes;
        const int64_t size = to.size();
        int64_t left_column = 2 * column - c.padding;
        Column<L> first = rows.column(left_column), second = rows.column(left_column + 1);
        for (int64_t tile = 0; tile < tiles; tile++, places.numbers += size) {
          left_column += 2;
          const Column<L> third = rows.column(left_column), fourth = rows.column(left_column + 1);
          for (int64_t y = 0; y < kSide; y++) {
            Floats d[kSide][L::kJoined];
            for (int64_t k = 0; k < L::kJoined; k++) {
              d[0][k] = first.rows[y][k] - third.rows[y][k];
              d[1][k] = second.rows[y][k] + third.rows[y][k];
              d[2][k] = third.rows[y][k] - second.rows[y][k];
              d[3][k] = second.rows[y][k] - fourth.rows[y][k];
            }
            for (int64_t i = 0; i < kSide; i++) L::store(places[y * kSide + i], d[i]);
          }
          first = third;
          second = fourth;
        }
      }
    });
  }

  // A g A' of the units from `begin` on, its last row and column with the other sign.
  template <class L>
  void read_gradient(const typename L::value* g, int64_t begin, int64_t end, Matrices<typename L::element>& to) const {
    const int64_t width = c.out_w(), pixel = c.outputs, line = width * pixel, image_size = c.out_h() * line;
    runs<L>(begin, end, [&](int64_t image, int64_t row, int64_t column, int64_t at, int64_t tiles) {
      const int64_t next = image + 1 < c.n ? image_size : 0, rows = std::min<int64_t>(2, c.out_h() - 2 * row);
      for (int64_t channel = 0; channel < c.outputs; channel += L::kGroup) {
        const auto there = left<L>(c.outputs - channel);
        const auto* from = g + image * image_size + 2 * row * line + 2 * column * pixel + channel;
        auto places = to.row(at);
        places.numbers += channel / L::kGroup * kLanes;
        const int64_t size = to.size();
        for (int64_t tile = 0; tile < tiles; tile++, places.numbers += size, from += 2 * pixel) {
          const int64_t columns = std::min<int64_t>(2, width - 2 * (column + tile));
          Floats d[2][2][L::kJoined]{};
          for (int64_t y = 0; y < rows; y++)
            for (int64_t x = 0; x < columns; x++) {
              const auto* value = from + y * line + x * pixel;
              __builtin_prefetch(value + 2 * line);
              if (L::kImages == 2) __builtin_prefetch(value + next + 2 * line);
              L::load(value, next, there, d[y][x]);
            }
          for (int64_t y = 0; y < kSide; y++) {
            Floats u[kSide][L::kJoined];
            for (int64_t k = 0; k < L::kJoined; k++) {
              Floats both[2];
              for (int64_t x = 0; x < 2; x++) {
                const Floats upper = d[0][x][k], lower = d[1][x][k];
                both[x] = y == 0 ? upper : y == 1 ? upper + lower : y == 2 ? upper - lower : lower;
              }
              u[0][k] = both[0];
              u[1][k] = both[0] + both[1];
              u[2][k] = both[0] - both[1];
              u[3][k] = both[1];
            }
            for (int64_t i = 0; i < kSide; i++) L::store(places[y * kSide + i], u[i]);
          }
        }
      }
    });
  }

  // A' m A to the outputs of the units from `begin` on, from a channel on.
  template <class V>
  void write_outputs(const Matrices<Floats>& from, int64_t begin, int64_t end, int64_t channel, V* y) const {
    const int64_t width = c.out_w(), pixel = c.outputs, line = width * pixel, channels = c.outputs - channel;
    runs<Single>(begin, end, [&](int64_t image, int64_t row, int64_t column, int64_t at, int64_t tiles) {
      const bool below = 2 * row + 1 < c.out_h();
      V* to = y + image * c.out_h() * line + 2 * row * line + 2 * column * pixel + channel;
      auto places = from.row(at);
      for (int64_t tile = 0; tile < tiles; tile++, places.numbers += kVectors, to += 2 * pixel) {
        Floats out[2][2][kVectors];
        for (int64_t k = 0; k < kVectors; k++) {
          Floats rows[2][kSide];
          for (int64_t x = 0; x < kSide; x++) {
            const auto m = [&](int64_t y) { return places[y * kSide + x][k]; };
            const Floats sum = m(1) + m(2), difference = m(1) - m(2);
            rows[0][x] = m(0) + sum;
            rows[1][x] = difference - m(3);
          }
          for (int64_t y = 0; y < 2; y++) {
            out[y][0][k] = rows[y][0] + rows[y][1] + rows[y][2];
            out[y][1][k] = rows[y][1] - rows[y][2] - rows[y][3];
          }
        }
        for (int64_t y = 2; y < 4; y++)  // the rows of the next tiles
          for (int64_t x = 0; x < 2; x++) __builtin_prefetch(to + y * line + x * pixel, 1);
        const bool right = 2 * (column + tile) + 1 < width;
        write(to, channels, out[0][0]);
        if (right) write(to + pixel, channels, out[0][1]);
        if (below) write(to + line, channels, out[1][0]);
        if (below && right) write(to + line + pixel, channels, out[1][1]);
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
    Floats rows[kSide][L::kJoined];
  };

  // Four rows of inputs, from row `top` and a channel on.
  template <class L>
  class Rows {
   public:
    Rows(const Convolution& c, const typename L::value* x, int64_t image, int64_t top, int64_t channel)
        : width_(c.w),
          pixel_(c.inputs),
          next_(image + 1 < c.n ? c.h * c.w * c.inputs : 0),
          below_(2 * c.w * c.inputs),
          there_(left<L>(c.inputs - channel)) {
      for (int64_t y = 0; y < kSide; y++)
        rows_[y] = c.has_row(top + y) ? x + (image * c.h + top + y) * c.w * c.inputs + channel : nullptr;
    }

    // B' d of a column.
    Column<L> column(int64_t at) const {
      Floats d[kSide][L::kJoined]{};
      if (at >= 0 && at < width_)
        for (int64_t y = 0; y < kSide; y++) {
          if (rows_[y] == nullptr) continue;
          const auto* from = rows_[y] + at * pixel_;
          if (y >= 2) {  // the rows of the next tiles
            __builtin_prefetch(from + below_);
            if (L::kImages == 2) __builtin_prefetch(from + next_ + below_);
          }
          L::load(from, next_, there_, d[y]);
        }
      Column<L> found;
      for (int64_t k = 0; k < L::kJoined; k++) {
        found.rows[0][k] = d[0][k] - d[2][k];
        found.rows[1][k] = d[1][k] + d[2][k];
        found.rows[2][k] = d[2][k] - d[1][k];
        found.rows[3][k] = d[1][k] - d[3][k];
      }
      return found;
    }

   private:
    const int64_t width_, pixel_, next_, below_;
    const typename L::mask there_;
    const typename L::value* rows_[kSide];
  };
};

}  // namespace
