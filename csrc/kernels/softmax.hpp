// Softmax and log-softmax over the rows of (channels, positions): lanes are positions, so a position's result depends
// on its own column alone, whatever its neighbours and its lane. Contracts in include/fastconv/loss.h.
#pragma once
#include <cstdint>

#include "fastconv/loss.h"
#include "kernels/math.hpp"
#include "kernels/partial.hpp"

namespace fastconv {

// One vector of positions: element (c, lane) of a matrix, read and written through the first n lanes.
template <class V>
struct Column {
    using T = typename V::T;
    using Reg = typename V::Reg;
    T* at;
    int64_t ld;
    int n;

    Column(const void* matrix, int64_t ld, int64_t first, int n)
        : at(static_cast<T*>(const_cast<void*>(matrix)) + first), ld(ld), n(n) {}
    Reg get(int64_t c) const { return load_some<V>(at, c * ld, n); }
    void set(int64_t c, Reg value) const { store_some<V>(at, c * ld, value, n); }
};

// f(y, a, b) for each vector of positions.
template <class V, class F>
static inline void each_column(const fc_channels* k, F f) {
    for (int64_t p = 0; p < k->positions; p += V::width) {
        const int n = k->positions - p < V::width ? static_cast<int>(k->positions - p) : V::width;
        f(Column<V>(k->y, k->ldy, p, n), Column<V>(k->a, k->lda, p, n), Column<V>(k->b ? k->b : k->a, k->ldb, p, n));
    }
}

template <class V>
static inline typename V::Reg largest(const Column<V>& x, int64_t channels) {
    typename V::Reg most = x.get(0);
    for (int64_t c = 1; c < channels; ++c) most = V::max(most, x.get(c));
    return most;
}

template <class V>
void softmax_forward(const fc_channels* k) {
    each_column<V>(k, [k](const Column<V>& y, const Column<V>& x, const Column<V>&) {
        const typename V::Reg most = largest<V>(x, k->channels);
        typename V::Reg sum = V::zero();
        for (int64_t c = 0; c < k->channels; ++c) {
            const typename V::Reg power = exp<V>(V::sub(x.get(c), most));
            sum = V::add(sum, power);
            y.set(c, power);
        }
        for (int64_t c = 0; c < k->channels; ++c) y.set(c, V::div(y.get(c), sum));
    });
}

// a: dy, b: the saved y
template <class V>
void softmax_backward(const fc_channels* k) {
    each_column<V>(k, [k](const Column<V>& dx, const Column<V>& dy, const Column<V>& y) {
        typename V::Reg sum = V::zero();
        for (int64_t c = 0; c < k->channels; ++c) sum = V::add(sum, V::mul(dy.get(c), y.get(c)));
        for (int64_t c = 0; c < k->channels; ++c) dx.set(c, V::mul(y.get(c), V::sub(dy.get(c), sum)));
    });
}

template <class V>
void log_softmax_forward(const fc_channels* k) {
    each_column<V>(k, [k](const Column<V>& y, const Column<V>& x, const Column<V>&) {
        const typename V::Reg most = largest<V>(x, k->channels);
        typename V::Reg sum = V::zero();
        for (int64_t c = 0; c < k->channels; ++c) sum = V::add(sum, exp<V>(V::sub(x.get(c), most)));
        sum = log<V>(sum);
        for (int64_t c = 0; c < k->channels; ++c) y.set(c, V::sub(V::sub(x.get(c), most), sum));
    });
}

// a: dy, b: the saved y
template <class V>
void log_softmax_backward(const fc_channels* k) {
    each_column<V>(k, [k](const Column<V>& dx, const Column<V>& dy, const Column<V>& y) {
        typename V::Reg sum = V::zero();
        for (int64_t c = 0; c < k->channels; ++c) sum = V::add(sum, dy.get(c));
        for (int64_t c = 0; c < k->channels; ++c) dx.set(c, V::sub(dy.get(c), V::mul(exp<V>(y.get(c)), sum)));
    });
}

}  // namespace fastconv
