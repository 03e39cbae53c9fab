// Negative log-likelihood and its gradient, alone and through log-softmax (cross-entropy). Contracts in
// include/fastconv/loss.h, formulas in backends/base.py.
#pragma once
#include <cstdint>

#include "fastconv/loss.h"
#include "kernels/math.hpp"
#include "kernels/partial.hpp"

namespace fastconv {

constexpr int kNllBlock = 64;  // positions at a time

// What the positions [first, first + n) say: class, 0 where ignored; factor of the target's term, 0 where ignored.
template <class V>  // not T: code that one instruction set's kernels share with another's would run where it cannot
struct NllBlock {
    using T = typename V::T;
    const fc_targets* k;
    const T* weight;
    int64_t first;
    int n;
    int64_t target[kNllBlock];
    T counts[kNllBlock], scale[kNllBlock];  // counts: 1, or 0 where ignored

    NllBlock(const fc_targets* k, int64_t first)
        : k(k), weight(static_cast<const T*>(k->weight)), first(first),
          n(k->positions - first < kNllBlock ? static_cast<int>(k->positions - first) : kNllBlock) {
        for (int p = 0; p < n; ++p) {
            const int64_t t = k->target[(first + p) * k->target_step];
            const bool used = t != k->ignore_index;
            target[p] = used ? t : 0;
            counts[p] = T(used);
            scale[p] = used ? of(t) : T(0);
        }
    }
    T of(int64_t c) const { return weight ? weight[c] : T(1); }
    T smooth() const { return T(k->smoothing / static_cast<double>(k->channels)); }
    T sharp() const { return T(1.0 - k->smoothing); }
    T gradient(int p) const {
        return counts[p] != T(0) ? static_cast<const T*>(k->dloss)[(first + p) * k->dloss_step] : T(0);
    }
};

template <class V>
void nll_forward(const fc_targets* k) {
    using T = typename V::T;
    for (int64_t first = 0; first < k->positions; first += kNllBlock) {
        const NllBlock<V> block(k, first);
        const T* log_prob = static_cast<const T*>(k->log_prob) + first;
        T* loss = static_cast<T*>(k->loss) + first;
        T* scale = static_cast<T*>(k->scale) + first;
        T sum[kNllBlock] = {};
        for (int64_t c = 0; k->smoothing != 0.0 && c < k->channels; ++c) {
            const T w = block.of(c);
            for (int p = 0; p < block.n; ++p) sum[p] += w * log_prob[c * k->ldl + p];
        }
        for (int p = 0; p < block.n; ++p) {
            scale[p] = block.scale[p];
            T value = -block.scale[p] * log_prob[block.target[p] * k->ldl + p];
            if (k->smoothing != 0.0) value = block.sharp() * value - block.smooth() * sum[p];
            loss[p] = block.counts[p] != T(0) ? value : T(0);
        }
    }
}

// dlog_prob = -gradient * (smooth * weight[c] + sharp * scale at the target)
template <class V>
void nll_backward(const fc_targets* k) {
    using T = typename V::T;
    for (int64_t first = 0; first < k->positions; first += kNllBlock) {
        const NllBlock<V> block(k, first);
        T* y = static_cast<T*>(k->y) + first;
        T gradient[kNllBlock];
        for (int p = 0; p < block.n; ++p) gradient[p] = block.gradient(p);
        for (int64_t c = 0; c < k->channels; ++c) {
            const T w = k->smoothing != 0.0 ? block.smooth() * block.of(c) : T(0);
            for (int p = 0; p < block.n; ++p) y[c * k->ldy + p] = k->smoothing != 0.0 ? -w * gradient[p] : T(0);
        }
        for (int p = 0; p < block.n; ++p) {
            y[block.target[p] * k->ldy + p] -= block.sharp() * block.scale[p] * gradient[p];
        }
    }
}

// dx = dlog_prob - exp(log_prob) * sum(dlog_prob), dlog_prob as above
template <class V>
void cross_entropy_backward(const fc_targets* k) {
    using T = typename V::T;
    for (int64_t first = 0; first < k->positions; first += kNllBlock) {
        const NllBlock<V> block(k, first);
        const T* log_prob = static_cast<const T*>(k->log_prob) + first;
        T* y = static_cast<T*>(k->y) + first;
        T weights = 0;
        for (int64_t c = 0; k->smoothing != 0.0 && c < k->channels; ++c) weights += block.smooth() * block.of(c);
        T gradient[kNllBlock] = {}, total[kNllBlock] = {};
        for (int p = 0; p < block.n; ++p) {
            gradient[p] = block.gradient(p);
            total[p] = (block.sharp() * block.scale[p] + weights) * gradient[p];
        }
        for (int64_t c = 0; c < k->channels; ++c) {
            const typename V::Reg w = V::set1(k->smoothing != 0.0 ? -block.smooth() * block.of(c) : T(0));
            for (int p = 0; p < block.n; p += V::width) {
                const int n = block.n - p < V::width ? block.n - p : V::width;
                const typename V::Reg power = exp_below<V>(load_some<V>(log_prob, c * k->ldl + p, n));
                const typename V::Reg value = V::fma(power, V::load(total + p), V::mul(w, V::load(gradient + p)));
                store_some<V>(y, c * k->ldy + p, value, n);
            }
        }
        for (int p = 0; p < block.n; ++p) {
            y[block.target[p] * k->ldy + p] -= block.sharp() * block.scale[p] * gradient[p];
        }
    }
}

}  // namespace fastconv
