// Convolution to a few columns, whose vectors run along pixels: vectors of columns would be mostly empty. The contract
// is in include/fastconv/conv.h.
#pragma once
#include <cstdint>

#include "dispatch/blocks.hpp"
#include "fastconv/conv.h"
#include "kernels/check.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

// C columns of P vectors of pixels, from pixel p on.
template <class V, int C, int P>
static void narrow_block(const fc_narrow& a, int64_t p) {
    using T = typename V::T;
    const T* w = static_cast<const T*>(a.w);
    T* y = static_cast<T*>(a.y) + p;
    typename V::Reg acc[C][P];
    FC_UNROLL
    for (int c = 0; c < C; ++c) {
        FC_UNROLL
        for (int j = 0; j < P; ++j) {
            acc[c][j] = a.accumulate ? V::load(y + c * a.ldy + j * V::width)
                        : a.bias     ? V::set1(static_cast<const T*>(a.bias)[c])
                                     : V::zero();
        }
    }
    for (int64_t t = 0; t < a.taps; ++t) {
        const T* x = static_cast<const T*>(a.x) + a.tap[t] + p;
        for (int64_t k = 0; k < a.depth; ++k, x += a.ldx, w += C) {
            typename V::Reg weight[C];
            FC_UNROLL
            for (int c = 0; c < C; ++c) weight[c] = V::set1(w[c]);
            FC_UNROLL
            for (int j = 0; j < P; ++j) {
                const typename V::Reg pixels = V::load(x + j * V::width);
                FC_UNROLL
                for (int c = 0; c < C; ++c) acc[c][j] = V::fma(weight[c], pixels, acc[c][j]);
            }
        }
    }
    FC_UNROLL
    for (int c = 0; c < C; ++c) {
        FC_UNROLL
        for (int j = 0; j < P; ++j) V::store(y + c * a.ldy + j * V::width, acc[c][j]);
    }
}

template <class V, int C, int P>
static void narrow_rest(const fc_narrow& a, int64_t p) {
    if constexpr (P > 0) {
        if (a.pixels - p > (P - 1) * V::width) return narrow_block<V, C, P>(a, p);
        narrow_rest<V, C, P - 1>(a, p);
    }
}

template <class V, int C>
static void narrow_columns(const fc_narrow& a) {
    if constexpr (C > 0) {
        if (a.columns < C) return narrow_columns<V, C - 1>(a);
        constexpr int registers = Blocks<V>::mr * Blocks<V>::nv;
        constexpr int P = registers / C < 1 ? 1 : registers / C > 8 ? 8 : registers / C;
        int64_t p = 0;
        for (; p + P * V::width <= a.pixels; p += P * V::width) narrow_block<V, C, P>(a, p);
        narrow_rest<V, C, P>(a, p);
    }
}

template <class V>
void narrow(const fc_narrow* a) {
    FC_CHECK(a->pixels >= 0 && a->taps >= 0 && a->depth >= 0 && a->columns > 0 && a->columns <= FC_NARROW && a->y);
    FC_CHECK(a->taps == 0 || (a->x && a->w && a->tap));
    narrow_columns<V, FC_NARROW>(*a);
}

}  // namespace fastconv
