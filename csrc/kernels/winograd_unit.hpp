// Winograd's maps between planes and the pooled outputs of a unit: windows of 2 x 2 outputs, four of them a tile, stay in
// registers. Contracts in include/fastconv/winograd.h.
#pragma once
#include <cstdint>

#include "fastconv/winograd.h"
#include "kernels/check.hpp"
#include "kernels/partial.hpp"
#include "kernels/unit.hpp"
#include "kernels/winograd.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

// One vector of channels from c on: all of it, or the first `rest`.
template <class V, class Map, bool Whole>
static void planes_to_windows(const fc_winograd_windows& a, int64_t c, int rest) {
    const int n = Whole ? V::width : rest;
    using Reg = typename V::Reg;
    using T = typename V::T;
    const Reg bias = a.bias ? load_some<V>(a.bias, c, n) : V::zero();
    Reg middle[4][Map::from];
    for (int j = 0; j < Map::from; ++j) {
        Reg in[Map::from], out[4];
        FC_UNROLL
        for (int i = 0; i < Map::from; ++i) {
            const int64_t at = (i * Map::from + j) * a.plane + c;
            in[i] = load_some<V>(a.planes, at, n);
            FC_PREFETCH(static_cast<const T*>(a.planes) + at + a.count);  // the next tile
        }
        Map::apply(in, out);
        FC_UNROLL
        for (int i = 0; i < 4; ++i) middle[i][j] = out[i];
    }
    for (int64_t i = 0; i < a.rows; ++i) {
        Reg high[4], low[4];
        Map::apply(middle[2 * i], high);
        Map::apply(middle[2 * i + 1], low);
        FC_UNROLL
        for (int j = 0; j < 2; ++j) {
            if (j >= a.columns) continue;
            const Reg window[4] = {V::add(bias, high[2 * j]), V::add(bias, high[2 * j + 1]), V::add(bias, low[2 * j]),
                                   V::add(bias, low[2 * j + 1])};
            T* small = static_cast<T*>(a.small) + i * a.row + j * a.column + c;
            uint8_t* index = a.index + i * a.index_row + j * a.index_column + c;
            if (a.relu) {
                pool_registers<V, true, 4>(window, small, index, n);
            } else {
                pool_registers<V, false, 4>(window, small, index, n);
            }
        }
    }
}

template <class V, class Map, bool Whole>
static void windows_to_planes(const fc_winograd_windows& a, int64_t c, int rest) {
    const int n = Whole ? V::width : rest;
    using Reg = typename V::Reg;
    using T = typename V::T;
    Reg middle[Map::to][4];
    Reg total = a.total ? load_some<V>(a.total, c, n) : V::zero();
    for (int j = 0; j < 2; ++j) {
        Reg pixel[2][4];  // of two columns
        FC_UNROLL
        for (int i = 0; i < 2; ++i) {
            Reg dy = V::zero(), where = V::set1(T(FC_NO_GRADIENT));
            if (i < a.rows && j < a.columns) {
                dy = load_some<V>(a.small, i * a.row + j * a.column + c, n);
                where = V::load_bytes(a.index + i * a.index_row + j * a.index_column + c, n);
            }
            FC_UNROLL
            for (int q = 0; q < 4; ++q) {
                pixel[q % 2][2 * i + q / 2] = V::select(V::equal(where, V::set1(static_cast<T>(q))), dy, V::zero());
            }
            total = V::add(total, V::select(V::greater(V::set1(T(4)), where), dy, V::zero()));
        }
        FC_UNROLL
        for (int q = 0; q < 2; ++q) {
            Reg out[Map::to];
            Map::apply(pixel[q], out);
            FC_UNROLL
            for (int i = 0; i < Map::to; ++i) middle[i][2 * j + q] = out[i];
        }
    }
    if (a.total) store_some<V>(a.total, c, total, n);
    T* planes = static_cast<T*>(a.planes);
    const int64_t plane = a.plane;  // a store might change what `a` holds, for all GCC knows
    for (int i = 0; i < Map::to; ++i) {
        Reg out[Map::to];
        Map::apply(middle[i], out);
        FC_UNROLL
        for (int j = 0; j < Map::to; ++j, planes += plane) store_some<V>(planes, c, out[j], n);
    }
}

template <class V, class Map>
static void all_to_windows(const fc_winograd_windows& a) {
    by_vectors<V>(a.count, [&](int64_t c) { planes_to_windows<V, Map, true>(a, c, 0); },
                  [&](int64_t c, int lanes) { planes_to_windows<V, Map, false>(a, c, lanes); });
}

template <class V, class Map>
static void all_from_windows(const fc_winograd_windows& a) {
    by_vectors<V>(a.count, [&](int64_t c) { windows_to_planes<V, Map, true>(a, c, 0); },
                  [&](int64_t c, int lanes) { windows_to_planes<V, Map, false>(a, c, lanes); });
}

template <class V>
void winograd_pool(const fc_winograd_windows* a) {
    FC_CHECK(a->rows >= 0 && a->rows <= 2 && a->columns >= 0 && a->columns <= 2 && a->small && a->index && a->planes);
    a->form == FC_WINOGRAD_4X3 ? all_to_windows<V, Transposed<V, 6, 4, false>>(*a)
                               : all_to_windows<V, Transposed<V, 8, 4, false>>(*a);
}

template <class V>
void winograd_unpool(const fc_winograd_windows* a) {
    FC_CHECK(a->rows >= 0 && a->rows <= 2 && a->columns >= 0 && a->columns <= 2 && a->small && a->index && a->planes);
    a->form == FC_WINOGRAD_4X3 ? all_from_windows<V, Evaluation<V, 6, 4, false>>(*a)
                               : all_from_windows<V, Evaluation<V, 8, 4, false>>(*a);
}

}  // namespace fastconv
