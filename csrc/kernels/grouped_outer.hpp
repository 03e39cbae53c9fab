// Convolution of few channels a group, weight gradient: the products of a row of taps and the lanes of a block stay in
// registers over a patch of pixels. Contract in include/fastconv/grouped.h.
#pragma once
#include <cstdint>

#include "fastconv/grouped.h"
#include "kernels/check.hpp"
#include "kernels/grouped_row.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

template <class T>
struct OuterBlock {  // one channel in of one block's groups
    const T *x, *dy;
    T* dw;
    int64_t r, first_tap, xlanes, ylanes, k;
};

// R source rows under one row of dy; a null one is padding.
template <class T, int R>
struct OuterLine {
    const T* x[R];
    const T* dy;
};

// Taps of the rows from first_tap on, at one pixel after the other.
template <class V, class L, int R, int Taps>
static inline void outer_pixels(const fc_grouped_outer& a, const OuterBlock<typename V::T>& at,
                                const OuterLine<typename V::T, R>& line, typename V::Index index, int64_t p,
                                typename V::Reg (&acc)[R][Taps]) {
    const uint64_t count = static_cast<uint64_t>(a.high - a.low);
    for (; p < a.pixels; ++p) {
        const typename V::Reg gradient = L::load(line.dy + p * a.ypixel, at.ylanes);
        FC_UNROLL
        for (int t = 0; t < Taps; ++t) {
            const int64_t position = p * a.step + (at.first_tap + t) * a.spread;
            if (static_cast<uint64_t>(position - a.low) >= count) continue;
            FC_UNROLL
            for (int r = 0; r < R; ++r) {
                if (!line.x[r]) continue;
                const typename V::Reg value = L::value(line.x[r] + position * a.xpixel, at.k, at.xlanes, index);
                acc[r][t] = V::fma(value, gradient, acc[r][t]);
            }
        }
    }
}

// A run of M pixels from p whose source positions follow each other: each is read once for all taps. Edge: some of the
// positions or rows may be padding.
template <class V, class L, int R, int Taps, int Step, int M, bool Edge>
static inline void outer_run(const fc_grouped_outer& a, const OuterBlock<typename V::T>& at,
                             const OuterLine<typename V::T, R>& line, typename V::Index index, int64_t p,
                             typename V::Reg (&acc)[R][Taps]) {
    const int64_t low = a.low - p * Step;
    const uint64_t count = static_cast<uint64_t>(a.high - a.low);
    typename V::Reg gradient[M];
    int64_t x = p * Step * a.xpixel;
    const typename V::T* dy = line.dy + p * a.ypixel;
    FC_UNROLL
    for (int j = 0; j < (M - 1) * Step + Taps; ++j, x += a.xpixel) {
        if (j % Step == 0 && j / Step < M) {
            gradient[j / Step < M ? j / Step : 0] = L::load(dy, at.ylanes);
            dy += a.ypixel;
        }
        if (Edge && static_cast<uint64_t>(j - low) >= count) continue;
        FC_UNROLL
        for (int r = 0; r < R; ++r) {
            if (Edge && !line.x[r]) continue;
            const typename V::Reg value = L::value(line.x[r] + x, at.k, at.xlanes, index);
            FC_UNROLL
            for (int t = 0; t < Taps; ++t) {
                const int m = (j - t) / Step;
                if (j < t || (j - t) % Step || m >= M) continue;
                acc[r][t] = V::fma(value, gradient[m], acc[r][t]);
            }
        }
    }
}

// Kernel rows r to r + R - 1. Step 0: any step and spread. Else they are Step and 1, and Taps are all taps of a row.
template <class V, class L, int R, int Taps, int Step>
static void outer_rows(const fc_grouped_outer& a, const OuterBlock<typename V::T>& at) {
    using T = typename V::T;
    constexpr int M = 7, S = Step ? Step : 1;
    const typename V::Index index = L::index(a.blocks, at.k);
    typename V::Reg acc[R][Taps];
    FC_UNROLL
    for (int r = 0; r < R; ++r) {
        FC_UNROLL
        for (int t = 0; t < Taps; ++t) acc[r][t] = V::zero();
    }
    for (int64_t i = 0; i < a.lines; ++i) {
        OuterLine<T, R> line;
        bool some = false, all = true;
        FC_UNROLL
        for (int r = 0; r < R; ++r) {
            const int64_t start = a.row[i * a.rows + at.r + r];
            line.x[r] = start == INT64_MIN ? nullptr : at.x + start;
            start == INT64_MIN ? all = false : some = true;
        }
        if (!some) continue;
        line.dy = at.dy + a.yrow[i];
        int64_t p = 0;
        for (; Step && p + M <= a.pixels; p += M) {
            if (all && p * S >= a.low && (p + M - 1) * S + Taps <= a.high) {
                outer_run<V, L, R, Taps, S, M, false>(a, at, line, index, p, acc);
            } else {
                outer_run<V, L, R, Taps, S, M, true>(a, at, line, index, p, acc);
            }
        }
        outer_pixels<V, L, R, Taps>(a, at, line, index, p, acc);
    }
    FC_UNROLL
    for (int r = 0; r < R; ++r) {
        FC_UNROLL
        for (int t = 0; t < Taps; ++t) {
            T* to = at.dw + (r * a.blocks.depth * a.taps + at.first_tap + t) * V::width;
            V::store(to, V::add(V::load(to), acc[r][t]));
        }
    }
}

// All taps of kernel rows r to r + R - 1.
template <class V, class L, int R>
static void outer_taps(const fc_grouped_outer& a, OuterBlock<typename V::T> at) {
    at.dw += at.r * a.blocks.depth * a.taps * V::width;
    at.first_tap = 0;
    if (a.spread == 1 && a.taps == 3 && a.step == 1) return outer_rows<V, L, R, 3, 1>(a, at);
    if (a.spread == 1 && a.taps == 3 && a.step == 2) return outer_rows<V, L, R, 3, 2>(a, at);
    if (a.spread == 1 && a.taps == 5 && a.step == 1) return outer_rows<V, L, R, 5, 1>(a, at);
    for (; at.first_tap + 4 <= a.taps; at.first_tap += 4) outer_rows<V, L, R, 4, 0>(a, at);
    for (; at.first_tap < a.taps; ++at.first_tap) outer_rows<V, L, R, 1, 0>(a, at);
}

// All kernel rows and channels in of one block.
template <class V, bool Whole, Lanes From>
static void outer_channels(const fc_grouped_outer& a, OuterBlock<typename V::T> at) {
    using L = BlockLanes<V, Whole, From>;
    constexpr int R = 3;
    typename V::T* dw = at.dw;
    for (at.k = 0; at.k < a.blocks.depth; ++at.k) {
        at.dw = dw + at.k * a.taps * V::width;
        for (at.r = 0; at.r + R <= a.rows; at.r += R) outer_taps<V, L, R>(a, at);
        for (; at.r < a.rows; ++at.r) outer_taps<V, L, 1>(a, at);
    }
}

template <class V>
void grouped_outer(const fc_grouped_outer* a) {
    using T = typename V::T;
    const fc_blocks& blocks = a->blocks;
    const Lanes from = lanes_of<V>(blocks);
    FC_CHECK(a->lines >= 0 && a->rows >= 0 && a->taps >= 0 && a->pixels >= 0 && a->low <= a->high && a->dw);
    FC_CHECK(blocks.count > 0 && blocks.depth > 0 && blocks.ylanes <= V::width);
    FC_CHECK(from == Lanes::same ? blocks.ylanes == V::width : blocks.xlanes <= V::width);
    OuterBlock<T> at{static_cast<const T*>(a->x), static_cast<const T*>(a->dy), static_cast<T*>(a->dw), 0, 0,
                     blocks.xlanes, blocks.ylanes, 0};
    for (int64_t b = 0; b < blocks.count; ++b) {
        if (b == blocks.count - 1) at.xlanes = blocks.last_xlanes, at.ylanes = blocks.last_ylanes;
        const bool whole = at.xlanes == V::width && at.ylanes == V::width;
        if (from == Lanes::same) {
            outer_channels<V, true, Lanes::same>(*a, at);
        } else if (from == Lanes::mixed) {
            whole ? outer_channels<V, true, Lanes::mixed>(*a, at) : outer_channels<V, false, Lanes::mixed>(*a, at);
        } else {
            whole ? outer_channels<V, true, Lanes::own>(*a, at) : outer_channels<V, false, Lanes::own>(*a, at);
        }
        at.x += blocks.xlanes;
        at.dy += blocks.ylanes;
        at.dw += a->wblock;
    }
}

}  // namespace fastconv
