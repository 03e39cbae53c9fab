// Max-pooling of windows with the activation before it, and its inverse, which spreads a gradient over the windows; lanes
// are channels. Contracts in include/fastconv/unit.h.
#pragma once
#include <cstdint>

#include "fastconv/unit.h"
#include "kernels/check.hpp"
#include "kernels/partial.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

// The maximum of value(0), value(1), ... and its place, stored. A place is kept as a T: one mask then serves value and
// place. A lane takes v where v > best, or where v is the first NaN.
template <class V, bool Relu, class F>
static inline void pool_one_by_one(F value, int64_t places, typename V::T* small, uint8_t* index, int n) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    const Reg zero = V::zero();
    Reg best = Relu ? V::max(zero, value(0)) : value(0), where = zero;  // max(zero, NaN) is NaN
    for (int64_t q = 1; q < places; ++q) {
        const Reg v = Relu ? V::max(zero, value(q)) : value(q);
        const typename V::Mask better = V::both(V::not_less_equal(v, best), V::ordered(best));
        best = V::select(better, v, best);
        where = V::select(better, V::set1(static_cast<T>(q)), where);
    }
    if (Relu) where = V::select(V::not_less_equal(best, zero), where, V::set1(T(FC_NO_GRADIENT)));
    store_some<V>(small, 0, best, n);
    V::store_bytes(index, where, n);
}

// The same for Q values in registers, the activation last: fewer operations where nothing is NaN. Of equal values the
// earlier is taken, so that zeros keep their sign.
template <class V, bool Relu, int Q>
static inline void pool_registers(const typename V::Reg (&a)[Q], typename V::T* small, uint8_t* index, int n) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    Reg best = a[0], sum = a[0];
    FC_UNROLL
    for (int q = 1; q < Q; ++q) {
        best = V::max(a[q], best);
        sum = V::add(sum, a[q]);
    }
    if (V::any(V::differ(sum, sum))) {  // a NaN, or infinities of both signs
        return pool_one_by_one<V, Relu>([&a](int64_t q) { return a[q]; }, Q, small, index, n);
    }
    Reg where = V::set1(static_cast<T>(Q - 1));
    FC_UNROLL
    for (int q = Q - 2; q >= 0; --q) where = V::select(V::equal(a[q], best), V::set1(static_cast<T>(q)), where);
    if (Relu) {
        const typename V::Mask live = V::greater(best, V::zero());
        best = V::select(live, best, V::max(V::zero(), a[0]));
        where = V::select(live, where, V::set1(T(FC_NO_GRADIENT)));
    }
    store_some<V>(small, 0, best, n);
    V::store_bytes(index, where, n);
}

template <class V, bool Relu>
static inline void pool_lanes(const fc_pool_windows& a, const typename V::T* window, int64_t at, int n) {
    typename V::T* small = static_cast<typename V::T*>(a.small) + at;
    if (a.places == 4) {
        typename V::Reg values[4];
        FC_UNROLL
        for (int q = 0; q < 4; ++q) values[q] = load_some<V>(window, a.place[q], n);
        return pool_registers<V, Relu, 4>(values, small, a.index + at, n);
    }
    auto value = [&a, window, n](int64_t q) { return load_some<V>(window, a.place[q], n); };
    pool_one_by_one<V, Relu>(value, a.places, small, a.index + at, n);
}

template <class V, bool Relu>
static inline void pool_all(const fc_pool_windows& a) {
    for (int64_t p = 0; p < a.windows; ++p) {
        const typename V::T* window = static_cast<const typename V::T*>(a.large) + a.window[p];
        int64_t c = 0;
        for (; c + V::width <= a.channels; c += V::width) pool_lanes<V, Relu>(a, window + c, a.at[p] + c, V::width);
        if (c < a.channels) pool_lanes<V, Relu>(a, window + c, a.at[p] + c, static_cast<int>(a.channels - c));
    }
}

template <class V>
void pool_windows(const fc_pool_windows* a) {
    FC_CHECK(a->places > 0 && a->places < FC_NO_GRADIENT && a->windows >= 0);
    a->relu ? pool_all<V, true>(*a) : pool_all<V, false>(*a);
}

template <class V>
void unpool_windows(const fc_unpool_windows* a) {
    using T = typename V::T;
    for (int64_t p = 0; p < a->windows; ++p) {
        for (int64_t c = 0; c < a->channels; c += V::width) {
            const int n = a->channels - c < V::width ? static_cast<int>(a->channels - c) : V::width;
            const typename V::Reg dy = load_some<V>(a->small, a->at[p] + c, n);
            const typename V::Reg where = V::load_bytes(a->index + a->index_at[p] + c, n);
            for (int64_t q = 0; q < a->places; ++q) {
                const typename V::Reg here = V::select(V::equal(where, V::set1(static_cast<T>(q))), dy, V::zero());
                store_some<V>(a->large, a->window[p] + a->place[q] + c, here, n);
            }
        }
    }
}

}  // namespace fastconv
