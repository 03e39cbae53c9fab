// Gradients of a convolution under a max-pool: at most one conv output of a window has a gradient, so both gradients are
// sums over lists of the live ones, a run of neighbouring taps and channels at a time. Contracts in
// include/fastconv/unit.h. The lists are in the order of the windows, and blocks of rows and columns only choose which
// elements are summed at once: they never change a bit.
#pragma once
#include <cstdint>

#include "fastconv/unit.h"
#include "kernels/check.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

// A list of (value, offset), and the block of R rows x NV vectors that it is summed into:
// dst[dst_row[r] + k] = start + sum over i of value[i] * src[offset[i] + src_row[r] + k].
template <class T>
struct LiveSum {
    const T* value;
    const int64_t* offset;
    int64_t count;
    const T* src;
    const int64_t* src_row;
    T* dst;
    const int64_t* dst_row;
    bool accumulate;
};

template <class V>
struct LiveBlocks {
    static constexpr int accumulators = sizeof(typename V::Reg) == 64 ? 20 : 12;
    static constexpr int vectors = accumulators / 2;
    static constexpr int rows(int nv) { return accumulators / nv < 8 ? accumulators / nv : 8; }
};

template <class V, int R, int NV>
static void live_block(const LiveSum<typename V::T>& a, int64_t r0, int64_t k, int last) {
    using T = typename V::T;
    auto load = [last](const T* p, int j) {
        return j < NV - 1 || last == V::width ? V::load(p + j * V::width) : V::load_n(p + j * V::width, last);
    };
    typename V::Reg acc[R][NV];
    const T* src[R];
    FC_UNROLL
    for (int r = 0; r < R; ++r) {
        src[r] = a.src + a.src_row[r0 + r] + k;
        FC_UNROLL
        for (int j = 0; j < NV; ++j) acc[r][j] = a.accumulate ? load(a.dst + a.dst_row[r0 + r] + k, j) : V::zero();
    }
    if (last == V::width) {
        for (int64_t i = 0; i < a.count; ++i) {
            const typename V::Reg value = V::set1(a.value[i]);
            const int64_t at = a.offset[i];
            FC_UNROLL
            for (int r = 0; r < R; ++r) {
                FC_UNROLL
                for (int j = 0; j < NV; ++j) acc[r][j] = V::fma(value, V::load(src[r] + at + j * V::width), acc[r][j]);
            }
        }
    } else {
        for (int64_t i = 0; i < a.count; ++i) {
            const typename V::Reg value = V::set1(a.value[i]);
            const int64_t at = a.offset[i];
            FC_UNROLL
            for (int r = 0; r < R; ++r) {
                FC_UNROLL
                for (int j = 0; j < NV - 1; ++j) acc[r][j] = V::fma(value, V::load(src[r] + at + j * V::width), acc[r][j]);
                acc[r][NV - 1] = V::fma(value, V::load_n(src[r] + at + (NV - 1) * V::width, last), acc[r][NV - 1]);
            }
        }
    }
    FC_UNROLL
    for (int r = 0; r < R; ++r) {
        T* dst = a.dst + a.dst_row[r0 + r] + k;
        FC_UNROLL
        for (int j = 0; j < NV - 1; ++j) V::store(dst + j * V::width, acc[r][j]);
        if (last == V::width) {
            V::store(dst + (NV - 1) * V::width, acc[r][NV - 1]);
        } else {
            V::store_n(dst + (NV - 1) * V::width, acc[r][NV - 1], last);
        }
    }
}

template <class V, int R, int NV>
static void live_rows(const LiveSum<typename V::T>& a, int64_t first, int64_t rows, int64_t k, int last) {
    if constexpr (R > 0) {
        int64_t r = 0;
        for (; r + R <= rows; r += R) live_block<V, R, NV>(a, first + r, k, last);
        if (r < rows) live_rows<V, R - 1, NV>(a, first + r, rows - r, k, last);
    }
}

// All rows, columns [k, k + columns), which fit NV vectors.
template <class V, int NV>
static void live_columns(const LiveSum<typename V::T>& a, int64_t rows, int64_t k, int64_t columns) {
    if constexpr (NV > 0) {
        if (columns <= (NV - 1) * V::width) return live_columns<V, NV - 1>(a, rows, k, columns);
        const int last = static_cast<int>(columns - (NV - 1) * V::width);
        live_rows<V, LiveBlocks<V>::rows(NV), NV>(a, 0, rows, k, last);
    }
}

// Columns a block of at most `most` vectors, so that blocks are as few and as equal as can be.
template <class V>
static int64_t live_step(int64_t width, int64_t most) {
    const int64_t vectors = (width + V::width - 1) / V::width, blocks = (vectors + most - 1) / most;
    return (vectors + blocks - 1) / blocks * V::width;
}

// ---------------------------------------------------------------------------------------------- lists

template <class V>
void live_channels(const fc_live* a) {
    using T = typename V::T;
    T* value = static_cast<T*>(a->value);
    int64_t *offset = a->offset, *end = a->start;
    const int64_t* place = a->place;
    const int64_t channels = a->channels, step = a->channel, places = a->places;
    for (int64_t c = 0; c < channels; ++c) end[c] = c * a->windows;
    for (int64_t p = 0; p < a->windows; ++p) {
        const uint8_t* index = a->index + a->index_at[p];
        const T* dy = static_cast<const T*>(a->dy) + a->at[p];
        const int64_t window = a->window[p];
        for (int64_t c = 0; c < channels; ++c) {  // an entry that is not live is overwritten by the next
            const int64_t q = index[c], to = end[c];
            const bool live = q < places;
            value[to] = dy[c * step];
            offset[to] = window + place[live ? q : 0];
            end[c] = to + live;
        }
    }
}

template <class V>
void live_places(const fc_live* a) {
    using T = typename V::T;
    T* value = static_cast<T*>(a->value);
    int64_t* offset = a->offset;
    const int64_t channels = a->channels, step = a->channel, places = a->places, ld = a->ld;
    int64_t end = 0;
    int64_t next[FC_NO_GRADIENT + 1];
    for (int64_t p = 0; p < a->windows; ++p) {
        const uint8_t* index = a->index + a->index_at[p];
        const T* dy = static_cast<const T*>(a->dy) + a->at[p];
        int64_t* start = a->start + p * (places + 1);
        for (int64_t q = 0; q <= places; ++q) next[q] = 0;
        for (int64_t c = 0; c < channels; ++c) next[index[c] < places ? index[c] : places] += 1;
        for (int64_t q = 0; q <= places; ++q) {
            const int64_t count = next[q];
            start[q] = next[q] = end;
            end += count;
        }
        for (int64_t c = 0; c < channels; ++c) {
            const int64_t q = index[c] < places ? index[c] : places, to = next[q];
            value[to] = dy[c * step];
            offset[to] = c * ld;
            next[q] = to + 1;
        }
    }
}

// ---------------------------------------------------------------------------------------- gradients

template <class V>
void live_outer(const fc_live_outer* a) {
    using T = typename V::T;
    FC_CHECK(a->windows >= 0 && a->rows > 0 && a->width > 0 && a->rows * a->width <= a->ld);
    constexpr int64_t most = 32;  // rows at a time
    int64_t dst_row[most];
    for (int64_t i = 0; i < most; ++i) dst_row[i] = i * a->width;
    const int64_t step = live_step<V>(a->width, LiveBlocks<V>::vectors);
    LiveSum<T> sum;
    sum.src = static_cast<const T*>(a->x);
    sum.dst_row = dst_row;
    sum.accumulate = a->accumulate;
    for (int64_t c = 0; c < a->channels; ++c) {
        sum.value = static_cast<const T*>(a->value) + c * a->windows;
        sum.offset = a->offset + c * a->windows;
        sum.count = a->end[c] - c * a->windows;
        if (a->db) {
            T* db = static_cast<T*>(a->db) + c;
            T total = 0;
            for (int64_t i = 0; i < sum.count; ++i) total += sum.value[i];
            *db = a->accumulate ? *db + total : total;
        }
        for (int64_t r = 0; r < a->rows; r += most) {
            const int64_t rows = a->rows - r < most ? a->rows - r : most;
            sum.src_row = a->row + r;
            sum.dst = static_cast<T*>(a->dw) + c * a->ld + r * a->width;
            for (int64_t k = 0; k < a->width; k += step) {
                const int64_t columns = a->width - k < step ? a->width - k : step;
                live_columns<V, LiveBlocks<V>::vectors>(sum, rows, k, columns);
            }
        }
    }
}

// The block is such that all channels' weights for it stay in a first-level cache while the windows go by.
template <class V>
void live_scatter(const fc_live_scatter* a) {
    using T = typename V::T;
    FC_CHECK(a->windows >= 0 && a->places > 0 && a->places < FC_NO_GRADIENT && a->rows > 0 && a->width > 0);
    constexpr int64_t bytes = 24 * 1024, enough = 5;  // accumulators that hide the latency of a multiply-add
    int64_t vectors = bytes / (a->channels * V::width * static_cast<int64_t>(sizeof(T)));
    vectors = vectors < enough ? enough : vectors > LiveBlocks<V>::vectors ? LiveBlocks<V>::vectors : vectors;
    const int64_t step = live_step<V>(a->width, vectors), block = vectors * V::width < 2 * step ? 1 : vectors * V::width / step;
    int64_t src_row[LiveBlocks<V>::accumulators];
    LiveSum<T> sum;
    sum.src = static_cast<const T*>(a->w);
    sum.src_row = src_row;
    sum.accumulate = true;
    for (int64_t r = 0; r < a->rows; r += block) {
        const int64_t rows = a->rows - r < block ? a->rows - r : block;
        for (int64_t i = 0; i < rows; ++i) src_row[i] = (r + i) * a->width;
        sum.dst_row = a->row + r;
        for (int64_t k = 0; k < a->width; k += step) {
            const int64_t columns = a->width - k < step ? a->width - k : step;
            for (int64_t p = 0; p < a->windows; ++p) {
                const int64_t* start = a->start + p * (a->places + 1);
                for (int64_t q = 0; q < a->places; ++q) {
                    sum.count = start[q + 1] - start[q];
                    if (sum.count == 0) continue;
                    sum.value = static_cast<const T*>(a->value) + start[q];
                    sum.offset = a->offset + start[q];
                    sum.dst = static_cast<T*>(a->dx) + a->window[p] + a->place[q];
                    live_columns<V, LiveBlocks<V>::vectors>(sum, rows, k, columns);
                }
            }
        }
    }
}

}  // namespace fastconv
