// Weighted sums of rows: each axis of a resampling. Contract in include/fastconv/resample.h.
#pragma once
#include <cstdint>

#include "fastconv/resample.h"
#include "kernels/partial.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

// sum = weight * x (Begins), or + weight * x: G vectors, of n lanes where that is less than all.
template <class V, bool Begins, int G>
static FC_INLINE void add_row(typename V::T weight, const typename V::T* x, int n, typename V::Reg (&sum)[G]) {
    const typename V::Reg factor = V::set1(weight);
    FC_UNROLL
    for (int g = 0; g < G; ++g) {
        const typename V::Reg value = load_some<V>(x, g * V::width, n);
        sum[g] = Begins ? V::mul(factor, value) : V::fma(factor, value, sum[g]);
    }
}

// The same of a sum of parts.
template <class V, bool Begins, int G>
static FC_INLINE void add_parts(const fc_weighted_rows* a, typename V::T weight, const typename V::T* x, int n,
                                typename V::Reg (&sum)[G]) {
    const typename V::T* share = static_cast<const typename V::T*>(a->share);
    typename V::Reg part[G];
    add_row<V, true, G>(share[0], x + a->offset[0], n, part);
    for (int32_t p = 1; p < a->parts; ++p) add_row<V, false, G>(share[p], x + a->offset[p], n, part);
    const typename V::Reg factor = V::set1(weight);
    FC_UNROLL
    for (int g = 0; g < G; ++g) sum[g] = Begins ? V::mul(factor, part[g]) : V::fma(factor, part[g], sum[g]);
}

// Columns [c, c + (G - 1) * width + n) of one output; taps in their order.
template <class V, bool Parts, int G>
static FC_INLINE void weigh_columns(const fc_weighted_rows* a, int64_t o, int64_t c, int n) {
    using T = typename V::T;
    T* y = static_cast<T*>(a->y) + o * a->ldy + c;
    const T* x = static_cast<const T*>(a->x) + c;
    const T* weight = static_cast<const T*>(a->weight);
    const int64_t last = a->start[o + 1];
    int64_t t = a->start[o];
    typename V::Reg sum[G];
    if (a->accumulate || t == last) {
        FC_UNROLL
        for (int g = 0; g < G; ++g) sum[g] = a->accumulate ? load_some<V>(y, g * V::width, n) : V::zero();
    } else {
        const T* row = x + a->row[t] * a->ldx;
        if (Parts) {
            add_parts<V, true, G>(a, weight[t], row, n, sum);
        } else {
            add_row<V, true, G>(weight[t], row, n, sum);
        }
        ++t;
    }
    for (; t < last; ++t) {
        const T* row = x + a->row[t] * a->ldx;
        if (Parts) {
            add_parts<V, false, G>(a, weight[t], row, n, sum);
        } else {
            add_row<V, false, G>(weight[t], row, n, sum);
        }
    }
    FC_UNROLL
    for (int g = 0; g < G; ++g) store_some<V>(y, g * V::width, sum[g], n);
}

template <class V, bool Parts>
static inline void weigh_rows(const fc_weighted_rows* a) {
    constexpr int group = 4;
    for (int64_t o = 0; o < a->outputs; ++o) {
        int64_t c = 0;
        for (; c + group * V::width <= a->columns; c += group * V::width) {
            weigh_columns<V, Parts, group>(a, o, c, V::width);
        }
        for (; c < a->columns; c += V::width) {
            const int n = a->columns - c < V::width ? static_cast<int>(a->columns - c) : V::width;
            weigh_columns<V, Parts, 1>(a, o, c, n);
        }
    }
}

template <class V>
void weighted_rows(const fc_weighted_rows* a) {
    a->parts ? weigh_rows<V, true>(a) : weigh_rows<V, false>(a);
}

}  // namespace fastconv
