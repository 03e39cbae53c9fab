// Elementwise kernels: activations, arithmetic, losses, and dropout's. A tail goes through the same vector code as the
// body, so an element's bits do not depend on its place. Contracts in include/fastconv/elementwise.h.
#pragma once
#include <cstdint>

#include "fastconv/elementwise.h"
#include "kernels/finish.hpp"
#include "kernels/math.hpp"
#include "kernels/partial.hpp"

namespace fastconv {

// y = f(r), r the N inputs in registers.
template <class V, int N, bool Stream, class F>
static inline void map_rows(const fc_map* a, F f) {
    using T = typename V::T;
    T* y = static_cast<T*>(a->y);
    const T* x[N];
    FC_UNROLL
    for (int k = 0; k < N; ++k) x[k] = static_cast<const T*>(a->x[k]);
    typename V::Reg r[N];
    for (int64_t row = 0; row < a->rows; ++row, y += a->count) {
        int64_t i = 0;
        for (; i + V::width <= a->count; i += V::width) {
            FC_UNROLL
            for (int k = 0; k < N; ++k) r[k] = V::load(x[k] + i);
            if (Stream) {
                V::stream(y + i, f(r));
            } else {
                V::store(y + i, f(r));
            }
        }
        const int rest = static_cast<int>(a->count - i);
        if (rest) {
            FC_UNROLL
            for (int k = 0; k < N; ++k) r[k] = V::load_n(x[k] + i, rest);
            V::store_n(y + i, f(r), rest);
        }
        FC_UNROLL
        for (int k = 0; k < N; ++k) x[k] += a->step[k];
    }
}

// Whether every row of y starts at a vector's boundary, and is to be stored past the caches.
template <class V>
static inline bool streams(const fc_map* a) {
    constexpr uintptr_t bytes = V::width * sizeof(typename V::T);
    return a->stream && reinterpret_cast<uintptr_t>(a->y) % bytes == 0 && (a->rows == 1 || a->count % V::width == 0);
}

template <class V, int N, class F>
static inline void map(const fc_map* a, F f) {
    if (streams<V>(a)) {
        map_rows<V, N, true>(a, f);
        V::fence();
    } else {
        map_rows<V, N, false>(a, f);
    }
}

// A kernel `name` of `inputs` arrays r[0], r[1], ... and the scalars s(0), s(1).
#define FC_MAP(name, inputs, expression)                                                                   \
    template <class V>                                                                                     \
    void name(const fc_map* a) {                                                                           \
        using T = typename V::T;                                                                           \
        using Reg = typename V::Reg;                                                                       \
        const Reg zero = V::zero(), one = V::set1(T(1));                                                   \
        const Reg s0 = V::set1(static_cast<T>(a->scalar[0])), s1 = V::set1(static_cast<T>(a->scalar[1]));  \
        map<V, inputs>(a, [=](const Reg* r) {                                                              \
            (void)zero, (void)one, (void)s0, (void)s1;                                                     \
            return expression;                                                                             \
        });                                                                                                \
    }

// ------------------------------------------------------------------------------------------ arithmetic

FC_MAP(add, 2, V::add(r[0], r[1]))
FC_MAP(subtract, 2, V::sub(r[0], r[1]))
FC_MAP(multiply, 2, V::mul(r[0], r[1]))
FC_MAP(divide, 2, V::div(r[0], r[1]))
FC_MAP(scale, 1, V::mul(r[0], s0))
FC_MAP(add_relu, 2, activated<V>(V::add(r[0], r[1]), true))
FC_MAP(maximum, 2, V::select(V::ordered(r[0]), V::max(r[0], r[1]), r[0]))  // NaN where either is
// 1 where both are equal or NaN, else 0.
FC_MAP(matches, 2, V::select(V::equal(r[0], r[1]), one,
                             V::select(V::ordered(r[0]), zero, V::select(V::ordered(r[1]), zero, one))))

// ------------------------------------------------------------ activations: forward x, backward dy and y or x

FC_MAP(relu_forward, 1, V::max(zero, r[0]))  // max(zero, NaN) is NaN
FC_MAP(relu_backward, 2, masked<V>(r[0], r[1]))
FC_MAP(leaky_relu_forward, 1, V::select(V::greater(r[0], zero), r[0], V::mul(r[0], s0)))
FC_MAP(leaky_relu_backward, 2, V::select(V::greater(r[1], zero), r[0], V::mul(r[0], s0)))
FC_MAP(sigmoid_forward, 1, sigmoid<V>(r[0]))
FC_MAP(sigmoid_backward, 2, V::mul(V::mul(r[0], r[1]), V::sub(one, r[1])))
FC_MAP(tanh_forward, 1, tanh<V>(r[0]))
FC_MAP(tanh_backward, 2, V::mul(r[0], V::mul(V::sub(one, r[1]), V::add(one, r[1]))))  // (1 - y)(1 + y): no cancellation

// ------------------------------------------------- losses: x, target, weight, pos_weight; backward dloss first

template <class V>
static inline typename V::Reg square(typename V::Reg a) {
    return V::mul(a, a);
}

FC_MAP(mse_forward, 2, square<V>(V::sub(r[0], r[1])))
FC_MAP(mse_backward, 3, V::mul(V::add(r[0], r[0]), V::sub(r[1], r[2])))

template <class V>
static inline typename V::Reg bce(typename V::Reg x, typename V::Reg target, typename V::Reg pos_weight) {
    const typename V::Reg negative = V::mul(V::sub(V::set1(typename V::T(1)), target), softplus<V>(x));
    return V::fma(V::mul(target, pos_weight), softplus<V>(V::sub(V::zero(), x)), negative);
}

template <class V>
static inline typename V::Reg bce_slope(typename V::Reg x, typename V::Reg target, typename V::Reg pos_weight) {
    const typename V::Reg negative = V::mul(V::sub(V::set1(typename V::T(1)), target), sigmoid<V>(x));
    return V::sub(negative, V::mul(V::mul(target, pos_weight), sigmoid<V>(V::sub(V::zero(), x))));
}

FC_MAP(bce_with_logits_forward, 4, V::mul(r[2], bce<V>(r[0], r[1], r[3])))
FC_MAP(bce_with_logits_backward, 5, V::mul(V::mul(r[0], r[3]), bce_slope<V>(r[1], r[2], r[4])))

#undef FC_MAP

// -------------------------------------------------------------------------------------------- dropout

template <class V>
void masked(const fc_masked* a) {
    using T = typename V::T;
    T* y = static_cast<T*>(a->y);
    const T* x = static_cast<const T*>(a->x);
    const typename V::Reg scale = V::set1(static_cast<T>(a->factor));
    for (int64_t i = 0; i < a->count; i += V::width) {
        const int n = a->count - i < V::width ? static_cast<int>(a->count - i) : V::width;
        const typename V::Reg value = V::mul(load_some<V>(x, i, n), scale);
        store_some<V>(y, i, V::select(some_bytes_equal<V>(a->mask + i, 0, n), V::zero(), value), n);
    }
}

}  // namespace fastconv
