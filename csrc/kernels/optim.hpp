// Optimiser steps: one pass over parameter, gradient and state. Contracts in include/fastconv/optim.h.
#pragma once
#include <cstdint>

#include "fastconv/optim.h"
#include "kernels/partial.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

// f(p, g, first, second) updates its arguments; `arrays` of them exist, the others are left alone.
template <class V, int Arrays, class F>
static inline void step(const fc_step* a, F f) {
    using T = typename V::T;
    T* array[4] = {static_cast<T*>(a->p), static_cast<T*>(const_cast<void*>(a->g)), static_cast<T*>(a->first),
                   static_cast<T*>(a->second)};
    for (int64_t i = 0; i < a->count; i += V::width) {
        const int n = a->count - i < V::width ? static_cast<int>(a->count - i) : V::width;
        typename V::Reg r[4];
        FC_UNROLL
        for (int k = 0; k < 4; ++k) {
            r[k] = k >= Arrays ? V::zero() : load_some<V>(array[k], i, n);
        }
        f(r[0], r[1], r[2], r[3]);
        FC_UNROLL
        for (int k = 0; k < Arrays; ++k) {
            if (k != 1) store_some<V>(array[k], i, r[k], n);  // 1 is the gradient
        }
    }
}

template <class V>
void sgd_step(const fc_step* a) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    const Reg lr = V::set1(T(a->lr)), decay = V::set1(T(a->weight_decay)), momentum = V::set1(T(a->momentum));
    const Reg share = V::set1(T(1.0 - a->dampening));
    const bool decays = a->weight_decay != 0.0, nesterov = a->nesterov, start = a->start;
    if (a->first == nullptr) {
        step<V, 2>(a, [=](Reg& p, Reg g, Reg&, Reg&) {
            if (decays) g = V::add(g, V::mul(decay, p));
            p = V::sub(p, V::mul(lr, g));
        });
        return;
    }
    step<V, 3>(a, [=](Reg& p, Reg g, Reg& buffer, Reg&) {
        if (decays) g = V::add(g, V::mul(decay, p));
        buffer = start ? g : V::add(V::mul(momentum, buffer), V::mul(share, g));
        p = V::sub(p, V::mul(lr, nesterov ? V::add(g, V::mul(momentum, buffer)) : buffer));
    });
}

template <class V>
void adam_step(const fc_step* a) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    const Reg rate = V::set1(T(a->lr)), decay = V::set1(T(a->weight_decay)), shrink = V::set1(T(a->shrink));
    const Reg beta2 = V::set1(T(a->beta2)), rest1 = V::set1(T(1.0 - a->beta1)), rest2 = V::set1(T(1.0 - a->beta2));
    const Reg correction = V::set1(T(a->correction)), eps = V::set1(T(a->eps));
    const bool decays = a->weight_decay != 0.0;
    step<V, 4>(a, [=](Reg& p, Reg g, Reg& mean, Reg& square) {
        p = V::mul(p, shrink);
        if (decays) g = V::add(g, V::mul(decay, p));
        mean = V::add(mean, V::mul(rest1, V::sub(g, mean)));
        square = V::add(V::mul(beta2, square), V::mul(V::mul(rest2, g), g));
        const Reg root = V::add(V::div(V::sqrt(square), correction), eps);
        p = V::sub(p, V::div(V::mul(rate, mean), root));
    });
}

}  // namespace fastconv
