// Maxima and minima of columns; NaN wins. Contract of fc_reduce in include/fastconv/norm.h.
#pragma once
#include <cstdint>

#include "fastconv/norm.h"
#include "kernels/partial.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

// first = better(first, x) over G vectors of columns from c on
template <class V, int G, class F>
static inline void best_of_columns(const fc_reduce* a, int64_t c, int n, F better) {
    using T = typename V::T;
    const T* x = static_cast<const T*>(a->x) + c;
    T* first = static_cast<T*>(a->first) + c;
    typename V::Reg best[G];
    FC_UNROLL
    for (int g = 0; g < G; ++g) best[g] = load_some<V>(first, g * V::width, n);
    for (int64_t r = 0; r < a->rows; ++r, x += a->ldx) {
        FC_UNROLL
        for (int g = 0; g < G; ++g) {
            const typename V::Reg value = load_some<V>(x, g * V::width, n);
            best[g] = V::select(V::ordered(best[g]), better(best[g], value), best[g]);
        }
    }
    FC_UNROLL
    for (int g = 0; g < G; ++g) store_some<V>(first, g * V::width, best[g], n);
}

template <class V, class F>
static inline void best_of_rows(const fc_reduce* a, F better) {
    constexpr int group = 4;
    int64_t c = 0;
    for (; c + group * V::width <= a->columns; c += group * V::width) best_of_columns<V, group>(a, c, V::width, better);
    for (; c < a->columns; c += V::width) {
        best_of_columns<V, 1>(a, c, a->columns - c < V::width ? static_cast<int>(a->columns - c) : V::width, better);
    }
}

template <class V>
void max_rows(const fc_reduce* a) {
    best_of_rows<V>(a, [](typename V::Reg best, typename V::Reg x) { return V::max(best, x); });  // a NaN x is taken
}

template <class V>
void min_rows(const fc_reduce* a) {
    best_of_rows<V>(a, [](typename V::Reg best, typename V::Reg x) { return V::min(best, x); });
}

}  // namespace fastconv
