// Convolution of few channels a group, weight gradient of rows of three taps, turned: a lane is a channel in, and what
// a pixel of dy has for it serves all taps of a row. So a pixel of x is loaded whole, and with eight channels out a
// pass few times: where pixels lie a large power of two apart, a first-level cache keeps none for a further pass.
// Contract in include/fastconv/grouped.h.
#pragma once
#include <algorithm>
#include <cstdint>

#include "dispatch/blocks.hpp"
#include "fastconv/grouped.h"
#include "kernels/ahead.hpp"
#include "kernels/check.hpp"
#include "kernels/grouped_row.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

template <class T>
struct TurnedBlock {
    const T *x, *dy;
    T* dw;
    int64_t lanes;  // in as out
};

// Channels out of a group at a time: three registers hold the sums of each. Permutations need their indices besides.
template <class V, class L>
constexpr int turned_columns() {
    return L::from == Lanes::same && Blocks<V>::mr * Blocks<V>::nv >= 16 && V::width >= 8 ? 8 : 4;
}

// One pixel of dy and the three of x that its taps meet. Edge: some of these may lie outside the row.
template <class V, class L, int K, bool Edge>
static FC_INLINE void turned_pixel(const fc_grouped_outer& a, const typename V::T* x, const typename V::T* dy,
                                   int64_t lanes, int64_t low, int64_t high, const typename V::Index (&index)[K],
                                   typename V::Reg (&acc)[K][3]) {
    typename V::Reg value[3], all = V::zero();
    bool in[3];
    FC_UNROLL
    for (int t = 0; t < 3; ++t) {
        in[t] = !Edge || (t * a.spread >= low && t * a.spread < high);
        value[t] = in[t] ? L::load(x + t * a.spread * a.xpixel, lanes) : V::zero();
    }
    if (L::from != Lanes::same) all = L::load(dy, lanes);
    FC_UNROLL
    for (int i = 0; i < K; ++i) {
        const typename V::Reg gradient = L::from == Lanes::same ? V::set1(dy[i]) : V::permute(all, index[i]);
        FC_UNROLL
        for (int t = 0; t < 3; ++t) {
            if (in[t]) acc[i][t] = V::fma(value[t], gradient, acc[i][t]);
        }
    }
}

// Kernel row r and K channels out from k on.
template <class V, class L, int K>
static void turned_row(const fc_grouped_outer& a, const TurnedBlock<typename V::T>& at, int64_t r, int64_t k,
                       AheadPair& next) {
    using T = typename V::T;
    const int64_t lanes = at.lanes, step = a.step, x_step = step * a.xpixel, reach = 2 * a.spread;
    const int64_t begin = std::min(a.pixels, a.low > 0 ? (a.low + step - 1) / step : 0);
    const int64_t end = a.high > reach ? std::max(begin, std::min(a.pixels, (a.high - reach - 1) / step + 1)) : begin;
    typename V::Index index[K];
    typename V::Reg acc[K][3];
    FC_UNROLL
    for (int i = 0; i < K; ++i) {
        index[i] = L::index(a.blocks, k + i);
        FC_UNROLL
        for (int t = 0; t < 3; ++t) acc[i][t] = V::zero();
    }
    for (int64_t i = 0; i < a.lines; ++i) {
        next.step();
        const int64_t start = a.row[i * a.rows + r];
        if (start == INT64_MIN) continue;
        const T* x = at.x + start;
        const T* dy = at.dy + a.yrow[i] + (L::from == Lanes::same ? k : 0);
        for (int64_t p = 0; p < a.pixels; ++p, x += x_step, dy += a.ypixel) {
            for (; p >= begin && p < end; ++p, x += x_step, dy += a.ypixel) {
                turned_pixel<V, L, K, false>(a, x, dy, lanes, 0, 0, index, acc);
            }
            if (p == a.pixels) break;
            turned_pixel<V, L, K, true>(a, x, dy, lanes, a.low - p * step, a.high - p * step, index, acc);
        }
    }
    T* to = at.dw + (r * a.blocks.depth + k) * 3 * V::width;
    FC_UNROLL
    for (int i = 0; i < K; ++i) {
        FC_UNROLL
        for (int t = 0; t < 3; ++t, to += V::width) V::store(to, V::add(V::load(to), acc[i][t]));
    }
}

template <class V, bool Whole, Lanes From>
static void turned_block(const fc_grouped_outer& a, const TurnedBlock<typename V::T>& at, AheadPair& next) {
    using L = BlockLanes<V, Whole, From>;
    constexpr int K = turned_columns<V, L>();
    for (int64_t r = 0; r < a.rows; ++r) {
        for (int64_t k = 0; k < a.blocks.depth; k += K) turned_row<V, L, K>(a, at, r, k, next);
    }
}

template <class V>
static void turned_outer(const fc_grouped_outer& a) {
    using T = typename V::T;
    const fc_blocks& blocks = a.blocks;
    const Lanes from = lanes_of<V>(blocks);
    FC_CHECK(V::width >= 4 && a.taps == 3 && blocks.depth % 4 == 0 && blocks.xlanes == blocks.ylanes);
    TurnedBlock<T> at{static_cast<const T*>(a.x), static_cast<const T*>(a.dy), static_cast<T*>(a.dw), blocks.xlanes};
    constexpr int columns = turned_columns<V, BlockLanes<V, true, Lanes::same>>();
    const int64_t passes = blocks.depth / (from == Lanes::same ? columns : 4);
    AheadPair next(a, blocks.count * a.rows * passes * a.lines);
    for (int64_t b = 0; b < blocks.count; ++b) {
        if (b == blocks.count - 1) at.lanes = blocks.last_xlanes;
        if (from == Lanes::same) {
            turned_block<V, true, Lanes::same>(a, at, next);
        } else if (at.lanes == V::width) {
            turned_block<V, true, Lanes::mixed>(a, at, next);
        } else {
            turned_block<V, false, Lanes::mixed>(a, at, next);
        }
        at.x += blocks.xlanes;
        at.dy += blocks.ylanes;
        at.dw += a.wblock;
    }
}

}  // namespace fastconv
