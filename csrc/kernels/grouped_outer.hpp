// Convolution of few channels a group, weight gradient: the products of a row of taps and the lanes of a block stay in
// registers over a patch of pixels. Contract in include/fastconv/grouped.h.
#pragma once
#include <cstdint>

#include "dispatch/blocks.hpp"
#include "fastconv/grouped.h"
#include "kernels/ahead.hpp"
#include "kernels/check.hpp"
#include "kernels/grouped_row.hpp"
#include "kernels/grouped_turned.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

template <class T>
struct OuterBlock {  // channels in from k on, of one block's groups
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

// The lanes of K channels in at a source pixel, which is read once; x: its vector, or of Lanes::same the first channel.
template <class V, class L, int K>
static FC_INLINE void outer_values(const typename V::T* x, const OuterBlock<typename V::T>& at,
                                   const typename V::Index (&index)[K], typename V::Reg (&value)[K]) {
    FC_UNROLL
    for (int i = 0; i < K; ++i) value[i] = L::value(x, i, at.xlanes, index[i]);
}

// Taps of the rows from first_tap on, at one pixel after the other.
template <class V, class L, int R, int Taps, int K>
static inline void outer_pixels(const fc_grouped_outer& a, const OuterBlock<typename V::T>& at,
                                const OuterLine<typename V::T, R>& line, const typename V::Index (&index)[K], int64_t p,
                                int64_t end, typename V::Reg (&acc)[K][R][Taps]) {
    const uint64_t count = static_cast<uint64_t>(a.high - a.low);
    for (; p < end; ++p) {
        const typename V::Reg gradient = L::load(line.dy + p * a.ypixel, at.ylanes);
        FC_UNROLL
        for (int t = 0; t < Taps; ++t) {
            const int64_t position = p * a.step + (at.first_tap + t) * a.spread;
            if (static_cast<uint64_t>(position - a.low) >= count) continue;
            FC_UNROLL
            for (int r = 0; r < R; ++r) {
                if (!line.x[r]) continue;
                typename V::Reg value[K];
                outer_values<V, L, K>(line.x[r] + position * a.xpixel, at, index, value);
                FC_UNROLL
                for (int i = 0; i < K; ++i) acc[i][r][t] = V::fma(value[i], gradient, acc[i][r][t]);
            }
        }
    }
}

// A run of M pixels from p whose source positions follow each other: each is read once for all taps of a row. Edge: rows
// may be padding, and so may the positions before the first pixel's middle tap and after the last one's.
template <class V, class L, int R, int Taps, int K, int Step, int M, bool Edge>
static inline void outer_run(const fc_grouped_outer& a, const OuterBlock<typename V::T>& at,
                             const OuterLine<typename V::T, R>& line, const typename V::Index (&index)[K], int64_t p,
                             typename V::Reg (&acc)[K][R][Taps]) {
    constexpr int last = (M - 1) * Step + Taps - 1;
    const int64_t low = a.low - p * Step, high = a.high - p * Step;
    typename V::Reg gradient[M];
    FC_UNROLL
    for (int m = 0; m < M; ++m) gradient[m] = L::load(line.dy + (p + m) * a.ypixel, at.ylanes);
    FC_UNROLL
    for (int r = 0; r < R; ++r) {
        if (Edge && !line.x[r]) continue;
        const typename V::T* x = line.x[r] + p * Step * a.xpixel;
        FC_UNROLL
        for (int j = 0; j <= last; ++j, x += a.xpixel) {
            if (Edge && ((j < Taps / 2 && j < low) || (j > last - Taps / 2 && j >= high))) continue;
            if (L::from == Lanes::same) FC_OPAQUE(x);
            typename V::Reg value[K];
            outer_values<V, L, K>(x, at, index, value);
            FC_UNROLL
            for (int t = 0; t < Taps; ++t) {
                const int m = (j - t) / Step;
                if (j < t || (j - t) % Step || m >= M) continue;
                FC_UNROLL
                for (int i = 0; i < K; ++i) acc[i][r][t] = V::fma(value[i], gradient[m], acc[i][r][t]);
            }
        }
    }
}

// Kernel rows r to r + R - 1. Step 0: any step and spread. Else they are Step and 1, and Taps are all taps of a row.
template <class V, class L, int R, int Taps, int K, int Step>
static void outer_rows(const fc_grouped_outer& a, const OuterBlock<typename V::T>& at) {
    using T = typename V::T;
    constexpr int M = 7, S = Step ? Step : 1;
    const T* x = at.x + (L::from == Lanes::same ? at.k : 0);
    typename V::Index index[K];
    typename V::Reg acc[K][R][Taps];
    FC_UNROLL
    for (int i = 0; i < K; ++i) {
        index[i] = L::index(a.blocks, at.k + i);
        FC_UNROLL
        for (int r = 0; r < R; ++r) {
            FC_UNROLL
            for (int t = 0; t < Taps; ++t) acc[i][r][t] = V::zero();
        }
    }
    for (int64_t i = 0; i < a.lines; ++i) {
        OuterLine<T, R> line;
        bool some = false, all = true;
        FC_UNROLL
        for (int r = 0; r < R; ++r) {
            const int64_t start = a.row[i * a.rows + at.r + r];
            line.x[r] = start == INT64_MIN ? nullptr : x + start;
            start == INT64_MIN ? all = false : some = true;
        }
        if (!some) continue;
        line.dy = at.dy + a.yrow[i];
        int64_t p = 0;
        for (; Step && p + M <= a.pixels; p += M) {
            const int64_t first = p * S, end = (p + M - 1) * S + Taps;
            if (all && first >= a.low && end <= a.high) {
                outer_run<V, L, R, Taps, K, S, M, false>(a, at, line, index, p, acc);
            } else if (first + Taps / 2 >= a.low && end - Taps / 2 <= a.high) {
                outer_run<V, L, R, Taps, K, S, M, true>(a, at, line, index, p, acc);
            } else {
                outer_pixels<V, L, R, Taps, K>(a, at, line, index, p, p + M, acc);
            }
        }
        outer_pixels<V, L, R, Taps, K>(a, at, line, index, p, a.pixels, acc);
    }
    FC_UNROLL
    for (int i = 0; i < K; ++i) {
        FC_UNROLL
        for (int r = 0; r < R; ++r) {
            FC_UNROLL
            for (int t = 0; t < Taps; ++t) {
                T* to = at.dw + ((r * a.blocks.depth + i) * a.taps + at.first_tap + t) * V::width;
                V::store(to, V::add(V::load(to), acc[i][r][t]));
            }
        }
    }
}

// Whether kernel rows have three taps side by side, which runs of pixels serve with a step of 1 or 2.
static inline bool three_taps(const fc_grouped_outer& a) {
    return a.spread == 1 && a.taps == 3 && (a.step == 1 || a.step == 2);
}

// All taps of kernel rows r to r + R - 1, for one channel in. Runs of pixels are for what networks have: each is code.
template <class V, class L, int R>
static void outer_taps(const fc_grouped_outer& a, OuterBlock<typename V::T> at) {
    at.dw += at.r * a.blocks.depth * a.taps * V::width;
    at.first_tap = 0;
    if constexpr (L::whole || L::from == Lanes::own || R > 1) {
        if (three_taps(a) && a.step == 1) return outer_rows<V, L, R, 3, 1, 1>(a, at);
        if (three_taps(a)) return outer_rows<V, L, R, 3, 1, 2>(a, at);
    }
    if constexpr (L::from == Lanes::own) {
        if (a.spread == 1 && a.taps == 5 && a.step == 1) return outer_rows<V, L, R, 5, 1, 1>(a, at);
    }
    for (; at.first_tap + 4 <= a.taps; at.first_tap += 4) outer_rows<V, L, R, 4, 1, 0>(a, at);
    for (; at.first_tap < a.taps; ++at.first_tap) outer_rows<V, L, R, 1, 1, 0>(a, at);
}

// All kernel rows and channels in of one block. With registers enough, two channels in share what is read.
template <class V, bool Whole, Lanes From>
static void outer_channels(const fc_grouped_outer& a, OuterBlock<typename V::T> at, AheadPair& next) {
    using L = BlockLanes<V, Whole, From>;
    constexpr bool pairs = Whole && From != Lanes::own && Blocks<V>::mr * Blocks<V>::nv >= 16;
    constexpr int R = 3;
    typename V::T* dw = at.dw;
    for (at.k = 0; at.k < a.blocks.depth; ++at.k) {
        at.dw = dw + at.k * a.taps * V::width;
        next.step();
        if constexpr (pairs) {
            if (at.k + 1 < a.blocks.depth && three_taps(a) && a.rows % R == 0) {
                at.first_tap = 0;
                for (at.r = 0; at.r < a.rows; at.r += R, at.dw += R * a.blocks.depth * a.taps * V::width) {
                    a.step == 1 ? outer_rows<V, L, R, 3, 2, 1>(a, at) : outer_rows<V, L, R, 3, 2, 2>(a, at);
                }
                next.step();
                ++at.k;
                continue;
            }
        }
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
    if constexpr (V::width >= 4) {
        if (a->turned) return turned_outer<V>(*a);
    }
    FC_CHECK(!a->turned);
    FC_CHECK(from == Lanes::same ? blocks.ylanes == V::width : blocks.xlanes <= V::width);
    OuterBlock<T> at{static_cast<const T*>(a->x), static_cast<const T*>(a->dy), static_cast<T*>(a->dw), 0, 0,
                     blocks.xlanes, blocks.ylanes, 0};
    AheadPair next(*a, blocks.count * blocks.depth);
    for (int64_t b = 0; b < blocks.count; ++b) {
        if (b == blocks.count - 1) at.xlanes = blocks.last_xlanes, at.ylanes = blocks.last_ylanes;
        const bool whole = at.xlanes == V::width && at.ylanes == V::width;
        if (from == Lanes::same) {
            outer_channels<V, true, Lanes::same>(*a, at, next);
        } else if (from == Lanes::mixed) {
            whole ? outer_channels<V, true, Lanes::mixed>(*a, at, next)
                  : outer_channels<V, false, Lanes::mixed>(*a, at, next);
        } else {
            whole ? outer_channels<V, true, Lanes::own>(*a, at, next)
                  : outer_channels<V, false, Lanes::own>(*a, at, next);
        }
        at.x += blocks.xlanes;
        at.dy += blocks.ylanes;
        at.dw += a->wblock;
    }
}

}  // namespace fastconv
