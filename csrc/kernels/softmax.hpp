// Softmax and log-softmax over the rows of (channels, positions): lanes are positions, so a position's result depends
// on its own column alone, whatever its neighbours and its lane. Contracts in include/fastconv/loss.h.
#pragma once
#include <cstdint>
#include <type_traits>

#include "fastconv/loss.h"
#include "kernels/math.hpp"
#include "kernels/partial.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

// P vectors of positions, side by side: elements (c, lanes) of a matrix, read and written through the first n lanes.
template <class V, int P>
struct Columns {
    using T = typename V::T;
    using Reg = typename V::Reg;
    static constexpr int vectors = P;
    T* at;
    int64_t ld;
    int n;

    FC_INLINE Columns(const void* matrix, int64_t ld, int64_t first, int n)
        : at(static_cast<T*>(const_cast<void*>(matrix)) + first), ld(ld), n(n) {}
    FC_INLINE Reg get(int64_t c, int p) const { return load_some<V>(at, c * ld + p * V::width, P > 1 ? V::width : n); }
    FC_INLINE void set(int64_t c, int p, Reg value) const {
        store_some<V>(at, c * ld + p * V::width, value, P > 1 ? V::width : n);
    }
};

// f(y, a, b) for the vectors of positions, as many at a time as memory brings along.
template <class V, class F>
static inline void each_column(const fc_channels* k, F f) {
    constexpr int most = 4;
    const void* b = k->b ? k->b : k->a;
    int64_t p = 0;
    for (; p + most * V::width <= k->positions; p += most * V::width) {
        f(Columns<V, most>(k->y, k->ldy, p, V::width), Columns<V, most>(k->a, k->lda, p, V::width),
          Columns<V, most>(b, k->ldb, p, V::width));
    }
    for (; p < k->positions; p += V::width) {
        const int n = k->positions - p < V::width ? static_cast<int>(k->positions - p) : V::width;
        f(Columns<V, 1>(k->y, k->ldy, p, n), Columns<V, 1>(k->a, k->lda, p, n), Columns<V, 1>(b, k->ldb, p, n));
    }
}

// value = step(value, c, p) for each channel from the first on
template <class V, int P, class Step>
static FC_INLINE void fold(typename V::Reg (&value)[P], int64_t first, int64_t channels, Step step) {
    for (int64_t c = first; c < channels; ++c) {
        FC_UNROLL
        for (int p = 0; p < P; ++p) value[p] = step(value[p], c, p);
    }
}

template <class V, int P>
static FC_INLINE void largest(const Columns<V, P>& x, int64_t channels, typename V::Reg (&most)[P]) {
    FC_UNROLL
    for (int p = 0; p < P; ++p) most[p] = x.get(0, p);
    fold<V>(most, 1, channels, [&](auto value, int64_t c, int p) { return V::max(value, x.get(c, p)); });
}

template <class V, int P>
static FC_INLINE void clear(typename V::Reg (&value)[P]) {
    FC_UNROLL
    for (int p = 0; p < P; ++p) value[p] = V::zero();
}

// y = f(c, p)
template <class V, int P, class F>
static FC_INLINE void fill(const Columns<V, P>& y, int64_t channels, F f) {
    for (int64_t c = 0; c < channels; ++c) {
        FC_UNROLL
        for (int p = 0; p < P; ++p) y.set(c, p, f(c, p));
    }
}

template <class V>
void softmax_forward(const fc_channels* k) {
    using Reg = typename V::Reg;
    each_column<V>(k, [k](const auto& y, const auto& x, const auto&) {
        constexpr int P = std::decay_t<decltype(y)>::vectors;
        Reg most[P], sum[P];
        largest<V>(x, k->channels, most);
        clear<V>(sum);
        fold<V>(sum, 0, k->channels, [&](Reg value, int64_t c, int p) {
            const Reg power = exp_below<V>(V::sub(x.get(c, p), most[p]));
            y.set(c, p, power);
            return V::add(value, power);
        });
        FC_UNROLL
        for (int p = 0; p < P; ++p) sum[p] = V::div(V::set1(typename V::T(1)), sum[p]);
        fill<V>(y, k->channels, [&](int64_t c, int p) { return V::mul(y.get(c, p), sum[p]); });
    });
}

// a: dy, b: the saved y
template <class V>
void softmax_backward(const fc_channels* k) {
    using Reg = typename V::Reg;
    each_column<V>(k, [k](const auto& dx, const auto& dy, const auto& y) {
        Reg sum[std::decay_t<decltype(y)>::vectors];
        clear<V>(sum);
        fold<V>(sum, 0, k->channels, [&](Reg value, int64_t c, int p) {
            return V::add(value, V::mul(dy.get(c, p), y.get(c, p)));
        });
        fill<V>(dx, k->channels, [&](int64_t c, int p) { return V::mul(y.get(c, p), V::sub(dy.get(c, p), sum[p])); });
    });
}

template <class V>
void log_softmax_forward(const fc_channels* k) {
    using Reg = typename V::Reg;
    each_column<V>(k, [k](const auto& y, const auto& x, const auto&) {
        constexpr int P = std::decay_t<decltype(y)>::vectors;
        Reg most[P], sum[P];
        largest<V>(x, k->channels, most);
        clear<V>(sum);
        fold<V>(sum, 0, k->channels, [&](Reg value, int64_t c, int p) {
            return V::add(value, exp_below<V>(V::sub(x.get(c, p), most[p])));
        });
        FC_UNROLL
        for (int p = 0; p < P; ++p) sum[p] = log<V>(sum[p]);
        fill<V>(y, k->channels, [&](int64_t c, int p) { return V::sub(V::sub(x.get(c, p), most[p]), sum[p]); });
    });
}

// a: dy, b: the saved y
template <class V>
void log_softmax_backward(const fc_channels* k) {
    using Reg = typename V::Reg;
    each_column<V>(k, [k](const auto& dx, const auto& dy, const auto& y) {
        Reg sum[std::decay_t<decltype(y)>::vectors];
        clear<V>(sum);
        fold<V>(sum, 0, k->channels, [&](Reg value, int64_t c, int p) { return V::add(value, dy.get(c, p)); });
        fill<V>(dx, k->channels, [&](int64_t c, int p) {
            return V::sub(dy.get(c, p), V::mul(exp<V>(y.get(c, p)), sum[p]));
        });
    });
}

}  // namespace fastconv
