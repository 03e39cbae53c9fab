// Sums of products of bfloat16 numbers, accumulated in float32. Two bfloat16 numbers, one after the other in the sum, are
// a pair: 32 bits, so arrays of pairs are laid out, broadcast and stored like arrays of float, and the kernels of float
// with `dot` for `fma` are kernels of pairs. Contracts in include/fastconv/pairs.h.
#pragma once
#include <cstdint>

#include "dispatch/blocks.hpp"
#include "fastconv/pairs.h"
#include "kernels/check.hpp"
#include "kernels/conv.hpp"
#include "kernels/copy.hpp"
#include "kernels/outer.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

// The vectors V, whose lanes are pairs where they are multiplied.
template <class V>
struct Pairs : V {
    using Reg = typename V::Reg;
    static Reg fma(Reg a, Reg b, Reg c) { return V::dot(a, b, c); }
};

template <class V>
struct Blocks<Pairs<V>> : Blocks<V> {};

template <class V>
constexpr bool has_pairs = sizeof(typename V::T) == 4;  // the rows of double are there for the table alone

template <class V>
void conv_tile_pairs(const fc_conv_tile* a) {
    FC_CHECK(has_pairs<V>);
    if constexpr (has_pairs<V>) conv_tile<Pairs<V>>(a);
}

template <class V>
void outer_tile_pairs(const fc_outer_tile* a) {
    FC_CHECK(has_pairs<V> && !a->xpixel);
    check_outer(*a);
    if constexpr (has_pairs<V>) outer_by<Pairs<V>, Outer::Even>(*a);
}

// A vector of the pairs of up to 2 * width numbers, zeros behind them.
template <class V>
static inline typename V::Reg load_pairs(const float* src, int64_t count) {
    constexpr int w = V::width;
    if (count >= 2 * w) return V::pair_lanes(V::load(src), V::load(src + w));
    const int n = static_cast<int>(count);
    return V::pair_lanes(n >= w ? V::load(src) : V::load_n(src, n), n > w ? V::load_n(src + w, n - w) : V::zero());
}

template <class V>
static void pair_columns_of(const float* src, int64_t columns, float* dst) {
    constexpr int w = V::width;
    for (int64_t j = 0; j < columns; j += 2 * w, dst += w) {
        const auto pairs = load_pairs<V>(src + j, columns - j);
        const int64_t rest = (columns - j + 1) / 2;
        rest < w ? V::store_n(dst, pairs, static_cast<int>(rest)) : V::store(dst, pairs);
    }
}

template <class V>
void pair_columns(const fc_pair_columns* a) {
    FC_CHECK(has_pairs<V> && a->rows >= 0 && a->columns > 0 && a->dst && a->src);
    if constexpr (has_pairs<V>) {
        constexpr int64_t block = 64;  // even, so that pairs do not straddle blocks
        const float* src = static_cast<const float*>(a->src);
        float* dst = static_cast<float*>(a->dst);
        if (a->sj == 1 || a->columns == 1) {
            const bool touch = a->si == a->columns && a->columns == 2 * a->ld;
            const int64_t rows = touch ? 1 : a->rows, columns = touch ? a->rows * a->columns : a->columns;
            for (int64_t i = 0; i < rows; ++i) pair_columns_of<V>(src + i * a->si, columns, dst + i * a->ld);
            return;
        }
        float square[16 * block];
        for (int64_t i = 0; i < a->rows; i += 16) {
            for (int64_t j = 0; j < a->columns; j += block) {
                const int64_t rows = a->rows - i < 16 ? a->rows - i : 16;
                const int64_t columns = a->columns - j < block ? a->columns - j : block;
                const fc_copy2d copy = {square, src + i * a->si + j * a->sj, rows, columns, columns, block, 1, a->si, a->sj};
                copy2d<V>(&copy);
                for (int64_t r = 0; r < rows; ++r) {
                    pair_columns_of<V>(square + r * block, columns, dst + (i + r) * a->ld + j / 2);
                }
            }
        }
    }
}

template <class V>
void pair_rows(const fc_pair_rows* a) {
    FC_CHECK(has_pairs<V> && a->rows >= 0 && a->columns > 0 && a->dst && a->src);
    if constexpr (has_pairs<V>) {
        const float* src = static_cast<const float*>(a->src);
        float* dst = static_cast<float*>(a->dst);
        const int64_t whole = a->columns - a->columns % V::width;
        const int rest = static_cast<int>(a->columns - whole);
        for (int64_t i = 0; i < a->rows; i += 2, dst += a->ld) {
            const bool single = i + 1 == a->rows;
            const float* first = src + (a->row ? a->row[i] : i * a->step);
            const float* second = single ? first : src + (a->row ? a->row[i + 1] : (i + 1) * a->step);
            for (int64_t c = 0; c < whole; c += V::width) {
                V::store(dst + c, V::pair_rows(V::load(first + c), single ? V::zero() : V::load(second + c)));
            }
            if (rest == 0) continue;
            const auto other = single ? V::zero() : V::load_n(second + whole, rest);
            V::store_n(dst + whole, V::pair_rows(V::load_n(first + whole, rest), other), rest);
        }
    }
}

// Squares are transposed in registers, as in kernels/pack.hpp.
template <class V>
void pack_pairs(const fc_pack_pairs* a) {
    constexpr int w = V::width, nr = Blocks<V>::nv * w;
    constexpr int64_t ahead = 2048 / sizeof(float);
    FC_CHECK(has_pairs<V> && a->depth >= 0 && a->columns > 0 && a->columns <= nr && a->dst && a->src);
    if constexpr (has_pairs<V>) {
        for (int first = 0; first < nr; first += w) {
            const int64_t columns = a->columns - first;
            const float* src = static_cast<const float*>(a->src) + first * a->column;
            float* dst = static_cast<float*>(a->dst) + first;
            for (int64_t i = 0; i < a->depth; i += 2 * w) {
                typename V::Reg square[w];
                FC_UNROLL
                for (int c = 0; c < w; ++c) {
                    const float* from = src + c * a->column + i;
                    if (c < columns) FC_PREFETCH_OUTER(from + ahead);
                    square[c] = c >= columns ? V::zero() : load_pairs<V>(from, a->depth - i);
                }
                V::transpose(square);
                const int64_t rows = (a->depth - i + 1) / 2;
                FC_UNROLL
                for (int r = 0; r < w; ++r) {
                    if (r < rows) V::store(dst + (i / 2 + r) * nr, square[r]);
                }
            }
        }
    }
}

}  // namespace fastconv
