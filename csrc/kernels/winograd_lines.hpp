// Winograd's minimal filtering along rows alone, F(4, 5): the sum over kernel rows and channels runs between the
// transforms, which pays where there are few channels. Contracts in include/fastconv/winograd.h.
//
// A register tile is 2 rows x 4 outputs of one or two tiles. Its products are summed for two points at a time, 0 and
// infinity, then each pair +-a, and are taken to the outputs at once, so that nothing but outputs leaves the registers.
#pragma once
#include <cstdint>

#include "dispatch/blocks.hpp"
#include "fastconv/winograd.h"
#include "kernels/check.hpp"
#include "kernels/finish.hpp"
#include "kernels/partial.hpp"
#include "kernels/unit.hpp"
#include "kernels/winograd.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

template <class V, class Map>
static void line_to_planes(const fc_winograd_line& a) {
    using T = typename V::T;
    for (int64_t i = 0; i < a.count; i += V::width) {
        const int n = a.count - i < V::width ? static_cast<int>(a.count - i) : V::width;
        typename V::Reg in[Map::from], out[Map::to];
        FC_UNROLL
        for (int k = 0; k < Map::from; ++k) in[k] = load_some<V>(static_cast<const T*>(a.src) + k * a.step, i, n);
        Map::apply(in, out);
        FC_UNROLL
        for (int k = 0; k < Map::to; ++k) store_some<V>(static_cast<T*>(a.dst) + k * a.plane, i, out[k], n);
    }
}

template <class V>
void winograd_line_input(const fc_winograd_line* a) {
    line_to_planes<V, InputMap<V, 8>>(*a);
}

template <class V>
void winograd_line_filter(const fc_winograd_line* a) {
    line_to_planes<V, Evaluation<V, 8, 5, true>>(*a);
}

// Adds the products at two points of G tiles from number t on, one vector of columns from c on.
template <class V, int G>
static FC_INLINE void line_products(const fc_winograd_lines& a, int64_t t, int64_t c, int first, int second,
                                    typename V::Reg (&sum)[2][2][G]) {
    using T = typename V::T;
    constexpr int nr = Blocks<V>::nv * V::width;  // a packed row
    const T* x = static_cast<const T*>(a.x) + t * a.tile;
    const T* source[2] = {x + first * a.xplane, x + second * a.xplane};
    const T* w[2] = {static_cast<const T*>(a.w) + first * a.wplane + c, static_cast<const T*>(a.w) + second * a.wplane + c};
    const int64_t tile = a.tile;
    for (int64_t s = 0; s < a.taps; ++s) {
        const int64_t tap = a.tap[s];
        FC_UNROLL
        for (int p = 0; p < 2; ++p, w[p - 1] += nr) {
            const typename V::Reg columns = V::load(w[p]);
            FC_UNROLL
            for (int g = 0; g < G; ++g) {
                const T* at = source[p] + tap + g * tile;
                FC_OPAQUE(at);
                FC_UNROLL
                for (int r = 0; r < 2; ++r) sum[p][r][g] = V::fma(V::set1(at[r]), columns, sum[p][r][g]);
            }
        }
    }
}

// y[r][k][g]: output k of row r of tile t + g, bias included.
template <class V, int G>
static FC_INLINE void line_outputs(const fc_winograd_lines& a, int64_t t, int64_t c, typename V::Reg (&y)[2][4][G]) {
    using Reg = typename V::Reg;
    using T = typename V::T;
    constexpr auto scheme = Scheme<8>::c;
    const Reg bias = a.bias ? V::load(static_cast<const T*>(a.bias) + c) : V::zero();
    Reg sum[2][2][G];
    FC_UNROLL
    for (int i = -1; i < Scheme<8>::pairs; ++i) {
        FC_UNROLL
        for (int g = 0; g < G; ++g) {
            FC_UNROLL
            for (int r = 0; r < 2; ++r) sum[0][r][g] = sum[1][r][g] = i < 0 ? bias : V::zero();
        }
        line_products<V, G>(a, t, c, i < 0 ? 0 : 1 + 2 * i, i < 0 ? 7 : 2 + 2 * i, sum);
        FC_UNROLL
        for (int g = 0; g < G; ++g) {
            FC_UNROLL
            for (int r = 0; r < 2; ++r) {
                if (i < 0) {
                    y[r][0][g] = sum[0][r][g];
                    y[r][1][g] = y[r][2][g] = bias;
                    y[r][3][g] = sum[1][r][g];
                    continue;
                }
                const Reg half[2] = {V::add(sum[0][r][g], sum[1][r][g]), V::sub(sum[0][r][g], sum[1][r][g])};
                FC_UNROLL
                for (int k = 0; k < 4; ++k) {
                    const double power = scheme.power[i][k];
                    y[r][k][g] = power == 1 ? V::add(y[r][k][g], half[k % 2]) : times<V>(power, half[k % 2], y[r][k][g]);
                }
            }
        }
    }
}

template <class V>
struct LineBlocks {  // tiles of a register tile
    static constexpr int tiles = sizeof(typename V::Reg) == 64 ? 2 : 1;
};

template <class V, int G, bool Pool>
static void line_tiles(const fc_winograd_lines& a, int64_t t, int64_t c, int n) {
    using Reg = typename V::Reg;
    using T = typename V::T;
    Reg y[2][4][G];
    line_outputs<V, G>(a, t, c, y);
    FC_UNROLL
    for (int g = 0; g < G; ++g) {
        const int64_t column = 4 * (t + g);
        if (Pool) {
            FC_UNROLL
            for (int v = 0; v < 2; ++v) {
                if (column + 2 * v >= a.outputs) continue;
                const Reg window[4] = {y[0][2 * v][g], y[0][2 * v + 1][g], y[1][2 * v][g], y[1][2 * v + 1][g]};
                const int64_t at = (column / 2 + v) * a.column + c;
                if (a.relu) {
                    pool_registers<V, true, 4>(window, static_cast<T*>(a.y) + at, a.index + at, n);
                } else {
                    pool_registers<V, false, 4>(window, static_cast<T*>(a.y) + at, a.index + at, n);
                }
            }
            continue;
        }
        FC_UNROLL
        for (int r = 0; r < 2; ++r) {
            FC_UNROLL
            for (int k = 0; k < 4; ++k) {
                if (r >= a.rows || column + k >= a.outputs) continue;
                Reg value = y[r][k][g];
                if (a.residual) {
                    const int64_t from = r * a.residual_row + (column + k) * a.residual_column + c;
                    value = V::add(value, load_some<V>(a.residual, from, n));
                }
                store_some<V>(a.y, r * a.row + (column + k) * a.column + c, activated<V>(value, a.relu), n);
            }
        }
    }
}

template <class V, bool Pool>
static void line_columns(const fc_winograd_lines& a) {
    constexpr int most = LineBlocks<V>::tiles;
    const int64_t tiles = (a.outputs + 3) / 4;
    for (int64_t c = 0; c < a.channels; c += V::width) {
        const int n = a.channels - c < V::width ? static_cast<int>(a.channels - c) : V::width;
        int64_t t = 0;
        for (; t + most <= tiles; t += most) line_tiles<V, most, Pool>(a, t, c, n);
        for (; t < tiles; ++t) line_tiles<V, 1, Pool>(a, t, c, n);
    }
}

template <class V>
void winograd_lines(const fc_winograd_lines* a) {
    FC_CHECK(a->rows > 0 && a->rows <= 2 && a->outputs >= 0 && a->channels <= Blocks<V>::nv * V::width);
    line_columns<V, false>(*a);
}

template <class V>
void winograd_lines_pool(const fc_winograd_lines* a) {
    FC_CHECK(a->outputs % 2 == 0 && a->index && a->channels <= Blocks<V>::nv * V::width);
    line_columns<V, true>(*a);
}

}  // namespace fastconv
