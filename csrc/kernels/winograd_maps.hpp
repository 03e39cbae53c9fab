// Winograd's minimal filtering: the linear maps between pixels and planes along one axis.
//
// A tile is a polynomial in each axis, evaluated at 0, +-a for a few a, and infinity. In pairs +-a even and odd
// coefficients are summed once, then added and subtracted. The points are those that round least, found by trial.
#pragma once
#include "kernels/check.hpp"
#include "simd/unroll.hpp"

namespace fastconv {
namespace {

template <int Size>
struct Points;
template <>
struct Points<6> {
    static constexpr double at[] = {0.75, 1.5};
};
template <>
struct Points<8> {
    static constexpr double at[] = {0.5, 1, 2};
};

// Coefficients for the points +-a[i], i < N.
template <int N>
struct Coefficients {
    static constexpr int longest = 5;  // coefficients of the longest polynomial that is evaluated
    double without[N][N] = {};         // of z^k in the product of (z - a[j]^2) over all j but i
    double all[N + 1] = {};            // of z^k in the product over all j
    double power[N][longest] = {};     // a[i]^k
    double inverse[N + 1] = {};        // 1 / product of the distances of a[i] to the other finite points; the last: of 0

    constexpr explicit Coefficients(const double (&a)[N]) {
        for (int i = 0; i <= N; ++i) {  // i = N: over all
            double product[N + 2] = {1};
            for (int j = 0; j < N; ++j) {
                if (j == i) continue;
                for (int k = N; k > 0; --k) product[k] = product[k - 1] - a[j] * a[j] * product[k];
                product[0] *= -a[j] * a[j];
            }
            double distance = i < N ? 2 * a[i] * a[i] : 1;
            for (int j = 0; j < N; ++j) {
                if (j != i) distance *= (i < N ? a[i] * a[i] : 0) - a[j] * a[j];
            }
            inverse[i] = 1 / distance;
            for (int k = 0; k < N + (i == N); ++k) (i < N ? without[i] : all)[k] = product[k];
            double value = 1;
            for (int k = 0; i < N && k < longest; ++k, value *= a[i]) power[i][k] = value;
        }
    }
};

template <int Size>
struct Scheme {
    static constexpr int pairs = (Size - 2) / 2;
    static constexpr Coefficients<pairs> c{Points<Size>::at};
};

template <class V>
inline typename V::Reg times(double factor, typename V::Reg a, typename V::Reg sum) {
    return V::fma(V::set1(static_cast<typename V::T>(factor)), a, sum);
}

// B' along one axis.
template <class V, int Size>
struct InputMap {
    using Reg = typename V::Reg;
    static constexpr bool taps = false;
    static constexpr int from = Size, to = Size;
    static void apply(const Reg (&d)[from], Reg (&v)[to]) {
        constexpr auto c = Scheme<Size>::c;
        constexpr int n = Scheme<Size>::pairs;
        v[0] = d[2 * n];
        v[to - 1] = d[2 * n + 1];
        FC_UNROLL
        for (int k = n - 1; k >= 0; --k) {
            v[0] = times<V>(c.all[k], d[2 * k], v[0]);
            v[to - 1] = times<V>(c.all[k], d[2 * k + 1], v[to - 1]);
        }
        FC_UNROLL
        for (int i = 0; i < n; ++i) {
            Reg even = d[2 * n], odd = d[2 * n - 1];
            FC_UNROLL
            for (int k = n - 2; k >= 0; --k) {
                even = times<V>(c.without[i][k], d[2 * k + 2], even);
                odd = times<V>(c.without[i][k], d[2 * k + 1], odd);
            }
            v[1 + 2 * i] = times<V>(c.power[i][1], odd, even);
            v[2 + 2 * i] = times<V>(-c.power[i][1], odd, even);
        }
    }
};

// B along one axis: its transpose.
template <class V, int Size>
struct InputAdjoint {
    using Reg = typename V::Reg;
    static constexpr int from = Size, to = Size;
    static void apply(const Reg (&v)[from], Reg (&d)[to]) {
        constexpr auto c = Scheme<Size>::c;
        constexpr int n = Scheme<Size>::pairs;
        Reg sum[n], difference[n];
        FC_UNROLL
        for (int i = 0; i < n; ++i) {
            sum[i] = V::add(v[1 + 2 * i], v[2 + 2 * i]);
            difference[i] = V::mul(V::set1(static_cast<typename V::T>(c.power[i][1])), V::sub(v[1 + 2 * i], v[2 + 2 * i]));
        }
        FC_UNROLL
        for (int k = 0; k <= n; ++k) {
            d[2 * k] = times<V>(c.all[k], v[0], V::zero());
            d[2 * k + 1] = times<V>(c.all[k], v[from - 1], V::zero());
            FC_UNROLL
            for (int i = 0; i < n; ++i) {
                if (k > 0) d[2 * k] = times<V>(c.without[i][k - 1], sum[i], d[2 * k]);
                if (k < n) d[2 * k + 1] = times<V>(c.without[i][k], difference[i], d[2 * k + 1]);
            }
        }
    }
};

// Evaluation of Count coefficients at all points along one axis: A, and G where Scaled.
template <class V, int Size, int Count, bool Scaled>
struct Evaluation {
    using Reg = typename V::Reg;
    using T = typename V::T;
    static constexpr bool taps = Scaled;  // all of what it reads is there
    static constexpr int from = Count, to = Size;
    static void apply(const Reg (&y)[from], Reg (&v)[to]) {
        constexpr auto c = Scheme<Size>::c;
        constexpr int n = Scheme<Size>::pairs;
        v[0] = Scaled ? V::mul(V::set1(static_cast<T>(c.inverse[n])), y[0]) : y[0];
        v[to - 1] = y[from - 1];
        FC_UNROLL
        for (int i = 0; i < n; ++i) {
            Reg even = y[0], odd = V::mul(V::set1(static_cast<T>(c.power[i][1])), y[1]);
            FC_UNROLL
            for (int k = 2; k < from; ++k) (k % 2 ? odd : even) = times<V>(c.power[i][k], y[k], k % 2 ? odd : even);
            if (Scaled) {
                even = V::mul(V::set1(static_cast<T>(c.inverse[i])), even);
                odd = V::mul(V::set1(static_cast<T>(c.inverse[i])), odd);
            }
            v[1 + 2 * i] = V::add(even, odd);
            v[2 + 2 * i] = V::sub(even, odd);
        }
    }
};

// Its transpose: A', and G' where Scaled.
template <class V, int Size, int Count, bool Scaled>
struct Transposed {
    using Reg = typename V::Reg;
    using T = typename V::T;
    static constexpr int from = Size, to = Count;
    static void apply(const Reg (&v)[from], Reg (&y)[to]) {
        constexpr auto c = Scheme<Size>::c;
        constexpr int n = Scheme<Size>::pairs;
        Reg sum[n], difference[n];
        FC_UNROLL
        for (int i = 0; i < n; ++i) {
            sum[i] = V::add(v[1 + 2 * i], v[2 + 2 * i]);
            difference[i] = V::sub(v[1 + 2 * i], v[2 + 2 * i]);
            if (Scaled) {
                sum[i] = V::mul(V::set1(static_cast<T>(c.inverse[i])), sum[i]);
                difference[i] = V::mul(V::set1(static_cast<T>(c.inverse[i])), difference[i]);
            }
        }
        FC_UNROLL
        for (int k = 0; k < to; ++k) {
            const Reg(&half)[n] = k % 2 ? difference : sum;
            y[k] = k == 0 ? (Scaled ? V::mul(V::set1(static_cast<T>(c.inverse[n])), v[0]) : v[0])
                          : k == to - 1 ? v[from - 1] : V::zero();
            FC_UNROLL
            for (int i = 0; i < n; ++i) y[k] = times<V>(c.power[i][k], half[i], y[k]);
        }
    }
};

}  // namespace
}  // namespace fastconv
