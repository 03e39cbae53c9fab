// Winograd's minimal filtering of 3 taps at steps of two: the linear maps along one axis.
//
// Pixels 0, 2, .. 8 of a tile meet the taps 0 and 2 alone: F(4, 2), a polynomial evaluated at 0, a, -a, b and infinity.
// Pixels 1, 3, 5, 7 meet tap 1: one product for each output. What the last output reads alone comes last. The gradient of
// the input has the same two parts: pixels at odd places are sums of two products, those at even places are one.
#pragma once
#include "kernels/winograd_maps.hpp"

namespace fastconv {
namespace {

struct Strided {
    static constexpr int points = 9, weights = 6;
    static constexpr double a = 0.75, b = 2;  // these round least of those tried
    // 1 / product of the distances to the other finite points: of 0, a, -a, b.
    static constexpr double inverse[] = {1 / (a * a * b), 1 / (2 * a * a * (a - b)), -1 / (2 * a * a * (a + b)),
                                         1 / (b * (b * b - a * a))};
};

template <class V>
inline typename V::Reg product(double factor, typename V::Reg a) {
    return V::mul(V::set1(static_cast<typename V::T>(factor)), a);
}

// Of the pixels 0, Step, .. 4 Step, and of four others, beginning with `single`, to the points.
template <class V, int Step>
inline void to_points(const typename V::Reg* d, const typename V::Reg* single, typename V::Reg* v) {
    using Reg = typename V::Reg;
    constexpr double a = Strided::a, b = Strided::b;
    Reg q[3];  // with the factor z^2 - a^2
    FC_UNROLL
    for (int k = 0; k < 3; ++k) q[k] = times<V>(-a * a, d[k * Step], d[(k + 2) * Step]);
    const Reg even = times<V>(-b, d[2 * Step], d[3 * Step]), odd = times<V>(-b, d[Step], d[2 * Step]);
    v[0] = times<V>(-b, q[0], q[1]);
    v[1] = times<V>(a, odd, even);
    v[2] = times<V>(-a, odd, even);
    v[3] = q[1];
    v[4] = single[0];
    v[5] = single[Step];
    v[6] = single[2 * Step];
    v[7] = times<V>(-b, q[1], q[2]);
    v[8] = single[3 * Step];
}

// B' of the source.
template <class V>
struct StridedInput {
    using Reg = typename V::Reg;
    static constexpr bool taps = false;
    static constexpr int from = 9, to = Strided::points;
    static void apply(const Reg (&d)[from], Reg (&v)[to]) { to_points<V, 2>(d, d + 1, v); }
};

// B' of the output's gradient, where the input's is wanted.
template <class V>
struct TransposedInput {
    using Reg = typename V::Reg;
    static constexpr bool taps = false;
    static constexpr int from = 5, to = Strided::points;
    static void apply(const Reg (&d)[from], Reg (&v)[to]) { to_points<V, 1>(d, d, v); }
};

// G: weights at 0, a, -a, b and infinity, and the middle tap.
template <class V>
struct StridedFilter {
    using Reg = typename V::Reg;
    static constexpr bool taps = true;
    static constexpr int from = 3, to = Strided::weights;
    static void apply(const Reg (&g)[from], Reg (&u)[to]) {
        constexpr double at[] = {0, Strided::a, -Strided::a, Strided::b};
        FC_UNROLL
        for (int i = 0; i < 4; ++i) {
            u[i] = times<V>(Strided::inverse[i] * at[i], g[2], product<V>(Strided::inverse[i], g[0]));
        }
        u[4] = g[2];
        u[5] = g[1];
    }
};

// G'.
template <class V>
struct StridedFilterGradient {
    using Reg = typename V::Reg;
    static constexpr int from = Strided::weights, to = 3;
    static void apply(const Reg (&u)[from], Reg (&g)[to]) {
        constexpr double at[] = {0, Strided::a, -Strided::a, Strided::b};
        g[0] = product<V>(Strided::inverse[0], u[0]);
        g[1] = u[5];
        g[2] = u[4];
        FC_UNROLL
        for (int i = 1; i < 4; ++i) {
            g[0] = times<V>(Strided::inverse[i], u[i], g[0]);
            g[2] = times<V>(Strided::inverse[i] * at[i], u[i], g[2]);
        }
    }
};

// A: four outputs' gradients at the points.
template <class V>
struct StridedExpand {
    using Reg = typename V::Reg;
    static constexpr bool taps = false;
    static constexpr int from = 4, to = Strided::points;
    static void apply(const Reg (&y)[from], Reg (&v)[to]) {
        constexpr double a = Strided::a, b = Strided::b;
        const Reg even = times<V>(a * a, y[2], y[0]), odd = times<V>(a * a, y[3], y[1]);
        v[0] = y[0];
        v[1] = times<V>(a, odd, even);
        v[2] = times<V>(-a, odd, even);
        v[3] = times<V>(b, times<V>(b, times<V>(b, y[3], y[2]), y[1]), y[0]);
        v[4] = y[0];
        v[5] = y[1];
        v[6] = y[2];
        v[7] = y[3];
        v[8] = y[3];
    }
};

// A' but for the single products: four sums of two.
template <class V>
inline void to_sums(const typename V::Reg* v, typename V::Reg* y) {
    using Reg = typename V::Reg;
    constexpr double a = Strided::a, b = Strided::b;
    const Reg sum = V::add(v[1], v[2]), difference = product<V>(a, V::sub(v[1], v[2]));
    y[0] = V::add(V::add(v[0], v[3]), sum);
    y[1] = times<V>(b, v[3], difference);
    y[2] = times<V>(b * b, v[3], product<V>(a * a, sum));
    y[3] = times<V>(b * b * b, v[3], times<V>(a * a, difference, v[7]));
}

// A'.
template <class V>
struct StridedOutput {
    using Reg = typename V::Reg;
    static constexpr int from = Strided::points, to = 4;
    static void apply(const Reg (&v)[from], Reg (&y)[to]) {
        to_sums<V>(v, y);
        FC_UNROLL
        for (int k = 0; k < 4; ++k) y[k] = V::add(y[k], v[k == 3 ? 8 : 4 + k]);
    }
};

// A' of the input's gradient: the single products at even places, the sums at odd ones.
template <class V>
struct TransposedOutput {
    using Reg = typename V::Reg;
    static constexpr int from = Strided::points, to = 8;
    static void apply(const Reg (&v)[from], Reg (&y)[to]) {
        Reg sums[4];
        to_sums<V>(v, sums);
        FC_UNROLL
        for (int k = 0; k < 4; ++k) {
            y[2 * k] = v[k == 3 ? 8 : 4 + k];
            y[2 * k + 1] = sums[k];
        }
    }
};

}  // namespace
}  // namespace fastconv
