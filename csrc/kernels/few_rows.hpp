// Products of a few rows with a matrix of weights that is read once, as it lies: a linear layer at batch 1 is bound by
// memory. Every element is summed in the order of conv_tile, so its bits do not tell how many rows there were.
#pragma once
#include <cstdint>

#include "fastconv/conv.h"
#include "kernels/check.hpp"
#include "kernels/partial.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

// Up to `width` columns, whose weights lie one column after the other: squares of them are transposed in registers.
template <class V, int M>
static void dot_columns(const fc_few_rows& a, int64_t j) {
    using T = typename V::T;
    constexpr int64_t ahead = 2048 / sizeof(T);
    const int columns = static_cast<int>(a.columns - j < V::width ? a.columns - j : V::width);
    const T* x = static_cast<const T*>(a.x);
    const T* w = static_cast<const T*>(a.w) + j * a.ldw;
    typename V::Reg acc[M];
    FC_UNROLL
    for (int m = 0; m < M; ++m) {
        acc[m] = !a.bias ? V::zero()
                 : columns < V::width ? V::load_n(static_cast<const T*>(a.bias) + j, columns)
                                      : V::load(static_cast<const T*>(a.bias) + j);
    }
    int64_t most = lanes_to_alignment<V>(w, a.ldw);
    for (int64_t k = 0, count; k < a.depth; k += count, most = V::width) {
        count = a.depth - k < most ? a.depth - k : most;
        typename V::Reg square[V::width];
        FC_UNROLL
        for (int c = 0; c < V::width; ++c) {
            const T* from = w + c * a.ldw + k;
            if (a.far && c < columns) FC_PREFETCH_OUTER(from + ahead);
            square[c] = c >= columns ? V::zero() : count == V::width ? V::load(from) : V::load_n(from, count);
        }
        V::transpose(square);
        FC_UNROLL
        for (int i = 0; i < V::width; ++i) {
            if (i >= count) continue;
            FC_UNROLL
            for (int m = 0; m < M; ++m) acc[m] = V::fma(V::set1(x[m * a.ldx + k + i]), square[i], acc[m]);
        }
    }
    FC_UNROLL
    for (int m = 0; m < M; ++m) {
        T* y = static_cast<T*>(a.y) + m * a.ldy + j;
        columns < V::width ? V::store_n(y, acc[m], columns) : V::store(y, acc[m]);
    }
}

// Weights whose columns lie side by side: some rows of them at a time are added to y.
template <class V, int M, int K>
static void add_weights(const fc_few_rows& a, int64_t k) {
    using T = typename V::T;
    const T* x = static_cast<const T*>(a.x) + k;
    const T* w = static_cast<const T*>(a.w) + k * a.ldw;
    T* y = static_cast<T*>(a.y);
    for (int64_t j = 0; j < a.columns; j += V::width) {
        const int columns = static_cast<int>(a.columns - j < V::width ? a.columns - j : V::width);
        const auto load = [columns](const T* p) { return columns < V::width ? V::load_n(p, columns) : V::load(p); };
        typename V::Reg acc[M];
        FC_UNROLL
        for (int m = 0; m < M; ++m) {
            acc[m] = k ? load(y + m * a.ldy + j) : a.bias ? load(static_cast<const T*>(a.bias) + j) : V::zero();
        }
        FC_UNROLL
        for (int i = 0; i < K; ++i) {
            if (a.far) FC_PREFETCH_OUTER(w + (K + i) * a.ldw + j);
            const typename V::Reg row = load(w + i * a.ldw + j);
            FC_UNROLL
            for (int m = 0; m < M; ++m) acc[m] = V::fma(V::set1(x[m * a.ldx + i]), row, acc[m]);
        }
        FC_UNROLL
        for (int m = 0; m < M; ++m) {
            columns < V::width ? V::store_n(y + m * a.ldy + j, acc[m], columns) : V::store(y + m * a.ldy + j, acc[m]);
        }
    }
}

template <class V, int M>
static void few_rows_of(const fc_few_rows& a) {
    if (a.by_rows) {
        int64_t k = 0;
        for (; k + 8 <= a.depth; k += 8) add_weights<V, M, 8>(a, k);
        for (; k < a.depth; ++k) add_weights<V, M, 1>(a, k);
        if (a.depth == 0) add_weights<V, M, 0>(a, 0);
    } else {
        for (int64_t j = 0; j < a.columns; j += V::width) dot_columns<V, M>(a, j);
    }
}

template <class V>
void few_rows(const fc_few_rows* a) {
    FC_CHECK(a->rows > 0 && a->rows <= FC_FEW_ROWS && a->depth >= 0 && a->columns > 0 && a->x && a->w && a->y);
    if (a->rows == 1) return few_rows_of<V, 1>(*a);
    if (a->rows == 2) return few_rows_of<V, 2>(*a);
    if (a->rows == 3) return few_rows_of<V, 3>(*a);
    few_rows_of<V, 4>(*a);
}

}  // namespace fastconv
