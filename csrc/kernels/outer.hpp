// Weight gradient: a register tile of MR rows x NV vectors of columns, to which each pixel adds an outer product. Contracts
// in include/fastconv/conv.h. Every element is summed in the same order in every instance.
#pragma once
#include <cstdint>

#include "dispatch/blocks.hpp"
#include "fastconv/conv.h"
#include "kernels/check.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

template <class V, int M, int NV, bool Whole>
static void outer_block(const fc_outer_tile& a, int64_t r, int64_t c) {
    using T = typename V::T;
    T* dw = static_cast<T*>(a.dw) + r * a.ld + c;
    const int last = static_cast<int>(a.columns - c - (NV - 1) * V::width);  // valid lanes of the last vector
    auto load = [last](const T* p, int j) { return Whole || j < NV - 1 ? V::load(p) : V::load_n(p, last); };

    typename V::Reg acc[M][NV];
    const T* x[M];
    FC_UNROLL
    for (int m = 0; m < M; ++m) {
        x[m] = static_cast<const T*>(a.x) + a.row[r + m];
        FC_UNROLL
        for (int j = 0; j < NV; ++j) acc[m][j] = V::zero();
    }
    const T* dy = static_cast<const T*>(a.dy) + c;
    const int64_t *xpixel = a.xpixel, *ypixel = a.ypixel, *end = a.xpixel + a.pixels;
    for (; xpixel < end; ++xpixel, ++ypixel) {
        const int64_t at = *xpixel;
        const T* from = dy + *ypixel;
        typename V::Reg columns[NV];
        FC_UNROLL
        for (int j = 0; j < NV; ++j) columns[j] = load(from + j * V::width, j);
        FC_UNROLL
        for (int m = 0; m < M; ++m) {
            const typename V::Reg value = V::set1(x[m][at]);
            FC_UNROLL
            for (int j = 0; j < NV; ++j) acc[m][j] = V::fma(value, columns[j], acc[m][j]);
        }
    }
    FC_UNROLL
    for (int m = 0; m < M; ++m) {
        FC_UNROLL
        for (int j = 0; j < NV; ++j) {
            T* to = dw + m * a.ld + j * V::width;
            const typename V::Reg sum = a.accumulate ? V::add(load(to, j), acc[m][j]) : acc[m][j];
            if (Whole || j < NV - 1) {
                V::store(to, sum);
            } else {
                V::store_n(to, sum, last);
            }
        }
    }
}

// Rows [r, rows) in blocks of M and M - 1, of which `larger` have M: no block is small where one could be as long as others.
template <class V, int M, int NV, bool Whole>
static void outer_rows(const fc_outer_tile& a, int64_t c, int64_t larger) {
    int64_t r = 0;
    for (; larger > 0; --larger, r += M) outer_block<V, M, NV, Whole>(a, r, c);
    if constexpr (M > 1) {
        for (; r < a.rows; r += M - 1) outer_block<V, M - 1, NV, Whole>(a, r, c);
    }
}

template <class V, int M, int NV, bool Whole>
static void outer_even(const fc_outer_tile& a, int64_t c) {
    constexpr int mr = Blocks<V>::mr;
    const int64_t blocks = (a.rows + mr - 1) / mr, most = (a.rows + blocks - 1) / blocks;
    if constexpr (M > 1) {
        if (most < M) return outer_even<V, M - 1, NV, Whole>(a, c);
    }
    outer_rows<V, M, NV, Whole>(a, c, a.rows - blocks * (M - 1));
}

template <class V, int NV>
static void outer_columns(const fc_outer_tile& a, int64_t c) {
    if constexpr (NV > 0) {
        constexpr int mr = Blocks<V>::mr;
        const int64_t columns = a.columns - c;
        if (columns <= (NV - 1) * V::width) return outer_columns<V, NV - 1>(a, c);
        columns >= NV * V::width ? outer_even<V, mr, NV, true>(a, c) : outer_even<V, mr, NV, false>(a, c);
    }
}

template <class V>
void outer_tile(const fc_outer_tile* a) {
    constexpr int nr = Blocks<V>::nv * V::width;
    FC_CHECK(a->pixels >= 0 && a->rows >= 0 && a->columns >= 0 && (a->rows <= 1 || a->ld >= a->columns));
    FC_CHECK(a->rows == 0 || (a->dw && a->row));
    FC_CHECK(a->pixels == 0 || (a->x && a->xpixel && a->dy && a->ypixel));
    for (int64_t c = 0; c < a->columns; c += nr) outer_columns<V, Blocks<V>::nv>(*a, c);
}

}  // namespace fastconv
