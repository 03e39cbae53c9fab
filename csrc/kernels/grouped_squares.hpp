// Convolution of few channels a group with 3x3 taps by Winograd's F(4x4, 3x3), a vector of whole groups at a time: the
// planes of a few tiles stay in a first-level cache, where products take the place of what they are made of. The
// transforms are those of winograd.hpp. Contracts in include/fastconv/grouped.h.
#pragma once
#include <cstdint>

#include "dispatch/blocks.hpp"
#include "fastconv/grouped.h"
#include "kernels/check.hpp"
#include "kernels/grouped_row.hpp"
#include "kernels/winograd.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

constexpr int kSquarePlanes = 36;

// What is multiplied at a time: tiles, or channels in of the weight gradient.
template <class V>
constexpr int square_run = Blocks<V>::mr * Blocks<V>::nv >= 16 ? 8 : 4;

// Tiles t to t + M - 1 of all planes; N: vectors of a block.
template <class V, Lanes From, int N, int M>
static void square_products(const fc_grouped_squares& a, int64_t t) {
    using T = typename V::T;
    using L = BlockLanes<V, true, From>;
    constexpr int pixel = N * V::width;
    T* planes = static_cast<T*>(a.planes) + t * pixel;
    const T* u = static_cast<const T*>(a.u);
    for (int plane = 0; plane < kSquarePlanes; ++plane, planes += a.count * pixel) {
        typename V::Reg acc[M][N], all[M];
        FC_UNROLL
        for (int m = 0; m < M; ++m) {
            FC_UNROLL
            for (int j = 0; j < N; ++j) acc[m][j] = V::zero();
            all[m] = From == Lanes::same ? V::zero() : V::load(planes + m * pixel);
        }
        for (int64_t k = 0; k < a.blocks.depth; ++k, u += pixel) {
            const typename V::Index index = L::index(a.blocks, k);
            typename V::Reg weight[N];
            FC_UNROLL
            for (int j = 0; j < N; ++j) weight[j] = V::load(u + j * V::width);
            FC_UNROLL
            for (int m = 0; m < M; ++m) {
                typename V::Reg value = all[m];
                if constexpr (From == Lanes::same) value = V::set1(planes[m * pixel + k]);
                if constexpr (From == Lanes::mixed) value = V::permute(all[m], index);
                FC_UNROLL
                for (int j = 0; j < N; ++j) acc[m][j] = V::fma(value, weight[j], acc[m][j]);
            }
        }
        FC_UNROLL
        for (int m = 0; m < M; ++m) {
            FC_UNROLL
            for (int j = 0; j < N; ++j) V::store(planes + m * pixel + j * V::width, acc[m][j]);
        }
    }
}

// The last tiles, M at a time and fewer.
template <class V, Lanes From, int N, int M>
static void square_tiles(const fc_grouped_squares& a, int64_t t) {
    for (; t + M <= a.count; t += M) square_products<V, From, N, M>(a, t);
    if constexpr (M > 1) square_tiles<V, From, N, M / 2>(a, t);
}

// Channels in k to k + K - 1 of all planes: products of source planes and gradient planes.
template <class V, Lanes From, int N, int K>
static void square_sums(const fc_grouped_squares& a, int64_t k) {
    using T = typename V::T;
    using L = BlockLanes<V, true, From>;
    constexpr int pixel = N * V::width;
    const T *source = static_cast<const T*>(a.planes), *gradient = source + kSquarePlanes * a.count * pixel;
    T* u = static_cast<T*>(a.u) + k * pixel;
    typename V::Index index[K];
    FC_UNROLL
    for (int i = 0; i < K; ++i) index[i] = L::index(a.blocks, k + i);
    for (int plane = 0; plane < kSquarePlanes; ++plane, u += a.blocks.depth * pixel) {
        typename V::Reg acc[K][N];
        FC_UNROLL
        for (int i = 0; i < K; ++i) {
            FC_UNROLL
            for (int j = 0; j < N; ++j) acc[i][j] = V::zero();
        }
        for (int64_t t = 0; t < a.count; ++t, source += pixel, gradient += pixel) {
            typename V::Reg right[N];
            FC_UNROLL
            for (int j = 0; j < N; ++j) right[j] = V::load(gradient + j * V::width);
            const typename V::Reg all = From == Lanes::same ? right[0] : V::load(source);
            FC_UNROLL
            for (int i = 0; i < K; ++i) {
                typename V::Reg value = all;
                if constexpr (From == Lanes::same) value = V::set1(source[k + i]);
                if constexpr (From == Lanes::mixed) value = V::permute(all, index[i]);
                FC_UNROLL
                for (int j = 0; j < N; ++j) acc[i][j] = V::fma(value, right[j], acc[i][j]);
            }
        }
        FC_UNROLL
        for (int i = 0; i < K; ++i) {
            FC_UNROLL
            for (int j = 0; j < N; ++j) {
                T* to = u + i * pixel + j * V::width;
                V::store(to, V::add(V::load(to), acc[i][j]));
            }
        }
    }
}

template <class V, Lanes From, int N, int K>
static void square_channels(const fc_grouped_squares& a, int64_t k) {
    for (; k + K <= a.blocks.depth; k += K) square_sums<V, From, N, K>(a, k);
    if constexpr (K > 1) square_channels<V, From, N, K / 2>(a, k);
}

// Elements of a block's pixel in planes.
template <class V>
static int64_t square_pixel(const fc_grouped_squares& a) {
    return a.blocks.xlanes > V::width ? 2 * V::width : V::width;
}

// What the transforms need to know of tile t's source pixels.
template <class V>
static fc_winograd square_source(const fc_grouped_squares& a, int64_t t) {
    using T = typename V::T;
    const fc_square& s = a.square[t];
    fc_winograd call{};
    call.pixels = const_cast<T*>(static_cast<const T*>(a.x) + s.x);
    call.planes = static_cast<T*>(a.planes) + t * square_pixel<V>(a);
    call.row = a.xrow, call.column = a.xcolumn, call.plane = a.count * square_pixel<V>(a), call.count = a.blocks.xlanes;
    call.first_row = s.top, call.last_row = s.bottom, call.first_column = s.left, call.last_column = s.right;
    call.form = FC_WINOGRAD_4X3;
    return call;
}

// And of its outputs.
template <class V>
static fc_winograd square_result(const fc_grouped_squares& a, int64_t t) {
    using T = typename V::T;
    const fc_square& s = a.square[t];
    fc_winograd call{};
    call.pixels = static_cast<T*>(a.y) + s.y;
    call.planes = static_cast<T*>(a.planes) + t * square_pixel<V>(a);
    call.bias = a.bias, call.relu = a.relu;
    call.row = a.yrow, call.column = a.ycolumn, call.plane = a.count * square_pixel<V>(a), call.count = a.blocks.ylanes;
    call.last_row = s.rows, call.last_column = s.columns;
    call.form = FC_WINOGRAD_4X3;
    return call;
}

template <class V>
static void check_squares(const fc_grouped_squares& a) {
    FC_CHECK(a.count >= 0 && a.planes && a.u && a.y && a.square && a.blocks.depth > 0);
    FC_CHECK(a.blocks.ylanes <= V::width || a.blocks.ylanes == a.blocks.xlanes);
    FC_CHECK(a.blocks.xlanes <= V::width || (a.blocks.xlanes == 2 * V::width && lanes_of<V>(a.blocks) == Lanes::same));
}

template <class V>
void grouped_squares(const fc_grouped_squares* a) {
    check_squares<V>(*a);
    for (int64_t t = 0; t < a->count; ++t) {
        const fc_winograd call = square_source<V>(*a, t);
        winograd_input<V>(&call);
    }
    const Lanes from = lanes_of<V>(a->blocks);
    constexpr int M = square_run<V>;
    if (a->blocks.xlanes > V::width) {
        square_tiles<V, Lanes::same, 2, M>(*a, 0);
    } else if (from == Lanes::same) {
        square_tiles<V, Lanes::same, 1, M>(*a, 0);
    } else if (from == Lanes::mixed) {
        square_tiles<V, Lanes::mixed, 1, M>(*a, 0);
    } else {
        square_tiles<V, Lanes::own, 1, M>(*a, 0);
    }
    for (int64_t t = 0; t < a->count; ++t) {
        const fc_winograd call = square_result<V>(*a, t);
        winograd_output<V>(&call);
    }
}

template <class V>
void grouped_squares_outer(const fc_grouped_squares* a) {
    using T = typename V::T;
    check_squares<V>(*a);
    for (int64_t t = 0; t < a->count; ++t) {
        const fc_winograd source = square_source<V>(*a, t);
        winograd_input<V>(&source);
        fc_winograd gradient = square_result<V>(*a, t);
        gradient.planes = static_cast<T*>(gradient.planes) + kSquarePlanes * gradient.plane;
        winograd_expand<V>(&gradient);
    }
    const Lanes from = lanes_of<V>(a->blocks);
    constexpr int K = square_run<V>;
    if (a->blocks.xlanes > V::width) {
        square_channels<V, Lanes::same, 2, K>(*a, 0);
    } else if (from == Lanes::same) {
        square_channels<V, Lanes::same, 1, K>(*a, 0);
    } else if (from == Lanes::mixed) {
        square_channels<V, Lanes::mixed, 1, K>(*a, 0);
    } else {
        square_channels<V, Lanes::own, 1, K>(*a, 0);
    }
}

}  // namespace fastconv
