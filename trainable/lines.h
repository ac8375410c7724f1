// The transforms of a line of a tile, for winograd.h: a tile's are those of its columns, and then of its rows.

#pragma once

#include "vectors.h"

namespace {

// A line of kOut outputs sees kIn inputs, and polynomials are multiplied by their values at some points and at infinity
// (Winograd 1980, Arithmetic Complexity of Computations, chapter 3). All fractions are G's. `inputs` is B' d, `filters`
// G w, `outputs` A' m; for the filters' gradient `gradient` is A g, and `taps` G' u.

// F(2, 3), two outputs of three taps: at 0, 1, -1 and infinity.
struct F23 {
  static constexpr int64_t kOut = 2, kIn = 4;
  static void inputs(const Floats* d, Floats* t) {
    t[0] = d[0] - d[2];
    t[1] = d[1] + d[2];
    t[2] = d[2] - d[1];
    t[3] = d[3] - d[1];
  }
  static void filters(const Floats* w, Floats* u) {
    const Floats outer = (w[0] + w[2]) * 0.5f, inner = w[1] * 0.5f;
    u[0] = w[0];
    u[1] = outer + inner;
    u[2] = outer - inner;
    u[3] = w[2];
  }
  static void outputs(const Floats* m, Floats* y) {
    y[0] = m[0] + (m[1] + m[2]);
    y[1] = (m[1] - m[2]) + m[3];
  }
  static void gradient(const Floats* g, Floats* t) {
    t[0] = g[0];
    t[1] = g[0] + g[1];
    t[2] = g[0] - g[1];
    t[3] = g[1];
  }
  static void taps(const Floats* u, Floats* w) {
    const Floats sum = (u[1] + u[2]) * 0.5f;
    w[0] = u[0] + sum;
    w[1] = (u[1] - u[2]) * 0.5f;
    w[2] = sum + u[3];
  }
};

// F(3, 3): at 0, -1/2, 1, -2 and infinity. In bfloat16 the outputs of random maps are 0.8 % off so, and 1.2 % with -1
// and 2 for -1/2 and -2; points of more digits, tried in steps of 0.05, gain nothing.
struct F33 {
  static constexpr int64_t kOut = 3, kIn = 5;
  static constexpr float kHalf = 8.0f / 9, kOne = 2.0f / 9, kTwo = -1.0f / 9;  // of G at -1/2, 1, -2
  static void inputs(const Floats* d, Floats* t) {
    const Floats inner = (d[1] - d[2]) * 1.5f, outer = (d[3] - d[2]) * 1.5f;
    t[0] = d[0] + inner - d[3];
    t[1] = d[3] + d[2] - 2.0f * d[1];
    t[2] = d[1] + 2.5f * d[2] + d[3];
    t[3] = d[3] - 0.5f * (d[1] + d[2]);
    t[4] = d[4] + outer - d[1];
  }
  static void filters(const Floats* w, Floats* u) {
    u[0] = w[0];
    u[1] = kHalf * (w[0] - 0.5f * w[1] + 0.25f * w[2]);
    u[2] = kOne * (w[0] + w[1] + w[2]);
    u[3] = kTwo * (w[0] - 2.0f * w[1] + 4.0f * w[2]);
    u[4] = w[2];
  }
  static void outputs(const Floats* m, Floats* y) {
    y[0] = m[0] + m[1] + (m[2] + m[3]);
    y[1] = m[2] - 0.5f * m[1] - 2.0f * m[3];
    y[2] = m[2] + 0.25f * m[1] + 4.0f * m[3] + m[4];
  }
  static void gradient(const Floats* g, Floats* t) {
    t[0] = g[0];
    t[1] = g[0] - 0.5f * g[1] + 0.25f * g[2];
    t[2] = g[0] + g[1] + g[2];
    t[3] = g[0] - 2.0f * g[1] + 4.0f * g[2];
    t[4] = g[2];
  }
  static void taps(const Floats* u, Floats* w) {
    const Floats half = kHalf * u[1], one = kOne * u[2], two = kTwo * u[3];
    w[0] = u[0] + half + one + two;
    w[1] = one - 0.5f * half - 2.0f * two;
    w[2] = one + 0.25f * half + 4.0f * two + u[4];
  }
};

}  // namespace
