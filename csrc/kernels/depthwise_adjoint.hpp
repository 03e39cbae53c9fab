// Input gradient of a depthwise convolution with 3x3 taps a plane and a step of 2: each source row is read for the four
// outputs of a position at once, and no zero is multiplied. Contract in include/fastconv/grouped.h.
#pragma once
#include <cstdint>

#include "fastconv/grouped.h"
#include "kernels/ahead.hpp"
#include "kernels/check.hpp"
#include "kernels/depthwise.hpp"
#include "kernels/finish.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

// The kernel rows in [First, End) that one source row serves, for the outputs at M positions.
template <class V, int M, int First, int End, bool Whole>
static FC_INLINE void adjoint_row(const typename V::T* x, int64_t xpixel, uint32_t inside, int64_t lanes,
                                  const typename V::Reg (&weight)[3][3], typename V::Reg (&acc)[2][2][M]) {
    FC_UNROLL
    for (int j = 0; j <= M; ++j, x += xpixel) {
        if (!(inside >> j & 1)) continue;
        const typename V::Reg value = lanes_load<V, Whole>(x, lanes);
        FC_UNROLL
        for (int r = First; r < End; ++r) {
            if (j < M) acc[r % 2][0][j] = V::fma(value, weight[r][2], acc[r % 2][0][j]);
            if (j == 0) continue;
            acc[r % 2][0][j - 1] = V::fma(value, weight[r][0], acc[r % 2][0][j - 1]);
            acc[r % 2][1][j - 1] = V::fma(value, weight[r][1], acc[r % 2][1][j - 1]);
        }
    }
}

template <class V, int M, bool Whole>
static void adjoint_run(const fc_depthwise& a, const DepthwiseBlock<typename V::T>& at, int64_t p,
                        Ahead& next) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    uint32_t inside = 0;
    for (int j = 0; j <= M; ++j) {
        if (p + j - 1 >= a.low && p + j - 1 < a.high) inside |= uint32_t{1} << j;
    }
    const bool stream = a.stream;
    const Reg start = at.bias ? V::load(at.bias) : V::zero();
    for (int64_t i = 0; i < a.lines; ++i) {
        next.step(M);
        Reg acc[2][2][M];
        FC_UNROLL
        for (int m = 0; m < M; ++m) acc[0][0][m] = acc[0][1][m] = acc[1][0][m] = acc[1][1][m] = start;
        for (int64_t q = 0; q < a.planes; ++q) {
            const T* w = at.w + a.wplane[q] * V::width;
            Reg weight[3][3];
            FC_UNROLL
            for (int r = 0; r < 3; ++r) {
                FC_UNROLL
                for (int t = 0; t < 3; ++t) weight[r][t] = V::load(w + (r * 3 + t) * V::width);
            }
            const T* x = at.x + a.plane[q] + i * a.xrow + (p - 1) * a.xpixel;
            if (i > a.top && i <= a.bottom) {
                adjoint_row<V, M, 2, 3, Whole>(x - a.xrow, a.xpixel, inside, at.lanes, weight, acc);
            }
            if (i >= a.top && i < a.bottom) {
                adjoint_row<V, M, 0, 2, Whole>(x, a.xpixel, inside, at.lanes, weight, acc);
            }
        }
        FC_UNROLL
        for (int r = 0; r < 2; ++r) {
            if (2 * i + r < a.ytop || 2 * i + r >= a.ybottom) continue;
            T* y = at.y + (2 * i + r) * a.yrow + 2 * p * a.ypixel;
            FC_UNROLL
            for (int j = 0; j < 2 * M; ++j, y += a.ypixel) {
                if (2 * p + j < a.ylow || 2 * p + j >= a.yhigh) continue;
                lanes_store<V, Whole>(y, activated<V>(acc[r][j % 2][j / 2], a.relu), at.lanes, stream);
            }
        }
    }
}

template <class V, int M>
static void adjoint_runs(const fc_depthwise& a, int64_t first, int64_t end, Ahead& next) {
    using T = typename V::T;
    for (int64_t p = first; p < end; p += M) {
        each_block<V>(a, [&](const DepthwiseBlock<T>& at, auto whole) {
            adjoint_run<V, M, decltype(whole)::value>(a, at, p, next);
        });
    }
}

template <class V>
void depthwise_adjoint(const fc_depthwise* a) {
    FC_CHECK(a->lines > 0 && a->pixels >= 0 && a->planes >= 0 && a->y && a->blocks > 0);
    FC_CHECK(a->last > 0 && a->last <= V::width && a->low <= a->high && a->top <= a->bottom);
    constexpr int most = widest_run<V> > 4 ? 4 : 2;
    Ahead next(a->next, a->next_bytes);
    const int64_t wide = a->pixels - a->pixels % most;
    adjoint_runs<V, most>(*a, 0, wide, next);
    adjoint_runs<V, 1>(*a, wide, a->pixels, next);
    if (a->stream) V::fence();
}

}  // namespace fastconv
