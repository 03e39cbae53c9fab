// The weight gradient of a convolution of few input channels under a max-pool. Contract in include/fastconv/unit.h.
#pragma once
#include <cstdint>

#include "fastconv/unit.h"
#include "kernels/check.hpp"
#include "kernels/partial.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

template <class V>
struct MaskedBlocks {
    static constexpr int accumulators = sizeof(typename V::Reg) == 64 ? 25 : 12;
    static constexpr int columns = 7;
    static constexpr int rows(int columns) { return accumulators / columns < 8 ? accumulators / columns : 8; }
};

// R rows x K neighbouring elements of them, one vector of n channels from c on.
template <class V, int R, int K>
static void masked_block(const fc_masked_outer& a, int64_t r0, int64_t k0, int64_t c, int n) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    Reg acc[R][K];
    const T* row[R];
    FC_UNROLL
    for (int r = 0; r < R; ++r) {
        row[r] = static_cast<const T*>(a.x) + a.row[r0 + r] + k0;
        FC_UNROLL
        for (int k = 0; k < K; ++k) acc[r][k] = V::zero();
    }
    for (int64_t p = 0; p < a.windows; ++p) {
        const Reg dy = load_some<V>(a.dy, a.at[p] + c, n);
        const Reg where = V::load_bytes(a.index + a.index_at[p] + c, n);
        for (int64_t q = 0; q < a.places; ++q) {
            const Reg dz = V::select(V::equal(where, V::set1(static_cast<T>(q))), dy, V::zero());
            const int64_t at = a.window[p] + a.place[q];
            FC_UNROLL
            for (int r = 0; r < R; ++r) {
                FC_UNROLL
                for (int k = 0; k < K; ++k) acc[r][k] = V::fma(V::set1(row[r][at + k]), dz, acc[r][k]);
            }
        }
    }
    FC_UNROLL
    for (int r = 0; r < R; ++r) {
        FC_UNROLL
        for (int k = 0; k < K; ++k) {
            const int64_t at = ((r0 + r) * a.width + k0 + k) * a.ld + c;
            store_some<V>(a.dw, at, a.accumulate ? V::add(load_some<V>(a.dw, at, n), acc[r][k]) : acc[r][k], n);
        }
    }
}

template <class V, int R, int K>
static void masked_rows(const fc_masked_outer& a, int64_t r, int64_t k, int64_t c, int n) {
    if constexpr (R > 0) {
        for (; r + R <= a.rows; r += R) masked_block<V, R, K>(a, r, k, c, n);
        if (r < a.rows) masked_rows<V, R - 1, K>(a, r, k, c, n);
    }
}

template <class V, int K>
static void masked_columns(const fc_masked_outer& a, int64_t k, int64_t columns, int64_t c, int n) {
    if constexpr (K > 0) {
        if (columns < K) return masked_columns<V, K - 1>(a, k, columns, c, n);
        masked_rows<V, MaskedBlocks<V>::rows(K), K>(a, 0, k, c, n);
    }
}

template <class V>
void masked_outer(const fc_masked_outer* a) {
    FC_CHECK(a->windows >= 0 && a->places > 0 && a->rows > 0 && a->width > 0 && a->ld >= a->channels);
    constexpr int64_t most = MaskedBlocks<V>::columns;
    const int64_t blocks = (a->width + most - 1) / most, step = (a->width + blocks - 1) / blocks;
    for (int64_t c = 0; c < a->channels; c += V::width) {
        const int n = a->channels - c < V::width ? static_cast<int>(a->channels - c) : V::width;
        for (int64_t k = 0; k < a->width; k += step) {
            masked_columns<V, most>(*a, k, a->width - k < step ? a->width - k : step, c, n);
        }
        typename V::Reg total = V::zero();
        const typename V::Reg places = V::set1(static_cast<typename V::T>(a->places));
        for (int64_t p = 0; p < a->windows; ++p) {
            const typename V::Reg dy = load_some<V>(a->dy, a->at[p] + c, n);
            const typename V::Reg where = V::load_bytes(a->index + a->index_at[p] + c, n);
            total = V::add(total, V::select(V::greater(places, where), dy, V::zero()));
        }
        store_some<V>(a->db, c, a->accumulate ? V::add(load_some<V>(a->db, c, n), total) : total, n);
    }
}

}  // namespace fastconv
