// Weighted sums of rows: each axis of a resampling. Contract in include/fastconv/resample.h.
#pragma once
#include <cstdint>

#include "fastconv/resample.h"
#include "kernels/partial.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

// Columns [c, c + (G - 1) * width + n) of one output; taps in their order.
template <class V, int G>
static inline void weigh_columns(const fc_weighted_rows* a, int64_t o, int64_t c, int n) {
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
        FC_UNROLL
        for (int g = 0; g < G; ++g) sum[g] = V::mul(V::set1(weight[t]), load_some<V>(row, g * V::width, n));
        ++t;
    }
    for (; t < last; ++t) {
        const T* row = x + a->row[t] * a->ldx;
        FC_UNROLL
        for (int g = 0; g < G; ++g) sum[g] = V::fma(V::set1(weight[t]), load_some<V>(row, g * V::width, n), sum[g]);
    }
    FC_UNROLL
    for (int g = 0; g < G; ++g) store_some<V>(y, g * V::width, sum[g], n);
}

template <class V>
void weighted_rows(const fc_weighted_rows* a) {
    constexpr int group = 4;
    for (int64_t o = 0; o < a->outputs; ++o) {
        int64_t c = 0;
        for (; c + group * V::width <= a->columns; c += group * V::width) weigh_columns<V, group>(a, o, c, V::width);
        for (; c < a->columns; c += V::width) {
            weigh_columns<V, 1>(a, o, c, a->columns - c < V::width ? static_cast<int>(a->columns - c) : V::width);
        }
    }
}

}  // namespace fastconv
