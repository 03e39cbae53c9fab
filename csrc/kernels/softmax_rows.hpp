// Softmax, log-softmax and cross-entropy where a position's channels lie side by side: lanes are channels, and a row's
// lanes are added up in one order. Contracts in include/fastconv/loss.h, with `ld` from a position to the next.
#pragma once
#include <cstdint>

#include "fastconv/loss.h"
#include "kernels/math.hpp"
#include "kernels/nll.hpp"
#include "kernels/partial.hpp"

namespace fastconv {

// body(c, n): channels [c, c + n), a vector's.
template <class V, class F>
static inline void each_vector(int64_t channels, F body) {
    for (int64_t c = 0; c < channels; c += V::width) {
        body(c, channels - c < V::width ? static_cast<int>(channels - c) : V::width);
    }
}

// Lanes beyond the first n become `rest`.
template <class V>
static inline typename V::Reg padded(typename V::Reg value, int n, typename V::T rest) {
    if (n == V::width) return value;
    typename V::T lanes[V::width];
    V::store(lanes, V::set1(rest));
    V::store_n(lanes, value, n);
    return V::load(lanes);
}

template <class V>
static inline typename V::T sum_of_lanes(typename V::Reg value) {
    typename V::T lanes[V::width];
    V::store(lanes, value);
    for (int half = V::width / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    }
    return lanes[0];
}

template <class V>
static inline typename V::T largest_of_row(const typename V::T* x, int64_t channels) {
    constexpr int some = 4;  // at a time: one maximum need not wait for another
    typename V::Reg most[some];
    FC_UNROLL
    for (int k = 0; k < some; ++k) most[k] = V::set1(x[0]);
    int64_t c = 0;
    for (; c + some * V::width <= channels; c += some * V::width) {
        FC_UNROLL
        for (int k = 0; k < some; ++k) most[k] = V::max(most[k], V::load(x + c + k * V::width));
    }
    each_vector<V>(channels - c, [&](int64_t at, int n) {
        most[0] = V::max(most[0], padded<V>(load_some<V>(x, c + at, n), n, x[0]));
    });
    typename V::T lanes[V::width];
    V::store(lanes, V::max(V::max(most[0], most[1]), V::max(most[2], most[3])));
    for (int i = 1; i < V::width; ++i) lanes[0] = lanes[i] > lanes[0] ? lanes[i] : lanes[0];
    return lanes[0];
}

// f(y, a, b) for each position
template <class V, class F>
static inline void each_row(const fc_channels* k, F f) {
    using T = typename V::T;
    for (int64_t p = 0; p < k->positions; ++p) {
        f(static_cast<T*>(k->y) + p * k->ldy, static_cast<const T*>(k->a) + p * k->lda,
          static_cast<const T*>(k->b ? k->b : k->a) + p * k->ldb);
    }
}

template <class V>
void softmax_forward_rows(const fc_channels* k) {
    using T = typename V::T;
    each_row<V>(k, [k](T* y, const T* x, const T*) {
        const typename V::Reg most = V::set1(largest_of_row<V>(x, k->channels));
        typename V::Reg sum = V::zero();
        each_vector<V>(k->channels, [&](int64_t c, int n) {
            const typename V::Reg power = exp_below<V>(V::sub(load_some<V>(x, c, n), most));
            store_some<V>(y, c, power, n);
            sum = V::add(sum, padded<V>(power, n, T(0)));
        });
        sum = V::set1(T(1) / sum_of_lanes<V>(sum));
        each_vector<V>(k->channels, [&](int64_t c, int n) {
            store_some<V>(y, c, V::mul(load_some<V>(y, c, n), sum), n);
        });
    });
}

// a: dy, b: the saved y
template <class V>
void softmax_backward_rows(const fc_channels* k) {
    using T = typename V::T;
    each_row<V>(k, [k](T* dx, const T* dy, const T* y) {
        typename V::Reg sum = V::zero();
        each_vector<V>(k->channels, [&](int64_t c, int n) {
            sum = V::add(sum, V::mul(load_some<V>(dy, c, n), load_some<V>(y, c, n)));
        });
        sum = V::set1(sum_of_lanes<V>(sum));
        each_vector<V>(k->channels, [&](int64_t c, int n) {
            store_some<V>(dx, c, V::mul(load_some<V>(y, c, n), V::sub(load_some<V>(dy, c, n), sum)), n);
        });
    });
}

template <class V>
void log_softmax_forward_rows(const fc_channels* k) {
    using T = typename V::T;
    each_row<V>(k, [k](T* y, const T* x, const T*) {
        const typename V::Reg most = V::set1(largest_of_row<V>(x, k->channels));
        typename V::Reg sum = V::zero();
        each_vector<V>(k->channels, [&](int64_t c, int n) {
            sum = V::add(sum, padded<V>(exp_below<V>(V::sub(load_some<V>(x, c, n), most)), n, T(0)));
        });
        sum = log<V>(V::set1(sum_of_lanes<V>(sum)));
        each_vector<V>(k->channels, [&](int64_t c, int n) {
            store_some<V>(y, c, V::sub(V::sub(load_some<V>(x, c, n), most), sum), n);
        });
    });
}

// a: dy, b: the saved y
template <class V>
void log_softmax_backward_rows(const fc_channels* k) {
    using T = typename V::T;
    each_row<V>(k, [k](T* dx, const T* dy, const T* y) {
        typename V::Reg sum = V::zero();
        each_vector<V>(k->channels, [&](int64_t c, int n) { sum = V::add(sum, load_some<V>(dy, c, n)); });
        sum = V::set1(sum_of_lanes<V>(sum));
        each_vector<V>(k->channels, [&](int64_t c, int n) {
            store_some<V>(dx, c, V::sub(load_some<V>(dy, c, n), V::mul(exp<V>(load_some<V>(y, c, n)), sum)), n);
        });
    });
}

template <class V>
void nll_forward_rows(const fc_targets* k) {
    using T = typename V::T;
    for (int64_t first = 0; first < k->positions; first += kNllBlock) {
        const NllBlock<V> block(k, first);
        for (int p = 0; p < block.n; ++p) {
            const T* log_prob = static_cast<const T*>(k->log_prob) + (first + p) * k->ldl;
            T value = -block.scale[p] * log_prob[block.target[p]];
            if (k->smoothing != 0.0) {
                typename V::Reg sum = V::zero();
                each_vector<V>(k->channels, [&](int64_t c, int n) {
                    const typename V::Reg x = load_some<V>(log_prob, c, n);
                    sum = V::add(sum, k->weight ? V::mul(load_some<V>(k->weight, c, n), x) : x);
                });
                value = block.sharp() * value - block.smooth() * sum_of_lanes<V>(sum);
            }
            static_cast<T*>(k->scale)[first + p] = block.scale[p];
            static_cast<T*>(k->loss)[first + p] = block.counts[p] != T(0) ? value : T(0);
        }
    }
}

template <class V>
void nll_backward_rows(const fc_targets* k) {
    using T = typename V::T;
    for (int64_t first = 0; first < k->positions; first += kNllBlock) {
        const NllBlock<V> block(k, first);
        for (int p = 0; p < block.n; ++p) {
            T* y = static_cast<T*>(k->y) + (first + p) * k->ldy;
            const T gradient = block.gradient(p), even = k->smoothing != 0.0 ? -block.smooth() * gradient : T(0);
            for (int64_t c = 0; c < k->channels; ++c) y[c] = k->smoothing != 0.0 ? even * block.of(c) : T(0);
            y[block.target[p]] -= block.sharp() * block.scale[p] * gradient;
        }
    }
}

// dx = dlog_prob - exp(log_prob) * sum(dlog_prob), dlog_prob as in nll.hpp
template <class V>
void cross_entropy_backward_rows(const fc_targets* k) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    for (int64_t first = 0; first < k->positions; first += kNllBlock) {
        const NllBlock<V> block(k, first);
        T weights = 0;
        for (int64_t c = 0; k->smoothing != 0.0 && c < k->channels; ++c) weights += block.smooth() * block.of(c);
        for (int p = 0; p < block.n; ++p) {
            const T* log_prob = static_cast<const T*>(k->log_prob) + (first + p) * k->ldl;
            T* y = static_cast<T*>(k->y) + (first + p) * k->ldy;
            const T gradient = block.gradient(p);
            const Reg total = V::set1((block.sharp() * block.scale[p] + weights) * gradient);
            const Reg even = V::set1(k->smoothing != 0.0 ? -block.smooth() * gradient : T(0));
            each_vector<V>(k->channels, [&](int64_t c, int n) {
                const Reg power = exp_below<V>(load_some<V>(log_prob, c, n));
                const Reg smooth = k->weight ? V::mul(even, load_some<V>(k->weight, c, n)) : even;
                store_some<V>(y, c, V::fma(power, total, smooth), n);
            });
            y[block.target[p]] -= block.sharp() * block.scale[p] * gradient;
        }
    }
}

}  // namespace fastconv
