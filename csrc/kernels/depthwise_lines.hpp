// Depthwise convolution with 5x5 or 7x7 taps a plane: a run of pixels of two lines at a time, so that a source vector
// is read once for the taps of two kernel rows, which stay in registers. Contract in include/fastconv/grouped.h.
#pragma once
#include <cstdint>

#include "dispatch/blocks.hpp"
#include "fastconv/grouped.h"
#include "kernels/ahead.hpp"
#include "kernels/check.hpp"
#include "kernels/depthwise.hpp"
#include "kernels/finish.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

constexpr int lines_at_once = 2;

// Pixels of a run: the sums of both lines, the taps of a row each and a value fill the registers. Where these are few,
// taps are read where they are used.
template <class V>
constexpr int lines_pixels = Blocks<V>::mr * Blocks<V>::nv >= 16 ? 7 : 4;

// One source row of a run: what it adds to the lines in [First, End), of which line l has kernel row `row - l * Step`.
template <class V, int Step, int K, int First, int End, bool Whole, bool Edge>
static FC_INLINE void lines_row(const typename V::T* x, const typename V::T* w, int row, int64_t xpixel,
                                uint32_t inside, int64_t lanes,
                                typename V::Reg (&acc)[lines_at_once][lines_pixels<V>]) {
    constexpr int M = lines_pixels<V>;
    typename V::Reg weight[End][K];
    FC_UNROLL
    for (int l = First; l < End; ++l) {
        FC_UNROLL
        for (int t = 0; t < K; ++t) weight[l][t] = V::load(w + ((row - l * Step) * K + t) * V::width);
    }
    FC_UNROLL
    for (int j = 0; j < (M - 1) * Step + K; ++j, x += xpixel) {
        if (Edge && !(inside >> j & 1)) continue;
        const typename V::Reg value = lanes_load<V, Whole>(x, lanes);
        FC_UNROLL
        for (int t = 0; t < K; ++t) {
            const int m = (j - t) / Step;
            if (j < t || (j - t) % Step || m >= M) continue;
            FC_UNROLL
            for (int l = First; l < End; ++l) acc[l][m] = V::fma(value, weight[l][t], acc[l][m]);
        }
    }
}

// A run of the lines from i on, of which `inside` says which positions are read. Edge: some are not.
template <class V, int Step, int K, bool Whole, bool Edge>
static void lines_run(const fc_depthwise& a, const DepthwiseBlock<typename V::T>& at, int64_t i, int64_t p,
                      uint32_t inside) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    constexpr int L = lines_at_once, M = lines_pixels<V>, reach = (L - 1) * Step;
    const bool stream = a.stream;
    const Reg start = at.bias ? V::load(at.bias) : V::zero();
    Reg acc[L][M];
    FC_UNROLL
    for (int l = 0; l < L; ++l) {
        FC_UNROLL
        for (int m = 0; m < M; ++m) acc[l][m] = start;
    }
    const int rows = i + L <= a.lines ? K + reach : K;  // a line that is not there has none of its own
    for (int row = 0; row < rows; ++row) {
        const int64_t source = i * Step + row;
        if (source < a.top || source >= a.bottom) continue;
        for (int64_t q = 0; q < a.planes; ++q) {
            const T* w = at.w + a.wplane[q] * V::width;
            const T* x = at.x + a.plane[q] + source * a.xrow + p * Step * a.xpixel;
            if (row < reach) {
                lines_row<V, Step, K, 0, 1, Whole, Edge>(x, w, row, a.xpixel, inside, at.lanes, acc);
            } else if (row < K) {
                lines_row<V, Step, K, 0, L, Whole, Edge>(x, w, row, a.xpixel, inside, at.lanes, acc);
            } else {
                lines_row<V, Step, K, L - 1, L, Whole, Edge>(x, w, row, a.xpixel, inside, at.lanes, acc);
            }
        }
    }
    FC_UNROLL
    for (int l = 0; l < L; ++l) {
        if (i + l == a.lines) break;
        T* y = at.y + (i + l) * a.yrow + p * a.ypixel;
        FC_UNROLL
        for (int m = 0; m < M; ++m) {
            if (Edge && p + m >= a.pixels) break;
            lanes_store<V, Whole>(y + m * a.ypixel, activated<V>(acc[l][m], a.relu), at.lanes, stream);
        }
    }
}

template <class V, int Step, int K>
static void lines_step(const fc_depthwise& a) {
    using T = typename V::T;
    constexpr int L = lines_at_once, M = lines_pixels<V>;
    constexpr uint32_t all = (uint32_t{1} << ((M - 1) * Step + K)) - 1;
    const int64_t end = (a.pixels - 1) * Step + K, high = a.high < end ? a.high : end;  // what the last pixel reads
    Ahead next(a.next, a.next_bytes);
    for (int64_t i = 0; i < a.lines; i += L) {
        for (int64_t p = 0; p < a.pixels; p += M) {
            const uint32_t inside = inside_row<M, Step, K>(p, a.low, high);
            each_block<V>(a, [&](const DepthwiseBlock<T>& at, auto whole) {
                constexpr bool Whole = decltype(whole)::value;
                next.step(M * L * Step * Step);
                Whole && inside == all ? lines_run<V, Step, K, true, false>(a, at, i, p, inside)
                                       : lines_run<V, Step, K, Whole, true>(a, at, i, p, inside);
            });
        }
    }
}

template <class V>
void depthwise_lines(const fc_depthwise* a) {
    FC_CHECK(a->lines > 0 && a->pixels >= 0 && a->planes >= 0 && (a->step == 1 || a->step == 2) && a->y);
    FC_CHECK(a->blocks > 0 && a->last > 0 && a->last <= V::width && a->low <= a->high && a->top <= a->bottom);
    FC_CHECK(a->taps == 5 || a->taps == 7);
    if (a->step == 1) {
        a->taps == 5 ? lines_step<V, 1, 5>(*a) : lines_step<V, 1, 7>(*a);
    } else {
        a->taps == 5 ? lines_step<V, 2, 5>(*a) : lines_step<V, 2, 7>(*a);
    }
    if (a->stream) V::fence();
}

}  // namespace fastconv
