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
struct OuterBlock {  // N sets of products: N channels in of one block, or N blocks of one channel
    const T *x, *dy;
    T* dw;
    const int32_t* lane;
    int64_t r, first_tap, xlanes, ylanes;
};

// The N source vectors at x, under their output lanes.
template <class V, class L, bool Mixed, int N>
static inline void grouped_outer_sources(const typename V::T* x, int64_t lanes, const typename V::Index (&index)[N],
                                 typename V::Reg (&value)[N]) {
    FC_UNROLL
    for (int i = 0; i < N; ++i) {
        value[i] = Mixed ? L::spread(L::load(x, lanes), index[i]) : L::load(x + i * V::width, lanes);
    }
}

// Taps of the row from first_tap on, at one pixel after the other.
template <class V, class L, bool Mixed, int N, int Taps>
static inline void grouped_outer_pixels(const fc_grouped_outer& a, const OuterBlock<typename V::T>& at,
                                const typename V::Index (&index)[N], const typename V::T* x, const typename V::T* dy,
                                int64_t p, int64_t end, typename V::Reg (&acc)[N][Taps]) {
    const uint64_t count = static_cast<uint64_t>(a.high - a.low);
    for (; p < end; ++p) {
        typename V::Reg gradient[N], value[N];
        FC_UNROLL
        for (int i = 0; i < N; ++i) {
            gradient[i] = Mixed && i ? gradient[0] : L::load(dy + p * a.ypixel + (Mixed ? 0 : i * V::width), at.ylanes);
        }
        FC_UNROLL
        for (int t = 0; t < Taps; ++t) {
            const int64_t position = p * a.step + (at.first_tap + t) * a.spread;
            if (static_cast<uint64_t>(position - a.low) >= count) continue;
            grouped_outer_sources<V, L, Mixed, N>(x + position * a.xpixel, at.xlanes, index, value);
            FC_UNROLL
            for (int i = 0; i < N; ++i) acc[i][t] = V::fma(value[i], gradient[i], acc[i][t]);
        }
    }
}

// A run of M pixels whose source positions follow each other: each is read once for all taps.
template <class V, class L, bool Mixed, int N, int Taps, int Step, int M, bool Edge>
static inline void grouped_outer_run(const fc_grouped_outer& a, const OuterBlock<typename V::T>& at,
                             const typename V::Index (&index)[N], const typename V::T* x, const typename V::T* dy,
                             int64_t p, typename V::Reg (&acc)[N][Taps]) {
    const int64_t low = a.low - p * Step;
    const uint64_t count = static_cast<uint64_t>(a.high - a.low);
    typename V::Reg gradient[M][N], value[N];
    x += p * Step * a.xpixel;
    dy += p * a.ypixel;
    FC_UNROLL
    for (int j = 0; j < (M - 1) * Step + Taps; ++j, x += a.xpixel) {
        if (j % Step == 0 && j / Step < M) {
            FC_UNROLL
            for (int i = 0; i < N; ++i) {
                const int m = j / Step < M ? j / Step : 0;
                gradient[m][i] = Mixed && i ? gradient[m][0] : L::load(dy + m * a.ypixel + (Mixed ? 0 : i * V::width), at.ylanes);
            }
        }
        if (Edge && static_cast<uint64_t>(j - low) >= count) continue;
        grouped_outer_sources<V, L, Mixed, N>(x, at.xlanes, index, value);
        FC_UNROLL
        for (int t = 0; t < Taps; ++t) {
            const int m = (j - t) / Step;
            if (j < t || (j - t) % Step || m >= M) continue;
            FC_UNROLL
            for (int i = 0; i < N; ++i) acc[i][t] = V::fma(value[i], gradient[m][i], acc[i][t]);
        }
    }
}

// Step 0: any step and spread. Else they are Step and 1, and Taps are all taps of the row.
template <class V, class L, bool Mixed, int N, int Taps, int Step>
static void grouped_outer_row(const fc_grouped_outer& a, const OuterBlock<typename V::T>& at, int64_t next) {
    using T = typename V::T;
    constexpr int M = 7, S = Step ? Step : 1;
    typename V::Reg acc[N][Taps];
    typename V::Index index[N];
    FC_UNROLL
    for (int i = 0; i < N; ++i) {
        index[i] = L::index(at.lane + i * V::width);
        FC_UNROLL
        for (int t = 0; t < Taps; ++t) acc[i][t] = V::zero();
    }
    for (int64_t line = 0; line < a.lines; ++line) {
        const int64_t start = a.row[line * a.rows + at.r];
        if (start == INT64_MIN) continue;
        const T *x = at.x + start, *dy = at.dy + a.yrow[line];
        int64_t p = 0;
        for (; Step && p + M <= a.pixels; p += M) {
            if (p * S >= a.low && (p + M - 1) * S + Taps <= a.high) {
                grouped_outer_run<V, L, Mixed, N, Taps, S, M, false>(a, at, index, x, dy, p, acc);
            } else {
                grouped_outer_run<V, L, Mixed, N, Taps, S, M, true>(a, at, index, x, dy, p, acc);
            }
        }
        grouped_outer_pixels<V, L, Mixed, N, Taps>(a, at, index, x, dy, p, a.pixels, acc);
    }
    FC_UNROLL
    for (int i = 0; i < N; ++i) {
        FC_UNROLL
        for (int t = 0; t < Taps; ++t) {
            T* to = at.dw + i * next + (at.first_tap + t) * V::width;
            V::store(to, V::add(V::load(to), acc[i][t]));
        }
    }
}

// All taps of kernel row r. `next`: from one of the N sets of products to the next.
template <class V, class L, bool Mixed, int N, bool Runs>
static void grouped_outer_taps(const fc_grouped_outer& a, OuterBlock<typename V::T> at, int64_t next) {
    if constexpr (Runs) {
        if (a.spread == 1 && a.taps == 3 && a.step == 1) return grouped_outer_row<V, L, Mixed, N, 3, 1>(a, at, next);
        if (a.spread == 1 && a.taps == 3 && a.step == 2) return grouped_outer_row<V, L, Mixed, N, 3, 2>(a, at, next);
        if (a.spread == 1 && a.taps == 5 && a.step == 1) return grouped_outer_row<V, L, Mixed, N, 5, 1>(a, at, next);
    }
    for (at.first_tap = 0; at.first_tap + 4 <= a.taps; at.first_tap += 4) grouped_outer_row<V, L, Mixed, N, 4, 0>(a, at, next);
    for (; at.first_tap < a.taps; ++at.first_tap) grouped_outer_row<V, L, Mixed, N, 1, 0>(a, at, next);
}

// One block, all channels in of its groups, or N whole blocks of one channel: all kernel rows.
template <class V, bool Whole, bool Mixed, int N, bool Runs>
static void grouped_outer_block(const fc_grouped_outer& a, OuterBlock<typename V::T> at) {
    using L = BlockLanes<V, Whole, Mixed>;
    typename V::T* dw = at.dw;
    const int64_t size = a.taps * V::width, depth = a.blocks.depth;
    for (at.r = 0; at.r < a.rows; ++at.r) {
        int64_t k = 0;
        for (; Mixed && k + N <= depth; k += N) {
            at.dw = dw + (at.r * depth + k) * size;
            at.lane = a.blocks.lane + k * V::width;
            grouped_outer_taps<V, L, Mixed, N, Runs>(a, at, size);
        }
        for (; Mixed && k < depth; ++k) {
            at.dw = dw + (at.r * depth + k) * size;
            at.lane = a.blocks.lane + k * V::width;
            grouped_outer_taps<V, L, Mixed, 1, false>(a, at, size);
        }
        if (Mixed) continue;
        at.dw = dw + at.r * size;
        grouped_outer_taps<V, L, Mixed, N, Runs>(a, at, a.wblock);
    }
}

template <class V>
void grouped_outer(const fc_grouped_outer* a) {
    using T = typename V::T;
    const fc_blocks& blocks = a->blocks;
    FC_CHECK(a->lines >= 0 && a->rows >= 0 && a->taps >= 0 && a->pixels >= 0 && a->low <= a->high && a->dw);
    FC_CHECK(blocks.count > 0 && blocks.depth > 0 && (blocks.lane || blocks.depth == 1));
    FC_CHECK(blocks.xlanes <= V::width && blocks.ylanes <= V::width);
    for (int64_t b = 0; b < blocks.count;) {
        const bool last = b == blocks.count - 1, last_but_one = b == blocks.count - 2;
        OuterBlock<T> at{};
        at.x = static_cast<const T*>(a->x) + b * blocks.xlanes;
        at.dy = static_cast<const T*>(a->dy) + b * blocks.ylanes;
        at.dw = static_cast<T*>(a->dw) + b * a->wblock;
        at.xlanes = last ? blocks.last_xlanes : blocks.xlanes;
        at.ylanes = last ? blocks.last_ylanes : blocks.ylanes;
        const bool whole = at.xlanes == V::width && at.ylanes == V::width;
        int64_t done = 1;
        if (blocks.lane) {
            whole ? grouped_outer_block<V, true, true, 2, true>(*a, at) : grouped_outer_block<V, false, true, 2, false>(*a, at);
        } else if (!whole) {
            grouped_outer_block<V, false, false, 1, false>(*a, at);
        } else if (last || (last_but_one && blocks.last_xlanes < V::width)) {
            grouped_outer_block<V, true, false, 1, true>(*a, at);
        } else {
            grouped_outer_block<V, true, false, 2, true>(*a, at);
            done = 2;
        }
        b += done;
    }
}

}  // namespace fastconv
