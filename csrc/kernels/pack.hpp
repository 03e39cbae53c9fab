// Packing dense weights into a panel of NR columns: squares are transposed in registers, so that each cache line of the
// source is read once, however far apart its columns lie. The contract is in include/fastconv/conv.h.
#pragma once
#include <cstdint>

#include "dispatch/blocks.hpp"
#include "fastconv/conv.h"
#include "kernels/check.hpp"
#include "kernels/partial.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

// Where the rows (k, t) of the source, t fastest, go in the panel, whose rows are (t, k).
struct PanelRow {
    int64_t tap, row;

    void next(const fc_pack_panel& a) {
        row += a.reversed ? -a.depth : a.depth;
        if (++tap == a.taps) {
            tap = 0;
            row += 1 + (a.reversed ? a.taps : -a.taps) * a.depth;
        }
    }
};

template <class V>
static void pack_columns(const fc_pack_panel& a, int j) {
    using T = typename V::T;
    constexpr int nr = Blocks<V>::nv * V::width;
    constexpr int64_t ahead = 2048 / sizeof(T);
    const int columns = static_cast<int>(a.columns - j < V::width ? a.columns - j : V::width);
    const int64_t rows = a.taps * a.depth;
    const T* src = static_cast<const T*>(a.src) + j * a.column;
    T* dst = static_cast<T*>(a.dst) + j;
    PanelRow to{0, a.reversed ? (a.taps - 1) * a.depth : 0};
    int64_t most = lanes_to_alignment<V>(src, a.column);
    for (int64_t i = 0, count; i < rows; i += count, most = V::width) {
        count = rows - i < most ? rows - i : most;
        typename V::Reg square[V::width];
        FC_UNROLL
        for (int c = 0; c < V::width; ++c) {
            const T* from = src + c * a.column + i;
            if (c < columns) FC_PREFETCH_OUTER(from + ahead);
            square[c] = c >= columns ? V::zero() : count == V::width ? V::load(from) : V::load_n(from, count);
        }
        V::transpose(square);
        FC_UNROLL
        for (int r = 0; r < V::width; ++r) {
            if (r >= count) continue;
            V::store(dst + to.row * nr, square[r]);
            to.next(a);
        }
    }
}

template <class V>
void pack_panel(const fc_pack_panel* a) {
    constexpr int nr = Blocks<V>::nv * V::width;
    FC_CHECK(a->taps > 0 && a->depth >= 0 && a->columns > 0 && a->columns <= nr && a->dst && a->src);
    for (int j = 0; j < nr; j += V::width) pack_columns<V>(*a, j);
}

}  // namespace fastconv
