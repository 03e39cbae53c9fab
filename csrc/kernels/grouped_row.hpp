// Convolution of few channels a group, forward and input gradient: a vector holds the output channels of whole groups,
// a register tile is a run of pixels of one row. A source vector is read once for all taps of a kernel row that see it,
// and brought under the output lanes by a permutation. Contract in include/fastconv/grouped.h.
#pragma once
#include <cstdint>

#include "fastconv/grouped.h"
#include "kernels/ahead.hpp"
#include "kernels/check.hpp"
#include "kernels/finish.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

// How lanes get a channel in: their own, one of their group, or all the same, of the only group.
enum class Lanes { own, mixed, same };

// A vector of one lane holds an output channel of one group.
template <class V>
static inline Lanes lanes_of(const fc_blocks& blocks) {
    if constexpr (V::width == 1) return Lanes::same;
    return blocks.lane ? Lanes::mixed : blocks.depth > 1 ? Lanes::same : Lanes::own;
}

// How a block's vectors are read and written. Whole: all lanes.
template <class V, bool Whole, Lanes From>
struct BlockLanes {
    using T = typename V::T;
    using Reg = typename V::Reg;
    static constexpr bool whole = Whole;
    static constexpr Lanes from = From;
    static Reg load(const T* p, int64_t lanes) {
        return Whole || lanes == V::width ? V::load(p) : V::load_n(p, static_cast<int>(lanes));
    }
    static void store(T* p, Reg a, int64_t lanes) {
        if (Whole || lanes == V::width) {
            V::store(p, a);
        } else {
            V::store_n(p, a, static_cast<int>(lanes));
        }
    }
    // Of the source block at p: channel k, or what `index` says.
    static Reg value(const T* p, int64_t k, int64_t lanes, typename V::Index i) {
        if constexpr (From == Lanes::same) return V::set1(p[k]);
        return From == Lanes::mixed ? V::permute(load(p, lanes), i) : load(p, lanes);
    }
    static typename V::Index index(const fc_blocks& blocks, int64_t k) {
        return From == Lanes::mixed ? V::index(blocks.lane + k * V::width) : typename V::Index{};
    }
};

template <class T>
struct RowBlock {  // one block of channels at a run of pixels
    const T *x, *w, *bias;
    T* y;
    int64_t p, xlanes, ylanes;
};

// Where a run of pixels lies: inside the row with all that it reads, or its middle taps are and the pixels themselves, or
// any of its positions may lie outside, and pixels beyond the end.
enum class Run { inside, beside, anywhere };

// M pixels; Taps and Step are those of the row, with spread 1.
template <class V, class L, int M, int Taps, int Step, Run At>
static void grouped_row_block(const fc_grouped_row& a, const RowBlock<typename V::T>& at) {
    using T = typename V::T;
    constexpr int last = (M - 1) * Step + Taps - 1;
    const int64_t depth = a.blocks.depth, low = a.low - at.p * Step, high = a.high - at.p * Step;
    typename V::Reg acc[M];
    FC_UNROLL
    for (int m = 0; m < M; ++m) acc[m] = at.bias ? V::load(at.bias) : V::zero();
    for (int64_t r = 0; r < a.rows; ++r) {
        const T* row = at.x + a.row[r] + at.p * Step * a.xpixel;
        const T* w = at.w + a.wrow[r] * depth * Taps * V::width;
        for (int64_t k = 0; k < depth; ++k, w += Taps * V::width) {
            const typename V::Index index = L::index(a.blocks, k);
            typename V::Reg weight[Taps];
            FC_UNROLL
            for (int t = 0; t < Taps; ++t) weight[t] = V::load(w + t * V::width);
            const T* x = row + (L::from == Lanes::same ? k : 0);
            FC_UNROLL
            for (int j = 0; j <= last; ++j, x += a.xpixel) {
                if (At == Run::anywhere || (At == Run::beside && (j < Taps / 2 || j > last - Taps / 2))) {
                    if (j < low || j >= high) continue;
                }
                if (L::from == Lanes::same) FC_OPAQUE(x);
                const typename V::Reg value = L::value(x, 0, at.xlanes, index);
                FC_UNROLL
                for (int t = 0; t < Taps; ++t) {
                    const int m = (j - t) / Step;
                    if (j < t || (j - t) % Step || m >= M) continue;
                    acc[m] = V::fma(value, weight[t], acc[m]);
                }
            }
        }
    }
    FC_UNROLL
    for (int m = 0; m < M; ++m) {
        if (At != Run::anywhere || at.p + m < a.pixels) L::store(at.y + m * a.ypixel, activated<V>(acc[m], a.relu), at.ylanes);
    }
}

// The same for any taps, step and spread.
template <class V, class L, int M, Run At>
static void grouped_row_any(const fc_grouped_row& a, const RowBlock<typename V::T>& at) {
    using T = typename V::T;
    const int64_t depth = a.blocks.depth, pixel = a.step * a.xpixel;
    const uint64_t count = static_cast<uint64_t>(a.high - a.low);
    typename V::Reg acc[M];
    FC_UNROLL
    for (int m = 0; m < M; ++m) acc[m] = at.bias ? V::load(at.bias) : V::zero();
    for (int64_t r = 0; r < a.rows; ++r) {
        const T* w = at.w + a.wrow[r] * depth * a.taps * V::width;
        for (int64_t k = 0; k < depth; ++k) {
            const typename V::Index index = L::index(a.blocks, k);
            int64_t position = at.p * a.step;
            for (int64_t t = 0; t < a.taps; ++t, position += a.spread, w += V::width) {
                const typename V::Reg weight = V::load(w);
                const T* x = at.x + a.row[r] + position * a.xpixel;
                FC_UNROLL
                for (int m = 0; m < M; ++m, x += pixel) {
                    const bool outside = static_cast<uint64_t>(position + m * a.step - a.low) >= count;
                    if (At != Run::inside && outside) continue;
                    acc[m] = V::fma(L::value(x, k, at.xlanes, index), weight, acc[m]);
                }
            }
        }
    }
    FC_UNROLL
    for (int m = 0; m < M; ++m) {
        if (At != Run::anywhere || at.p + m < a.pixels) L::store(at.y + m * a.ypixel, activated<V>(acc[m], a.relu), at.ylanes);
    }
}

template <class V, class L, int M, Run At>
static void grouped_row_choose(const fc_grouped_row& a, const RowBlock<typename V::T>& at) {
    if (a.spread == 1 && a.taps == 3 && a.step == 1) return grouped_row_block<V, L, M, 3, 1, At>(a, at);
    if (a.spread == 1 && a.taps == 3 && a.step == 2) return grouped_row_block<V, L, M, 3, 2, At>(a, at);
    if (a.spread == 1 && a.taps == 5 && a.step == 1) return grouped_row_block<V, L, M, 5, 1, At>(a, at);
    if (a.spread == 1 && a.taps == 2 && a.step == 1) return grouped_row_block<V, L, M, 2, 1, At>(a, at);
    grouped_row_any<V, L, M, At>(a, at);
}

template <class V, int M, Run At>
static void grouped_row_blocks(const fc_grouped_row& a, int64_t p, Ahead& next, int64_t share) {
    using T = typename V::T;
    const fc_blocks& blocks = a.blocks;
    const Lanes from = lanes_of<V>(blocks);
    RowBlock<T> at{static_cast<const T*>(a.x), static_cast<const T*>(a.w), static_cast<const T*>(a.bias),
                   static_cast<T*>(a.y) + p * a.ypixel, p, blocks.xlanes, blocks.ylanes};
    for (int64_t b = 0; b < blocks.count; ++b) {
        next.step(share);
        if (b == blocks.count - 1) at.xlanes = blocks.last_xlanes, at.ylanes = blocks.last_ylanes;
        const bool whole = at.xlanes == V::width && at.ylanes == V::width;
        if (from == Lanes::same) {
            grouped_row_choose<V, BlockLanes<V, true, Lanes::same>, M, At>(a, at);
        } else if (from == Lanes::own && whole) {
            grouped_row_choose<V, BlockLanes<V, true, Lanes::own>, M, At>(a, at);
        } else if (from == Lanes::own) {
            grouped_row_any<V, BlockLanes<V, false, Lanes::own>, M, At>(a, at);
        } else if (whole) {
            grouped_row_choose<V, BlockLanes<V, true, Lanes::mixed>, M, At>(a, at);
        } else {
            grouped_row_any<V, BlockLanes<V, false, Lanes::mixed>, M, At>(a, at);
        }
        at.x += blocks.xlanes;
        at.y += blocks.ylanes;
        at.w += a.wblock;
        if (at.bias) at.bias += V::width;
    }
}

template <class V>
void grouped_row(const fc_grouped_row* a) {
    FC_CHECK(a->rows >= 0 && a->taps >= 0 && a->pixels >= 0 && a->low <= a->high && a->y);
    FC_CHECK(a->blocks.count > 0 && a->blocks.depth > 0 && a->blocks.ylanes <= V::width);
    FC_CHECK(lanes_of<V>(a->blocks) == Lanes::same ? a->blocks.ylanes == V::width : a->blocks.xlanes <= V::width);
    constexpr int most = 7, few = 4;  // the sizes of most networks' images are multiples of 7
    Ahead next(a->next, a->next_bytes);
    const int64_t share = next.share((a->pixels + most - 1) / most * a->blocks.count);
    int64_t p = 0;
    while (p < a->pixels) {
        const int64_t first = p * a->step, last = (p + most - 1) * a->step + (a->taps - 1) * a->spread;
        const int64_t border = a->taps / 2 * a->spread;
        if (p + few >= a->pixels) {
            grouped_row_blocks<V, few, Run::anywhere>(*a, p, next, share);
            p += few;
            continue;
        }
        if (p + most > a->pixels || first + border < a->low || last - border >= a->high) {
            grouped_row_blocks<V, most, Run::anywhere>(*a, p, next, share);
        } else if (first < a->low || last >= a->high) {
            grouped_row_blocks<V, most, Run::beside>(*a, p, next, share);
        } else {
            grouped_row_blocks<V, most, Run::inside>(*a, p, next, share);
        }
        p += most;
    }
}

}  // namespace fastconv
