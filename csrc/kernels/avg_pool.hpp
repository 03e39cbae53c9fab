// Average pooling, forward and backward. Contracts in include/fastconv/pool.h, the walk in pool.hpp.
#pragma once
#include <cstdint>
#include <cstring>

#include "fastconv/pool.h"
#include "kernels/partial.hpp"
#include "kernels/pool.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

static inline int64_t divisor_at(const fc_pool_axis& axis, int64_t t) {
    return axis.divisor ? axis.divisor[t] : 1;
}

// A sum an axis, so that the rounding error grows with the window's edges and not with its volume.
template <class V, bool Weighted, bool Forward, bool Twice>
struct Average {
    using T = typename V::T;
    using Reg = typename V::Reg;
    const fc_pool_box* a;
    int64_t h, w, ahead;  // forward, what lies `ahead` of a tap is asked for, or `Twice`: others see it next

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
            if (Twice) ask<V, count>(at + ahead);
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

    // volume = the sums over the window of up to kWaiting channels, whole vectors.
    void add_rows(const T* from, int64_t channels, T* volume) const {
        alignas(64) T plane[kWaiting];
        const size_t bytes = static_cast<size_t>(channels) * sizeof(T);
        std::memset(volume, 0, bytes);
        for (int64_t i = 0; i < a->axis[0].count[a->d]; ++i, from += a->source_step[0]) {
            std::memset(plane, 0, bytes);
            for (int64_t j = 0; j < a->axis[1].count[h]; ++j) {
                each_block<V>(channels, [&](auto vectors, auto, int64_t c) {
                    Reg block[decltype(vectors)::value];
                    load_block<V>(plane + c, block);
                    add_row(from + c, j, V::width, block);
                    store_block<V>(plane + c, block);
                });
            }
            const Reg factor = weight(0, a->d, i);
            for (int64_t c = 0; c < channels; c += V::width) {
                V::store(volume + c, plus(V::load(volume + c), V::load(plane + c), factor));
            }
        }
    }
};

// What the sums of window (h, w) are divided by.
static inline int64_t divisor_of(const fc_pool_box* a, int64_t h, int64_t w) {
    return a->divisor * divisor_at(a->axis[0], a->d) * divisor_at(a->axis[1], h) * divisor_at(a->axis[2], w);
}

template <class V, bool Weighted, bool Forward, bool Twice>
static inline void average(const fc_pool_box* a) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    each_run<V>(a, [a](int64_t h, int64_t w, int64_t end, T* target, const T* source) {
        Average<V, Weighted, Forward, Twice> sum{a, h, w, rows_ahead(a, h)};
        const int64_t planes = a->axis[0].count[a->d], step = a->target_step[1];
        const Reg by = V::set1(static_cast<T>(divisor_of(a, h, w)));
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
        if (!Twice && planes * a->axis[1].count[h] * a->axis[2].count[w] > 16) {
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

// Forward, channels that are whole vectors: memory is read row by row of the windows, all channels inside.
template <class V, bool Twice>
static inline void average_by_rows(const fc_pool_box* a) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    each_run<V>(a, [a](int64_t h, int64_t w, int64_t end, T* target, const T* source) {
        const Average<V, false, true, Twice> sum{a, h, w, 2 * a->axis[1].step * a->source_step[1]};
        const Reg by = V::set1(static_cast<T>(divisor_of(a, h, w)));
        alignas(64) T volume[kWaiting];
        for (int64_t first = 0, channels; first < a->channels; first += channels) {
            channels = a->channels - first < kWaiting ? a->channels - first : kWaiting;
            sum.add_rows(source + first, channels, volume);
            for (int64_t c = 0; c < channels; c += V::width) {
                const Reg mean = V::div(V::load(volume + c), by);
                for (int64_t t = w; t < end; ++t) {
                    put<V>(a, target + (t - w) * a->target_step[1] + first + c, mean, V::width);
                }
            }
        }
    });
    if (a->stream) V::fence();
}

template <class V>
void avg_pool(const fc_pool_box* a) {
    if (a->axis[0].weight) {
        average<V, true, false, false>(a);
    } else if (a->axis[0].start) {
        average<V, false, false, false>(a);
    } else if (a->channels > 16 * V::width && a->channels % V::width == 0 && most_taps(a) > 16 && overlap_little(a)) {
        average_by_rows<V, kFillsLine<V>>(a);
    } else if (asks_twice<V>(a)) {
        average<V, false, true, kFillsLine<V>>(a);
    } else {
        average<V, false, true, false>(a);
    }
}

}  // namespace fastconv
