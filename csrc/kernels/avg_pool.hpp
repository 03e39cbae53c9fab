// Average pooling, forward and backward. Contracts in include/fastconv/pool.h, the walk in pool.hpp.
#pragma once
#include <cstdint>

#include "fastconv/pool.h"
#include "kernels/partial.hpp"
#include "kernels/pool.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

// A sum an axis, so that the rounding error grows with the window's edges and not with its volume.
template <class V, bool Weighted>
struct WindowSum {
    using T = typename V::T;
    using Reg = typename V::Reg;
    const fc_pool_box* a;
    int64_t h, w;
    int64_t ahead, fresh;  // what lies `ahead` of taps `fresh` and later of the innermost axis is asked for

    // The sum over the window's axes from `axis` to `last`, of what starts at `at`.
    template <int axis, int last, int count>
    FC_INLINE void sum(const T* at, int n, Reg (&total)[count]) const {
        const fc_pool_axis& seen = a->axis[axis];
        const int64_t target = axis == 0 ? a->d : axis == 1 ? h : w, sources = seen.count[target];
        const int64_t step = axis == 0 ? a->source_step[0] : seen.step * a->source_step[axis];
        FC_UNROLL
        for (int v = 0; v < count; ++v) total[v] = V::zero();
        for (int64_t i = 0; i < sources; ++i, at += step) {
            Reg part[count];
            if constexpr (axis < last) {
                sum<axis + 1, last>(at, n, part);
            } else {
                if (i >= fresh) {
                    FC_UNROLL
                    for (int v = 0; v < count; ++v) FC_PREFETCH_OUTER(at + ahead + v * V::width);
                }
                FC_UNROLL
                for (int v = 0; v < count; ++v) part[v] = load_some<V>(at, v * V::width, n);
            }
            if constexpr (Weighted) {
                const Reg factor = V::set1(static_cast<T>(seen.weight[seen.first[target] + i * seen.step]));
                FC_UNROLL
                for (int v = 0; v < count; ++v) total[v] = V::fma(part[v], factor, total[v]);
            } else {
                FC_UNROLL
                for (int v = 0; v < count; ++v) total[v] = V::add(total[v], part[v]);
            }
        }
    }
};

// Windows of at most so many columns are summed column by column, and the sums that the next window needs as well are
// kept; wider ones row by row, so that memory is read in long runs.
constexpr int64_t kColumns = 3;

// How far apart the windows of a run [w, end) are.
static inline int64_t run_stride(const fc_pool_axis& axis, int64_t w, int64_t end) {
    return end - w > 1 ? axis.first[w + 1] - axis.first[w] : 0;
}

// Where the targets end that are done together with target w: they see the same columns, or their windows follow one
// another without gaps.
static inline int64_t row_end(const fc_pool_box* a, int64_t w) {
    const fc_pool_axis& axis = a->axis[2];
    int64_t end = w + 1;
    if (end == a->columns) return end;
    const int64_t stride = axis.first[end] - axis.first[w];
    const bool row = axis.step == 1 && !axis.weight && axis.count[w] <= kColumns && stride <= axis.count[w];
    if (stride && !row) return end;
    while (end < a->columns && axis.first[end] - axis.first[end - 1] == stride && axis.count[end] == axis.count[w] &&
           (!axis.divisor || axis.divisor[end] == axis.divisor[w])) {
        ++end;
    }
    return end;
}

// The means of `count` vectors in a run of windows of at most kColumns columns, `stride` columns apart.
template <class V, int count>
static inline void slide(const WindowSum<V, false>& window, int64_t targets, int64_t stride, typename V::T* target,
                         const typename V::T* source, typename V::Reg by, int n) {
    using Reg = typename V::Reg;
    const fc_pool_box* a = window.a;
    const int64_t columns = a->axis[2].count[window.w], step = a->axis[2].step * a->source_step[2];
    Reg before[count], last[count], column[count], mean[count];
    FC_UNROLL
    for (int v = 0; v < count; ++v) last[v] = column[v] = V::zero();
    for (int64_t missing = columns; targets > 0; source += step) {
        FC_UNROLL
        for (int v = 0; v < count; ++v) before[v] = last[v], last[v] = column[v];
        window.template sum<0, 1>(source, n, column);
        if (--missing) continue;
        missing = stride;
        FC_UNROLL
        for (int v = 0; v < count; ++v) {
            const Reg first = columns > 2 ? V::add(before[v], last[v]) : last[v];
            mean[v] = V::div(columns > 1 ? V::add(first, column[v]) : column[v], by);
        }
        do {
            FC_UNROLL
            for (int v = 0; v < count; ++v) put<V>(a, target + v * V::width, mean[v], n);
            target += a->target_step[1];
        } while (--targets && stride == 0);
    }
}

// From the rows that targets in row h see to those that the next targets see.
static inline int64_t row_stride(const fc_pool_box* a, int64_t h) {
    const int64_t* first = a->axis[1].first;
    if (h + 1 < a->h_last) return first[h + 1] - first[h];
    return h > a->h_first ? first[h] - first[h - 1] : 0;
}

static inline int64_t divisor_at(const fc_pool_axis& axis, int64_t t) {
    return axis.divisor ? axis.divisor[t] : 1;
}

template <class V, bool Weighted>
static inline void average(const fc_pool_box* a) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    const auto means = [a](int64_t h, int64_t w, int64_t end, T* target, const T* source) {
        const fc_pool_axis* axis = a->axis;
        const int64_t divisor = divisor_at(axis[0], a->d) * divisor_at(axis[1], h) * divisor_at(axis[2], w);
        const Reg by = V::set1(static_cast<T>(a->divisor * divisor));
        WindowSum<V, Weighted> window{a, h, w, rows_ahead(a, h), 0};
        if constexpr (!Weighted) {
            if (axis[2].count[w] <= kColumns) {
                const int64_t stride = run_stride(axis[2], w, end), rows = row_stride(a, h);
                window.ahead = rows * a->source_step[1];
                window.fresh = axis[1].count[h] - (rows + axis[1].step - 1) / axis[1].step;
                constexpr int most = sizeof(Reg) < 32 ? 8 : 6;  // whole cache lines
                each_block<V, most>(a->channels, [=, &window](auto vectors, auto n, int64_t c) {
                    slide<V, decltype(vectors)::value>(window, end - w, stride, target + c, source + c, by, n);
                });
                return;
            }
        }
        const int64_t step = a->target_step[1];
        const auto block = [=, &window](auto vectors, auto n, int64_t c) {
            constexpr int count = decltype(vectors)::value;
            Reg total[count];
            window.template sum<0, 2>(source + c, n, total);
            FC_UNROLL
            for (int v = 0; v < count; ++v) total[v] = V::div(total[v], by);
            for (int64_t t = w; t < end; ++t) {
                FC_UNROLL
                for (int v = 0; v < count; ++v) put<V>(a, target + (t - w) * step + c + v * V::width, total[v], n);
            }
        };
        // Of many taps many channels at a time, so that memory is read in long runs.
        constexpr int wide = 16;
        int64_t first = 0;
        if (axis[0].count[a->d] * axis[1].count[h] * axis[2].count[w] > 16) {
            constexpr Constant<V::width> whole;
            for (; first + wide * V::width <= a->channels; first += wide * V::width) {
                window.ahead = wide * V::width;
                block(Constant<wide>{}, whole, first);
            }
        }
        each_block<V>(a->channels - first, [=, &block](auto vectors, auto n, int64_t c) {
            block(vectors, n, first + c);
        });
    };
    each_run<V>(a, means, row_end);
    if (a->stream) V::fence();
}

template <class V>
void avg_pool(const fc_pool_box* a) {
    if (a->axis[0].weight) {
        average<V, true>(a);
    } else {
        average<V, false>(a);
    }
}

}  // namespace fastconv
