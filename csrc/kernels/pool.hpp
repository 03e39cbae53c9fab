// Pooling of one row of output pixels; lanes are channels. Contracts in include/fastconv/pool.h.
#pragma once
#include <cstdint>

#include "fastconv/pool.h"
#include "kernels/partial.hpp"

namespace fastconv {

// f(o, c, n) for each output pixel o and vector of n channels from c on.
template <class V, class F>
static inline void each_pixel(const fc_pool_row* a, F f) {
    for (int64_t o = 0; o < a->pixels; ++o) {
        for (int64_t c = 0; c < a->channels; c += V::width) {
            f(o, c, a->channels - c < V::width ? static_cast<int>(a->channels - c) : V::width);
        }
    }
}

// The winner's place is kept as a T, relative to the window's first element: exact below 2^24 in float, to which the
// caller sees. One mask then serves value and place. A lane takes v where v > best, or where v is the first NaN.
template <class V>
void max_pool_row(const fc_pool_row* a) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    each_pixel<V>(a, [a](int64_t o, int64_t c, int n) {
        const T* window = static_cast<const T*>(a->large) + a->w_start[o] * a->w_pixel + c;
        Reg best = load_some<V>(window, 0, n), place = V::zero();
        for (int64_t d = 0; d < a->d_count; ++d) {
            for (int64_t h = 0; h < a->h_count; ++h) {
                const T* row = window + d * a->step[0] + h * a->step[1];
                const T from = static_cast<T>(d * a->plane_step[0] + h * a->plane_step[1]);
                for (int64_t w = 0; w < a->w_count[o]; ++w) {
                    const Reg v = load_some<V>(row, w * a->step[2], n);
                    const typename V::Mask better = V::both(V::not_less_equal(v, best), V::ordered(best));
                    best = V::select(better, v, best);
                    place = V::select(better, V::set1(from + static_cast<T>(w * a->plane_step[2])), place);
                }
            }
        }
        const int64_t at = o * a->pixel + c, first = a->plane_first + a->w_start[o];
        store_some<V>(a->small, at, best, n);
        T places[V::width];
        V::store(places, place);
        if (a->wide) {
            int64_t* index = static_cast<int64_t*>(a->index) + at;
            for (int i = 0; i < n; ++i) index[i] = first + static_cast<int64_t>(places[i]);
        } else {
            int32_t* index = static_cast<int32_t*>(a->index) + at;
            for (int i = 0; i < n; ++i) index[i] = static_cast<int32_t>(first) + static_cast<int32_t>(places[i]);
        }
    });
}

template <class T>
static inline T divisor(const fc_pool_row* a, int64_t o) {
    return static_cast<T>(a->divisor * (a->w_divisor ? a->w_divisor[o] : 1));
}

// A sum an axis, so that the rounding error grows with the window's edges and not with its volume.
template <class V>
void avg_pool_row(const fc_pool_row* a) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    each_pixel<V>(a, [a](int64_t o, int64_t c, int n) {
        const T* window = static_cast<const T*>(a->large) + a->w_start[o] * a->w_pixel + c;
        Reg volume = V::zero();
        for (int64_t d = 0; d < a->d_count; ++d) {
            Reg plane = V::zero();
            for (int64_t h = 0; h < a->h_count; ++h) {
                const T* at = window + d * a->step[0] + h * a->step[1];
                Reg row = V::zero();
                for (int64_t w = 0; w < a->w_count[o]; ++w) row = V::add(row, load_some<V>(at, w * a->step[2], n));
                plane = V::add(plane, row);
            }
            volume = V::add(volume, plane);
        }
        store_some<V>(a->small, o * a->pixel + c, V::div(volume, V::set1(divisor<T>(a, o))), n);
    });
}

template <class V>
void avg_pool_backward_row(const fc_pool_row* a) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    each_pixel<V>(a, [a](int64_t o, int64_t c, int n) {
        T* window = static_cast<T*>(a->large) + a->w_start[o] * a->w_pixel + c;
        const Reg share = V::div(load_some<V>(a->small, o * a->pixel + c, n), V::set1(divisor<T>(a, o)));
        for (int64_t d = 0; d < a->d_count; ++d) {
            for (int64_t h = 0; h < a->h_count; ++h) {
                T* row = window + d * a->step[0] + h * a->step[1];
                for (int64_t w = 0; w < a->w_count[o]; ++w) {
                    T* at = row + w * a->step[2];
                    store_some<V>(at, 0, V::add(load_some<V>(at, 0, n), share), n);
                }
            }
        }
    });
}

template <class T, class Index>
static inline void scatter(const fc_scatter_row* a) {
    T* dx = static_cast<T*>(a->dx);
    const T* dy = static_cast<const T*>(a->dy);
    const Index* index = static_cast<const Index*>(a->index);
    for (int64_t o = 0; o < a->pixels; ++o) {
        for (int64_t c = 0; c < a->channels; ++c) {
            const int64_t pixel = index[o * a->index_pixel + c * a->index_channel];
            dx[pixel * a->pixel + c] += dy[o * a->dy_pixel + c * a->dy_channel];
        }
    }
}

template <class V>
void max_pool_backward_row(const fc_scatter_row* a) {
    if (a->wide) {
        scatter<typename V::T, int64_t>(a);
    } else {
        scatter<typename V::T, int32_t>(a);
    }
}

}  // namespace fastconv
