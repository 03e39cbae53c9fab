// Local response normalisation. Each channel's term is laid out once, with zeros on either side, and windows of terms are
// added up directly: a sliding sum would keep a NaN, and the rounding of what has left the window. Contracts in
// include/fastconv/norm.h.
#pragma once
#include <cstdint>

#include "fastconv/norm.h"
#include "kernels/math.hpp"
#include "kernels/partial.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

// term(at, n) is what a channel adds to sums; result(at, sum, n) takes them. `at(ld)` is an element's offset in a matrix
// whose rows are ld apart, n its lanes: neighbouring channels of one position (Rows), or positions of one channel.
template <class V, bool Rows, class Term, class Result>
static inline void each_window(const fc_local_response* a, Term term, Result result) {
    using T = typename V::T;
    constexpr int64_t w = V::width, unit = Rows ? 1 : w, step = Rows ? w : 1;
    T* terms = static_cast<T*>(a->terms);
    const int64_t vectors = Rows ? a->positions : (a->positions + w - 1) / w;
    for (int64_t o = 0; o < vectors; ++o) {
        const auto lanes = [&](int64_t c) {
            const int64_t left = Rows ? a->channels - c : a->positions - o * w;
            return static_cast<int>(left < w ? left : w);
        };
        const auto at = [&](int64_t c) {
            return [=](int64_t ld) { return Rows ? o * ld + c : c * ld + o * w; };
        };
        for (int64_t i = 0; i < a->before * unit; ++i) terms[i] = 0;
        for (int64_t c = 0; c < a->channels; c += step) V::store(terms + (a->before + c) * unit, term(at(c), lanes(c)));
        for (int64_t i = (a->before + a->channels) * unit; i < (a->channels + a->size) * unit + (Rows ? w : 0); ++i) {
            terms[i] = 0;
        }
        for (int64_t c = 0; c < a->channels; c += step) {
            typename V::Reg sum = V::load(terms + c * unit);
            for (int64_t i = 1; i < a->size; ++i) sum = V::add(sum, V::load(terms + (c + i) * unit));
            result(at(c), sum, lanes(c));
        }
    }
}

// scale^-beta, by roots for the paper's beta.
template <class V>
static inline typename V::Reg lowered(typename V::Reg scale, double beta) {
    using T = typename V::T;
    if (beta == 0.75) {
        const typename V::Reg root = V::sqrt(scale);
        return V::div(V::set1(T(1)), V::mul(root, V::sqrt(root)));
    }
    if (beta == 1.0) return V::div(V::set1(T(1)), scale);
    return exp<V>(V::mul(V::set1(static_cast<T>(-beta)), log<V>(scale)));
}

template <class V, bool Rows>
static inline void local_response_forward(const fc_local_response* a) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    const Reg alpha = V::set1(static_cast<T>(a->alpha)), k = V::set1(static_cast<T>(a->k));
    each_window<V, Rows>(
        a,
        [&](auto at, int n) {
            const Reg x = load_some<V>(a->x, at(a->ldx), n);
            return V::mul(x, x);
        },
        [&](auto at, Reg sum, int n) {
            const Reg scale = V::fma(alpha, sum, k);
            store_some<V>(a->scale, at(a->ldscale), scale, n);
            store_some<V>(a->y, at(a->ldy), V::mul(load_some<V>(a->x, at(a->ldx), n), lowered<V>(scale, a->beta)), n);
        });
}

// dx = dy * scale^-beta - 2 alpha beta x * (the sum of dy x scale^(-beta - 1) over the outputs whose window holds x)
template <class V, bool Rows>
static inline void local_response_backward(const fc_local_response* a) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    const Reg share = V::set1(static_cast<T>(-2 * a->alpha * a->beta));
    each_window<V, Rows>(
        a,
        [&](auto at, int n) {
            const Reg scale = load_some<V>(a->scale, at(a->ldscale), n);
            const Reg product = V::mul(load_some<V>(a->dy, at(a->lddy), n), load_some<V>(a->x, at(a->ldx), n));
            return V::div(V::mul(product, lowered<V>(scale, a->beta)), scale);
        },
        [&](auto at, Reg sum, int n) {
            const Reg through = V::mul(load_some<V>(a->dy, at(a->lddy), n),
                                       lowered<V>(load_some<V>(a->scale, at(a->ldscale), n), a->beta));
            const Reg x = load_some<V>(a->x, at(a->ldx), n);
            store_some<V>(a->y, at(a->ldy), V::fma(V::mul(share, x), sum, through), n);
        });
}

template <class V>
void lrn_forward(const fc_local_response* a) {
    local_response_forward<V, false>(a);
}

template <class V>
void lrn_forward_rows(const fc_local_response* a) {
    local_response_forward<V, true>(a);
}

template <class V>
void lrn_backward(const fc_local_response* a) {
    local_response_backward<V, false>(a);
}

template <class V>
void lrn_backward_rows(const fc_local_response* a) {
    local_response_backward<V, true>(a);
}

}  // namespace fastconv
