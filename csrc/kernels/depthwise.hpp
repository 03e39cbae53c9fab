// Depthwise convolution with 3x3 taps a plane: a run of pixels slides down its column of rows, so that each source
// vector is read once for all nine taps. Contracts in include/fastconv/grouped.h.
#pragma once
#include <cstdint>
#include <type_traits>

#include "dispatch/blocks.hpp"
#include "fastconv/grouped.h"
#include "kernels/ahead.hpp"
#include "kernels/check.hpp"
#include "kernels/finish.hpp"
#include "kernels/partial.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

// The outputs that a source row serves stand in slots, one a kernel row; a slot moves up when the topmost has ended.
template <int Step>
constexpr int slots = Step == 1 ? 3 : 2;
template <int Step>
constexpr int slot_of(int r) {
    return Step == 1 ? 2 - r : r == 0 ? 1 : 0;
}

// Which kernel rows of source row i serve outputs 0 to lines - 1, a bit each.
template <int Step>
static inline int serving(int64_t i, int64_t lines) {
    if (Step == 2 && i % 2) return 2;
    return (i < lines * Step ? 1 : 0) | (Step == 1 && i >= 1 && i <= lines ? 2 : 0) | (i >= 2 ? 4 : 0);
}

// Calls line(i, rows) for the source rows that serve outputs 0 to lines - 1; rows: which kernel rows do, a bit each, known to
// the compiler where no output is the first or the last.
template <int Step, class Line>
static FC_INLINE void each_line(int64_t lines, Line line) {
    for (int64_t i = 0; i < (lines - 1) * Step + 3; ++i) {
        if (i == 2) {
            for (; i < lines * Step; i += Step) {
                line(i, std::integral_constant<int, Step == 1 ? 7 : 5>{});
                if constexpr (Step == 2) line(i + 1, std::integral_constant<int, 2>{});
            }
        }
        line(i, serving<Step>(i, lines));
    }
}

// Which of a run's positions lie inside the row, a bit each.
template <int M, int Step, int Taps = 3>
static inline uint32_t inside_row(int64_t p, int64_t low, int64_t high) {
    uint32_t inside = 0;
    for (int j = 0; j < (M - 1) * Step + Taps; ++j) {
        if (p * Step + j >= low && p * Step + j < high) inside |= uint32_t{1} << j;
    }
    return inside;
}

template <class V, bool Whole>
static inline typename V::Reg lanes_load(const typename V::T* p, int64_t lanes) {
    return Whole ? V::load(p) : V::load_n(p, static_cast<int>(lanes));
}

// Stream: y is aligned.
template <class V, bool Whole>
static inline void lanes_store(typename V::T* p, typename V::Reg value, int64_t lanes, bool stream) {
    if (!Whole) {
        V::store_n(p, value, static_cast<int>(lanes));
    } else if (stream) {
        V::stream(p, value);
    } else {
        V::store(p, value);
    }
}

// One row of M pixels' sources: calls visit(kernel row, tap, pixel, value) for each product of the kernel rows in Rows.
// Of several pixels all positions lie inside the row but perhaps the first and the last.
template <class V, int M, int Step, int Rows, bool Whole, class Visit>
static FC_INLINE void visit_row(const typename V::T* x, int64_t xpixel, uint32_t inside, int64_t lanes, Visit visit) {
    FC_UNROLL
    for (int j = 0; j < (M - 1) * Step + 3; ++j, x += xpixel) {
        if ((M == 1 || j == 0 || j == (M - 1) * Step + 2) && !(inside >> j & 1)) continue;
        const typename V::Reg value = lanes_load<V, Whole>(x, lanes);
        FC_UNROLL
        for (int r = 0; r < 3; ++r) {
            if (!(Rows >> r & 1)) continue;
            FC_UNROLL
            for (int t = 0; t < 3; ++t) {
                if (j < t || (j - t) % Step || (j - t) / Step >= M) continue;
                visit(r, t, (j - t) / Step, value);
            }
        }
    }
}

// The same with the kernel rows known only now, and not the most that there are.
template <class V, int M, int Step, bool Whole, class Visit>
static FC_INLINE void visit_rows(int rows, const typename V::T* x, int64_t xpixel, uint32_t inside, int64_t lanes,
                                 Visit visit) {
    if (rows == 2) return visit_row<V, M, Step, 2, Whole>(x, xpixel, inside, lanes, visit);
    if (rows == 1) return visit_row<V, M, Step, 1, Whole>(x, xpixel, inside, lanes, visit);
    if constexpr (Step == 1) {
        if (rows == 3) return visit_row<V, M, Step, 3, Whole>(x, xpixel, inside, lanes, visit);
        if (rows == 6) return visit_row<V, M, Step, 6, Whole>(x, xpixel, inside, lanes, visit);
    }
    return visit_row<V, M, Step, 4, Whole>(x, xpixel, inside, lanes, visit);
}

template <class V, int M, int Step, bool Whole, int Rows, class Visit>
static FC_INLINE void visit_rows(std::integral_constant<int, Rows>, const typename V::T* x, int64_t xpixel,
                                 uint32_t inside, int64_t lanes, Visit visit) {
    visit_row<V, M, Step, Rows, Whole>(x, xpixel, inside, lanes, visit);
}

// The widest run: what slides along, the taps and a value fill the registers.
template <class V>
constexpr int widest_run = Blocks<V>::mr * Blocks<V>::nv >= 16 ? 7 : 4;

// Cuts [first, end) into runs, widest first: calls run(integral_constant<int, M>, first, end) for those of M pixels.
template <class V, class Run>
static FC_INLINE void cut_runs(int64_t first, int64_t end, Run run) {
    constexpr int most = widest_run<V>;
    const int64_t wide = end - (end - first) % most;
    if (wide > first) run(std::integral_constant<int, most>{}, first, wide);
    const int64_t some = end - (end - wide) % (most > 4 ? 4 : 2);
    if (some > wide) run(std::integral_constant<int, (most > 4 ? 4 : 2)>{}, wide, some);
    if (end > some) run(std::integral_constant<int, 1>{}, some, end);
}

// The same with the pixels one by one whose middle tap lies outside the row.
template <class V, int Step, class Run>
static FC_INLINE void cut_row(int64_t pixels, int64_t low, int64_t high, Run run) {
    const auto pixels_before = [&](int64_t position) {  // of those whose middle taps come before it
        const int64_t found = position > 1 ? (position - 2) / Step + 1 : 0;
        return found < pixels ? found : pixels;
    };
    const int64_t first = pixels_before(low), last = pixels_before(high), end = last > first ? last : first;
    if (first > 0) run(std::integral_constant<int, 1>{}, 0, first);
    cut_runs<V>(first, end, run);
    if (pixels > end) run(std::integral_constant<int, 1>{}, end, pixels);
}

template <class T>
struct DepthwiseBlock {  // one block of channels
    const T *x, *w, *bias;
    T* y;
    int64_t lanes;
};

template <class V, int M, int Step, bool Whole>
static void depthwise_run(const fc_depthwise& a, const DepthwiseBlock<typename V::T>& at, int64_t p, Ahead& next) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    constexpr int last = slots<Step> - 1;
    const bool stream = a.stream;
    const uint32_t inside = inside_row<M, Step>(p, a.low, a.high);
    const Reg start = at.bias ? V::load(at.bias) : V::zero();
    T* y = at.y + p * a.ypixel;
    Reg acc[slots<Step>][M];
    FC_UNROLL
    for (int s = 0; s <= last; ++s) {
        FC_UNROLL
        for (int m = 0; m < M; ++m) acc[s][m] = start;
    }
    each_line<Step>(a.lines, [&](int64_t i, auto rows) FC_INLINE_LAMBDA {
        next.step(M * Step);
        if (i >= a.top && i < a.bottom) {
            for (int64_t q = 0; q < a.planes; ++q) {
                const T* w = at.w + a.wplane[q] * V::width;
                Reg weight[3][3];
                FC_UNROLL
                for (int r = 0; r < 3; ++r) {
                    FC_UNROLL
                    for (int t = 0; t < 3; ++t) weight[r][t] = V::load(w + (r * 3 + t) * V::width);
                }
                const T* x = at.x + a.plane[q] + i * a.xrow + p * Step * a.xpixel;
                visit_rows<V, M, Step, Whole>(rows, x, a.xpixel, inside, at.lanes,
                                              [&](int r, int t, int m, Reg value) FC_INLINE_LAMBDA {
                    acc[slot_of<Step>(r)][m] = V::fma(value, weight[r][t], acc[slot_of<Step>(r)][m]);
                });
            }
        }
        if (i % Step) return;
        if (i >= 2) {
            FC_UNROLL
            for (int m = 0; m < M; ++m) {
                lanes_store<V, Whole>(y + m * a.ypixel, activated<V>(acc[0][m], a.relu), at.lanes, stream);
            }
            y += a.yrow;
        }
        FC_UNROLL
        for (int m = 0; m < M; ++m) {
            FC_UNROLL
            for (int s = 0; s < last; ++s) acc[s][m] = acc[s + 1][m];
            acc[last][m] = start;
        }
    });
}

// Call run(block, whole) for each block of channels; whole: a std::bool_constant, whether it fills a vector.
template <class V, class Run>
static void each_block(const fc_depthwise& a, Run run) {
    using T = typename V::T;
    DepthwiseBlock<T> at{static_cast<const T*>(a.x), static_cast<const T*>(a.w), static_cast<const T*>(a.bias),
                         static_cast<T*>(a.y), V::width};
    for (int64_t b = 0; b < a.blocks; ++b) {
        if (b == a.blocks - 1) at.lanes = a.last;
        fills<V>(at.lanes) ? run(at, std::true_type{}) : run(at, std::false_type{});
        at.x += V::width;
        at.y += V::width;
        at.w += a.wblock;
        if (at.bias) at.bias += V::width;
    }
}

template <class V, int Step>
static void depthwise_step(const fc_depthwise& a) {
    using T = typename V::T;
    Ahead next(a.next, a.next_bytes);
    cut_row<V, Step>(a.pixels, a.low, a.high, [&a, &next](auto run, int64_t first, int64_t end) {
        constexpr int M = decltype(run)::value;
        for (int64_t p = first; p < end; p += M) {
            each_block<V>(a, [&](const DepthwiseBlock<T>& at, auto whole) {
                depthwise_run<V, M, Step, decltype(whole)::value>(a, at, p, next);
            });
        }
    });
}

template <class V>
void depthwise(const fc_depthwise* a) {
    FC_CHECK(a->lines > 0 && a->pixels >= 0 && a->planes >= 0 && (a->step == 1 || a->step == 2) && a->y);
    FC_CHECK(a->blocks > 0 && a->last > 0 && a->last <= V::width && a->low <= a->high && a->top <= a->bottom);
    a->step == 1 ? depthwise_step<V, 1>(*a) : depthwise_step<V, 2>(*a);
    if (a->stream) V::fence();
}

// Here the gradients of the outputs slide; the sums of the nine taps stay.
template <class V, int M, int Step, bool Whole>
static void depthwise_outer_runs(const fc_depthwise_outer& a, const typename V::T* from_x, const typename V::T* from_dy,
                                 typename V::T* dw, int64_t lanes, int64_t first, int64_t end, AheadPair& next) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    constexpr int last = slots<Step> - 1;
    Reg acc[3][3];
    FC_UNROLL
    for (int r = 0; r < 3; ++r) {
        FC_UNROLL
        for (int t = 0; t < 3; ++t) acc[r][t] = V::zero();
    }
    for (int64_t p = first; p < end; p += M) {
        const uint32_t inside = inside_row<M, Step>(p, a.low, a.high);
        const T* dy = from_dy + p * a.ypixel;
        Reg gradient[slots<Step>][M];
        FC_UNROLL
        for (int s = 0; s <= last; ++s) {
            FC_UNROLL
            for (int m = 0; m < M; ++m) gradient[s][m] = V::zero();
        }
        each_line<Step>(a.lines, [&](int64_t i, auto rows) FC_INLINE_LAMBDA {
            next.step();
            if (rows & 1) {
                FC_UNROLL
                for (int m = 0; m < M; ++m) gradient[last][m] = lanes_load<V, Whole>(dy + m * a.ypixel, lanes);
                dy += a.yrow;
            }
            if (i >= a.top && i < a.bottom) {
                const T* x = from_x + i * a.xrow + p * Step * a.xpixel;
                visit_rows<V, M, Step, Whole>(rows, x, a.xpixel, inside, lanes,
                                              [&](int r, int t, int m, Reg value) FC_INLINE_LAMBDA {
                    acc[r][t] = V::fma(value, gradient[slot_of<Step>(r)][m], acc[r][t]);
                });
            }
            if (i % Step) return;
            FC_UNROLL
            for (int m = 0; m < M; ++m) {
                FC_UNROLL
                for (int s = 0; s < last; ++s) gradient[s][m] = gradient[s + 1][m];
            }
        });
    }
    FC_UNROLL
    for (int r = 0; r < 3; ++r) {
        FC_UNROLL
        for (int t = 0; t < 3; ++t) {
            T* to = dw + (r * 3 + t) * V::width;
            V::store(to, V::add(V::load(to), acc[r][t]));
        }
    }
}

template <class V, int Step>
static void depthwise_outer_step(const fc_depthwise_outer& a) {
    using T = typename V::T;
    constexpr int most = widest_run<V>;
    AheadPair next(a, a.blocks * ((a.pixels + most - 1) / most) * ((a.lines - 1) * Step + 3));
    for (int64_t b = 0; b < a.blocks; ++b) {
        const T *x = static_cast<const T*>(a.x) + b * V::width, *dy = static_cast<const T*>(a.dy) + b * V::width;
        T* dw = static_cast<T*>(a.dw) + b * a.wblock;
        const int64_t lanes = b == a.blocks - 1 ? a.last : V::width;
        cut_row<V, Step>(a.pixels, a.low, a.high, [=, &a, &next](auto run, int64_t first, int64_t end) {
            constexpr int M = decltype(run)::value;
            fills<V>(lanes)
                ? depthwise_outer_runs<V, M, Step, true>(a, x, dy, dw, lanes, first, end, next)
                : depthwise_outer_runs<V, M, Step, false>(a, x, dy, dw, lanes, first, end, next);
        });
    }
}

template <class V>
void depthwise_outer(const fc_depthwise_outer* a) {
    FC_CHECK(a->lines > 0 && a->pixels >= 0 && (a->step == 1 || a->step == 2) && a->dw);
    FC_CHECK(a->blocks > 0 && a->last > 0 && a->last <= V::width && a->low <= a->high && a->top <= a->bottom);
    a->step == 1 ? depthwise_outer_step<V, 1>(*a) : depthwise_outer_step<V, 2>(*a);
}

}  // namespace fastconv
