// Strided two-dimensional copies, which pack weights and input tiles, and sums of partial results. Contracts in
// include/fastconv/conv.h.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "fastconv/conv.h"
#include "kernels/check.hpp"
#include "kernels/partial.hpp"
#include "simd/bytes.hpp"
#include "simd/unroll.hpp"

namespace fastconv {

// How far ahead rows are brought near, bytes: there are more of them than a processor follows by itself.
constexpr int64_t kCopyAhead = 128;
// Bytes of a source that stay in the caches.
constexpr int64_t kCopyNear = 4 << 20;
// Rows of a strip, the least that are worth one, and what lies between rows of a destination that still takes one, bytes.
constexpr int64_t kCopyStrip = 512, kLeastStrip = 128, kMostApart = 2048;

// The square of rows and columns, at most `width` each, at (i, j) of a copy whose source rows lie side by side (si == 1):
// vectors down the columns are read, transposed in registers and written along the rows.
template <class V>
static inline void copy_square(const fc_copy2d& a, int64_t i, int64_t j, int64_t rows, int64_t columns) {
    using T = typename V::T;
    const T* src = static_cast<const T*>(a.src) + i + j * a.sj;
    T* dst = static_cast<T*>(a.dst) + i * a.ld + j;
    typename V::Reg square[V::width];
    FC_UNROLL
    for (int c = 0; c < V::width; ++c) {
        FC_PREFETCH(src + c * a.sj + kCopyAhead / static_cast<int64_t>(sizeof(T)));
        square[c] = c >= columns ? V::zero() : rows == V::width ? V::load(src + c * a.sj) : V::load_n(src + c * a.sj, rows);
    }
    V::transpose(square);
    FC_UNROLL
    for (int r = 0; r < V::width; ++r) {
        if (r >= rows) continue;
        if (columns == V::width) {
            V::store(dst + r * a.ld, square[r]);
        } else {
            V::store_n(dst + r * a.ld, square[r], columns);
        }
    }
}

// In strips of many rows by a vector of columns, which reads each column as a stream; where few rows lie far apart, from
// one square of a few rows to the next, which writes each row as one.
template <class V>
static void copy_squares(const fc_copy2d& a) {
    using T = typename V::T;
    constexpr int64_t size = sizeof(T), width = V::width;
    const bool near = a.columns >= width && a.sj * a.columns * size <= kCopyNear;
    const int64_t head = near ? lanes_to_alignment<V>(static_cast<const T*>(a.src), a.sj) : width;
    if (a.rows >= kLeastStrip && a.ld * size < kMostApart) {
        for (int64_t first = 0, end = head; first < a.rows; first = end, end += kCopyStrip) {
            if (end > a.rows) end = a.rows;
            for (int64_t j = 0; j < a.columns; j += width) {
                const int64_t columns = std::min(width, a.columns - j);
                for (int64_t i = first; i < end; i += width) copy_square<V>(a, i, j, std::min(width, end - i), columns);
            }
        }
        return;
    }
    const int64_t side = lanes_to_alignment<V>(static_cast<const T*>(a.dst), a.ld);
    for (int64_t i = 0, rows = head; i < a.rows; i += rows, rows = width) {
        rows = std::min(rows, a.rows - i);
        for (int64_t j = 0, columns = side; j < a.columns; j += columns, columns = width) {
            columns = std::min(columns, a.columns - j);
            copy_square<V>(a, i, j, rows, columns);
        }
    }
}

template <class V>
void copy2d(const fc_copy2d* a) {
    using T = typename V::T;
    FC_CHECK(a->rows >= 0 && a->columns >= 0 && a->padded >= a->columns && a->dst && a->src);
    T* dst = static_cast<T*>(a->dst);
    const T* src = static_cast<const T*>(a->src);
    const size_t row_bytes = static_cast<size_t>(a->columns) * sizeof(T);
    const bool rows_touch = a->ld == a->columns && a->si == a->columns && a->columns == a->padded;
    if (a->dj == 1 && (a->sj == 1 || a->columns == 1) && rows_touch) {
        std::memcpy(dst, src, static_cast<size_t>(a->rows) * row_bytes);
        return;
    }
    if (a->sj == 0 && a->dj == 1) {
        for (int64_t i = 0; i < a->rows; ++i) {
            const T value = src[i * a->si];
            for (int64_t j = 0; j < a->columns; ++j) dst[i * a->ld + j] = value;
        }
    } else if (a->sj == 1 && a->dj == 1) {
        for (int64_t i = 0; i < a->rows; ++i) std::memcpy(dst + i * a->ld, src + i * a->si, row_bytes);
    } else if (a->si == 1 && a->dj == 1 && V::width > 1) {
        copy_squares<V>(*a);
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

// Squares at the ends overlap the ones before them.
template <class V>
void transpose_bytes(const fc_transpose* a) {
    constexpr int64_t square = 16;
    const uint8_t* src = static_cast<const uint8_t*>(a->src);
    uint8_t* dst = static_cast<uint8_t*>(a->dst);
    if (a->rows < square || a->columns < square) {
        for (int64_t i = 0; i < a->rows; ++i) {
            for (int64_t j = 0; j < a->columns; ++j) dst[i * a->ld + j] = src[i + j * a->sj];
        }
        return;
    }
    for (int64_t r = 0; r < a->rows; r += square) {
        const int64_t i = r + square <= a->rows ? r : a->rows - square;
        for (int64_t c = 0; c < a->columns; c += square) {
            const int64_t j = c + square <= a->columns ? c : a->columns - square;
            transpose_square(src + i + j * a->sj, a->sj, dst + i * a->ld + j, a->ld);
        }
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
