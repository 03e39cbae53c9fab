// Convolution, activation and max-pool of small windows in registers. Contract in include/fastconv/unit.h. Every sum runs
// in conv_tile's order.
#pragma once
#include <cstdint>

#include "dispatch/blocks.hpp"
#include "fastconv/unit.h"
#include "kernels/check.hpp"
#include "kernels/unit.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

template <class V>
struct ConvPoolBlocks {  // windows of a register tile
    static constexpr int accumulators = sizeof(typename V::Reg) == 64 ? 24 : Blocks<V>::mr * Blocks<V>::nv;
    static constexpr int windows(int places, int nv) {
        return accumulators < places * nv ? 1 : accumulators / (places * nv);
    }
};

// G windows of Q places, NV vectors of columns.
template <class V, int G, int Q, int NV>
static void conv_pool_block(const fc_conv_pool& a, int64_t p) {
    using T = typename V::T;
    constexpr int nr = Blocks<V>::nv * V::width;  // a packed row
    const T* bias = static_cast<const T*>(a.bias);
    typename V::Reg acc[G][NV][Q];
    FC_UNROLL
    for (int g = 0; g < G; ++g) {
        FC_UNROLL
        for (int j = 0; j < NV; ++j) {
            FC_UNROLL
            for (int q = 0; q < Q; ++q) acc[g][j][q] = bias ? V::load(bias + j * V::width) : V::zero();
        }
    }
    int64_t place[Q];
    FC_UNROLL
    for (int q = 0; q < Q; ++q) place[q] = a.place[q];
    for (int64_t t = 0; t < a.taps; ++t) {
        const T* w = static_cast<const T*>(a.w) + a.wtap[t];
        const T* window[G];
        FC_UNROLL
        for (int g = 0; g < G; ++g) window[g] = static_cast<const T*>(a.x) + a.window[p + g] + a.tap[t];
        for (int64_t k = 0; k < a.depth; ++k) {
            typename V::Reg columns[NV];
            FC_UNROLL
            for (int j = 0; j < NV; ++j) columns[j] = V::load(w + j * V::width);
            FC_UNROLL
            for (int g = 0; g < G; ++g) {
                FC_UNROLL
                for (int q = 0; q < Q; ++q) {
                    const typename V::Reg value = V::set1(window[g][place[q] + k]);
                    FC_UNROLL
                    for (int j = 0; j < NV; ++j) acc[g][j][q] = V::fma(value, columns[j], acc[g][j][q]);
                }
            }
            w += nr;
        }
    }
    FC_UNROLL
    for (int g = 0; g < G; ++g) {
        FC_UNROLL
        for (int j = 0; j < NV; ++j) {
            const int64_t rest = a.columns - j * V::width, at = a.at[p + g] + j * V::width;
            const int n = j < NV - 1 || rest > V::width ? V::width : static_cast<int>(rest);
            T* small = static_cast<T*>(a.small) + at;
            if (a.relu) {
                pool_registers<V, true, Q>(acc[g][j], small, a.index + at, n);
            } else {
                pool_registers<V, false, Q>(acc[g][j], small, a.index + at, n);
            }
        }
    }
}

template <class V, int G, int Q, int NV>
static void conv_pool_windows(const fc_conv_pool& a, int64_t p) {
    if constexpr (G > 0) {
        for (; p + G <= a.windows; p += G) conv_pool_block<V, G, Q, NV>(a, p);
        if (p < a.windows) conv_pool_windows<V, G - 1, Q, NV>(a, p);
    }
}

template <class V, int Q, int NV>
static void conv_pool_columns(const fc_conv_pool& a) {
    if constexpr (NV > 0) {
        if (a.columns <= (NV - 1) * V::width) return conv_pool_columns<V, Q, NV - 1>(a);
        conv_pool_windows<V, ConvPoolBlocks<V>::windows(Q, NV), Q, NV>(a, 0);
    }
}

template <class V>
void conv_pool(const fc_conv_pool* a) {
    FC_CHECK(a->places == 2 || a->places == 4);
    FC_CHECK(a->columns > 0 && a->columns <= Blocks<V>::nv * V::width && a->taps > 0 && a->depth > 0);
    a->places == 2 ? conv_pool_columns<V, 2, Blocks<V>::nv>(*a) : conv_pool_columns<V, 4, Blocks<V>::nv>(*a);
}

}  // namespace fastconv
