// Maxima and minima, of each column over the rows and of each row over the columns; NaN wins. Contract of fc_reduce in
// include/fastconv/norm.h.
#pragma once
#include <cstdint>

#include "fastconv/norm.h"
#include "kernels/partial.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

template <class V>
struct Larger {
    static typename V::Reg of(typename V::Reg best, typename V::Reg x) {  // a NaN x is taken
        return V::select(V::ordered(best), V::max(best, x), best);
    }
};

template <class V>
struct Smaller {
    static typename V::Reg of(typename V::Reg best, typename V::Reg x) {
        return V::select(V::ordered(best), V::min(best, x), best);
    }
};

// first = better(first, x) over G vectors of columns from c on
template <class V, int G, class Better>
static inline void best_of_columns(const fc_reduce* a, int64_t c, int n) {
    using T = typename V::T;
    const T* x = static_cast<const T*>(a->x) + c;
    T* first = static_cast<T*>(a->first) + c;
    typename V::Reg best[G];
    FC_UNROLL
    for (int g = 0; g < G; ++g) best[g] = load_some<V>(first, g * V::width, n);
    for (int64_t r = 0; r < a->rows; ++r, x += a->ldx) {
        FC_UNROLL
        for (int g = 0; g < G; ++g) best[g] = Better::of(best[g], load_some<V>(x, g * V::width, n));
    }
    FC_UNROLL
    for (int g = 0; g < G; ++g) store_some<V>(first, g * V::width, best[g], n);
}

template <class V, class Better>
static inline void best_over_rows(const fc_reduce* a) {
    int64_t c = 0;
    for (; c + 8 * V::width <= a->columns; c += 8 * V::width) best_of_columns<V, 8, Better>(a, c, V::width);
    for (; c + 4 * V::width <= a->columns; c += 4 * V::width) best_of_columns<V, 4, Better>(a, c, V::width);
    for (; c + 2 * V::width <= a->columns; c += 2 * V::width) best_of_columns<V, 2, Better>(a, c, V::width);
    for (; c < a->columns; c += V::width) {
        const int n = a->columns - c < V::width ? static_cast<int>(a->columns - c) : V::width;
        best_of_columns<V, 1, Better>(a, c, n);
    }
}

// A vector whose best lane is the best of x[0] to x[count - 1]. An element may count twice.
template <class V, class Better>
static inline typename V::Reg best_lanes(const typename V::T* x, int64_t count) {
    constexpr int group = 4;
    if (count < V::width) {
        typename V::T some[V::width];
        for (int i = 0; i < V::width; ++i) some[i] = x[i < count ? i : 0];
        return V::load(some);
    }
    typename V::Reg best[group];
    FC_UNROLL
    for (int g = 0; g < group; ++g) best[g] = V::load(x);
    int64_t i = V::width;
    for (; i + group * V::width <= count; i += group * V::width) {
        FC_UNROLL
        for (int g = 0; g < group; ++g) best[g] = Better::of(best[g], V::load(x + i + g * V::width));
    }
    for (; i + V::width <= count; i += V::width) best[0] = Better::of(best[0], V::load(x + i));
    best[0] = Better::of(best[0], V::load(x + count - V::width));
    return Better::of(Better::of(best[0], best[1]), Better::of(best[2], best[3]));
}

// As many rows at a time as a vector has lanes: their vectors are turned, and lane k is row k.
template <class V, class Better>
static inline void best_over_columns(const fc_reduce* a) {
    const typename V::T* x = static_cast<const typename V::T*>(a->x);
    for (int64_t r = 0; r < a->rows; r += V::width) {
        const int n = a->rows - r < V::width ? static_cast<int>(a->rows - r) : V::width;
        typename V::Reg square[V::width];
        for (int k = 0; k < V::width; ++k) {
            square[k] = k < n ? best_lanes<V, Better>(x + (r + k) * a->ldx, a->columns) : square[0];
        }
        V::transpose(square);
        typename V::Reg best = square[0];
        FC_UNROLL
        for (int k = 1; k < V::width; ++k) best = Better::of(best, square[k]);
        store_some<V>(a->first, r, best, n);
    }
}

template <class V>
void max_rows(const fc_reduce* a) {
    best_over_rows<V, Larger<V>>(a);
}

template <class V>
void min_rows(const fc_reduce* a) {
    best_over_rows<V, Smaller<V>>(a);
}

template <class V>
void max_columns(const fc_reduce* a) {
    best_over_columns<V, Larger<V>>(a);
}

template <class V>
void min_columns(const fc_reduce* a) {
    best_over_columns<V, Smaller<V>>(a);
}

}  // namespace fastconv
