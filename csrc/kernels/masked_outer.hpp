// The weight gradient of a convolution of few input channels under a max-pool. Contract in include/fastconv/unit.h.
//
// Where a row of taps and the places of a row of outputs fit half a vector, a vector holds what two such rows of places
// read, and a permutation brings each lane what its own place reads: one multiply-add a tap. Else the gradient is
// masked, and each place has a multiply-add. Both add the same numbers in the same order.
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
    static constexpr int most = sizeof(typename V::T) == 8 || V::width == 1 ? 2 : 8;  // rows; each number of them has code of its own
    static constexpr int rows(int columns) { return accumulators / columns < most ? accumulators / columns : most; }
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

// The places as two halves of a vector, where the second lie as the first do.
template <class V>
struct Halves {
    int64_t half = 0;     // places of a half
    int64_t columns = 0;  // taps of a row that fit beside them; 0: no such halves
    alignas(64) typename V::T lane[V::width];  // of each place; below 0 for FC_NO_GRADIENT

    explicit Halves(const fc_masked_outer& a) : half(a.places / 2) {
        for (int q = 0; q < V::width; ++q) lane[q] = -1;
        if (a.places % 2 || a.places >= V::width) return;
        int64_t span = 0;
        for (int64_t q = 0; q < half; ++q) {
            const int64_t at = a.place[q] - a.place[0];
            if (at < 0 || at != a.place[half + q] - a.place[half]) return;
            span = at > span ? at : span;
            lane[q] = static_cast<typename V::T>(at);
            lane[half + q] = static_cast<typename V::T>(V::width / 2 + at);
        }
        columns = span < V::width / 2 ? V::width / 2 - span : 0;
    }
};

// As masked_block, by permutations. Gradients and lanes of some windows are found before these windows' products, which
// wait for them else: a processor looks no further ahead than one window.
template <class V, int R, int K>
static void lookup_block(const fc_masked_outer& a, const Halves<V>& halves, int64_t r0, int64_t k0, int64_t c, int n) {
    using T = typename V::T;
    using Reg = typename V::Reg;
    constexpr int half = V::width / 2, most = 16;
    const int64_t *window = a.window, *at = a.at, *index_at = a.index_at, windows = a.windows;
    const int64_t high = a.place[halves.half] - a.place[0], reach = half - halves.columns + K;
    const T *x = static_cast<const T*>(a.x) + k0 + a.place[0], *dy = static_cast<const T*>(a.dy) + c;
    const uint8_t* index = a.index + c;
    alignas(64) T gradient[most][V::width], lane[most][V::width];
    T copy[R][2 * half];
    const T* source[most];
    Reg acc[R][K], total = V::zero();
    const Reg lanes = V::load(halves.lane), last_lane = V::set1(T(V::width - 1));
    int64_t last = 0;  // where the last window that reads whole vectors ends
    for (int64_t p = 0; p < windows; ++p) last = window[p] > last ? window[p] : last;
    last -= half - reach;
    FC_UNROLL
    for (int r = 0; r < R; ++r) {
        FC_UNROLL
        for (int k = 0; k < K; ++k) acc[r][k] = V::zero();
    }
    for (int64_t p = 0; p < windows;) {
        const bool whole = window[p] <= last;
        int64_t row[R], count = 0;
        FC_UNROLL
        for (int r = 0; r < R; ++r) row[r] = whole ? a.row[r0 + r] : r * 2 * half;
        if (!whole) {  // nothing beyond what the windows read is read
            for (int r = 0; r < R; ++r) {
                const T* from = x + window[p] + a.row[r0 + r];
                for (int64_t i = 0; i < reach; ++i) {
                    copy[r][i] = from[i];
                    copy[r][half + i] = from[high + i];
                }
            }
        }
        const int64_t step = whole ? high : half;
        do {
            const Reg where = V::load_bytes(index + index_at[p], n);
            const Reg here = V::permute(lanes, V::lanes(V::min(where, last_lane)));
            const Reg dz = V::select(V::greater(V::zero(), here), V::zero(), load_some<V>(dy, at[p], n));
            total = V::add(total, dz);
            V::store(gradient[count], dz);
            V::store(lane[count], V::max(here, V::zero()));
            source[count++] = whole ? x + window[p] : copy[0];
            ++p;
        } while (whole && count < most && p < windows && window[p] <= last);
        for (int64_t i = 0; i < count; ++i) {
            const Reg dz = V::load(gradient[i]), first = V::load(lane[i]);
            typename V::Index lookup[K];
            FC_UNROLL
            for (int k = 0; k < K; ++k) lookup[k] = V::lanes(k ? V::add(first, V::set1(static_cast<T>(k))) : first);
            FC_UNROLL
            for (int r = 0; r < R; ++r) {
                const T* low = source[i] + row[r];
                FC_OPAQUE(low);
                const Reg both = V::load_halves(low, low + step);
                FC_UNROLL
                for (int k = 0; k < K; ++k) acc[r][k] = V::fma(V::permute(both, lookup[k]), dz, acc[r][k]);
            }
        }
    }
    FC_UNROLL
    for (int r = 0; r < R; ++r) {
        FC_UNROLL
        for (int k = 0; k < K; ++k) {
            const int64_t to = ((r0 + r) * a.width + k0 + k) * a.ld + c;
            store_some<V>(a.dw, to, a.accumulate ? V::add(load_some<V>(a.dw, to, n), acc[r][k]) : acc[r][k], n);
        }
    }
    if (r0 == 0 && k0 == 0) store_some<V>(a.db, c, a.accumulate ? V::add(load_some<V>(a.db, c, n), total) : total, n);
}

template <class V, int R, int K>
static void masked_rows(const fc_masked_outer& a, const Halves<V>* halves, int64_t r, int64_t k, int64_t c, int n) {
    if constexpr (R > 0) {
        for (; r + R <= a.rows; r += R) {
            if constexpr (2 * K <= V::width) {
                if (halves) {
                    lookup_block<V, R, K>(a, *halves, r, k, c, n);
                    continue;
                }
            }
            masked_block<V, R, K>(a, r, k, c, n);
        }
        if (r < a.rows) masked_rows<V, R - 1, K>(a, halves, r, k, c, n);
    }
}

template <class V, int K>
static void masked_columns(const fc_masked_outer& a, const Halves<V>* halves, int64_t k, int64_t columns, int64_t c,
                           int n) {
    if constexpr (K > 0) {
        if (columns < K) return masked_columns<V, K - 1>(a, halves, k, columns, c, n);
        masked_rows<V, MaskedBlocks<V>::rows(K), K>(a, halves, 0, k, c, n);
    }
}

template <class V>
static void masked_total(const fc_masked_outer& a, int64_t c, int n) {
    typename V::Reg total = V::zero();
    const typename V::Reg places = V::set1(static_cast<typename V::T>(a.places));
    for (int64_t p = 0; p < a.windows; ++p) {
        const typename V::Reg dy = load_some<V>(a.dy, a.at[p] + c, n);
        const typename V::Reg where = V::load_bytes(a.index + a.index_at[p] + c, n);
        total = V::add(total, V::select(V::greater(places, where), dy, V::zero()));
    }
    store_some<V>(a.db, c, a.accumulate ? V::add(load_some<V>(a.db, c, n), total) : total, n);
}

template <class V>
void masked_outer(const fc_masked_outer* a) {
    FC_CHECK(a->windows >= 0 && a->places > 0 && a->rows > 0 && a->width > 0 && a->ld >= a->channels);
    constexpr int64_t columns = MaskedBlocks<V>::columns, least = 3;  // fewer taps do not pay for the permutations
    const Halves<V> halves(*a);
    const bool lookup = halves.columns >= least;
    const int64_t most = lookup && halves.columns < columns ? halves.columns : columns;
    const int64_t blocks = (a->width + most - 1) / most, step = (a->width + blocks - 1) / blocks;
    for (int64_t c = 0; c < a->channels; c += V::width) {
        const int n = a->channels - c < V::width ? static_cast<int>(a->channels - c) : V::width;
        for (int64_t k = 0; k < a->width; k += step) {
            const int64_t some = a->width - k < step ? a->width - k : step;
            masked_columns<V, columns>(*a, lookup ? &halves : nullptr, k, some, c, n);
        }
        if (!lookup) masked_total<V>(*a, c, n);
    }
}

}  // namespace fastconv
