// Sums over each of some short rows: moments, and what the gradient of a normalisation needs. A row's sums run in
// lanes, some vectors side by side, which are added pairwise at its end. Contracts in include/fastconv/norm.h.
#pragma once
#include <cstdint>

#include "fastconv/norm.h"
#include "kernels/partial.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

constexpr int kChains = 4;  // vectors of sums that a row's are shared out to

// first += f, second += g over a row: add(x, dy, first, second). Lanes beyond the end see x = `beyond` and dy = 0.
template <class V, bool Gradient, class F>
static inline void sum_line(const typename V::T* x, const typename V::T* dy, int64_t count, typename V::T beyond,
                            typename V::Reg& first, typename V::Reg& second, F add) {
    using T = typename V::T;
    typename V::Reg one[kChains], two[kChains];
    FC_UNROLL
    for (int k = 0; k < kChains; ++k) one[k] = two[k] = V::zero();
    int64_t i = 0;
    for (; i + kChains * V::width <= count; i += kChains * V::width) {
        FC_UNROLL
        for (int k = 0; k < kChains; ++k) {
            const int64_t at = i + k * V::width;
            add(V::load(x + at), Gradient ? V::load(dy + at) : V::zero(), one[k], two[k]);
        }
    }
    for (; i + V::width <= count; i += V::width) {
        add(V::load(x + i), Gradient ? V::load(dy + i) : V::zero(), one[0], two[0]);
    }
    if (i < count) {
        const int n = static_cast<int>(count - i);
        T some[V::width];
        for (int k = 0; k < V::width; ++k) some[k] = k < n ? x[i + k] : beyond;
        add(V::load(some), Gradient ? V::load_n(dy + i, n) : V::zero(), one[0], two[0]);
    }
    first = V::add(V::add(one[0], one[1]), V::add(one[2], one[3]));
    second = V::add(V::add(two[0], two[1]), V::add(two[2], two[3]));
}

template <class V>
static inline double lanes_sum(typename V::Reg sums) {
    typename V::T lanes[V::width];
    V::store(lanes, sums);
    double total[V::width];
    for (int k = 0; k < V::width; ++k) total[k] = lanes[k];
    for (int half = V::width / 2; half; half /= 2) {
        for (int k = 0; k < half; ++k) total[k] += total[k + half];
    }
    return total[0];
}

// Around the first sum's mean, so that a mean far from 0 costs no digits.
template <class V>
void moment_lines(const fc_moments* a) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    const double count = static_cast<double>(a->columns);
    for (int64_t r = 0; r < a->rows; ++r) {
        const T* x = static_cast<const T*>(a->x) + r * a->ldx;
        Reg first, second;
        sum_line<V, false>(x, nullptr, a->columns, T(0), first, second,
                           [](Reg value, Reg, Reg& one, Reg&) { one = V::add(one, value); });
        const T centre = static_cast<T>(lanes_sum<V>(first) / count);
        const Reg around = V::set1(centre);
        sum_line<V, false>(x, nullptr, a->columns, centre, first, second, [around](Reg value, Reg, Reg& one, Reg& two) {
            const Reg distance = V::sub(value, around);
            one = V::add(one, distance);
            two = V::fma(distance, distance, two);
        });
        const double off = lanes_sum<V>(first);
        a->start[r] = centre;
        a->offset[r] = off / count;
        a->square[r] = lanes_sum<V>(second) - off * a->offset[r];
    }
}

// Lane k: the sum of square[k]'s lanes.
template <class V>
static inline typename V::Reg sums_of(typename V::Reg (&square)[V::width]) {
    V::transpose(square);
    for (int step = 1; step < V::width; step *= 2) {
        for (int k = 0; k + step < V::width; k += 2 * step) square[k] = V::add(square[k], square[k + step]);
    }
    return square[0];
}

template <class V>
void gradient_lines(const fc_reduce* a) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    for (int64_t r = 0; r < a->rows; r += V::width) {
        const int n = a->rows - r < V::width ? static_cast<int>(a->rows - r) : V::width;
        Reg first[V::width], second[V::width];
        for (int k = 0; k < V::width; ++k) {
            if (k >= n) {
                first[k] = second[k] = V::zero();
                continue;
            }
            const T* x = static_cast<const T*>(a->x) + (r + k) * a->ldx;
            const T* dy = static_cast<const T*>(a->dy) + (r + k) * a->lddy;
            const T centre = static_cast<const T*>(a->mean)[r + k];
            const Reg mean = V::set1(centre);
            const auto add = [mean](Reg value, Reg slope, Reg& one, Reg& two) {
                one = V::add(one, slope);
                two = V::fma(slope, V::sub(value, mean), two);
            };
            sum_line<V, true>(x, dy, a->columns, centre, first[k], second[k], add);
        }
        store_some<V>(a->first, r, sums_of<V>(first), n);
        store_some<V>(a->second, r, sums_of<V>(second), n);
    }
}

}  // namespace fastconv
