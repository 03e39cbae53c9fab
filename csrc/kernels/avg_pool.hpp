// Average pooling, forward and backward. Contracts in include/fastconv/pool.h, the walk in pool.hpp.
#pragma once
#include <cstdint>

#include "fastconv/pool.h"
#include "kernels/partial.hpp"
#include "kernels/pool.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

static inline int64_t divisor_at(const fc_pool_axis& axis, int64_t t) {
    return axis.divisor ? axis.divisor[t] : 1;
}

// A sum an axis, so that the rounding error grows with the window's edges and not with its volume.
template <class V, bool Weighted, bool Forward>
struct Average {
    using T = typename V::T;
    using Reg = typename V::Reg;
    const fc_pool_box* a;
    int64_t h, w, ahead;  // forward, what lies `ahead` of a tap is asked for: others see it next

    FC_INLINE Reg weight(int i, int64_t t, int64_t k) const {
        const fc_pool_axis& axis = a->axis[i];
        return Weighted ? V::set1(static_cast<T>(axis.weight[axis.first[t] + k * axis.step])) : V::zero();
    }
    static FC_INLINE Reg plus(Reg sum, Reg x, Reg factor) { return Weighted ? V::fma(x, factor, sum) : V::add(sum, x); }

    // plane += weight * the sum over row j of the window's plane, which starts at `from`.
    template <int count>
    FC_INLINE void add_row(const T* from, int64_t j, int n, Reg (&plane)[count]) const {
        const int64_t step = a->axis[2].step * a->source_step[2];
        const T* at = from + j * a->axis[1].step * a->source_step[1];
        Reg row[count];
        FC_UNROLL
        for (int v = 0; v < count; ++v) row[v] = V::zero();
        for (int64_t k = 0; k < a->axis[2].count[w]; ++k, at += step) {
            const Reg factor = weight(2, w, k);
            FC_UNROLL
            for (int v = 0; v < count; ++v) {
                if (Forward) FC_PREFETCH_OUTER(at + ahead + v * V::width);
                row[v] = plus(row[v], load_some<V>(at, v * V::width, n), factor);
            }
        }
        const Reg factor = weight(1, h, j);
        FC_UNROLL
        for (int v = 0; v < count; ++v) plane[v] = plus(plane[v], row[v], factor);
    }

    template <int count>
    FC_INLINE void add_plane(const T* from, int64_t i, int n, Reg (&volume)[count]) const {
        Reg plane[count];
        FC_UNROLL
        for (int v = 0; v < count; ++v) plane[v] = V::zero();
        for (int64_t j = 0; j < a->axis[1].count[h]; ++j) add_row(from, j, n, plane);
        const Reg factor = weight(0, a->d, i);
        FC_UNROLL
        for (int v = 0; v < count; ++v) volume[v] = plus(volume[v], plane[v], factor);
    }
};

template <class V, bool Weighted, bool Forward>
static inline void average(const fc_pool_box* a) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    each_run<V>(a, [a](int64_t h, int64_t w, int64_t end, T* target, const T* source) {
        Average<V, Weighted, Forward> sum{a, h, w, rows_ahead(a, h)};
        const int64_t planes = a->axis[0].count[a->d], step = a->target_step[1];
        const int64_t divisor = divisor_at(a->axis[0], a->d) * divisor_at(a->axis[1], h) * divisor_at(a->axis[2], w);
        const Reg by = V::set1(static_cast<T>(a->divisor * divisor));
        const auto block = [=, &sum](auto vectors, auto n, int64_t c) {
            constexpr int count = decltype(vectors)::value;
            Reg volume[count];
            FC_UNROLL
            for (int v = 0; v < count; ++v) volume[v] = V::zero();
            for (int64_t i = 0; i < planes; ++i) sum.add_plane(source + c + i * a->source_step[0], i, n, volume);
            FC_UNROLL
            for (int v = 0; v < count; ++v) volume[v] = V::div(volume[v], by);
            for (int64_t t = w; t < end; ++t) {
                FC_UNROLL
                for (int v = 0; v < count; ++v) put<V>(a, target + (t - w) * step + c + v * V::width, volume[v], n);
            }
        };
        // Of many taps many channels at a time, so that memory is read in long runs.
        constexpr int wide = 16;
        int64_t first = 0;
        if (planes * a->axis[1].count[h] * a->axis[2].count[w] > 16) {
            constexpr Constant<V::width> whole;
            sum.ahead = wide * V::width;
            for (; first + wide * V::width <= a->channels; first += wide * V::width) {
                block(Constant<wide>{}, whole, first);
            }
        }
        each_block<V>(a->channels - first, [=, &block](auto vectors, auto n, int64_t c) {
            block(vectors, n, first + c);
        });
    });
    if (a->stream) V::fence();
}

template <class V>
void avg_pool(const fc_pool_box* a) {
    if (a->axis[0].weight) {
        average<V, true, false>(a);
    } else if (a->axis[0].start) {
        average<V, false, false>(a);
    } else {
        average<V, false, true>(a);
    }
}

}  // namespace fastconv
