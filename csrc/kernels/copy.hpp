// Strided two-dimensional copies, which pack weights and input tiles, and sums of partial results. Contracts in include/fastconv/conv.h.
#pragma once
#include <cstdint>
#include <cstring>

#include "fastconv/conv.h"
#include "kernels/check.hpp"

namespace fastconv {

template <class V>
void copy2d(const fc_copy2d* a) {
    using T = typename V::T;
    T* dst = static_cast<T*>(a->dst);
    const T* src = static_cast<const T*>(a->src);
    FC_CHECK(a->rows >= 0 && a->columns >= 0 && a->padded >= a->columns && a->dst && a->src);
    const size_t row_bytes = static_cast<size_t>(a->columns) * sizeof(T);
    if (a->sj == 1 && a->dj == 1 && a->columns == a->padded && a->ld == a->columns && a->si == a->columns) {
        std::memcpy(dst, src, static_cast<size_t>(a->rows) * row_bytes);
        return;
    }
    if (a->sj == 1 && a->dj == 1) {
        for (int64_t i = 0; i < a->rows; ++i) std::memcpy(dst + i * a->ld, src + i * a->si, row_bytes);
    } else {
        // Blocks keep the source lines of one block in the first-level cache while they are read a column at a time.
        constexpr int64_t block = 16;
        for (int64_t i0 = 0; i0 < a->rows; i0 += block) {
            const int64_t i1 = i0 + block < a->rows ? i0 + block : a->rows;
            for (int64_t j0 = 0; j0 < a->columns; j0 += block) {
                const int64_t j1 = j0 + block < a->columns ? j0 + block : a->columns;
                for (int64_t i = i0; i < i1; ++i) {
                    for (int64_t j = j0; j < j1; ++j) dst[i * a->ld + j * a->dj] = src[i * a->si + j * a->sj];
                }
            }
        }
    }
    for (int64_t i = 0; a->padded > a->columns && i < a->rows; ++i) {
        for (int64_t j = a->columns; j < a->padded; ++j) dst[i * a->ld + j * a->dj] = 0;
    }
}

template <class V>
void accumulate(const fc_accumulate* a) {
    using T = typename V::T;
    T* dst = static_cast<T*>(a->dst);
    const T* src = static_cast<const T*>(a->src);
    int64_t i = 0;
    for (; i + V::width <= a->count; i += V::width) V::store(dst + i, V::add(V::load(dst + i), V::load(src + i)));
    const int rest = static_cast<int>(a->count - i);
    if (rest) V::store_n(dst + i, V::add(V::load_n(dst + i, rest), V::load_n(src + i, rest)), rest);
}

}  // namespace fastconv
