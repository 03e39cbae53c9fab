// The walk of every pooling kernel over its targets and their windows; lanes are channels. Contracts in
// include/fastconv/pool.h.
#pragma once
#include <cstdint>
#include <type_traits>

#include "fastconv/pool.h"
#include "kernels/partial.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

template <int count>
using Constant = std::integral_constant<int, count>;

// f(vectors, n, c): blocks of `vectors` vectors of channels from c on, n lanes of each; constants where they can be.
// The last vector may do channels again that the one before it has done.
template <class V, class F>
static inline void each_block(int64_t channels, F f) {
    constexpr int64_t width = V::width;
    constexpr Constant<V::width> whole;
    int64_t c = 0;
    for (; c + 8 * width <= channels; c += 8 * width) f(Constant<8>{}, whole, c);
    if (c + 4 * width <= channels) f(Constant<4>{}, whole, c), c += 4 * width;
    if (c + 2 * width <= channels) f(Constant<2>{}, whole, c), c += 2 * width;
    if (c + width <= channels) f(Constant<1>{}, whole, c), c += width;
    if (c == channels) return;
    if (channels >= width) {
        f(Constant<1>{}, whole, channels - width);
    } else {
        f(Constant<1>{}, static_cast<int>(channels), c);
    }
}

// Where the targets end that see the same columns of the source as target w does. With a divisor each, none does.
static inline int64_t run_end(const fc_pool_axis& axis, int64_t w, int64_t end) {
    int64_t last = w + 1;
    if (axis.divisor) return last;
    while (last < end && axis.first[last] == axis.first[w] && axis.count[last] == axis.count[w]) ++last;
    return last;
}

// How far the rows are behind those that target row h sees: the next ones see them.
static inline int64_t rows_ahead(const fc_pool_box* a, int64_t h) {
    return a->axis[1].count[h] * a->axis[1].step * a->source_step[1];
}

// Store n lanes of a target.
template <class V>
static FC_INLINE void put(const fc_pool_box* a, typename V::T* target, typename V::Reg value, int n) {
    if (a->stream) {
        V::stream(target, value);
    } else {
        store_some<V>(target, 0, value, n);
    }
}

template <class V>
static inline void put_zeros(const fc_pool_box* a, typename V::T* target, int64_t pixels) {
    const bool dense = a->target_step[1] == a->channels;
    const int64_t elements = dense ? pixels * a->channels : a->channels;
    for (int64_t p = 0; p < (dense ? 1 : pixels); ++p, target += a->target_step[1]) {
        for (int64_t e = 0; e < elements; e += V::width) {
            put<V>(a, target + e, V::zero(), elements - e < V::width ? static_cast<int>(elements - e) : V::width);
        }
    }
}

// f(h, w, end, target, source) for each run [w, end) of targets that see the same columns; `target` is the first of
// them, `source` the first source pixel that they see. Targets that see nothing become 0.
template <class V, class F>
static inline void each_run(const fc_pool_box* a, F f) {
    using T = typename V::T;
    for (int64_t h = a->h_first; h < a->h_last; ++h) {
        const T* row = static_cast<const T*>(a->source) + a->axis[1].first[h] * a->source_step[1];
        T* out = static_cast<T*>(a->target) + h * a->target_step[0];
        if (a->axis[0].count[a->d] * a->axis[1].count[h] == 0) {
            put_zeros<V>(a, out, a->columns);
            continue;
        }
        for (int64_t w = 0, end; w < a->columns; w = end) {
            end = run_end(a->axis[2], w, a->columns);
            if (a->axis[2].count[w] == 0) {
                put_zeros<V>(a, out + w * a->target_step[1], end - w);
                continue;
            }
            f(h, w, end, out + w * a->target_step[1], row + a->axis[2].first[w] * a->source_step[2]);
        }
    }
}

// Many taps of many channels are read row by row of the window, channels inside, so that memory is read in long runs;
// what is between rows waits in arrays of so many elements.
constexpr int64_t kWaiting = 1024;

template <class V>
static inline bool reads_rows(const fc_pool_box* a, int64_t h, int64_t w) {
    const fc_pool_axis* axis = a->axis;
    return axis[0].count[a->d] * axis[1].count[h] * axis[2].count[w] > 16 && a->channels > 8 * V::width &&
           a->channels % V::width == 0;  // no channel is done twice
}

template <class V, int count>
static FC_INLINE void load_block(const typename V::T* from, typename V::Reg (&block)[count]) {
    FC_UNROLL
    for (int v = 0; v < count; ++v) block[v] = V::load(from + v * V::width);
}

template <class V, int count>
static FC_INLINE void store_block(typename V::T* to, const typename V::Reg (&block)[count]) {
    FC_UNROLL
    for (int v = 0; v < count; ++v) V::store(to + v * V::width, block[v]);
}

}  // namespace fastconv
