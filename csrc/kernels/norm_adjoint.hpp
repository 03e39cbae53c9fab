// The gradient of a normalisation and its ReLU, taken where dy is in the caches. Contract in include/fastconv/norm.h.
#pragma once
#include "kernels/norm.hpp"

namespace fastconv {

// G rows, for which the constants and sums of a vector of columns are loaded once.
template <class V, int G>
static inline void adjoint_group(const fc_normalise_adjoint* a, int64_t r) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    const T* x = static_cast<const T*>(a->x) + r * a->ldx;
    const T* dy = static_cast<const T*>(a->dy) + r * a->lddy;
    const T* residual = a->residual ? static_cast<const T*>(a->residual) + r * a->ldr : nullptr;
    T* y = static_cast<T*>(a->y) + r * a->ldy;
    for (int64_t c = 0; c < a->columns; c += V::width) {
        const int n = a->columns - c < V::width ? static_cast<int>(a->columns - c) : V::width;
        const Reg mean = load_some<V>(a->mean, c, n), scale = load_some<V>(a->scale, c, n);
        const Reg shift = load_some<V>(a->shift, c, n);
        Reg first = load_some<V>(a->first, c, n), second = load_some<V>(a->second, c, n);
        FC_UNROLL
        for (int k = 0; k < G; ++k) {
            const Reg value = load_some<V>(x, k * a->ldx + c, n);
            const Reg dz = masked<V>(load_some<V>(dy, k * a->lddy + c, n), normalised<V>(value, mean, scale, shift));
            first = V::add(first, dz);
            second = V::fma(dz, V::sub(value, mean), second);
            Reg sum = V::mul(dz, scale);
            if (residual) sum = V::add(sum, load_some<V>(residual, k * a->ldr + c, n));
            store_some<V>(y, k * a->ldy + c, sum, n);
        }
        store_some<V>(a->first, c, first, n);
        store_some<V>(a->second, c, second, n);
    }
}

template <class V>
void normalise_adjoint_rows(const fc_normalise_adjoint* a) {
    int64_t r = 0;
    for (; r + kRowGroup <= a->rows; r += kRowGroup) adjoint_group<V, kRowGroup>(a, r);
    for (; r < a->rows; ++r) adjoint_group<V, 1>(a, r);
}

}  // namespace fastconv
