// Sums over rows and normalisation, a constant a column; lanes are columns. Contracts in include/fastconv/norm.h.
#pragma once
#include <cstdint>

#include "fastconv/norm.h"
#include "kernels/partial.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

constexpr int64_t kRowBlock = 64;  // rows summed in registers before `first` takes them: bounds the rounding error

// Columns [c, c + (NV - 1) * width + n): f(x, dy, mean, scale, first, second) adds one row to the two sums.
template <class V, int NV, bool Gradient, bool Second, class F>
static inline void reduce_columns(const fc_reduce* a, int64_t c, int n, F f) {
    using Reg = typename V::Reg;
    Reg mean[NV], scale[NV];
    FC_UNROLL
    for (int j = 0; j < NV; ++j) {
        mean[j] = a->mean ? load_some<V>(a->mean, c + j * V::width, n) : V::zero();
        scale[j] = a->scale ? load_some<V>(a->scale, c + j * V::width, n) : V::zero();
    }
    for (int64_t r0 = 0; r0 < a->rows; r0 += kRowBlock) {
        const int64_t r1 = a->rows - r0 < kRowBlock ? a->rows : r0 + kRowBlock;
        Reg first[NV], second[NV];
        FC_UNROLL
        for (int j = 0; j < NV; ++j) first[j] = second[j] = V::zero();
        for (int64_t r = r0; r < r1; ++r) {
            FC_UNROLL
            for (int j = 0; j < NV; ++j) {
                const int64_t at = c + j * V::width;
                const Reg dy = Gradient ? load_some<V>(a->dy, r * a->lddy + at, n) : V::zero();
                f(load_some<V>(a->x, r * a->ldx + at, n), dy, mean[j], scale[j], first[j], second[j]);
            }
        }
        FC_UNROLL
        for (int j = 0; j < NV; ++j) {
            const int64_t at = c + j * V::width;
            store_some<V>(a->first, at, V::add(load_some<V>(a->first, at, n), first[j]), n);
            if (Second) store_some<V>(a->second, at, V::add(load_some<V>(a->second, at, n), second[j]), n);
        }
    }
}

template <class V, bool Gradient, bool Second, class F>
static inline void reduce(const fc_reduce* a, F f) {
    int64_t c = 0;
    for (; c + 4 * V::width <= a->columns; c += 4 * V::width) reduce_columns<V, 4, Gradient, Second>(a, c, V::width, f);
    for (; c < a->columns; c += V::width) {
        const int n = a->columns - c < V::width ? static_cast<int>(a->columns - c) : V::width;
        reduce_columns<V, 1, Gradient, Second>(a, c, n, f);
    }
}

// first += x
template <class V>
void sum_rows(const fc_reduce* a) {
    using Reg = typename V::Reg;
    reduce<V, false, false>(a, [](Reg x, Reg, Reg, Reg, Reg& first, Reg&) { first = V::add(first, x); });
}

// d = x - mean: first += d, second += d * d
template <class V>
void moment_rows(const fc_reduce* a) {
    using Reg = typename V::Reg;
    reduce<V, false, true>(a, [](Reg x, Reg, Reg mean, Reg, Reg& first, Reg& second) {
        const Reg d = V::sub(x, mean);
        first = V::add(first, d);
        second = V::fma(d, d, second);
    });
}

// first += dy, second += dy * (x - mean) * scale
template <class V>
void gradient_rows(const fc_reduce* a) {
    using Reg = typename V::Reg;
    reduce<V, true, true>(a, [](Reg x, Reg dy, Reg mean, Reg scale, Reg& first, Reg& second) {
        first = V::add(first, dy);
        second = V::fma(dy, V::mul(V::sub(x, mean), scale), second);
    });
}

// f(x, dy, c, n) -> y
template <class V, bool Gradient, class F>
static inline void normalise(const fc_normalise* a, F f) {
    for (int64_t r = 0; r < a->rows; ++r) {
        for (int64_t c = 0; c < a->columns; c += V::width) {
            const int n = a->columns - c < V::width ? static_cast<int>(a->columns - c) : V::width;
            const typename V::Reg dy = Gradient ? load_some<V>(a->dy, r * a->lddy + c, n) : V::zero();
            store_some<V>(a->y, r * a->ldy + c, f(load_some<V>(a->x, r * a->ldx + c, n), dy, c, n), n);
        }
    }
}

// y = (x - mean) * scale + shift
template <class V>
void normalise_rows(const fc_normalise* a) {
    using Reg = typename V::Reg;
    normalise<V, false>(a, [a](Reg x, Reg, int64_t c, int n) {
        const Reg centred = V::sub(x, load_some<V>(a->mean, c, n));
        return V::fma(centred, load_some<V>(a->scale, c, n), load_some<V>(a->shift, c, n));
    });
}

// y = (dy - shift - (x - mean) * slope) * scale
template <class V>
void normalise_gradient_rows(const fc_normalise* a) {
    using Reg = typename V::Reg;
    normalise<V, true>(a, [a](Reg x, Reg dy, int64_t c, int n) {
        const Reg share = V::mul(V::sub(x, load_some<V>(a->mean, c, n)), load_some<V>(a->slope, c, n));
        return V::mul(V::sub(V::sub(dy, load_some<V>(a->shift, c, n)), share), load_some<V>(a->scale, c, n));
    });
}

}  // namespace fastconv
