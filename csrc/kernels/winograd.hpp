// Winograd's minimal filtering (Winograd 1980; Lavin and Gray 2016, arXiv:1509.09308): the linear maps between pixels
// and planes, all separable, along one axis first, then along the other. Contracts in include/fastconv/winograd.h.
//
// A tile is a polynomial in each axis, evaluated at 0, +-a for a few a, and infinity. In pairs +-a even and odd
// coefficients are summed once, then added and subtracted. The points are those that round least, found by trial.
#pragma once
#include <cstdint>

#include "fastconv/winograd.h"
#include "kernels/check.hpp"
#include "kernels/finish.hpp"
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

template <class V, bool Whole>
inline typename V::Reg take(const typename V::T* p, int lanes) {
    return Whole ? V::load(p) : V::load_n(p, lanes);
}

template <class V, bool Whole>
inline void put(typename V::T* p, typename V::Reg a, int lanes) {
    if (Whole) {
        V::store(p, a);
    } else {
        V::store_n(p, a, lanes);
    }
}

// Bytes of so many pixel rows as a tile has, at most, for those that follow to be brought near. They are those of the next
// row of tiles, or of the next image; of larger images they come too soon.
constexpr int64_t kNearRows = 16 * 1024;

// One vector of channels from pixels to planes. Inside: no pixel is left out.
template <class V, class Map, bool Whole, bool Inside>
static void pixels_to_planes(const fc_winograd& a, int64_t channel, int lanes) {
    using Reg = typename V::Reg;
    using T = typename V::T;
    const T* pixels = static_cast<const T*>(a.pixels) + channel;
    T* planes = static_cast<T*>(a.planes) + channel;
    Reg middle[Map::to][Map::from];
    const int64_t row = a.row, column = a.column, plane = a.plane;  // a store might change what `a` holds, for all GCC knows
    const int64_t ahead = Map::from * row;
    const bool near = Inside && ahead * static_cast<int64_t>(sizeof(T)) <= kNearRows;
    for (int j = 0; j < Map::from; ++j, pixels += column) {
        Reg in[Map::from], out[Map::to];
        const bool outside = !Inside && (j < a.first_column || j >= a.last_column);
        FC_UNROLL
        for (int i = 0; i < Map::from; ++i) {
            const T* at = pixels + i * row;
            in[i] = outside || (!Inside && (i < a.first_row || i >= a.last_row)) ? V::zero() : take<V, Whole>(at, lanes);
            if (near) FC_PREFETCH(at + ahead);
        }
        Map::apply(in, out);
        FC_UNROLL
        for (int i = 0; i < Map::to; ++i) middle[i][j] = out[i];
    }
    for (int i = 0; i < Map::to; ++i) {
        Reg out[Map::to];
        Map::apply(middle[i], out);
        FC_UNROLL
        for (int j = 0; j < Map::to; ++j, planes += plane) put<V, Whole>(planes, out[j], lanes);
    }
}

enum class Ends { plain, adds, finished };

// And back: stores pixels, adds to what they hold, or stores outputs with what follows the sum.
template <class V, class Map, Ends End, bool Whole>
static void planes_to_pixels(const fc_winograd& a, int64_t channel, int lanes) {
    using Reg = typename V::Reg;
    using T = typename V::T;
    const T* planes = static_cast<const T*>(a.planes) + channel;
    T* pixels = static_cast<T*>(a.pixels) + channel;
    const Reg bias = End != Ends::adds && a.bias ? take<V, Whole>(static_cast<const T*>(a.bias) + channel, lanes) : V::zero();
    const T* residual = End == Ends::finished && a.residual ? static_cast<const T*>(a.residual) + channel : nullptr;
    const int64_t plane = a.plane, row = a.row, column = a.column, first = a.first_column, last = a.last_column;
    const int64_t last_row = a.last_row, residual_row = a.residual_row, residual_column = a.residual_column;
    const bool relu = End == Ends::finished && a.relu;
    Reg middle[Map::to][Map::from];
    for (int j = 0; j < Map::from; ++j, planes += plane) {
        Reg in[Map::from], out[Map::to];
        FC_UNROLL
        for (int i = 0; i < Map::from; ++i) in[i] = take<V, Whole>(planes + i * Map::from * plane, lanes);
        Map::apply(in, out);
        FC_UNROLL
        for (int i = 0; i < Map::to; ++i) middle[i][j] = out[i];
    }
    for (int64_t i = a.first_row; i < last_row; ++i) {
        Reg out[Map::to];
        Map::apply(middle[i], out);
        FC_UNROLL
        for (int j = 0; j < Map::to; ++j) {
            if (j < first || j >= last) continue;
            T* to = pixels + i * row + j * column;
            Reg value = V::add(End == Ends::adds ? take<V, Whole>(to, lanes) : bias, out[j]);
            if (residual) value = V::add(value, take<V, Whole>(residual + i * residual_row + j * residual_column, lanes));
            put<V, Whole>(to, activated<V>(value, relu), lanes);
        }
    }
}

template <class V, class Map>
static void all_to_planes(const fc_winograd& a) {
    const bool inside = a.first_row == 0 && a.first_column == 0 && a.last_row == Map::from && a.last_column == Map::from;
    int64_t c = 0;
    for (; c + V::width <= a.count; c += V::width) {
        inside ? pixels_to_planes<V, Map, true, true>(a, c, 0) : pixels_to_planes<V, Map, true, false>(a, c, 0);
    }
    if (c < a.count) pixels_to_planes<V, Map, false, false>(a, c, static_cast<int>(a.count - c));
}

template <class V, class Map, Ends End = Ends::plain>
static void all_to_pixels(const fc_winograd& a) {
    int64_t c = 0;
    for (; c + V::width <= a.count; c += V::width) planes_to_pixels<V, Map, End, true>(a, c, 0);
    if (c < a.count) planes_to_pixels<V, Map, End, false>(a, c, static_cast<int>(a.count - c));
}

}  // namespace

template <class V>
void winograd_input(const fc_winograd* a) {
    a->form == FC_WINOGRAD_4X3 ? all_to_planes<V, InputMap<V, 6>>(*a) : all_to_planes<V, InputMap<V, 8>>(*a);
}

template <class V>
void winograd_filter(const fc_winograd* a) {
    a->form == FC_WINOGRAD_4X3 ? all_to_planes<V, Evaluation<V, 6, 3, true>>(*a) : all_to_planes<V, Evaluation<V, 8, 5, true>>(*a);
}

template <class V>
void winograd_expand(const fc_winograd* a) {
    a->form == FC_WINOGRAD_4X3 ? all_to_planes<V, Evaluation<V, 6, 4, false>>(*a) : all_to_planes<V, Evaluation<V, 8, 4, false>>(*a);
}

template <class V>
void winograd_output(const fc_winograd* a) {
    a->form == FC_WINOGRAD_4X3 ? all_to_pixels<V, Transposed<V, 6, 4, false>, Ends::finished>(*a)
                               : all_to_pixels<V, Transposed<V, 8, 4, false>, Ends::finished>(*a);
}

template <class V>
void winograd_scatter(const fc_winograd* a) {
    a->form == FC_WINOGRAD_4X3 ? all_to_pixels<V, InputAdjoint<V, 6>, Ends::adds>(*a)
                               : all_to_pixels<V, InputAdjoint<V, 8>, Ends::adds>(*a);
}

template <class V>
void winograd_filter_gradient(const fc_winograd* a) {
    a->form == FC_WINOGRAD_4X3 ? all_to_pixels<V, Transposed<V, 6, 3, true>>(*a) : all_to_pixels<V, Transposed<V, 8, 5, true>>(*a);
}

}  // namespace fastconv
